#!/bin/sh
# When a worker dies or closes while it serves, the web server is told how and sees a cut response, the log says all that is known, and the next request is served.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 82

make_user user
start_zfpm <<-\END
	app app { command @bin@/app }
	pool p {
		user @user@
		app app
		max_workers 1
	}
	pool many {
		user @user@
		app many
		max_workers 1
	}
	app many {
		command @bin@/app -c 3
		connections 3
	}
END
pid_of() { request "$@" 2>"$tmp/pid.txt" | sed -n 's/^pid //p'; }
escaped() { printf '%s' "$1" | sed 's/[()]/\\&/g'; }

# dies HOW POINT BYTES TITLE [ARGUMENT...]: five tests. BYTES: how many of the response are relayed.
dies() {
	how=$1 bytes=$3 title=$4
	[ "$2" = . ] || set -- "$@" "at=$2"
	shift 4
	pid=$(pid_of p)
	request p -p "REQUEST_URI=/die/now" -p SCRIPT_FILENAME=/script.php -C out=10000 record=1000 "$@" >"$tmp/out" 2>"$tmp/out.txt"
	is "$?" 3 "$title: the response ends without END_REQUEST"
	is "$(cat "$tmp/out.txt")" "stderr: FCGI process $pid $how" "the web server is told how"
	is "$(cut -d ' ' -f 1 "$tmp/out")" "$bytes" "what came before has come"
	passes "the log says it with pool, process, method, URI, script and time" log_has \
	    "warn: pool p: worker $pid: FCGI process $pid $(escaped "$how") \\(GET /die/now, script /script.php, [0-9.]+s\\)\$"
	next=$(pid_of p)
	case $how in
	closed*) is "$next" "$pid" "the same worker serves the next request" ;;
	*) like "$next" '^[0-9]+$' "the next request is served" ;;
	esac
}
head=28	# bytes of the headers
dies 'exited on signal 9 (SIGKILL)' . 0 "SIGKILL before the headers" signal=9
dies 'exited on signal 11 (SIGSEGV)' headers $head "SIGSEGV after the headers" signal=11
dies 'exited on signal 15 (SIGTERM)' mid $((head + 5000)) "SIGTERM in the midst of the response" signal=15
dies 'exited on signal 6 (SIGABRT)' record $((head + 5010)) "SIGABRT in the midst of a record" signal=6
dies 'exited on signal 9 (SIGKILL)' end $((head + 10000)) "SIGKILL before END_REQUEST" signal=9
dies 'exited with status 3' . 0 "exit before the headers" exit=3
dies 'exited with status 0' headers $head "exit with status 0 after the headers" exit=0
dies 'exited with status 255' record $((head + 5010)) "exit in the midst of a record" exit=255
dies 'closed the connection' . 0 "a closed connection before the headers" close
dies 'closed the connection' headers $head "one after the headers" close
dies 'closed the connection' record $((head + 5010)) "one in the midst of a record" close
dies 'closed the connection' end $((head + 10000)) "one before END_REQUEST" close

# What comes after END_REQUEST is no request's misfortune.
served() { [ -n "$(pid_of p)" ]; }
for what in signal=9 exit=1 close; do
	request p at=after $what show=QUERY_STRING >"$tmp/out" 2>"$tmp/out.txt"
	is "$? $(cat "$tmp/out.txt")" "0 " "a worker that ends after END_REQUEST ($what) has answered"
	# One that comes in just the moment in which it goes is lost.
	passes "and soon the next request is served" wait_until served
done

# Its first request is like any other.
kill -KILL "$(pid_of p)"
wait_until count_workers 0
request p signal=9 >"$tmp/out" 2>"$tmp/out.txt"
like "$(cat "$tmp/out.txt")" '^stderr: FCGI process [0-9]+ exited on signal 9 \(SIGKILL\)$' "a worker that dies of its first request has not failed to start"
pid_of p >"$tmp/last"
like "$(cat "$tmp/last")" '^[0-9]+$' "and the next request is served at once"

# A process that it has started keeps the connection open.
pid=$(pid_of p)
request p fork=30 at=mid signal=9 >"$tmp/out" 2>"$tmp/out.txt"
is "$?" 3 "a worker that dies is not waited for because a child of its holds the connection"
is "$(cat "$tmp/out.txt")" "stderr: FCGI process $pid exited on signal 9 (SIGKILL)" "the web server is told"

# Several requests on one worker
pid=$(pid_of many)
start a many hang
hold_in many b
"$bin/client" values "$sock" >"$tmp/values"
request many signal=9 >"$tmp/c" 2>"$tmp/c.txt"
finish a
is "$(cat "$tmp/a.txt")" "stderr: FCGI process $pid exited on signal 9 (SIGKILL)" "all requests of a worker that dies are told"
finish b
is "$(cat "$tmp/b.txt")" "stderr: FCGI process $pid exited on signal 9 (SIGKILL)" "all of them"
is "$(cat "$tmp/c.txt")" "stderr: FCGI process $pid exited on signal 9 (SIGKILL)" "the one that was the reason too"
like "$(pid_of many)" '^[0-9]+$' "and the next request is served"

# Not FastCGI
for what in rubbish badversion; do
	pid=$(pid_of p)
	request p at=start $what >"$tmp/out" 2>"$tmp/out.txt"
	like "$(cat "$tmp/out.txt")" "^stderr: FCGI process $pid sent " "what is not FastCGI ($what) is told"
	request p at=mid $what >"$tmp/out" 2>"$tmp/out.txt"
	is "$?" 3 "in the midst of a response it cuts that"
	like "$(pid_of p)" '^[0-9]+$' "and the next request is served"
done
for what in wrongid unknown; do
	request p at=mid $what out=10000 -O -C >"$tmp/out" 2>"$tmp/out.txt"
	is "$(cut -d ' ' -f 1 "$tmp/out") $(cat "$tmp/out.txt")" "10000 " "a record that belongs to nothing ($what) is ignored"
done
