#!/bin/sh
# A process that can not be started is not tried in a tight loop, requests get the reason at once, and when the cause is gone all is well.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 22

make_user user
mkdir "$tmp/starts"
chmod 777 "$tmp/starts"
# What it is to do at start stands in a file that the test can change.
for i in flaky quick; do
	cat >"$tmp/$i" <<-END
		#!/bin/sh
		date +%s%3N >>$tmp/starts/$i
		[ -e $tmp/good ] || exit 3
		exec $bin/app
	END
	chmod 755 "$tmp/$i"
done
start_zfpm <<-\END
	app app { command @bin@/app }
	app flaky { command @tmp@/flaky }
	app quick { command @tmp@/quick }
	app crash { command @bin@/app -o @tmp@/starts/crash }
	pool nowhere {
		user @user@
		app app
		directory @tmp@/nowhere
	}
	pool flaky {
		user @user@
		app flaky app
	}
	pool quick {
		user @user@
		app quick
	}
	pool crash {
		user @user@
		app crash
		max_workers 1
	}
END
starts() { grep -c . "$tmp/starts/$1" 2>/dev/null; }

# A step before exec
request nowhere -p REQUEST_URI=/x >"$tmp/a" 2>"$tmp/a.txt"
is "$?" 0 "when a process can not be started the request gets a complete answer"
is "$(tr -d '\r' <"$tmp/a")" 'Status: 500 Internal Server Error
Content-Length: 0' "which is a 500"
reason="Cannot start FCGI process: directory: $tmp/nowhere: No such file or directory"
is "$(cat "$tmp/a.txt")" "stderr: $reason" "with the step and the reason"
passes "they are in the log with the request" log_has "pool nowhere: $reason \(GET /x"
# Until the pool waits for so long between two tries that what follows is certain to happen meanwhile.
many() {
	request nowhere >"$tmp/a" 2>"$tmp/a.txt"
	[ "$(in_log 'master.*pool nowhere: cannot start FCGI process')" -ge 6 ]
}
passes "it is tried again and again" wait_until many
tries=$(in_log 'master.*pool nowhere: cannot start FCGI process')
for i in 1 2 3 4 5; do
	request nowhere
done >"$tmp/a" 2>"$tmp/a.txt"
is "$(grep -c "^stderr: $reason\$" "$tmp/a.txt")" 5 "requests that come meanwhile get the reason"
is "$(in_log 'master.*pool nowhere: cannot start FCGI process')" "$tries" "and no process is started for them"
mkdir "$tmp/nowhere"
chmod 755 "$tmp/nowhere"
works() { request "$@" 2>"$tmp/a.txt" | grep -q '^pid '; }
passes "when the cause is gone the pool is served" wait_until works nowhere

# A program that ends before it accepts
request flaky >"$tmp/a" 2>"$tmp/a.txt"
is "$?" 0 "when a program ends at start the request gets a complete answer"
like "$(cat "$tmp/a")" "^Status: 500" "which is a 500"
is "$(cat "$tmp/a.txt")" "stderr: Cannot start FCGI process: start: exited with status 3" "with the reason"
often() {
	request flaky >"$tmp/a" 2>"$tmp/a.txt"
	[ "$(starts flaky)" -ge 6 ]
}
passes "it is tried again and again" wait_until often
# Between the sixth start and the one before that there were 100 ms doubled four times.
is "$(awk 'NR > 1 && NR < 7 { min = 100 * 2 ^ (NR - 2); print ($1 - last >= min - 15) ? "ok" : "after " $1 - last " ms" }
    { last = $1 }' "$tmp/starts/flaky" | tr '\n' ' ')" "ok ok ok ok ok " "after 100 ms, and each time twice as long"
request flaky -a app show=QUERY_STRING >"$tmp/a" 2>&1
like "$(cat "$tmp/a")" '^show=QUERY_STRING$' "the pool's other app is not held back"
: >"$tmp/good"
passes "when the cause is gone the app is served" wait_until works flaky
rm "$tmp/good"

# It ends before the router can connect. The master sleeps until the router waits for it, then the router until all is over.
kill -STOP "$zfpm_pid"
request quick >"$tmp/q" 2>"$tmp/q.txt" &
client=$!
"$bin/client" values "$sock" >"$tmp/values"
router=$(router_pid)
kill -STOP "$router"
kill -CONT "$zfpm_pid"
over() { log_has 'master.* pool quick: worker [0-9]+: exited with status 3'; }
wait_until over
kill -CONT "$router"
wait "$client"
like "$(cat "$tmp/q.txt")" '^stderr: Cannot start FCGI process: start: ' \
    "a program that ended before it was connected to could not be started either"
is "$(starts quick)" 1 "and is not started again at once"

# Crashes are no failures to start
i=0
while [ $i -lt 20 ]; do
	i=$((i + 1))
	request crash signal=9
done >"$tmp/c" 2>"$tmp/c.txt"
is "$(grep -c '^stderr: FCGI process [0-9]* exited on signal 9 (SIGKILL)$' "$tmp/c.txt")" 20 "twenty crashes in a row are just that"
is "$(grep -c 'Cannot start' "$tmp/c.txt")" 0 "none of these requests was refused"
request crash show=QUERY_STRING >"$tmp/a" 2>&1
like "$(cat "$tmp/a")" '^show=QUERY_STRING$' "and the next one is served"
is "$(starts crash)" 21 "there was one start for each"
request crash -B 500000 noread exit=3 >"$tmp/c" 2>"$tmp/c.txt"
request crash -B 500000 noread exit=3 >"$tmp/c" 2>"$tmp/c.txt"
like "$(cat "$tmp/c.txt")" '^stderr: FCGI process [0-9]+ exited with status 3$' \
    "nor is it a failure to start when a worker ends in its first request without having read all of that"
