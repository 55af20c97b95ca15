#!/bin/sh
# Each timeout has its message for web server and log, a 500 if nothing was relayed and a visibly cut response if something was, and the next request is served.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 72

make_user user
pools='wait app-start app-headers app-write app-write-cut small large echo slow request-head request-moving'
{
	cat <<-\END
		app app { command @bin@/app }
		timeout wait 60s
		timeout app 60s
		timeout server 60s
		timeout request 60s
		buffer_request 16K
		buffer_response 16K
	END
	for p in $pools; do
		case $p in
		wait) limit='wait 1s' ;;
		app-*) limit='app 1s' ;;
		small | large | echo | slow) limit='server 1s' ;;
		request-moving) limit='request 2s' ;;
		request-*) limit='request 1s' ;;
		esac
		printf 'pool %s {\nuser @user@\napp app\nmax_workers 1\ntimeout %s\n}\n' "$p" "$limit"
	done
} >"$tmp/text"
start_zfpm <"$tmp/text"
pid_of() { request "$@" 2>"$tmp/pid.txt" | sed -n 's/^pid //p'; }
for p in $pools; do
	pid_of "$p" >"$tmp/pid-$p"
done

# All of them at the same time. NAME POOL ARGUMENT...
timed() {
	name=$1 pool=$2
	shift 2
	start "$name" "$pool" -p "REQUEST_URI=/$pool?x" -p SCRIPT_FILENAME=/script.php "$@"
}
hold_in wait hold_wait
timed wait wait
timed app_start app-start hang
timed app_headers app-headers at=headers hang
timed app_write app-write -B 3000000 hang
timed app_write_cut app-write-cut -B 3000000 early=0 at=headers hang
timed small small -B 1000 -Y 500
timed large large -B 3000000 -Y 2000000
timed echo echo -B 3000000 -Y 2000000 echo -C
timed slow slow -W 2500 out=20000000 -C
timed request_head request-head hang
timed request_moving request-moving out=1000000 record=100 pause=100 -C

# timed_out NAME POOL MESSAGE WHOLE TITLE: five tests. WHOLE: a 500 and END_REQUEST; else cut.
timed_out() {
	finish "$1"
	is "$(cat "$tmp/$1.txt")" "stderr: $3" "$5: the web server is told"
	worker="worker $(cat "$tmp/pid-$2"): "
	[ "$1" != wait ] && [ "$1" != small ] && [ "$1" != request_queued ] || worker=	# no worker had it
	method=GET
	[ "$4" = cut ] || [ "$4" = 500 ] || method=POST
	passes "$5: the log has it too, with pool, process, method, URI, script and time" \
	    grep -Eq "warn: pool $2: $worker$(printf '%s' "$3" | sed 's/[()]/\\&/g') \\($method /$2\\?x, script /script.php, [0-9.]+s\\)\$" "$tmp/zfpm.log"
	case $4 in
	500 | 500-post)
		is "$(tr -d '\r' <"$tmp/$1")" 'Status: 500 Internal Server Error
Content-Length: 0' "$5: the answer is a 500"
		is "$status" 0 "$5: and complete"
		;;
	cut | cut-post)
		unlike "$(cat "$tmp/$1")" '^Status' "$5: no status comes behind what was relayed"
		is "$status" 3 "$5: and the response ends without END_REQUEST"
		;;
	esac
}
timed_out wait wait 'Timeout (1s) exceeded while waiting for FCGI process to become available' 500 "a request in the queue"
timed_out app_start app-start 'Timeout (1s) exceeded while reading from socket (application)' 500 "an application that says nothing"
timed_out app_headers app-headers 'Timeout (1s) exceeded while reading from socket (application)' cut "one that says no more"
is "$(tr -d '\r' <"$tmp/app_headers")" 'Content-Type: text/plain' "what it had said has come"
timed_out app_write app-write 'Timeout (1s) exceeded while writing to socket (application)' 500-post "one that takes no more of the body"
timed_out app_write_cut app-write-cut 'Timeout (1s) exceeded while writing to socket (application)' cut-post "one that does so after its headers"
timed_out small small 'Timeout (1s) exceeded while reading from socket (server)' 500-post "a web server that stops in a small body"
timed_out large large 'Timeout (1s) exceeded while reading from socket (server)' 500-post "one that stops in a large body"
timed_out echo echo 'Timeout (1s) exceeded while reading from socket (server)' cut-post "one that does so when some of the response has come"
is "$(cut -d ' ' -f 1 "$tmp/echo")" $((2000000 + 28)) "all that was relayed before has come"
timed_out request_head request-head 'Timeout (1s) exceeded while processing request' 500 "a request that is served for too long"
timed_out request_moving request-moving 'Timeout (2s) exceeded while processing request' cut "one that moves, but for too long"
is "$(in_log 'pool [a-z-]*: (worker [0-9]+: )?Timeout')" 11 "there is one line for each" || diag "$(grep Timeout "$tmp/zfpm.log")"

