#!/bin/sh
# Workers of an app server live and die as directly started ones do: forked on demand, up to the limits, retired, replaced,
# killed; whoever dies or stands still, nobody is left behind, nothing hangs, and the next request is served.
# shellcheck disable=SC2016 # the expressions are perl's
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
. "${0%/*}/generations.sh"
plan 123

# AddressSanitizer does not let another library be loaded before it.
cp "$top/t/bin/app" "$top/t/bin/badserver" "$bin"
make_user user
make_user other
make_user third
make_user once
# What an app server has forked; it is a child of the master itself (workers).
forked() {
	for s in $(workers ${1+"$1"}); do
		children_of "$s"
	done
}
forks_are() { [ "$(forked ${2+"$2"} | grep -c .)" -eq "$1" ]; }
of_user() { ps -o pid= -u "$1" | tr -d ' '; }
nobody_of() { [ -z "$(of_user "$1")" ]; }
served() { [ -n "$(pid_of "$@" 2>/dev/null)" ]; }
field() { sed -n "s/^$2 //p" "$tmp/$1"; }
all_gone() {
	for p in "$@"; do
		gone "$p" || return 1
	done
}

# On demand, up to max_workers; idle ones go, and then the app server
start_zfpm <<-\END
	timeout kill 1s
	app app {
		command @bin@/app
		fork_server on
	}
	pool p {
		user @user@
		app app
		max_workers 3
		timeout idle 2s
		timeout app_server 4s
	}
END
hold_in p r1
server=$(workers "$user")
first=$(forked "$user")
is "$(ps -o ppid= -p "$first" | tr -d ' ')" "$server" "a worker is a child of its app server"
is "$(echo "$first" | grep -c .)" 1 "there is one as long as one is needed"
hold r2 p
hold r3 p
held r1 r2 r3
enqueue r4 p
is "$(forked "$user" | grep -c .)" 3 "as many as max_workers allows are forked, no more"
is "$(json '@{$pool{p}{workers}}{qw(total busy)} , $pool{p}{queue}{length}')" 3,3,1 "status counts them, and not the app server"
is "$(workers "$user")" "$server" "all by one app server"
release r1 r2 r3
finish r1 r2 r3 r4
is "$(printf '%s\n' "$(worker_of r1)" "$(worker_of r2)" "$(worker_of r3)" | sort -u | grep -c .)" 3 "each serves one request at a time"
like " $(worker_of r1) $(worker_of r2) $(worker_of r3) " " $(worker_of r4) " "the one that waited is served by one of them"
passes "timeout idle ends them" wait_until forks_are 0 "$user"
fails "the app server lives on" gone "$server"
served p
is "$(workers "$user")" "$server" "and forks the next one"
passes "without workers timeout app_server ends it" wait_until gone "$server"
no_sockets() { [ "$(worker_sockets)" -eq 0 ]; }
passes "and its socket is removed" wait_until no_sockets
comes '$pool{p}{workers}{total} // 0' 0 "nothing is counted any more"
request p >"$tmp/a"
isnt "$(field a ppid)" "$server" "the next request has a new app server"
is "$(workers "$user")" "$(field a ppid)" "one of it"

# min_workers, max_requests
start_zfpm <<-\END
	app app {
		command @bin@/app
		fork_server on
	}
	pool ahead {
		user @user@
		app app
		min_workers 2
		timeout idle 300ms
		timeout app_server 300ms
	}
	pool two {
		user @other@
		app app
		max_workers 1
		max_requests 2
	}
	pool left {
		user @third@
		app app
		max_workers 1
	}
END
passes "min_workers are forked without a request" wait_until forks_are 2 "$user"
server=$(workers "$user")
first=$(forked "$user" | head -n 1)
kill -KILL "$first"
passes "one that dies is replaced" wait_until forks_are 2 "$user"
hold_in ahead r1 r2 r3
let_go r1 r2 r3
passes "those beyond are idle for timeout idle" wait_until forks_are 2 "$user"
is "$(workers "$user")" "$server" "the app server of min_workers is not retired"
# The router closes the only connection of a worker whose client leaves. That is no habit of the program's.
for i in 1 2 3; do
	a=$(pid_of left)
	request left -O -A first endless >"$tmp/out"
	passes "a worker whose client leaves during its second request ends ($i)" wait_until gone "$a"
done
is "$(for i in 1 2 3 4; do pid_of left; done | sort -u | grep -c .)" 1 "the next one serves request after request"

