#!/bin/sh
# min_workers are there before anybody asks for them, are kept and replaced, and give way to whoever waits.
# shellcheck disable=SC2016 # the expressions are perl's
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
. "${0%/*}/generations.sh"
plan 46

make_user user
make_user other
mkdir "$tmp/late"
conf='
	app app { command @bin@/app -g }
	app second { command @bin@/app -g }
	app broken { command @bin@/app --start-fail 3 }
	app late { command @tmp@/late/app -g }
	pool ahead {
		user @user@
		app app second
		min_workers 2
		max_workers 3
		timeout idle 500ms
	}
	pool idles {
		user @user@
		app app
		timeout idle 500ms
	}
	pool served {
		user @user@
		app app
		min_workers 1
		max_workers 1
		max_requests 2
	}
	pool broken {
		user @user@
		app broken
		min_workers 3
	}
	pool late {
		user @user@
		app late
		min_workers 1
	}'
total() { echo "\$pool{'$1'}{workers}{total}"; }
pids() { json "join ' ', sort { \$a <=> \$b } map { \$_->{pid} // 0 } @{\$pool{'$1'}{workers}{list}}"; }
started_lines() { in_log "master.* pool $1: worker [0-9]+: started"; }

# Before a request
start_zfpm <<-END
	$conf
END
begun=$(date +%s)
passes "one that can not start is tried" wait_for_log 'pool late: cannot start FCGI process'
cp "$bin/app" "$tmp/late/new" && mv "$tmp/late/new" "$tmp/late/app"
comes "$(total ahead)" 2 "min_workers are started without a request"
comes '$pool{ahead}{workers}{idle}' 2 "and idle"
is "$(json 'map { $_->{app} } @{$pool{ahead}{workers}{list}}')" app,app "they are of the first app"
is "$(json '@{$pool{ahead}{counters}}{qw(workers_started requests)}')" 2,0 "counted as started, with no request"
is "$(json "$(total idles) // 0")" 0 "a pool without min_workers has none"
comes "$(total late)" 1 "one that could not start is there soon after its cause has gone, without a request"
before=$(pids ahead)

# Kept
hold_in ahead a b c
is "$(json "$(total ahead)")" 3 "requests have more of them started"
let_go a b c
request idles >/dev/null
comes "$(total ahead)" 2 "those beyond min_workers end after timeout idle"
is "$(json "$(cause ahead idle)")" 1 "for that reason"
comes "$(total idles) // 0" 0 "so does one of another pool"
comes "$(cause idles idle)" 1 "which was used later"
is "$(json "$(total ahead)" "$(cause ahead idle)")" "2
1" "min_workers stay"
pid=$(pids ahead | cut -d ' ' -f 1)
request ahead >/dev/null
is "$(json "$(total ahead)")" 2 "a request has one of them, and no other one is started"

# Replaced
kill -KILL "$pid"
passes "one is killed" wait_until gone "$pid"
replaced() { [ "$(json "$(total ahead)")" = 2 ] && case " $(pids ahead) " in *" $pid "* | *" 0 "*) false ;; esac; }
passes "another one takes its place, without a request" wait_until replaced
is "$(json "$(cause ahead died)")" 1 "it has died, says status"
pid=$(pid_of served)
is "$(pid_of served)" "$pid" "one that serves so many requests"
passes "ends after max_requests" wait_until gone "$pid"
comes '@{$pool{served}{workers}}{qw(total idle)}' 1,1 "and is replaced without a request"
isnt "$(pids served)" "$pid" "by another process"
is "$(json "$(cause served max_requests)")" 1 "for that reason"

# Changed by a reload
before=$(pids ahead)
reload '/^	pool ahead/,/^	}/s/min_workers 2/min_workers 3/'
comes "$(total ahead)" 3 "a reload can ask for more"
kept=0
for pid in $before; do
	gone "$pid" || kept=$((kept + 1))
