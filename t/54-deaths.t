#!/bin/sh
# kill -9 of a worker, of the router and of the master: what comes later is served, and nobody is left behind.
. "${0%/*}/lib.sh"
plan 33

make_user user
cat >"$tmp/conf" <<-\END
	app app { command @bin@/app }
	app stubborn { command @bin@/app -I }
	app family { command @bin@/app -f 2 }
	pool one {
		user @user@
		app app family
	}
	pool two {
		user @user@
		app stubborn
		timeout kill 1s
	}
END
of_user() { ps -o pid= -u "$user" | tr -d ' '; }
nobody_left() { [ -z "$(of_user)" ]; }
count_is() { [ "$(of_user | grep -c .)" -eq "$1" ]; }
pid_of() { request "$@" | sed -n 's/^pid //p'; }
# begin POOL QUERY...: a request that hangs when its headers have come; $client, and $worker that has it.
begin() {
	rm -f "$user_home/at"
	request "$@" "note=$user_home/at" at=headers hang -t 60 >"$tmp/hang" 2>"$tmp/hang.txt" &
	client=$!
	wait_until test -s "$user_home/at"
	worker=$(sed 's/.* //' "$user_home/at")
}
new_router() { r=$(router_pid) && [ "$r" != "$router" ]; }
start_zfpm <"$tmp/conf"

# A worker
first=$(pid_of one)
kill -KILL "$first"
passes "an idle worker that is killed is reaped" wait_until test ! -e "/proc/$first"
second=$(pid_of one)
like "$second" '^[0-9]+$' "the next request is served"
isnt "$second" "$first" "by another worker"
begin one
is "$worker" "$second" "a request runs"
kill -KILL "$worker"
passes "when its worker is killed it ends" wait_until gone "$client"
wait "$client"
is "$?" 3 "without an END_REQUEST, so that the response is not taken for complete"
like "$(cat "$tmp/hang.txt")" "^stderr: FCGI process $worker exited on signal 9 \(SIGKILL\)\$" "the web server is told how"
passes "and so is the log" log_has "pool one: .*$worker.* exited on signal 9 \(SIGKILL\)"
like "$(pid_of one)" '^[0-9]+$' "the next request is served"

# A worker with processes of its own
for p in $(of_user); do
	kill -KILL "$p"
done
wait_until nobody_left
family=$(pid_of one -a family)
passes "a worker has processes of its own" count_is 3
kill -KILL "$family"
passes "when it is killed they go too" wait_until nobody_left

# The router
begin two
router=$(router_pid)
kill -KILL "$router"
passes "when the router is killed the web server's connections break" wait_until gone "$client"
passes "the log says how it ended" wait_for_log "router $router: exited on signal 9 \(SIGKILL\); starting another"
passes "there is another router" wait_until new_router
like "$(pid_of one)" '^[0-9]+$' "and the next request is served"
passes "the worker of the dead one is gone" wait_until gone "$worker"
passes "although it did not obey" log_has "pool two: worker $worker: did not end within 1.0s of SIGTERM; killed"
is "$(sed -n 's/^NoNewPrivs:[[:space:]]*//p' "/proc/$(router_pid)/status")" 1 "the new router is as tame as the first"
router=$(router_pid)
kill -KILL "$router"
passes "a router that dies young is replaced too" wait_until new_router
like "$(pid_of one)" '^[0-9]+$' "and the next request is served"

# The guard, which has nothing to do while the master lives: another takes its place.
guard_pid() {
	for p in $(children_of "$zfpm_pid"); do
		case $(ps -o args= -p "$p") in
		'zfpm: guard'*) echo "$p" ;;
		esac
	done
}
guard=$(guard_pid)
isnt "$guard" '' "there is a guard"
kill -KILL "$guard"
new_guard() { g=$(guard_pid) && [ -n "$g" ] && [ "$g" != "$guard" ]; }
passes "a guard that is killed is replaced" wait_until new_guard

# The master, while a request runs, a worker is idle, and another ignores SIGTERM
request two >"$tmp/two"
request one -O "note=$user_home/run" at=headers out=3000 record=1000 pause=500 >"$tmp/answer" 2>&1 &
client=$!
wait_until test -s "$user_home/run"
router=$(router_pid)
guard=$(guard_pid)
kill -KILL "$zfpm_pid"
wait "$client"
is "$?" 0 "when the master is killed the router finishes the request that runs"
is "$(wc -c <"$tmp/answer")" 3000 "to its end"
passes "then it ends" wait_until gone "$router"
passes "no worker is left, not even one that ignores SIGTERM" wait_until nobody_left
passes "nor the guard" wait_until gone "$guard"
stop_zfpm
start_zfpm <"$tmp/conf"
like "$(pid_of one)" '^[0-9]+$' "zfpm starts again in what a killed one has left, and serves"

# A master that ends by itself
stop_zfpm TERM
is "$zfpm_status" 0 "SIGTERM ends zfpm with status 0"
passes "and nobody is left" nobody_left
start_zfpm <"$tmp/conf"
request one "note=$user_home/quit" at=headers sleep=1 show=QUERY_STRING >"$tmp/answer" 2>&1 &
client=$!
wait_until test -s "$user_home/quit"
stop_zfpm QUIT
is "$zfpm_status" 0 "SIGQUIT too"
wait "$client"
is "$?" 0 "when the request that runs is done"
passes "and nobody is left" nobody_left