a=$(pid_of two) b=$(pid_of two) server=$(workers "$other") c=$(pid_of two)
is "$b" "$a" "a worker serves max_requests requests"
isnt "$c" "$a" "and then there is another"
is "$(workers "$other")" "$server" "of the same app server"
is "$(json "$(cause two max_requests)")" 1 "which is counted"

# The limit of all pools together: those with app servers and others give way to each other.
start_zfpm <<-\END
	max_workers 3
	app app {
		command @bin@/app
		fork_server on
	}
	app direct { command @bin@/app }
	pool one {
		user @user@
		app app
	}
	pool two {
		user @other@
		app app
	}
	pool direct {
		user @third@
		app direct
	}
END
hold_in one r1 r2 r3
let_go r1 r2 r3
is "$(forked "$user" | grep -c .)" 3 "one pool may have all places; its app server takes none"
like "$(pid_of two)" '^[0-9]+$' "another pool with an app server gets one that is idle"
like "$(pid_of direct)" '^[0-9]+$' "and so does one without"
passes "by the end of as many" wait_until forks_are 1 "$user"
is "$(forked "$other" | grep -c .) $(workers "$third" | grep -c .)" "1 1" "there are three now"
is "$(json "$(cause one evicted)")" 2 "two have been evicted"
hold_in direct r1 r2
hold_in one r3
is "$(workers "$third" | grep -c .) $(forked | grep -c .)" "2 1" "the direct one in turn"
enqueue r4 two
is "$(json '$pool{two}{queue}{length}')" 1 "with all of them busy a request waits"
release r1
finish r1 r4
like "$(worker_of r4)" '^[0-9]+$' "for the first that is free"
passes "never more than three" test "$(($(workers "$third" | grep -c .) + $(forked | grep -c .)))" -le 3
let_go r2 r3

# Death
start_zfpm <<-\END
	timeout kill 1s
	timeout start 2s
	app app {
		command @bin@/app
		fork_server on
	}
	app stubborn {
		command @bin@/app -I
		fork_server on
	}
	pool p {
		user @user@
		app app
		max_workers 2
	}
	pool s {
		user @user@
		app stubborn
		timeout app 1s
	}
	pool brief {
		user @third@
		app app
		timeout app 1s
	}
	pool q {
		user @other@
		app app
	}
	pool once {
		user @once@
		app app
		max_requests 1
	}
END
router=$(router_pid)
a=$(pid_of p)
server=$(workers "$user")
kill -KILL "$a"
passes "an idle worker that is killed is reaped" wait_until test ! -e "/proc/$a"
b=$(pid_of p)
like "$b" '^[0-9]+$' "the next request is served"
isnt "$b" "$a" "by another worker"
hold_in p r1
kill -KILL "$b"
finish r1
is "$status $(cat "$tmp/r1.txt")" "3 stderr: FCGI process $b exited on signal 9 (SIGKILL)" "the request of one that is killed while it serves is told"
passes "and so is the log" log_has "pool p: worker $b: FCGI process $b exited on signal 9 \(SIGKILL\)"
for point in start headers mid end; do
	a=$(pid_of p)
	request p at=$point exit=3 out=1000 >"$tmp/out" 2>"$tmp/err"
	is "$? $(cat "$tmp/err")" "3 stderr: FCGI process $a exited with status 3" "one that exits by itself at $point is told of"
	a=$(pid_of p)
	request p at=$point signal=11 out=1000 >"$tmp/out" 2>"$tmp/err"
	is "$? $(cat "$tmp/err")" "3 stderr: FCGI process $a exited on signal 11 (SIGSEGV)" "and so is one that crashes there"
done
a=$(pid_of p)
is "$(request p -O at=after exit=0 out=3)" 012 "one that exits after its answer has served its request"
wait_until gone "$a"
a=$(pid_of p)
request p close >"$tmp/out" 2>"$tmp/err"
like "$? $(cat "$tmp/err")" "^3 stderr: FCGI process $a (closed the connection|exited with status [0-9]+)\$" "one that closes its connection is told of"
passes "and ends, for it gets no other" wait_until gone "$a"
like "$(pid_of p)" '^[0-9]+$' "the next request is served"
request p fork=1000 >"$tmp/a"
kill -KILL "$(field a pid)"
passes "what a worker has started goes when the worker is killed" wait_until gone "$(field a fork)"
is "$(workers "$user")" "$server" "all that with one app server"

