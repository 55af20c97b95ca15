#!/bin/sh
# A reload interrupts nothing: what runs goes on as it was, what waits keeps its place, what is idle stays; what the
# configuration has changed is changed from then on, and a wrong one changes nothing.
# shellcheck disable=SC2016 # the expressions are perl's
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
. "${0%/*}/generations.sh"
plan 88

make_user user
make_user other
conf='
	timeout idle 10m
	app app { command @bin@/app -g }
	pool one {
		user @user@
		app app
		max_workers 1
		timeout kill 1s
	}
	pool two {
		user @user@
		app app
		max_workers 2
	}'

# What is wrong changes nothing
start_zfpm <<-END
	$conf
END
cp "$tmp/zfpm.conf" "$tmp/good"
one=$(pid_of one)
router=$(router_pid)
reload '$ a nonsense here'
is "$status $out" '1 ' "a configuration with an error is refused"
like "$err" "^$tmp/zfpm.conf:[0-9]+: .*nonsense" "with the line that is wrong"
passes "which the log has too" log_has "reload: $tmp/zfpm.conf:[0-9]+: .*nonsense"
passes "and that nothing has changed" log_has 'reload: failed; nothing has changed'
cp "$tmp/good" "$tmp/zfpm.conf"
reload "s|^run_dir .*|run_dir $tmp/else|; \$ a control $tmp/run/control"
like "$status $err" '^1 .*run_dir can not change' "run_dir can not change"
cp "$tmp/good" "$tmp/zfpm.conf"
reload 's|^router_user .*|router_user daemon|'
like "$status $err" '^1 .*router_user can not change' "nor router_user"
cp "$tmp/good" "$tmp/zfpm.conf"
reload "\$ a listen $tmp/none/zfpm.sock
\$ a listen $tmp/second.sock"
like "$status $err" "^1 listen $tmp/none/zfpm.sock: No such file" "a socket that can not be made is refused"
fails "and one that could is not left behind" test -e "$tmp/second.sock"
cp "$tmp/good" "$tmp/zfpm.conf"
reload "s|^log .*|log $tmp/none/log|"
like "$status $err" "^1 log $tmp/none/log: No such file" "so is a log file"
cp "$tmp/good" "$tmp/zfpm.conf"
sed -i "\$ a control $tmp/none/control" "$tmp/zfpm.conf"
kill -HUP "$zfpm_pid"
passes "and a control socket" wait_for_log "reload: control $tmp/none/control: No such file"
cp "$tmp/good" "$tmp/zfpm.conf"
mv "$tmp/zfpm.conf" "$tmp/away"
kill -HUP "$zfpm_pid"
passes "a configuration that is not there is told of" wait_for_log "reload: .*$tmp/zfpm.conf: No such file"
mv "$tmp/away" "$tmp/zfpm.conf"
is "$(pid_of one)" "$one" "the worker is there still"
is "$(router_pid)" "$router" "and the router"
is "$(json '$j->{generation}')" 1 "of the first generation"

# Idle: worker, its connection, and the web server's
keep web
two=$(tell web whole two | sed 's/pid \([0-9]*\) .*/\1/')
hello=$(printf hello | cksum | cut -d ' ' -f 1)
reload
is "$status $err" '0 ' "reload, with nothing changed"
like "$out" '^reload: done: 2 pools, 1 apps, 2 workers go on$' "says what there is"
passes "the old router leaves" wait_until gone "$router"
is "$(tell web whole two)" "pid $two connection 1 request 2 stdin 5 $hello" \
    "a kept connection of the web server goes on, so does the worker, and the connection between zfpm and that"
is "$(json '$j->{generation}')" 2 "by a router of the second generation"

# In the midst of a request
n=2
for part in begin params body; do
	tell web $part two >/dev/null
	reload
	n=$((n + 1))
	is "$(tell web rest)" "pid $two connection 1 request $n stdin 5 $hello" "a request whose $part record has come in part is served whole"
done

# Running, and waiting
hold_in one r1
enqueue r2 one log=r2
enqueue r3 one log=r3
reload
is "$status" 0 "reload while a request runs and two wait"
enqueue r4 one log=r4
fails "the running one is not cut" gone "$one"
is "$(sorted_workers "$user")" "$(printf '%s\n' "$one" "$two" | sort | tr '\n' ' ')" "and counts: no second worker for those that wait"
is "$(json '@{$pool{one}{workers}}{qw(total finishing)}')" 1,1 "status tells of it"
is "$(json '$pool{one}{queue}{length}')" 3 "and of those that wait"
release r1
finish r1 r2 r3 r4
is "$(worker_of r1) $(worker_of r2) $(worker_of r3) $(worker_of r4)" "$one $one $one $one" "all have the same worker"
wait_for_log 'stderr: r4'
is "$(sed -n 's/.*: stderr: \(r[0-9]\)$/\1/p' "$tmp/zfpm.log" | tr '\n' ' ')" 'r2 r3 r4 ' "in the order in which they came"
passes "then the old router leaves" wait_until one_router
is "$(json '$pool{one}{counters}{requests}')" 6 "and has handed over what it counted"

