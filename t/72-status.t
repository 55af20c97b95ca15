#!/bin/sh
# zfpm status says what zfpm is doing at this moment, and what has happened since it started.
# shellcheck disable=SC2016 # the expressions are perl's
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 73

# AddressSanitizer does not let another library be loaded before it.
cp "$top/t/bin/app" "$bin"
make_user user
start_zfpm <<-\END
	app app { command @bin@/app -g }
	app threads {
		command @bin@/app -g -c 3
		connections 3
	}
	app forking {
		command @bin@/app -g
		fork_server on
	}
	app broken { command @bin@/app --start-fail 3 }
	pool one {
		user @user@
		app app
		max_workers 2
		max_queue 2
		timeout kill 1s
	}
	pool threads {
		user @user@
		app threads
		max_workers 1
	}
	pool twice {
		user @user@
		app app
		max_requests 2
	}
	pool late {
		user @user@
		app app
		timeout app 1s
		timeout kill 1s
	}
	pool waits {
		user @user@
		app app
		max_workers 1
		timeout wait 1s
	}
	pool idles {
		user @user@
		app app
		timeout idle 1s
	}
	pool broken {
		user @user@
		app broken
	}
	pool never {
		user @user@
		app app
	}
	pool forks {
		user @user@
		app forking app
		timeout app_server 1s
		on_server_close abort
	}
	pool *.example.org {
		user @user@
		app app
	}
END

# zs ARGUMENT...: zfpm status; $status, $tmp/page, $tmp/page.txt (standard error)
zs() {
	status=0
	timeout 60 "$zfpm" status -c "$tmp/zfpm.conf" "$@" >"$tmp/page" 2>"$tmp/page.txt" </dev/null || status=$?
}
# json EXPRESSION...: of a new page
json() {
	zs -f json
	perl "$t/unit/json.pl" "$@" <"$tmp/page" 2>&1
}
json_is() {
	json_is=$(json "$1")
	[ "$json_is" = "$2" ]
}
# comes EXPRESSION VALUE TITLE: it is so before long; it may be something else in the next moment
comes() {
	wait_until json_is "$1" "$2"
	is "$json_is" "$2" "$3"
}
workers_of() { printf '@{$pool{"%s"}{workers}}{qw(total idle busy starting stopping finishing)}' "$1"; }
metric() { perl "$t/unit/openmetrics.pl" "$@" <"$tmp/page"; }
ask() { request "$@" -p REQUEST_METHOD=GET -p "REQUEST_URI=/$1" >/dev/null 2>&1; }

# Nothing has happened
zs
is "$status,$(cat "$tmp/page.txt")" 0, "status succeeds"
like "$(cat "$tmp/page")" "^zfpm +[0-9.]+, master $zfpm_pid, generation 1, up [0-9.]+s, configured [0-9.]+s ago\$" "it says who it is"
like "$(cat "$tmp/page")" '^pools +0 living, 10 configured$' "that no pool lives yet"
like "$(cat "$tmp/page")" '^9 pools are resting$' "that all rest, and that a pattern is no pool"
is "$(json '@$j{qw(master_pid generation pools_configured pools_living)}' 'map { $_->{name} } @{$j->{pools}}' 'J($pool{never})')" \
    "$zfpm_pid,1,10,0