# A worker that takes too long
a=$(pid_of brief)
request brief hang -t 60 >"$tmp/out" 2>"$tmp/err"
is "$(cat "$tmp/err")" "stderr: Timeout (1s) exceeded while reading from socket (application)" "timeout app ends a request"
passes "and SIGTERM its worker" wait_until gone "$a"
passes "whose end is in the log" wait_for_log "pool brief: worker $a: .*exited on signal 15 \(SIGTERM\)|pool brief: worker $a: retired"
a=$(pid_of s)
stubborn=$(children_of "$(ps -o ppid= -p "$a" | tr -d ' ')")
is "$stubborn" "$a" "one that ignores SIGTERM"
request s hang -t 60 >"$tmp/out" 2>"$tmp/err"
is "$(cat "$tmp/err")" "stderr: Timeout (1s) exceeded while reading from socket (application)" "is told of in the same way"
passes "gets SIGKILL after timeout kill" wait_for_log "pool s: worker $a: did not end within 1.0s of SIGTERM; killed"
passes "and is gone" wait_until gone "$a"
like "$(pid_of s)" '^[0-9]+$' "the next request is served"
is "$(in_log 'app server .*killed, with all of its session')" 0 "no app server had to go for that"

# The app server is killed
hold r1 q
hold r2 q -K
held r1 r2
server=$(workers "$other")
left=$(forked "$other" | tr '\n' ' ')
request q fork=1000 >"$tmp/a"
left="$left$(field a pid)"
background=$(field a fork)
kill -KILL "$server"
finish r1
is "$status" 3 "when the app server is killed, the requests of its workers break"
like "$(cat "$tmp/r1.txt")" '^stderr: FCGI process [0-9]+ exited on signal 9 \(SIGKILL\)$' "with a message"
finish r2
is "$status" 3 "all of them"
# shellcheck disable=SC2086 # words
passes "its workers are gone" wait_until all_gone $left
# What they have put into the background is in sessions that nobody can name any more; a cgroup would end it.
kill -KILL "$background"
wait_until gone "$background"
passes "the log says it" wait_for_log "pool q: app server $server: exited on signal 9 \(SIGKILL\)"
like "$(pid_of q)" '^[0-9]+$' "the next request is served by a new one"
isnt "$(workers "$other")" "$server" "indeed"
kill -KILL "$(workers "$other")"
wait_until nobody_of "$other"
like "$(pid_of q)" '^[0-9]+$' "a new one again, when one was killed whose workers were idle"

# It stands still while a worker of it has to be killed
a=$(pid_of brief)
request brief fork=1000 >"$tmp/a"
server=$(workers "$third")
freeze "$server"
request brief hang -t 60 >"$tmp/out" 2>"$tmp/err"
is "$(cat "$tmp/err")" "stderr: Timeout (1s) exceeded while reading from socket (application)" "an app server stands still while a worker has to be ended"
passes "the whole session is killed" wait_for_log "pool brief: app server $server: did not end worker $a within 1.0s; killed, with all of its session"
passes "app server, worker, and what that has started" wait_until all_gone "$server" "$a" "$(field a fork)"
passes "and the next request is served" wait_until served brief

# It stands still while a worker has to be forked
server=$(workers "$third")
kill -KILL "$(forked "$third")"
wait_until forks_are 0 "$third"
wait_until json_is '$pool{brief}{workers}{total}' 0
freeze "$server"
request brief -t 60 >"$tmp/out" 2>"$tmp/err"
is "$(head -n 1 "$tmp/out" | tr -d '\r')" "Status: 500 Internal Server Error" "an app server stands still while it has to fork: 500"
is "$(cat "$tmp/err")" "stderr: Timeout (2s) exceeded while starting FCGI process" "timeout start is told"
passes "and the log names it" log_has "pool brief: app server $server: Timeout \(2s\) exceeded while starting FCGI process"
passes "it is gone" wait_until gone "$server"
passes "and the next request is served" wait_until served brief
is "$(router_pid)" "$router" "the router is the same all along"

# A client that leaves, an abort, a body that is cut off
a=$(pid_of p)
rm -f "$user_home/cut"
request p -B 300000 -Y 200000 -X 300 -l 300000 at=body "note=$user_home/cut" >"$tmp/out" 2>"$tmp/err"
is "$?" 6 "a body is cut off"
passes "its worker goes" wait_until gone "$a"
fails "and has not taken it for a whole one" grep -q body "$user_home/cut" 2>/dev/null
like "$(pid_of p)" '^[0-9]+$' "the next request is served"
a=$(pid_of p)
request p at=headers -A first out=100000 pause=100 record=1000 >"$tmp/out" 2>"$tmp/err"
passes "an abort ends the connection of the worker, which ends with it" wait_until gone "$a"
like "$(pid_of p)" '^[0-9]+$' "the next request is served"
request p "note=$user_home/after" at=end -X 200 sleep=0.7 >"$tmp/out" 2>"$tmp/err"
is "$?" 6 "a web server goes away"
passes "its script runs to the end" wait_until test -s "$user_home/after"
like "$(pid_of p)" '^[0-9]+$' "the next request is served"