# Each wait counts from its beginning: counted anew, this one would end after 10 seconds or more
reload '/^	pool one/a timeout wait 6s'
is "$(pid_of one)" "$one" "a worker stays when a timeout has changed"
hold_in one r1
start=$(date +%s)
enqueue r2 one
wait_until json_is '$pool{one}{queue}{longest_wait_s} >= 4' 1
reload
is "$(json '$pool{one}{queue}{longest_wait_s} >= 4')" 1 "a wait goes on across a reload"
finish r2
like "$(cat "$tmp/r2")" 'Timeout \(6s\) exceeded while waiting' "and so does timeout wait"
passes "counted from when the request came" test $(($(date +%s) - start)) -lt 9
let_go r1

# Old settings for what runs, new ones for what comes
reload '/^	pool one/a timeout app 2s'
hold r1 one hang
hold r2 two
held r1 r2
reload '/timeout app 2s/d
/^	pool two/a env COLOUR green'
enqueue r3 two
finish r3
isnt "$(worker_of r3)" "$two" "a pool whose environment has changed has a new worker"
like "$(cat "$tmp/r3")" 'env COLOUR=green' "with the new environment"
release r1 r2
finish r2
is "$status $(worker_of r2)" "0 $two" "what ran ends in the old one"
passes "which then goes" wait_until gone "$two"
comes '$pool{two}{counters}{restarts}{reload}' 1 "and is counted as replaced by a reload"
two=$(worker_of r3)
finish r1
like "$(cat "$tmp/r1.txt")" 'Timeout \(2s\) exceeded while reading from socket \(application\)' \
    "a request that runs has the timeout that it began with"
passes "its worker goes" wait_until gone "$one"

# Of an idle worker all that was known is known still
request two log=whole >/dev/null
"$bin/client" -s "$sock" -p two -q 'log=said-at-last' >/dev/null
reload
wait_until one_router
request two log=after-reload >/dev/null
passes "what a worker says on its standard error is logged after a reload" wait_for_log "worker $two: stderr: after-reload"
is "$(request two | sed -n 's/^connection //p')" 1 "over all this its connection has been one"

# Pools that are new, and gone
hold_in two r1
idle=$(pid_of two)
enqueue r2 one
wait_until answered r2
finish r2
hold_in one r3
enqueue r4 one
reload '/^	pool one/,/^	}/d
$ a pool three {
$ a user '"$user"'
$ a app app
$ a }'
like "$(request three)" "^uid $(id -u "$user")\$" "a pool that has come is served"
finish r4
like "$(cat "$tmp/r4")" "Unknown pool 'one'" "a request that waits for a pool that is gone is told so"
request one >"$tmp/r5" 2>&1
like "$(cat "$tmp/r5")" "Unknown pool 'one'" "and so is one that comes"
let_go r3
is "$status" 0 "one that runs goes on"
passes "then the worker ends" wait_until gone "$(worker_of r3)"
fails "another pool's idle worker does not" gone "$idle"
cp "$tmp/good" "$tmp/zfpm.conf"
reload
let_go r1
wait_until one_router

# Several generations
hold_in one r1
one=$(pid_of two)
for i in 1 2 3; do
	hold g$i two
	held g$i
	reload
	[ "$i" -gt 1 ] || enqueue r2 one
	let_go g$i
done
is "$status $(routers | grep -c .)" '0 2' "three reloads while one request runs: one old router is left" || diag "$(routers)"
release r1
finish r1 r2
is "$(worker_of r2)" "$(worker_of r1)" "its worker comes to the newest, where a request waits"
passes "the old router leaves" wait_until one_router
for i in 1 2 3; do
	isnt "$(worker_of g$i)" '' "what ran meanwhile is served ($i)"
done

