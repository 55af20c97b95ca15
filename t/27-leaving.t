#!/bin/sh
# A web server that leaves interrupts no script, one that aborts lets the application decide, and either way the worker is free again.
. "${0%/*}/lib.sh"
plan 26

start_zfpm <<-\EOF
	app app {
		command @bin@/app
	}
	pool p {
		user @user@
		app  app
		max_workers 1
	}
	pool a {
		user @user@
		app  app
		max_workers 1
		on_server_close abort
	}
EOF
mkdir -m 777 "$tmp/notes"
noted() { grep -qs "^$1" "$tmp/notes/$2"; }
pid_of() { request "$1" -O | sed -n 's/^pid //p'; }
p=$(pid_of p)
a=$(pid_of a)

# Half-closed
is "$(request p -O -H out=3)" 012 "a peer that half-closes after a whole request gets its answer"
is "$(request p -O -H sleep=0.2 out=3)" 012 "however late it comes"
is "$(request p -O -C -H -B 300000 echo -t 20)" "$("$bin/client" pattern 300000 | cksum | awk '{ print $2, $1 }')" "with a large body too"
request p -K -H -E -t 5 out=3 >"$tmp/out"
ok $? "then zfpm closes, KEEP_CONN or not"

# Gone: the script goes on.
request p -X 100 sleep=0.5 note="$tmp/notes/silent" at=body
is "$?" 6 "the web server leaves before the first byte of the response"
wait_until noted body silent
ok $? "the script goes on to its end"
request p -X first note="$tmp/notes/output" at=end out=30000000 >"$tmp/out"
is "$?" 6 "the web server leaves after the first byte"
wait_until noted end output
ok $? "the script goes on, and its 30 MB are read and discarded"
is "$(pid_of p)" "$p" "the worker then serves the next request"
request p -X 100 sleep=0.3 at=start exit=0
wait_for_log "pool p: worker $p: .*exited with status 0"
ok $? "what becomes of a script that nobody waits for is logged"
p=$(pid_of p)

# Gone, where the pool wants no script to go on
request a -X first note="$tmp/notes/abort" at=end out=100000000 pause=1 >"$tmp/out"
is "$?" 6 "in a pool with on_server_close abort the web server leaves"
is "$(pid_of a)" "$a" "the worker serves the next request as soon as the script has noticed"
fails "which it does at its next output" noted end abort

# FCGI_ABORT_REQUEST: the application's own rule decides.
request p -A first note="$tmp/notes/endless" at=headers endless >"$tmp/out"
is "$?" 0 "FCGI_ABORT_REQUEST is answered with END_REQUEST"
is "$(pid_of p)" "$p" "a script that heeds its lost connection ends, and its worker serves the next request"
request p -A 100 note="$tmp/notes/ignore" sleep=0.5 ignore-abort at=body >"$tmp/out"
is "$?" 0 "another abort"
is "$(pid_of p)" "$p" "the next request waits for a script that does not heed it"
noted body ignore
ok $? "which has then come to its end"
is "$(request p -O -n 2 out=3)" 012012 "nothing of all that is left on the connections"

# Queued: it leaves the queue, and no script runs for nobody.
"$bin/client" -s "$sock" -p p sleep=2.5 at=headers >"$tmp/first" &
first=$!
wait_until test -s "$tmp/first"
ok $? "the only worker is busy"
"$bin/client" -s "$sock" -p p -A 100 note="$tmp/notes/aborted" >"$tmp/out"
is "$?" 0 "a queued request that is aborted ends at once"
"$bin/client" -s "$sock" -p p -X 100 note="$tmp/notes/left" >"$tmp/out"
is "$?" 6 "another one's web server leaves"
kill -0 "$first"
ok $? "all that while the first request runs"
request p -O out=0 >"$tmp/out"
wait "$first"
is "$?" 0 "which ends as it should"
fails "no script has run for the aborted request" noted start aborted
fails "nor for the one whose web server left" noted start left
