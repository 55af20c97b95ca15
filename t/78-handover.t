#!/bin/sh
# What goes from one router to the next is whole: bodies, responses, lines, connections, counters, descriptors; by a
# reload and by an upgrade.
# shellcheck disable=SC2016 # the expressions are perl's
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
. "${0%/*}/generations.sh"
plan 54

make_user user
mkdir "$tmp/prog"
cp "$zfpm" "$tmp/prog/zfpm" && chmod 755 "$tmp/prog/zfpm"
control=$zfpm zfpm=$tmp/prog/zfpm
start_zfpm <<-\END
	timeout idle 10m
	app app {
		command @bin@/app -g
		roles responder authorizer filter
	}
	pool one {
		user @user@
		app app
		max_workers 1
	}
	pool two {
		user @user@
		app app
	}
	pool served {
		user @user@
		app app
		max_workers 1
		max_requests 4
	}
	pool rests {
		user @user@
		app app
		timeout idle 200ms
	}
	pool never {
		user @user@
		app app
	}
END
sums() { "$bin/client" pattern "$1" | cksum | awk '{ print $2, $1 }'; }
million=$(sums 1000000)
big=$(sums 20000000)
counters() { json "join ' ', map { \$pool{'$1'}{counters}{\$_} // 'none' } qw(requests failed workers_started request_bytes)"; }
size() { stat -c %s "$1"; }
# Each of both, with its done and its failed told: $status
both() {
	reload
	is "$status $err" '0 ' "reload, $1"
	upgrade
	is "$status $err" '0 ' "upgrade, $1"
}

# Large ones under way
"$bin/client" pattern 20000000 >"$tmp/up.file"
"$bin/client" -s "$sock" -p two -O -t 120 -b "$tmp/up.file" -S 65536 -d 8 >"$tmp/up" 2>"$tmp/up.txt" &
up=$!
"$bin/client" -s "$sock" -p two -O -t 120 -C -w 8:65536 out=20000000 big >"$tmp/down" 2>"$tmp/down.txt" &
down=$!
"$bin/client" -s "$sock" -p two -O -t 120 -C -B 5000000 -S 32768 -d 15 echo >"$tmp/echo" 2>"$tmp/echo.txt" &
echo=$!
busy() { json_is '$pool{two}{workers}{busy}' 3; }
passes "three that take their time: up, down, both" wait_until busy
both "while they run"
is "$(json '$pool{two}{workers}{finishing}')" 3 "they are under way still"
for p in $up $down $echo; do
	wait "$p" || diag "$p: $?"
done
is "$(sed -n 's/^stdin //p' "$tmp/up")" "$big" "the upload is whole"
is "$(cat "$tmp/down")" "$big" "the download is whole"
is "$(cat "$tmp/echo")" "$(sums 5000000)" "the one in both directions is whole"
passes "the old routers leave" wait_until one_router

# Queued, with a body of which zfpm has read a part only
for how in reload upgrade; do
	hold_in one r1
	start b1 one -O -B 1000000
	start b2 one -O -B 1000000 -c 1000 -z 7
	start b3 one -O -B 100000 -H
	start b4 one -H out=1000000 -O -C
	start b5 one -r filter -B 70000 -D 1000000
	start b6 one -r authorizer
	wait_until json_is '$pool{one}{queue}{length}' 6
	$how
	is "$status $(json '$pool{one}{queue}{length}')" "0 6" "$how: those that wait with large bodies still wait"
	release r1
	finish r1 b1 b2 b3 b4 b5 b6
	is "$(sed -n 's/^stdin //p' "$tmp/b1")" "$million" "$how: a large body is whole"
	is "$(sed -n 's/^stdin //p' "$tmp/b2")" "$million" "$how: one of small records too"
	is "$(sed -n 's/^stdin //p' "$tmp/b3")" "$(sums 100000)" "$how: and that of a client that has said all and listens on"
	is "$(cat "$tmp/b4")" "$million" "$how: which hears all of its answer"
	is "$(grep -E '^(role|stdin|data) ' "$tmp/b5" | tr '\n' ' ')" "role 3 stdin $(sums 70000) data $million " "$how: a filter gets both of its streams"
	like "$(cat "$tmp/b6")" '^Variable-ZFPM_TEST: authorized' "$how: an authorizer answers"
	is "$(worker_of r1) $(worker_of b3) $(worker_of b5)" "$(worker_of b1) $(worker_of b1) $(worker_of b1)" "$how: all by the same worker"
	wait_until one_router