# 200 workers later
fds() { echo "$(fds_of "$zfpm_pid") $(fds_of "$(router_pid)") $(fds_of "$(workers "$once")")"; }
quiet() { no_forks && [ "$(fds)" = "$before" ]; }
no_forks() { forks_are 0 "$once"; }
pid_of once >/dev/null
wait_until no_forks
before=$(fds)
i=0
while [ $((i += 1)) -le 200 ]; do
	request once -O show=REQUEST_METHOD 2>&1
	echo
done | sort | uniq -c | tr -s ' ' >"$tmp/answers"
is "$(cat "$tmp/answers")" ' 200 GET' "200 workers serve one request each"
passes "and no process holds more descriptors than before" wait_until quiet || diag "$before, now $(fds)"

# The end of all
processes() { of_user "$user"; of_user "$other"; of_user "$third"; of_user "$once"; }
nobody_left() { [ -z "$(processes)" ]; }
busy() {
	wait_until served s
	hold r1 q
	hold r2 s
	held r1 r2
}
for how in TERM QUIT; do
	busy
	[ $how = TERM ] || ( wait_for_log 'stopping when the running requests are done'; timeout 20 cat "$tmp/r1.gate" "$tmp/r2.gate" >/dev/null ) &
	stop_zfpm $how
	finish r1 r2
	is "$zfpm_status" 0 "SIG$how ends zfpm while workers serve"
	passes "and nobody is left" wait_until nobody_left || diag "$(ps -o pid,ppid,args -p "$(processes | tr '\n' ,)0")"
	start_zfpm <"$tmp/zfpm.conf"
done
busy
timeout 20 "$zfpm" stop -c "$tmp/zfpm.conf" >"$tmp/out" 2>&1
is "$?" 0 "so does zfpm stop"
passes "and nobody is left" wait_until nobody_left
finish r1 r2
stop_zfpm
start_zfpm <"$tmp/zfpm.conf"

# kill -9 of the router, of the master
busy
server=$(workers "$other")
left=$(forked | tr '\n' ' ')
router=$(router_pid)
kill -KILL "$router"
finish r1 r2
new_router() { r=$(router_pid) && [ "$r" != "$router" ]; }
passes "a router that is killed is replaced" wait_until new_router
passes "and the next request is served" wait_until served q
# shellcheck disable=SC2086
passes "the workers of the dead one end" wait_until all_gone $left
is "$(workers "$other")" "$server" "the app server serves the next one"
busy
router=$(router_pid)
kill -KILL "$zfpm_pid"
timeout 20 cat "$tmp/r1.gate" >/dev/null
finish r1
is "$status" 0 "when the master is killed a running request is finished"
leave r2
passes "then the router ends" wait_until gone "$router"
passes "and nobody is left" wait_until nobody_left
stop_zfpm

# No more processes for the user
start_zfpm <<-\END
	app app {
		command @bin@/app
		fork_server on
	}
	pool p {
		user @user@
		app app
		rlimit nproc 3
	}
END
hold_in p r1 r2
request p -t 60 >"$tmp/out" 2>"$tmp/err" &
client=$!
passes "a fork that fails is told with the reason" wait_for_log 'pool p: app server [0-9]+: Cannot start FCGI process: fork: Resource temporarily unavailable'
let_go r1
wait "$client"
is "$? $(cat "$tmp/err")" "0 " "a worker that lives serves whoever waits"
let_go r2
for p in $(forked "$user"); do
	kill -KILL "$p"
done
wait_until forks_are 0 "$user"
wait_until json_is '$pool{p}{workers}{total}' 0
# The processes of the user count, whoever started them.
setpriv --reuid "$user" --regid "$user" --clear-groups sleep 100 &
one=$!
setpriv --reuid "$user" --regid "$user" --clear-groups sleep 100 &
two=$!
of_them() { [ "$(of_user "$user" | grep -c .)" -eq 3 ]; }
wait_until of_them
refused() {
	request p >"$tmp/out" 2>"$tmp/err"
	grep -q 'Cannot start' "$tmp/err"
}
wait_until refused
is "$(cat "$tmp/err")" "stderr: Cannot start FCGI process: fork: Resource temporarily unavailable" "with none it is the request's answer"
is "$(head -n 1 "$tmp/out" | tr -d '\r')" "Status: 500 Internal Server Error" "with a 500"
forks=$(in_log 'fork: Resource')
for i in 1 2 3 4 5 6 7 8 9 10; do
	request p >/dev/null 2>&1
