#!/bin/sh
# Workers are started on demand, kept, reused, and retired when they are idle or have served enough.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 39

make_user user
start_zfpm <<-\END
	app app { command @bin@/app }
	app hasty { command @bin@/app -i 50 }
	app three { command @bin@/app -n 3 }
	app threads {
		command @bin@/app -c 3
		connections 3
	}
	pool two {
		user @user@
		app app
		max_workers 2
	}
	pool kept {
		user @user@
		app app hasty three
		max_workers 1
	}
	pool idle {
		user @user@
		app app
		timeout idle 2s
	}
	pool served {
		user @user@
		app app
		max_workers 1
		max_requests 3
	}
	pool threads {
		user @user@
		app threads
		max_workers 2
	}
END
pid_of() { request "$@" | sed -n 's/^pid //p'; }
line_of() { sed -n "s/^$2 //p" "$tmp/$1"; }
stop_all() {
	for p in $(workers); do
		kill -KILL "$p"
	done
	wait_until count_workers 0
}

# On demand
passes "no worker is there before the first request" count_workers 0
hold a two
passes "the first request is served" held a
passes "by one worker" count_workers 1
hold b two
passes "one that comes meanwhile is served too" held b
passes "by a second worker" count_workers 2
enqueue c two
fails "at max_workers a third one is not" answered c
release a
finish a c
a=$(worker_of a)
isnt "$a" "$(worker_of b)" "the first two have workers of their own"
is "$(worker_of c)" "$a" "the third has the first that is free"
let_go b
is "$status" 0 "all of them are served"
pid_of two >"$tmp/out"
is "$(in_log 'router.* pool two: worker [0-9]+: started')" 2 "and no more than two workers were ever started"
stop_all

# The connection
request kept >"$tmp/k1"
request kept >"$tmp/k2"
request kept >"$tmp/k3"
is "$(line_of k1 connection),$(line_of k2 connection),$(line_of k3 connection)" 1,1,1 "three requests come over one connection to the worker"
is "$(line_of k1 request),$(line_of k2 request),$(line_of k3 request)" 1,2,3 "one after the other"
pid=$(line_of k1 pid)
connection_closed() { [ "$(sockets_of "$pid")" -eq 1 ]; }
fails "it stays open" connection_closed
request kept closeafter show=X >"$tmp/k4" 2>&1
is "$?" 0 "an application may close it after an answer"
wait_until connection_closed
request kept >"$tmp/k5"
# 2 and 3 have asked whether it is back at accept().
is "$(line_of k5 pid) $(line_of k5 connection) $(line_of k5 request)" "$pid 4 1" "then the same worker is connected to again"
request kept -a hasty >"$tmp/k6"
pid=$(line_of k6 pid)
passes "an application may close it while it is idle" wait_until connection_closed
request kept -a hasty >"$tmp/k7"
is "$(line_of k7 pid) $(line_of k7 connection)" "$pid 4" "then it is connected to again too"

# A worker that ends on its own
served=0
for i in 1 2 3 4 5 6 7; do
	request kept -a three >"$tmp/t$i" 2>"$tmp/t$i.txt" && served=$((served + 1))
	# It goes behind its third answer: what is sent before it has closed would be lost, and rightly so.
	[ $((i % 3)) -ne 0 ] || wait_until gone "$(line_of "t$i" pid)"
done
is "$served" 7 "an application that ends after three requests costs none of seven"
is "$(line_of t3 pid)" "$(line_of t1 pid)" "each of its processes serves three"
isnt "$(line_of t4 pid)" "$(line_of t3 pid)" "then another one is started"

# A worker found dead. The master sleeps, so that nobody but the router can find out.
pid=$(pid_of kept)
kill -STOP "$zfpm_pid"
kill -KILL "$pid"
wait_until gone "$pid"
request kept -t 60 >"$tmp/d" 2>"$tmp/d.txt" &
client=$!
wait_for_log "pool kept: worker $pid: has closed its connection"
found=$?
kill -CONT "$zfpm_pid"
wait "$client"
is "$found,$?" 0,0 "an idle worker found dead is replaced, and the request served"
isnt "$(line_of d pid)" "$pid" "by another one"
is "$(cat "$tmp/d.txt")" "" "nobody is told"
stop_all

# The same for one that has never served: its request left while it was being started.
kill -STOP "$zfpm_pid"
enqueue gone kept
leave gone
kill -CONT "$zfpm_pid"
wait_until count_workers 1
pid=$(workers)
wait_for_log "router.* pool kept: worker $pid: started"
kill -KILL "$pid"
wait_for_log "router.* pool kept: worker $pid: exited on signal 9"
request kept >"$tmp/d" 2>"$tmp/d.txt"
like "$(cat "$tmp/d")" '^pid [0-9]+$' "a worker that ends before it has served anybody is replaced too" || diag "$(cat "$tmp/d.txt")"
stop_all

# Idle
for i in x y z; do
	hold $i idle
done
held x y z
all=$(sorted_workers)
let_go x
let_go z
let_go y
is "$all" "$(for i in x y z; do worker_of $i; done | sort | tr '\n' ' ')" "three requests at once have three workers"
last=$(worker_of y)
: >"$tmp/used"
one_left() {
	pid_of idle >>"$tmp/used"
	count_workers 1
}
passes "with one request at a time two of them are retired" wait_until one_left
is "$(sort -u "$tmp/used")" "$last" "for the most recently used one serves them all"
is "$(workers)" "$last" "and stays"
passes "until it has been idle for long enough too" wait_until count_workers 0
is "$(in_log 'router.* pool idle: worker [0-9]+: retired after')" 3 "that is three retired"
is "$(pid_of idle | grep -c .)" 1 "and the next request has a new one"
stop_all

# max_requests
for i in 1 2 3 4 5 6 7; do
	pid_of served
done >"$tmp/pids" 2>"$tmp/pids.txt"
is "$(uniq -c <"$tmp/pids" | awk '{ print $1 }' | tr '\n' ' ')" "3 3 1 " "with max_requests 3 a worker serves three of seven requests"
is "$(sort -u "$tmp/pids" | grep -c .)" 3 "then it is another one's turn"
is "$(in_log 'pool served: worker [0-9]+: retired after 3 requests')" 2 "the log says so"
stop_all

# connections
for i in e f g; do
	hold $i threads
done
passes "with connections 3 three requests are served at once" held e f g
passes "by one process" count_workers 1
hold_in threads h
passes "the fourth gets another one" count_workers 2
let_go e f g h
is "$(for i in e f g h; do worker_of $i; done | sort | uniq -c | awk '{ print $1 }' | sort -n | tr '\n' ' ')" "1 3 " \
    "each of the three was in the same process"
is "$(for i in e f g; do line_of $i connection; done | sort | tr '\n' ' ')" "1 2 3 " "on a connection of its own"
