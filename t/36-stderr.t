#!/bin/sh
# What an application writes to its standard error is in zfpm's log, a line each; one that floods it neither stops the router nor fills its memory.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 15

make_user user
start_zfpm <<-\END
	app app { command @bin@/app -w "hello, world" }
	pool quiet {
		user @user@
		app app
	}
	pool loud {
		user @user@
		app app
		max_workers 1
	}
END
field() { sed -n "s/^$2 //p" "$tmp/$1"; }

request loud 'log=first%20line' >"$tmp/a" 2>"$tmp/a.txt"
pid=$(field a pid)
passes "a line of a request is in the log with pool and process" wait_for_log "info: pool loud: worker $pid: stderr: first line\$"
passes "and so is one from its start" log_has "info: pool loud: worker $pid: stderr: hello, world\$"
is "$(cat "$tmp/a.txt")" "" "the web server gets nothing of it"
request loud 'log=two%0Alines' >"$tmp/a"
passes "two lines in one write" wait_for_log "stderr: lines\$"
passes "are two lines" log_has "stderr: two\$"
request loud 'log=a%1B%5B31mb%09c%FF' >"$tmp/a"
passes "control characters are escaped" wait_for_log 'stderr: a\\x1B\[31mb\\x09c\\xFF$'
request loud log=again log-n=500 >"$tmp/a"
all() { [ "$(in_log 'pool loud: worker [0-9]+: stderr: again$')" -eq 500 ]; }
passes "of five hundred lines none is lost" wait_until all || diag "$(in_log 'stderr: again$')"
request quiet 'log=last%20words' at=body signal=9 >"$tmp/b" 2>"$tmp/b.txt"
passes "the last words of one that dies are not lost" wait_for_log 'pool quiet: worker [0-9]+: stderr: last words$'

# The flood
router=$(router_pid)
memory() { sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$router/status"; }
request quiet show=QUERY_STRING >"$tmp/c"
before=$(memory)
start flood loud log=A-flood-of-lines-from-one-application log-n=100000
wait_for_log 'stderr: A-flood'
n=0 served=0
while [ $n -lt 40 ]; do
	n=$((n + 1))
	request quiet -t 2 show=QUERY_STRING >"$tmp/d" 2>"$tmp/d.txt" && served=$((served + 1))
done
is "$served" 40 "while an application floods its standard error others are served within two seconds each"
passes "the log says that it is too much" wait_for_log 'pool loud: worker [0-9]+: stderr: too much in one second'
n=0
while [ $n -lt 10 ]; do
	n=$((n + 1))
	request quiet -t 2 show=QUERY_STRING >"$tmp/d" 2>"$tmp/d.txt" && served=$((served + 1))
done
is "$served" 50 "and afterwards"
fails "the flood still goes on" gone "$gate_flood"
after=$(memory)
passes "the router's memory has not grown" test $((after - before)) -lt 2048 || diag "$before $after"
is "$(router_pid)" "$router" "it is the same router"
leave flood
# The one that still writes is in the way of nobody who wants to stop.
stop_zfpm TERM
is "$zfpm_status" 0 "and zfpm stops as always"