# The web server that takes nothing can not be told while it does not.
finish slow
isnt "$status" 0 "a web server that takes no byte does not get a complete response"
message="Timeout \\(1s\\) exceeded while writing to socket \\(server\\)"
passes "the log says why" log_has "warn: pool slow: worker $(cat "$tmp/pid-slow"): $message \\(GET /slow\\?x, script /script.php, [0-9.]+s\\)\$"
passes "what it had taken is less than all" test "$(cut -d ' ' -f 1 "$tmp/slow")" -lt 20000000

# Who is overdue goes; who is not stays.
for p in app-start app-headers app-write app-write-cut request-head request-moving; do
	passes "$p: the worker has gone" wait_until gone "$(cat "$tmp/pid-$p")"
done
let_go hold_wait
for p in $pools; do
	now=$(pid_of "$p")
	case $p in
	app-* | request-head | request-moving | large | echo)	# those two lack a part of their body
		like "$now" '^[0-9]+$' "$p: the next request is served"
		;;
	*)
		is "$now" "$(cat "$tmp/pid-$p")" "$p: the next request is served by the worker that there was"
		;;
	esac
done

start_zfpm <<-\END
	timeout server 1s
	max_workers 1
	app app { command @bin@/app }
	pool p {
		user @user@
		app app
	}
	pool waits {
		user @user@
		app app
		timeout request 1s
	}
END
# All of the time counts: there is no place for the second pool's worker.
hold_in p holder
request waits -p REQUEST_URI=/waits >"$tmp/waits" 2>"$tmp/waits.txt"
is "$? $(tr -d '\r' <"$tmp/waits" | head -n 1)" "0 Status: 500 Internal Server Error" "a request that waits has no more time in all than timeout request"
is "$(cat "$tmp/waits.txt")" "stderr: Timeout (1s) exceeded while processing request" "the web server is told"
passes "the log has it" log_has 'warn: pool waits: Timeout \(1s\) exceeded while processing request \(GET /waits, '
let_go holder
# A request that has not said which pool it wants has the times of all.
printf 'begin 1\nparam 1 A=B\nclosed\n' | "$bin/client" script "$sock" >"$tmp/params" 2>&1
like "$(cat "$tmp/params")" '^STDERR .*"Timeout \(1s\) exceeded while reading from socket \(server\)"' \
    "a web server that stops in the parameters is told"
like "$(cat "$tmp/params")" '^END_REQUEST .*status=REQUEST_COMPLETE' "with a complete answer"
passes "and so is the log, as far as it is known" log_has 'pool -: Timeout \(1s\) exceeded while reading from socket \(server\) \(- -'
printf 'header 1 BEGIN_REQUEST 1 8 0\nhex 00 01\nclosed\n' | "$bin/client" script "$sock" -t 3 >"$tmp/begin" 2>&1
is "$(tail -n 1 "$tmp/begin")" closed "one that stops in the midst of BEGIN_REQUEST is not waited for either" || diag "$(cat "$tmp/begin")"
# Nor does a kept connection have a time: it is not a request.
printf 'begin 1 responder 1\nparams 1\nend STDIN 1\nwait 3\nsleep 2500\nbegin 2 responder 0\nparams 2\nend STDIN 2\nclosed\n' |
    "$bin/client" script "$sock" -P p -q 'show=QUERY_STRING' >"$tmp/kept" 2>&1 &
kept=$!
printf 'sleep 2500\nbegin 1 responder 0\nparams 1\nend STDIN 1\nclosed\n' |
    "$bin/client" script "$sock" -P p -q 'show=QUERY_STRING' >"$tmp/new" 2>&1 &
new=$!
wait "$kept"
is "$(grep -c '^END_REQUEST .*status=REQUEST_COMPLETE' "$tmp/kept")" 2 "a kept connection has no time limit: the second request on it is served"
wait "$new"
is "$(grep -c '^END_REQUEST .*status=REQUEST_COMPLETE' "$tmp/new")" 1 "nor has one on which nothing was ever said"