done

# A record in parts: what has begun to come is finished where it began
keep web
one=$(tell web whole one | sed 's/pid \([0-9]*\) .*/\1/')
connection=$(tell web whole one | sed 's/.*connection \([0-9]*\) .*/\1/')
for part in begin params body; do
	tell web $part one >/dev/null
	upgrade
	like "$(tell web rest)" "^pid $one connection $connection request [0-9]+ stdin 5 " "upgrade in the midst of a $part record: the request is whole"
done
tell web begin one >/dev/null
reload
upgrade
reload
like "$(tell web rest)" "^pid $one connection $connection request " "two reloads and an upgrade in the midst of one"
wait_until one_router

# A kept connection whose request ends after the reload
make_gate_of() { gate_name=$1; make_gate; }
for how in reload upgrade; do
	make_gate_of k
	tell web send one "note=$tmp/k.gate&at=headers" >/dev/null
	wait_until json_is '$pool{one}{workers}{busy}' 1
	$how
	routers=$(routers | grep -c .)
	release k
	like "$(tell web answer)" "^pid $one connection $connection " "$how: a request on a kept connection ends in the old router ($routers)"
	wait_until one_router
	like "$(tell web whole one)" "^pid $one connection $connection " "$how: then the connection serves on"
done
is "$(json '$j->{connections}')" 1 "it is the only one"

# A line of an application that is not complete yet
for how in reload upgrade; do
	request one "partial=begun-before-the-$how" >/dev/null
	$how
	wait_until one_router
	request one "log=,-ended-after" >/dev/null
	passes "$how: an unfinished line of an application's goes on in the next router" \
	    wait_for_log "pool one: worker $one: stderr: begun-before-the-$how,-ended-after\$"
	is "$(in_log "begun-before-the-$how")" 1 "$how: and is logged once"
done

# Counted
first=$(pid_of served)
is "$(pid_of served)" "$first" "of four requests that a worker serves two come before"
reload
upgrade
is "$(pid_of served)" "$first" "the third after a reload and an upgrade"
is "$(pid_of served)" "$first" "the fourth is its last"
passes "it ends" wait_until gone "$first"
comes "$(cause served max_requests)" 1 "by max_requests"
is "$(counters served)" "4 0 1 0" "and is counted once"
request rests -B 1000 >/dev/null
request rests -a no-such-app >/dev/null 2>&1
comes "$(cause rests idle)" 1 "a pool's worker ends"
comes '$pool{rests}{state}' resting "and the pool rests"
before="$(counters rests)/$(counters one)/$(counters two)/$(counters never)/$(json '$j->{connections_accepted} > 20')"
like "$before" '^1 1 1 1000/' "with something counted"
reload
is "$(counters rests)/$(counters one)/$(counters two)/$(counters never)/$(json '$j->{connections_accepted} > 20')" "$before" "reload: the counters go on"
upgrade
is "$(counters rests)/$(counters one)/$(counters two)/$(counters never)/$(json '$j->{connections_accepted} > 20')" "$before" "upgrade: they go on"
request rests -B 1000 >/dev/null
is "$(counters rests)" "2 1 2 2000" "and are counted on"
comes "$(cause rests idle)" 2 "so are the causes of ends"
is "$(json '$j->{uptime_s} >= 2')" 1 "zfpm is as old as it is"

# Descriptors
request two >/dev/null
wait_until one_router
all_fds() { echo "$(fds_of "$zfpm_pid") $(fds_of "$(routers)") $(worker_sockets) $(children_of "$zfpm_pid" | grep -c .)"; }
# The first of them may find what a router of another age has kept for later.
both "with idle workers"
wait_until one_router
before=$(all_fds)
for i in 1 2 3 4 5; do
	hold r$i two
	held r$i
	start c$i one -B 100000 -d 1 -S 10000
	reload
	upgrade
	release r$i
	finish r$i c$i
	[ "$status" -eq 0 ] || diag "round $i: $status"
	wait_until one_router
done
same_fds() { [ "$(all_fds)" = "$before" ]; }
wait_until same_fds
is "$(all_fds)" "$before" "after five reloads and upgrades there are as many descriptors, sockets and processes as before"
