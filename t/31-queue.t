#!/bin/sh
# A pool's queue is first in, first out; who leaves is not served, and when it is full the next one is told at once.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 35

make_user user
start_zfpm <<-\END
	app app { command @bin@/app }
	app other { command @bin@/app }
	app slow { command @bin@/app -s 300 }
	pool one {
		user @user@
		app app
		max_workers 1
	}
	pool shared {
		user @user@
		app app other
		max_workers 2
	}
	pool full {
		user @user@
		app app
		max_workers 1
		max_queue 2
	}
	pool none {
		user @user@
		app app
		max_workers 1
		max_queue 0
	}
	pool fresh {
		user @user@
		app slow
		max_workers 4
		max_queue 0
	}
END
pid_of() { request "$@" | sed -n 's/^pid //p'; }
# What the application said, in the order of its service.
said() { sed -n "s/.* pool $1: worker [0-9]*: stderr: //p" "$tmp/zfpm.log" | tr '\n' ' '; }

# Order, and clients that leave
hold_in one first
for i in q1 q2 q3 q4 q5 q6; do
	enqueue $i one log=$i
done
leave q2
passes "a client that leaves while its request waits is noticed" \
    wait_for_log 'pool one: web server closed the connection'
printf 'begin 1\nparams 1\nend STDIN 1\nrecord GET_VALUES 0 0\nwait 1\nrecord ABORT_REQUEST 1 0\nwait 1\n' |
    "$bin/client" script "$sock" -P one -q log=aborted >"$tmp/aborted" 2>&1
like "$(cat "$tmp/aborted")" '^END_REQUEST id=1 len=8 pad=0 app=0 status=REQUEST_COMPLETE$' "a request that waits is aborted at once"
enqueue half one log=half	# behind the others, so that all of them have been served when it is
enqueue last one log=last
release first
finish first q1 q3 q4 q5 q6 half last
passes "the last one is served" answered last
wait_for_log 'stderr: last'
is "$(said one)" "q1 q3 q4 q5 q6 half last " "all are served in the order of their arrival, but for those that left"
is "$(for i in q1 q3 q4 q5 q6 last; do worker_of $i; done | sort -u)" "$(worker_of first)" "by one worker"
is "$(in_log 'pool one: worker [0-9]+: started$')" 1 "the only one that there was"

# A client that has closed its sending side waits for its answer
hold_in one first
request one -H show=QUERY_STRING -O >"$tmp/closed" 2>"$tmp/closed.txt" &
client=$!
enqueue second one
release first
finish first second
wait "$client"
is "$?" 0 "a half-closed connection in the queue is no client that left"
is "$(cat "$tmp/closed")" "show=QUERY_STRING" "it gets its answer"

# Several apps
hold_in shared x
hold_in shared y
let_go x y
x=$(worker_of x) y=$(worker_of y)
passes "one app of a pool has all its workers" count_workers 3
z=$(pid_of shared -a other)
like "$z" '^[0-9]+$' "a request for the other app is served all the same"
passes "a worker that idles has made room" wait_until count_workers 3
# Whichever of the two it was.
if gone "$x"; then gone_x=1; else gone_x=0; fi
if gone "$y"; then gone_y=1; else gone_y=0; fi
is $((gone_x + gone_y)) 1 "one, and only one"
is "$(in_log 'router.* pool shared: worker [0-9]+: retired')" 1 "it was retired"
hold_in shared v
hold w shared -a other
held w
enqueue u shared
is "$(in_log 'router.* pool shared: worker [0-9]+: retired')" 1 "while both are busy nobody has to go"
fails "the next one waits" answered u
release w
passes "until the other app's worker is free" wait_until answered u
finish w u
is "$(in_log 'router.* pool shared: worker [0-9]+: retired')" 2 "which goes for it"
isnt "$(worker_of u)" "$(worker_of w)" "for it can not serve it"
passes "there were never more than max_workers" count_workers 3
let_go v

# max_queue
hold_in full first
enqueue a full
enqueue b full
request full -v -p REQUEST_URI=/full -m POST >"$tmp/c.sum" 2>"$tmp/c.txt"
is "$? $(sed -n 's/.*END_REQUEST.*status=//p' "$tmp/c.txt")" '4 OVERLOADED' \
    "with two in the queue the next request gets a complete answer at once, and FCGI_OVERLOADED"
request full -p REQUEST_URI=/full -m POST >"$tmp/c" 2>"$tmp/c.txt"
is "$(tr -d '\r' <"$tmp/c")" 'Status: 503 Service Unavailable
Retry-After: 5
Content-Length: 0' "which is a 503"
is "$(cat "$tmp/c.txt")" "stderr: Queue is full (2 requests) while waiting for FCGI process to become available" "with the reason"
passes "that is in the log" \
    log_has 'pool full: Queue is full \(2 requests\) while waiting for FCGI process to become available \(POST /full'
fails "those in the queue wait on" answered a
leave a
wait_for_log 'pool full: web server closed the connection'
enqueue d full
is "$(grep -c STDERR "$tmp/d")" 0 "a place that has become free is taken"
release first
finish first b d
passes "those in the queue are served" answered b
passes "the one that came later too" answered d

# No queue at all: a request that is served at once, or for which a worker is started, waits in none
request none show=QUERY_STRING >"$tmp/n" 2>&1
like "$(cat "$tmp/n")" '^show=QUERY_STRING$' "with max_queue 0 the first request has a worker started"
request none show=QUERY_STRING >"$tmp/n" 2>&1
like "$(cat "$tmp/n")" '^show=QUERY_STRING$' "and the next one is served by it"
hold first none
passes "and one more" held first
request none >"$tmp/n" 2>"$tmp/n.txt"
like "$(cat "$tmp/n")" '^Status: 503' "while it is busy there is no place to wait"
like "$(cat "$tmp/n.txt")" '^stderr: Queue is full \(0 requests\) while' "and the message says how many do"
[ ! -s "$tmp/first" ] || release first
finish first
for i in a b c d; do
	request fresh >"$tmp/f$i" 2>"$tmp/f$i.txt" &
	eval "client_$i=$!"
done
for i in a b c d; do
	eval "wait \"\$client_$i\""
done
is "$(grep -l '^pid ' "$tmp/fa" "$tmp/fb" "$tmp/fc" "$tmp/fd" | grep -c .)" 4 "four requests at once have four workers started"
is "$(cat "$tmp/fa" "$tmp/fb" "$tmp/fc" "$tmp/fd" | sed -n 's/^pid //p' | sort -u | grep -c .)" 4 "one each"
isnt "$(in_log 'pool fresh: .*started')" 0 "the log has their start"