# Limits
hold_in two r1 r2
reload 's/max_workers 2/max_workers 1/'
enqueue r3 two
is "$(workers "$user" | grep -c .)" 3 "with a lower max_workers what runs goes on, and nothing is started"
release r1 r2
finish r1 r2 r3
two_left() { [ "$(json '$pool{two}{workers}{total}')" = 1 ]; }
passes "then there are no more than are allowed" wait_until two_left
reload 's/max_workers 1$/max_workers 2/'

# Sockets
port=$(free_port)
reload "\$ a listen $tmp/second.sock owner $user mode 0600
\$ a listen 127.0.0.1:$port allow 127.0.0.1"
is "$status $(stat -c '%U %a' "$tmp/second.sock")" "0 $user 600" "a socket that has come is there"
like "$("$bin/client" -s "$tmp/second.sock" -p two)" '^pid' "and serves"
like "$("$bin/client" -s "127.0.0.1:$port" -p two)" '^pid' "so does one of TCP"
reload "s/owner $user mode 0600/mode 0666/"
is "$status $(stat -c '%U %a' "$tmp/second.sock")" "0 root 666" "its owner and mode can change"
reload '/second.sock/d; /^listen 127/d'
is "$status" 0 "reload without them"
fails "a socket that is gone is gone" test -e "$tmp/second.sock"
passes "and so is the port" wait_until perl -MIO::Socket::INET -e 'exit !!IO::Socket::INET->new("127.0.0.1:$ARGV[0]")' "$port"

# Log and control
reload "s|^log .*|log $tmp/other.log|; \$ a control $tmp/elsewhere"
is "$status" 1 "a command at a socket that is configured, and not there yet, fails"
kill -HUP "$zfpm_pid"
passes "the control socket can move" wait_until test -S "$tmp/elsewhere"
passes "away from its old place" wait_until test ! -e "$tmp/run/control"
reload
is "$status $err" '0 ' "and is of use there"
passes "the log goes to its new file" grep -q 'reload: done' "$tmp/other.log"
cp "$tmp/good" "$tmp/zfpm.conf"
"$zfpm" reload -c "$tmp/zfpm.conf" >/dev/null 2>&1
kill -HUP "$zfpm_pid"
passes "and back" wait_until test -S "$tmp/run/control"
wait_until test ! -e "$tmp/elsewhere"
reload
is "$status $err" '0 ' "both"

# Those who die
wait_until one_router
old=$(routers)
hold_in one r1
reload
is "$(routers | grep -c .)" 2 "with a request under way there are two routers"
newest=$(other_router "$old")
: >"$tmp/zfpm.log"
kill -KILL "$newest"
passes "the new one is killed: it is replaced" wait_for_log "router $newest: exited on signal 9 .*starting another"
like "$(request two)" '^pid' "by one that serves"
let_go r1
is "$status" 0 "the old one's request is not touched"
is "$(pid_of one)" "$(worker_of r1)" "and its worker comes to the third"
passes "the old one leaves" wait_until gone "$old"
hold_in one r1
old=$(routers)
reload
kill -KILL "$old"
finish r1
is "$status" 3 "the old one is killed: its request is cut"
passes "its worker, which nobody can ask, ends" wait_until gone "$(worker_of r1)"
like "$(request one) $(request two)" '^pid' "and all is served"
one=$(pid_of one)
hold_in one r1
reload
kill -KILL "$one"
finish r1
is "$status" 3 "a worker dies while it is elsewhere: its request is cut"
isnt "$(pid_of one)" "$one" "and another one serves"
passes "the old router leaves" wait_until one_router

# Many, and nothing is left behind
wait_until one_router
request one >/dev/null
request two >/dev/null
reload
wait_until one_router
# One that lost its router may take its time to end.
wait_until json_is '$j->{workers}{stopping} + $j->{workers}{finishing}' 0
before="$(fds_of "$zfpm_pid") $(fds_of "$(routers)") $(worker_sockets) $(children_of "$zfpm_pid" | grep -c .)"
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	reload
done
kill -HUP "$zfpm_pid" "$zfpm_pid"
reload
as_before() { after="$(fds_of "$zfpm_pid") $(fds_of "$(routers)") $(worker_sockets) $(children_of "$zfpm_pid" | grep -c .)"; [ "$before" = "$after" ]; }
wait_until one_router
wait_until as_before
is "$after" "$before" "after 20 more reloads there are as many descriptors, sockets and processes as before"
hold_in one r1
kill -HUP "$zfpm_pid"
kill -QUIT "$zfpm_pid"
let_go r1
is "$status" 0 "reload and quit at once: what runs is done"
passes "and zfpm ends" wait_until gone "$zfpm_pid"
is "$(worker_sockets)" 0 "with no socket left"
