#!/bin/sh
# max_workers of all pools: the longest idle worker makes room, and a busy pool does not starve the others.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 24

make_user user
{
	echo 'max_workers 3'
	echo 'app app { command @bin@/app }'
	for p in a b c d; do
		printf 'pool %s {\nuser @user@\napp app\nmax_workers 3\n}\n' $p
	done
} >"$tmp/text"
start_zfpm <"$tmp/text"
pid_of() { request "$@" | sed -n 's/^pid //p'; }

# The longest idle one
pid_of a >"$tmp/pid"
b=$(pid_of b)
c=$(pid_of c)
a=$(pid_of a)
is "$a" "$(cat "$tmp/pid")" "three pools have a worker each"
d=$(pid_of d)
like "$d" '^[0-9]+$' "a fourth pool is served too"
passes "the worker that had been idle for longest made room" gone "$b"
passes "there are no more than three" count_workers 3
is "$(pid_of c) $(pid_of a) $(pid_of d)" "$c $a $d" "the others are still there"
b=$(pid_of b)
like "$b" '^[0-9]+$' "the pool that lost its worker gets one again"
passes "from the one that is idle for longest now" gone "$c"
is "$(sorted_workers)" "$(printf '%s\n' "$a" "$b" "$d" | sort | tr '\n' ' ')" "and from no other"

# All places taken by one pool, whose queue is long
hold a1 a
hold a2 a
hold a3 a
passes "a pool can have all the places" held a1 a2 a3
passes "there are no more than three workers" count_workers 3
for i in a4 a5 a6 a7; do
	enqueue $i a log=$i
done
enqueue b1 b log=b1
fails "a request of another pool has to wait" answered b1
release a1
passes "one place becomes free, and it goes to the pool that has none" wait_until answered b1
finish a1 b1
# The place is taken back by the pool that still waits.
finish a4 a5 a6 a7
is "$(for i in a4 a5 a6 a7; do answered $i && echo $i; done | grep -c .)" 4 "then the long queue goes on"
wait_for_log 'stderr: a7'
is "$(sed -n 's/.*: stderr: //p' "$tmp/zfpm.log" | tr '\n' ' ')" "b1 a4 a5 a6 a7 " "in that order"
let_go a2 a3

# Three pools wait: two busy workers, one, none
hold a1 a
hold a2 a
hold b1 b
held a1 a2 b1
enqueue a3 a
enqueue_held b2 b
enqueue_held c1 c
release a1
passes "the free place goes to the pool that has none busy, though it was the last to come" wait_until answered c1
fails "not to the one that came first" answered a3
fails "nor to the one that came second" answered b2
release c1
passes "the next places go to those that have some" wait_until answered b2
release b2
passes "all of them" wait_until answered a3
release a2 b1
finish a1 a2 a3 b1 b2 c1
is "$status" 0 "all have been served"
passes "there are still no more than three workers" count_workers 3

# Three pools with one place each and more to do; the fourth has none
hold a1 a
hold b1 b
hold c1 c
held a1 b1 c1
enqueue a2 a log=second
enqueue d1 d log=fourth-pool
enqueue a3 a log=third
enqueue a4 a log=fourth
release a1
finish a1 a2 a3 a4 d1
wait_for_log 'stderr: fourth-pool'
wait_for_log 'stderr: fourth$'
is "$(sed -n 's/.*: stderr: //p' "$tmp/zfpm.log" | tail -n 4 | grep -n fourth-pool | cut -d : -f 1 | tr 12 ++)" + \
    "a pool that has one place does not keep it from one that has waited for longer" ||
    diag "$(sed -n 's/.*: stderr: //p' "$tmp/zfpm.log" | tail -n 4)"
let_go b1 c1
is "$status" 0 "and nobody else is hindered"

# One place for all
start_zfpm <<-\END
	max_workers 1
	app app { command @bin@/app }
	pool a {
		user @user@
		app app
	}
	pool b {
		user @user@
		app app
	}
END
hold_in a a1
enqueue b1 b log=b
for i in a2 a3 a4; do
	enqueue $i a log=$i
done
release a1
finish a1 b1 a2 a3 a4
wait_for_log 'stderr: a4'
is "$(sed -n 's/.*: stderr: //p' "$tmp/zfpm.log" | tail -n 4 | head -n 1)" b "with one place for all the pool that came first is first" ||
    diag "$(sed -n 's/.*: stderr: //p' "$tmp/zfpm.log" | tail -n 4)"