one,threads,twice,late,waits,idles,broken,never,forks
{\"max_workers\":10,\"name\":\"never\",\"state\":\"resting\"}" "JSON says so too"

# Requests
hold a one -p REQUEST_METHOD=PUT -p 'REQUEST_URI=/a?x=<1>' -p SCRIPT_FILENAME=/srv/a.php
hold b one -p REQUEST_METHOD=PUT -p "REQUEST_URI=/$(printf 'b\033[2J \377 \303\251')"
held a b
is "$(json "$(workers_of one)" '$j->{connections} >= 2')" '2,0,2,0,0,0
1' "two requests that are served: two busy workers"
is "$(json 'my ($w) = grep { $_->{request}{uri} =~ m{^/a} } @{$pool{one}{workers}{list}}; @$w{qw(state app requests busy connections)}, @{$w->{request}}{qw(method uri script)}, $w->{request}{elapsed_s} > 0')" \
    'busy,app,0,1,1,PUT,/a?x=<1>,/srv/a.php,1' "what a worker does, and since when"
is "$(json 'join " ", sort { $a <=> $b } map { $_->{pid} } @{$pool{one}{workers}{list}}')" "$(workers | sort -n | tr '\n' ' ' | sed 's/ $//')" "by which processes"
zs
like "$(cat "$tmp/page")" 'busy +app +[0-9.]+s +0 +1/1 +[0-9.]+s PUT +/b\\x1B\[2J \\xFF é$' "as text with what is no text escaped"
fails "so that nothing moves a terminal's cursor" grep -q '[[:cntrl:]]' "$tmp/page"
is "$(json '(grep { $_->{request}{uri} =~ m{^/b} } @{$pool{one}{workers}{list}})[0]{request}{uri} eq "/b\x1b[2J \xff \xe9"')" 1 "JSON stays valid too"
enqueue c one
enqueue d one
is "$(json '$j->{queue}{length}, $pool{one}{queue}{length}, $pool{one}{queue}{longest_wait_s} > 0, scalar @{$pool{one}{queue}{list}}')" 2,2,1,2 "requests that wait"
zs one
is "$(awk '$1 == "one" && $8 == 2 { print $3, $7 }' "$tmp/page")" "2 2" "as text: two busy of two, two in the queue"
passes "its head says for how long" grep -Eq '^queued +2, the first for [0-9.]+s$' "$tmp/page"
is "$(sed -n '/^POOL *APP *WAIT/,/^$/p' "$tmp/page" | grep -c '^one .*s GET')" 2 "and the queue is listed"
request one >"$tmp/full" 2>/dev/null
is "$(json '@{$pool{one}{counters}}{qw(requests failed queue_full)}')" 0,1,1 "one more is refused, and counted"
leave d
comes '@{$pool{one}{counters}}{qw(aborted)}, $pool{one}{queue}{length}' 1,1 "a client that leaves is counted, and waits no more"
release a b
finish a b c
comes "$(workers_of one)" 2,2,0,0,0,0 "when all are served the workers are idle"
is "$(json '@{$pool{one}{counters}}{qw(requests workers_started)}' '$pool{one}{counters}{response_bytes} > 100' 'J($pool{one}{queue})')" '3,2
1
{"length":0,"list":[],"longest_wait_s":0}' "and counted"
is "$(json '@{$j->{counters}}{qw(requests failed aborted queue_full workers_started)}')" 3,1,1,1,2 "in all together as well"
is "$(json 'J([sort map { $_->{requests} } @{$pool{one}{workers}{list}}])')" '[1,2]' "for each worker too"
request one -B 5000 >/dev/null
is "$(json '$pool{one}{counters}{request_bytes}')" 5000 "bytes of bodies are counted"

# A worker that serves several
hold t1 threads -p REQUEST_URI=/t1
held t1
hold t2 threads -p REQUEST_URI=/t2
held t2
is "$(json "$(workers_of threads)" 'my $w = $pool{threads}{workers}{list}[0]; @$w{qw(state busy connections)}, $w->{request}{uri}')" '1,0,1,0,0,0
busy,2,3,/t1' "of a worker that serves two requests the oldest is shown"
let_go t1 t2
comes '@{$pool{threads}{workers}{list}[0]}{qw(state busy)}' idle,0 "until it serves none"

# Restarts by cause
ask twice
ask twice
comes '$pool{twice}{counters}{restarts}{max_requests}, $pool{twice}{counters}{requests}' 1,2 "a worker that has served max_requests"
hold_in one k
pid=$(json '(grep { $_->{busy} } @{$pool{one}{workers}{list}})[0]{pid}')
kill -KILL "$pid"
finish k
comes '$pool{one}{counters}{restarts}{died}' 1 "one that was killed"
ask idles
comes '$pool{idles}{counters}{restarts}{idle}, $pool{idles}{state}' 1,resting "one that was idle for too long; its pool rests then, and keeps its counters"
zs idles
like "$(cat "$tmp/page")" '^pool +idles, resting$' "a pool that rests can be asked for"
is "$(awk '$1 == "idles" { print $2, $10, $12 }' "$tmp/page")" "0 1 idle=1" "with its counters"
timeout 60 "$zfpm" retire -c "$tmp/zfpm.conf" one >/dev/null
comes '$pool{one}{counters}{restarts}{retired}' 1 "one that zfpm retire has replaced"

# Timeouts
ask late hang
comes '$pool{late}{counters}{timeouts}{app}, $pool{late}{counters}{failed}, $pool{late}{counters}{restarts}{timeout}' 1,1,1 "timeout app, and its worker"
hold_in waits w
ask waits
is "$(json '$pool{waits}{counters}{timeouts}{wait}, $pool{waits}{counters}{failed}')" 1,1 "timeout wait"
let_go w
is "$(json 'J($j->{counters}{timeouts})')" '{"app":1,"request":0,"server":0,"wait":1}' "both in all together"
zs
like "$(cat "$tmp/page")" '^timeouts +wait=1,app=1$' "as text too"

# An app that does not start
ask broken
comes '$pool{broken}{counters}{start_failures}, $pool{broken}{counters}{failed}, $pool{broken}{failing}[0]{app}' 1,1,broken "an app that does not start"
like "$(json '$pool{broken}{failing}[0]{reason}')" 'exited with status 3' "and why"
zs broken
like "$(cat "$tmp/page")" '^broken +broken +(now|[0-9.]+s) .*exited with status 3$' "as text too"

# Patterns
hold_in www.example.org p
is "$(json '@{$pool{"www.example.org"}}{qw(state pattern)}, $pool{"www.example.org"}{workers}{busy}')" 'living,*.example.org,1' "a pool of a pattern"
zs www.example.org
is "$status,$(awk '$1 == "www.example.org" && $3 == "busy"' "$tmp/page" | wc -l)" 0,1 "it can be asked for alone"
unlike "$(cat "$tmp/page")" '^one ' "without the others"
zs other.example.org
is "$status" 0 "so can one that does not live"
like "$(cat "$tmp/page")" '^pool +other.example.org, resting$' "which rests"
let_go p

# What there is not
zs nobody
is "$status,$(wc -c <"$tmp/page")" 1,0 "a pool that is not configured is an error"
like "$(cat "$tmp/page.txt")" "nobody" "that names it"
zs -f yaml
isnt "$status" 0 "so is a format that there is not"
is "$(wc -c <"$tmp/page")" 0 "without a page"

# The other formats
zs -f openmetrics
is "$status,$(metric 'zfpm_pool_worker_restarts_total{pool="one",cause="died"}')" 0,1 "OpenMetrics"
is "$(metric zfpm_pool_requests_total'{pool="twice"}'),$(metric 'zfpm_timeouts_total{kind="app"}')" 2,1 "has the same counters"
zs -f openmetrics twice
is "$(metric zfpm_pool_requests_total'{pool="twice"}'),$(grep -c 'pool="one"' "$tmp/page")" 2,0 "of one pool as well"
zs -f html late
is "$status,$(head -n 1 "$tmp/page"),$(tail -n 1 "$tmp/page")" '0,<!DOCTYPE html>,</html>' "HTML"
like "$(cat "$tmp/page")" '<td>late</td>.*<td>timeout=1</td><td>app=1</td>' "has them too"

# App servers
hold f forks -p REQUEST_METHOD=GET -p REQUEST_URI=/forked
held f
is "$(json 'map { @$_{qw(app state workers)} } @{$pool{forks}{app_servers}}' '$j->{app_servers}' '@{$pool{forks}{workers}{list}[0]}{qw(app state)}, $pool{forks}{workers}{total}')" \
    'forking,ready,1
1
forking,busy,1' "an app server is shown, and its worker as others are"
server=$(json '$pool{forks}{app_servers}[0]{pid}')
is "$(ps -o ppid= -p "$(json '$pool{forks}{workers}{list}[0]{pid}')" | tr -d ' '),$(ps -o ppid= -p "$server" | tr -d ' ')" "$server,$zfpm_pid" "by their process ids"
request forks -p ZFPM_APP=app >"$tmp/answer"
is "$(json '$pool{forks}{workers}{total}, $pool{forks}{app_servers}[0]{workers}')" 2,1 "a worker that was started is not among those of an app server"
zs forks
is "$(sed -n '/^POOL *APP *PID/,$p' "$tmp/page" | awk '$1 == "forks" { print $2, $3, $4, $6 }')" "forking $server ready 1" "as text too"
zs -f openmetrics
is "$(metric zfpm_app_servers),$(metric 'zfpm_pool_app_servers{pool="forks"}')" 1,1 "and OpenMetrics"
timeout 60 "$zfpm" retire -c "$tmp/zfpm.conf" forks >/dev/null &
retire=$!
comes '(grep { $_->{request} } @{$pool{forks}{workers}{list}})[0]{state}' retiring "a worker that is to be replaced"
ask forks
is "$(json 'sort map { $_->{workers} } @{$pool{forks}{app_servers}}')" 1,1 "has its app server beside the next one"
let_go f
wait "$retire"
comes '(scalar grep { $_->{pid} == '"$server"' } @{$pool{forks}{app_servers}}), scalar @{$pool{forks}{app_servers}}' 0,1 "which goes with it"
hold_in forks g
leave g
release g
comes '@{$pool{forks}{counters}{restarts}}{qw(closed died)}, $pool{forks}{counters}{start_failures}' 1,0,0 "a worker whose request was given up ends, and is no failure, be it as new as it may"
comes '$pool{forks}{state}, $j->{app_servers}' resting,0 "without workers the app server goes after its time, and the pool rests"

# A worker of an earlier configuration
hold_in forks h
server=$(json '$pool{forks}{app_servers}[0]{pid}')
age=$(json '$pool{forks}{app_servers}[0]{age_s}')
request one >"$tmp/answer"
hold e one -p REQUEST_METHOD=GET -p REQUEST_URI=/elsewhere
held e
pid=$(json '(grep { $_->{busy} } @{$pool{one}{workers}{list}})[0]{pid}')
before=$(json '(grep { $_->{busy} } @{$pool{one}{workers}{list}})[0]{requests}')
timeout 60 "$zfpm" reload -c "$tmp/zfpm.conf" >"$tmp/out" 2>&1 || diag "reload: $(cat "$tmp/out")"
comes '$j->{generation}' 2 "a reload makes the next generation"
is "$(json '$j->{uptime_s} >= $j->{configuration_age_s}')" 1 "which is younger than zfpm"
comes 'my ($s) = @{$pool{forks}{app_servers}}; @$s{qw(pid state workers)}, $s->{age_s} > '"$age"', $pool{forks}{workers}{finishing}' \
    "$server,ready,1,1,1" "an app server is as old as it was"
let_go h
comes '$pool{one}{workers}{finishing}, $j->{workers}{finishing}' 1,1 "what runs on under the settings before is shown as finishing"
is "$(json 'my ($w) = grep { $_->{state} eq "finishing" } @{$pool{one}{workers}{list}}; $w->{pid}, $w->{request}{uri}')" "$pid,/elsewhere" "with what it does"
is "$(json 'my ($w) = grep { $_->{state} eq "finishing" } @{$pool{one}{workers}{list}}; $w->{requests} > 0, $w->{requests}, $w->{age_s} > $w->{request}{elapsed_s}')" \
    "1,$before,1" "and what it has done"
is "$(json '$pool{twice}{counters}{restarts}{max_requests}, $j->{counters}{timeouts}{app}')" 1,1 "counters go on"
let_go e
comes "$(workers_of one | sed 's/qw(.*)/qw(busy finishing)/')" 0,0 "until it is through"
comes '$pool{one}{counters}{requests}' 6 "then that is counted as well"

# A reader that does not read holds nobody up. The page is longer than all that lies between.
{
	echo 'app app { command @bin@/app }'
	for i in $(seq 5000); do
		echo "pool site$i { user @user@
		app app }"
	done
} >"$tmp/text"
start_zfpm <"$tmp/text"
mkfifo "$tmp/slow"
timeout 60 "$zfpm" status -c "$tmp/zfpm.conf" -f json </dev/null >"$tmp/slow" &
reader=$!
exec 3<"$tmp/slow"
like "$(request site5000)" '^pid ' "a reader that takes its time does not keep requests waiting"
is "$(json 'scalar keys %pool')" 5000 "nor another reader"
cat <&3 >"$tmp/page"
exec 3<&-
wait "$reader"
is "$?,$(perl "$t/unit/json.pl" 'scalar keys %pool' <"$tmp/page")" 0,5000 "and gets all of it"
