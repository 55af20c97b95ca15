#!/bin/sh
# When the web server leaves or aborts, the script goes on or not as configured and as its application decides; the worker is used again, and by nobody before it is free.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 32

make_user user
start_zfpm <<-\END
	app app { command @bin@/app }
	pool finish {
		user @user@
		app app
		max_workers 1
	}
	pool abort {
		user @user@
		app app
		max_workers 1
		on_server_close abort
	}
	pool wait {
		user @user@
		app app
		max_workers 1
		timeout wait 1s
	}
	pool two {
		user @user@
		app app
		max_workers 2
	}
	pool lost {
		user @user@
		app app
		max_workers 1
		timeout app 1s
		timeout kill 1s
	}
END
pid_of() { request "$@" | sed -n 's/^pid //p'; }
note=$user_home/note
new_note() { rm -f "$note"; }

# on_server_close
for pool in finish abort; do
	before=$(pid_of $pool)
	# Silent when the web server goes
	hold a $pool out=20000000
	held a
	leave a
	wait_for_log "pool $pool: web server closed the connection"
	release a
	is "$(pid_of $pool)" "$before" "$pool: when the web server has left a silent script its worker is used again"
	# In the midst of its output, of which nobody reads a byte
	new_note
	start b $pool out=20000000 at=end "note=$note" -W 60000
	stuck() { [ "$(in_state "$before")" = S ] && [ "$(sockets_of "$before")" -eq 2 ]; }
	in_state() { sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status"; }
	wait_until stuck
	"$bin/client" values "$sock" >"$tmp/values"
	fails "$pool: a script whose output nobody takes is not at its end" test -s "$note"
	leave b
	is "$(pid_of $pool)" "$before" "$pool: when the web server leaves it its worker is used again too"
	if [ $pool = finish ]; then
		is "$(cat "$note" 2>/dev/null)" "end $before" "finish: and it has come to its end"
	else
		fails "abort: and it was stopped where it writes" test -s "$note"
	fi
	new_note
	start b $pool out=20000000 at=end "note=$note" ignore-abort -W 60000
	wait_until stuck
	leave b
	passes "$pool: one that ignores it goes on to its end" wait_until test -s "$note"
	is "$(pid_of $pool)" "$before" "$pool: its worker is used again"
	# In the midst of the body: never passed off as a complete one
	new_note
	start c $pool -B 1000000 -Y 500000 early=1 "note=$note" at=body
	wait_until test -s "$tmp/c"
	leave c
	passes "$pool: when the web server leaves in the midst of the body the script is killed" wait_until gone "$before"
	fails "$pool: it has not seen an end of the body" test -s "$note"
	isnt "$(pid_of $pool)" "$before" "$pool: another worker serves the next request"
	is "$(in_log "router.* pool $pool: worker [0-9]+: started")" 2 "$pool: there was no third one"
done

# ABORT_REQUEST: the application's own rule. It writes every 100 ms, so it will find out.
worker=$(pid_of finish)
new_note
request finish -A first out=3000 record=1000 pause=100 at=end "note=$note" >"$tmp/d" 2>"$tmp/d.txt"
is "$?" 0 "an aborted request ends with END_REQUEST"
passes "the log knows" log_has 'pool finish: aborted by the web server \(GET /'
is "$(pid_of finish)" "$worker" "its worker is used again"
fails "the script was stopped where it writes" test -s "$note"
mkfifo -m 666 "$tmp/gate"
request wait -A first out=3000 record=1000 pause=100 at=end "note=$tmp/gate" ignore-abort >"$tmp/d" 2>"$tmp/d.txt"
request wait >"$tmp/e" 2>"$tmp/e.txt"
is "$(cat "$tmp/e.txt")" "stderr: Timeout (1s) exceeded while waiting for FCGI process to become available" \
    "while an aborted script goes on its worker gets no other request"
timeout "$patience" cat "$tmp/gate" >"$tmp/at"
like "$(cat "$tmp/at")" '^end [0-9]+$' "one that ignores it comes to its end"
is "$(pid_of wait)" "$(sed 's/.* //' "$tmp/at")" "then its worker is used again"
request two -A first out=3000 record=1000 pause=100 at=end "note=$tmp/gate" ignore-abort >"$tmp/d" 2>"$tmp/d.txt"
pid_of two >"$tmp/e"
timeout "$patience" cat "$tmp/gate" >"$tmp/at"
like "$(cat "$tmp/e")" '^[0-9]+$' "where there may be another worker, that one serves meanwhile"
isnt "$(cat "$tmp/e")" "$(sed 's/.* //' "$tmp/at")" "and not the one that is busy"

# A script that does not come back
request lost -A first at=headers "note=$tmp/gate" ignore-abort >"$tmp/d" 2>"$tmp/d.txt"
passes "a worker that does not come back within timeout app is given up" \
    wait_for_log 'pool lost: worker [0-9]+: did not come back within 1s'
like "$(pid_of lost)" '^[0-9]+$' "and another one serves"

# A web server that leaves before it has sent all of a request
printf 'begin 1\nclose\n' | "$bin/client" script "$sock" >"$tmp/f" 2>&1
like "$(pid_of finish)" '^[0-9]+$' "a web server that leaves in the midst of the parameters disturbs nobody"