done
is "$kept" 2 "those that were there stay"
idle=$(json "$(cause ahead idle)")
reload '/^	pool ahead/,/^	}/s/min_workers 3/min_workers 1/'
comes "$(total ahead)" 1 "or for fewer: those beyond end after timeout idle"
is "$(json "$(cause ahead idle)")" $((idle + 2)) "for that reason"
reload '/^	pool ahead/,/^	}/{s/min_workers 1/min_workers 2/; s/max_workers 3/max_workers 2/;}'
comes "$(total ahead)" 2 "with min_workers equal to max_workers all are there"
hold_in ahead a b
enqueue c ahead
reload '/^	pool ahead/,/^	}/{s/min_workers 2/min_workers 1/; s/max_workers 2/max_workers 1/;}'
comes '@{$pool{ahead}{workers}}{qw(total finishing)}, $pool{ahead}{queue}{length}' 2,2,1 "what runs goes on when both are lowered"
release a b
finish a b c
is "$status" 0 "and what waits is served"
comes "$(total ahead)" 1 "by the one that is left"
is "$(json "$(cause ahead reload)")" 1 "the other one has ended for the reload"

# Can not start: 100 ms, then twice as long each time; those that start together fail together
wait_until json_is '$pool{broken}{counters}{start_failures} >= 9' 1
request broken >"$tmp/r" 2>"$tmp/r.txt"
is "$(tr -d '\r' <"$tmp/r" | head -n 1) $(cat "$tmp/r.txt")" \
    "Status: 500 Internal Server Error stderr: Cannot start FCGI process: start: exited with status 3" "a request is told why they can not start"
comes "$(total broken)" 0 "between two tries they are no workers"
tries=$(started_lines broken) time=$(($(date +%s) - begun)) most=0 ms=100
until [ "$ms" -gt $((time * 1000 + 1000)) ]; do
	most=$((most + 3)) ms=$((2 * ms))
done
# Each reload begins anew, with one try at once and those that follow.
passes "they are not tried in a tight loop" test "$tries" -le $((most * 4 + 12)) ||
    diag "$tries starts in $time seconds, $((most * 4 + 12)) would be"
reload 's/--start-fail 3//'
comes '@{$pool{broken}{workers}}{qw(total idle)}' 3,3 "when a reload removes the cause they are there at once"
reload '/^	pool broken/,/^	}/d'
comes '$j->{workers}{total}' 3 "min_workers of a pool that is removed end"

# Those that wait come first
start_zfpm <<-\END
	max_workers 2
	app app { command @bin@/app -g }
	pool keeps {
		user @user@
		app app
		min_workers 2
	}
	pool other {
		user @other@
		app app
		timeout idle 1s
	}
END
comes "$(total keeps)" 2 "min_workers may take all places that there are"
hold a other
passes "another pool's request has one of them all the same" held a
is "$(json "$(total keeps)" "$(cause keeps evicted)")" "1
1" "its worker is evicted"
hold_in other b
is "$(json "$(total keeps) // 0" "$(cause keeps evicted)" '$j->{workers}{total}')" "0
2
2" "and so is the other one"
enqueue c keeps
release a
finish a c
is "$status" 0 "a request waits for a place that somebody leaves"
let_go b
comes "$(total keeps)" 2 "when there is room min_workers are there again"

# Many that start keep nobody waiting
{
	echo 'app app { command @bin@/app -g }'
	printf 'pool one {\nuser @user@\napp app\n}\n'
	for i in $(seq 60); do
		printf 'pool many%d {\nuser @other@\napp app\nmin_workers 1\n}\n' "$i"
	done
} >"$tmp/many"
start_zfpm <"$tmp/many"
comes '$j->{workers}{total}' 60 "many pools have their min_workers"
router=$(router_pid)
freeze "$router"
start a one
kill -KILL "$router"
finish a
is "$status" 0 "a request that comes before all of them are started"
wait_until json_is '$j->{generation}' 2
comes '$j->{workers}{idle}' 61 "which they are"
first=$(sed -n '/router [0-9]*: exited on signal 9/,$p' "$tmp/zfpm.log" | grep -E 'master.*: worker [0-9]+: started' | sed '/pool one:/q' | grep -c .)
passes "is served before most of them" test "$first" -lt 40 || diag "$first have come first"
