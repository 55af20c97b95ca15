#!/bin/sh
# An overdue worker gets SIGTERM, and SIGKILL after `timeout kill`; it is really gone, with all that it has started, and the next request is served.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 27

make_user user
cat >"$tmp/conf.txt" <<-\END
	app app { command @bin@/app }
	app stubborn { command @bin@/app -I -f 2 }
	app graceful { command @bin@/app -g }
	app unaware { command @bin@/app -l }
	timeout app 1s
	timeout kill 2s
	max_workers 20
	pool app {
		user @user@
		app app
		max_workers 1
	}
	pool stubborn {
		user @user@
		app stubborn
		max_workers 1
	}
	pool graceful {
		user @user@
		app graceful
		max_workers 1
	}
	pool unaware {
		user @user@
		app unaware
	}
	pool threads {
		user @user@
		app threads
		max_workers 1
	}
	app threads {
		command @bin@/app -c 3
		connections 3
	}
END
start_zfpm <"$tmp/conf.txt"
pid_of() { request "$@" 2>"$tmp/pid.txt" | sed -n 's/^pid //p'; }
of_group() { ps -o pid= -s "$1" | wc -l; }

app=$(pid_of app)
stubborn=$(pid_of stubborn)
is "$(of_group "$stubborn")" 3 "a worker has processes of its own"
start stubborn stubborn hang
start app app hang
finish app
passes "a worker that obeys SIGTERM is gone" wait_until gone "$app"
passes "from the system's table too" wait_until test ! -e "/proc/$app"
passes "its end is in the log" wait_for_log "pool app: worker $app: exited on signal 15 \\(SIGTERM\\)"
like "$(pid_of app)" '^[0-9]+$' "and the next request is served"
finish stubborn
fails "one that ignores it is still there when its request has been answered" gone "$stubborn"
start next stubborn
passes "timeout kill later it is killed" wait_for_log "pool stubborn: worker $stubborn: did not end within 2.0s of SIGTERM; killed"
passes "and gone" wait_until gone "$stubborn"
none_left() { [ "$(of_group "$stubborn")" -eq 0 ]; }
passes "with all its processes" wait_until none_left
passes "its end is in the log" wait_for_log "pool stubborn: worker $stubborn: exited on signal 9 \\(SIGKILL\\)"
at() { sed -n "s/^[^T]*T\\([0-9]*\\):\\([0-9]*\\):\\([0-9.]*\\)+.*$1.*/\\1 \\2 \\3/p" "$tmp/zfpm.log" | head -n 1 | awk '{ print ($1 * 60 + $2) * 60 + $3 }'; }
passes "not before its time" awk "BEGIN { d = $(at "worker $stubborn: did not end") - $(at "worker $stubborn: Timeout"); exit !(d >= 1.95 || d < 0) }"
finish next
like "$(worker_of next)" '^[0-9]+$' "the request that came meanwhile is served when it is gone"
is "$(in_log "worker $app: did not end")" 0 "nobody else was killed"

# One that ends in its own way
graceful=$(pid_of graceful)
request graceful hang -t 60 >"$tmp/g" 2>"$tmp/g.txt"
passes "one that would finish its request first is killed too" wait_until gone "$graceful"
like "$(pid_of graceful)" '^[0-9]+$' "and the next request is served"

# A worker that serves others too
pid_of threads >"$tmp/threads"
hold a threads out=2000 record=100 pause=200
held a
request threads hang -t 60 >"$tmp/h" 2>"$tmp/h.txt"
is "$(cat "$tmp/h.txt")" "stderr: Timeout (1s) exceeded while reading from socket (application)" "one of several requests of a worker is overdue"
finish a
is "$(cat "$tmp/a.txt")" "stderr: Timeout (1s) exceeded while reading from socket (application)" "the other one has its own time"
passes "then the worker goes" wait_until gone "$(cat "$tmp/threads")"
pid_of threads >"$tmp/threads"
start b threads out=2000 record=100 pause=150 -C
start c threads hang
finish c
fails "the worker stays as long as another request on it moves" gone "$(cat "$tmp/threads")"
finish b
is "$status" 0 "a request on the same worker that is not overdue is not cut"
passes "and the worker goes when that is done" wait_until gone "$(cat "$tmp/threads")"
like "$(pid_of threads)" '^[0-9]+$' "the next request is served"

# One that misses the signal, because it came when the program was about to wait for a connection
unaware=$(pid_of unaware)
passes "a worker is told to end" "$zfpm" retire unaware -c "$tmp/zfpm.conf"
passes "if it missed that it is told once more" wait_for_log "pool unaware: worker $unaware: exited with status 0"
unaware=$(pid_of unaware)
"$zfpm" stop -c "$tmp/zfpm.conf"
passes "at the end of zfpm too" wait_for_log "pool unaware: worker $unaware: exited with status 0"
start_zfpm <"$tmp/conf.txt"
unaware=$(pid_of unaware)
kill -KILL "$zfpm_pid"
wait "$zfpm_pid" 2>/dev/null
zfpm_pid=
passes "and by the guard" wait_until gone "$unaware"
is "$(in_log "pool unaware: .* did not end") $(in_log "processes did not end")" "0 0" "none had to be killed"