done
passes "and it is not tried in a tight loop" test "$(in_log 'app server [0-9]+: Cannot start FCGI process: fork: Resource')" -le $((forks + 4))
kill "$one" "$two"
passes "when there is room again, requests are served" wait_until served p

# A cgroup of its own
tree=$(awk '/ - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
own=$(sed -n 's/^0:://p' /proc/self/cgroup)
base=$tree${own%/}/zt-$$
remove_base() {
	find "$base" -depth -type d -exec rmdir {} \; 2>/dev/null
	! [ -d "$base" ]
}
if [ -n "$tree$own" ] && mkdir "$base" 2>/dev/null; then
	trap 'status=$?; stop_zfpm TERM; wait_until remove_base; (exit $status); lib_cleanup' EXIT
	stop_zfpm
	in_cgroup "$base"
	start_zfpm <<-\END
		app app {
			command @bin@/app
			fork_server on
		}
		pool p {
			user @user@
			app app
			cgroup cgroup.max.descendants 7
			timeout idle 500ms
			timeout app_server 500ms
		}
	END
	hold r1 p fork=1000
	held r1
	where=${own%/}/zt-$$/zfpm-$zfpm_pid/pool@p
	cgroups() {
		for p in "$@"; do
			sed -n 's/^0:://p' "/proc/$p/cgroup"
		done | sort -u
	}
	is "$(cgroups "$(workers "$user")" "$(forked "$user")")" "$where" "an app server and its workers are in the pool's cgroup"
	let_go r1
	left=$(field r1 fork)
	is "$(cgroups "$left")" "$where" "and so is what they start"
	passes "which ends with the app server" wait_until gone "$left"
	no_cgroup() { ! [ -d "$tree$where" ]; }
	passes "and the cgroup is removed" wait_until no_cgroup
	stop_zfpm
	zfpm=$binary
	wait_until remove_base
else
	skip 4 "no cgroup v2 tree here, or not for us"
fi

# No more descriptors
stop_zfpm
start_zfpm <<-\END
	app app {
		command @bin@/app
		fork_server on
	}
	pool p {
		user @user@
		app app
		max_requests 1
	}
END
served p
wait_until forks_are 0 "$user"
# room PID N: it can open so many descriptors, until roomy PID. Even root may not be allowed to change that of others.
as_itself() {
	pid=$1
	shift
	setpriv --reuid "$(awk "/^Uid/ { print \$2 }" "/proc/$pid/status")" --regid "$(awk "/^Gid/ { print \$2 }" "/proc/$pid/status")" --clear-groups "$@"
}
room() {
	nofile=$(as_itself "$1" prlimit --pid "$1" --nofile -o SOFT --noheadings | tr -d ' ')
	as_itself "$1" prlimit --pid "$1" --nofile="$(perl -e '
		my ($pid, $n) = @ARGV;
		my $limit = 0;
		for (; $n > 0 || -l "/proc/$pid/fd/$limit"; $limit++) {
			$n-- unless -l "/proc/$pid/fd/$limit";
		}
		print $limit' "$1" "$2"):"
}
roomy() { as_itself "$1" prlimit --pid "$1" --nofile="$nofile:"; }
router=$(router_pid)
room "$router" 2
request p >"$tmp/out" 2>"$tmp/err"
roomy "$router"
is "$(cat "$tmp/err")" "stderr: Cannot start FCGI process: connect: Too many open files" "a router without descriptors says so"
passes "and serves when it has some" wait_until served p
wait_until forks_are 0 "$user"
server=$(workers "$user")
room "$server" 1
request p >"$tmp/out" 2>"$tmp/err"
is "$(cat "$tmp/err")" "stderr: Cannot start FCGI process: descriptor: Too many open files" "so does an app server"
roomy "$server"
passes "which forks when it has some" wait_until served p
is "$(router_pid) $(workers "$user")" "$router $server" "by the same router, and the same app server"
stop_zfpm
passes "nobody is left" wait_until nobody_left || diag "$(ps -o pid,ppid,pgid,sid,etimes,args -p "$(processes | tr "\n" ,)0")"
