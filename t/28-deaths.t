#!/bin/sh
# A worker that dies or closes its connection while it serves: the web server is told how, and sees that the response is cut.
. "${0%/*}/lib.sh"
plan 52

start_zfpm <<-\EOF
	app app {
		command @bin@/app
	}
	pool p {
		user @user@
		app  app
		max_workers 1
	}
	pool q {
		user @user@
		app  app
	}
EOF
router=$(router_pid)
dies() {	# where, how (a query), what is said of it
	pid=$(request p -O | sed -n 's/^pid //p')
	request p -K "at=$1" "$2" out=1000 >"$tmp/out" 2>"$tmp/err"
	is "$? $(cat "$tmp/err")" "3 stderr: FCGI process $pid $3" "at $1: $3"
}
for point in start body headers mid record end; do
	dies $point exit=3 "exited with status 3"
	dies $point exit=0 "exited with status 0"
	dies $point signal=9 "exited on signal 9 (SIGKILL)"
	dies $point signal=11 "exited on signal 11 (SIGSEGV)"
	dies $point close "closed the connection"
done
dies mid signal=15 "exited on signal 15 (SIGTERM)"
dies mid signal=6 "exited on signal 6 (SIGABRT)"

# What had come before is there, and nothing more.
request p at=start exit=1 >"$tmp/out" 2>"$tmp/err"
is "$(wc -c <"$tmp/out" | tr -d ' ')" 0 "nothing of a response that had not begun"
request p -O at=mid exit=1 out=100000 >"$tmp/out" 2>"$tmp/err"
is "$(cksum <"$tmp/out")" "$("$bin/client" pattern 50000 | cksum)" "all that the application had sent before it died"
request p -O at=record exit=1 out=1000 >"$tmp/out" 2>"$tmp/err"
is "$(wc -c <"$tmp/out" | tr -d ' ')" 510 "to the last byte of an unfinished record"
request p stderr=last+words at=headers exit=1 >"$tmp/out" 2>"$tmp/err"
is "$(head -n 1 "$tmp/err")" "stderr: last words" "and its own messages come first"
printf 'begin 1\nparams 1\nend STDIN 1\nclosed\n' | "$bin/client" script "$sock" -P p -q 'stderr=last+words&at=headers&exit=1' >"$tmp/out"
is "$(grep -E '^(STDERR|closed)' "$tmp/out" | tail -n 2)" 'STDERR id=1 len=0 pad=0
closed' "the stream of the messages is ended before the connection"

# The log: pool, pid, method, URI, script, how long
pid=$(request p -O | sed -n 's/^pid //p')
request p -m PUT -p REQUEST_URI=/some/where?x=1 -p SCRIPT_FILENAME=/srv/app.php sleep=0.2 signal=9 at=mid >"$tmp/out" 2>"$tmp/err"
wait_for_log "pool p: worker $pid: .*exited on signal 9 \(SIGKILL\) \(PUT /some/where\?x=1, script /srv/app.php, [0-9]+\.[0-9]{3}s\)"
ok $? "the log names pool, worker, method, URI, script and time"

# No death. Each has really gone before the next request comes: what comes earlier finds it alive.
for how in "exit=0" "signal=9"; do
	pid=$(request p -O | sed -n 's/^pid //p')
	is "$(request p -O at=after "$how" out=3)" 012 "a worker that ends ($how) after END_REQUEST has served its request"
	wait_until gone "$pid"
done
is "$(request p -O at=after close out=3)" 012 "so has one that closes the connection"
pid=$(workers "$user")
closed() { ! [ -e "/proc/$pid/fd/3" ]; }
wait_until closed
is "$(request p -O | sed -n 's/^pid //p')" "$pid" "which serves the next one too"

# What is no FastCGI
request p rubbish >"$tmp/out" 2>"$tmp/err"
is "$? $(head -n 1 "$tmp/out" | tr -d '\r')" "0 Status: 500 Internal Server Error" "an application that does not speak FastCGI: 500"
like "$(cat "$tmp/err")" '^stderr: FCGI process [0-9]+ ' "and a message that names it"
request p at=headers rubbish >"$tmp/out" 2>"$tmp/err"
is "$?" 3 "where it begins to in the middle of its response, that is cut"
request p badversion at=mid out=10 >"$tmp/out" 2>"$tmp/err"
is "$?" 3 "a record of another version is no FastCGI either"
is "$(request p -O out=3)" 012 "and the next request is served"

# The web server's connection is closed, the others go on.
"$bin/client" -s "$sock" -p q -O sleep=0.5 at=mid out=1000 >"$tmp/good" &
good=$!
deaths=0
while [ $((deaths += 1)) -le 20 ]; do
	request p exit=1 >"$tmp/out" 2>"$tmp/err" || echo $?
done >"$tmp/codes"
wait "$good"
is "$? $(wc -c <"$tmp/good" | tr -d ' ')" "0 1000" "a running request does not notice the deaths of others"
is "$(sort "$tmp/codes" | uniq -c | awk '{ print $1, $2 }')" "20 3" "20 deaths in a row are 20 cut responses"
start=$(date +%s)
is "$(request p -O out=3)" 012 "and the next request is served"
passes "at once" test $(($(date +%s) - start)) -le 5
is "$(router_pid)" "$router" "the router has survived all of it"
