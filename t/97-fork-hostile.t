#!/bin/sh
# Whatever an app server says, does not say or does: only its own pool suffers. Another answers all the time, master and router
# go on, nobody is signalled on its word, the log says what was wrong with whom, and of all its processes those are left that
# have taken themselves out of its session.
# shellcheck disable=SC2016 # the expressions are perl's
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
. "${0%/*}/generations.sh"
plan 126

# AddressSanitizer does not let another library be loaded before it.
cp "$top/t/bin/app" "$top/t/bin/badserver" "$bin"
make_user user
make_user bad
of_user() { ps -o pid=,stat= -u "$1" | awk '$2 !~ /^Z/ { print $1 }'; }
nobody_of() { [ -z "$(of_user "$1")" ]; }

# Each of these is a pool, with an app server that does so.
modes='good pieces rubbish-first rubbish half version:2 ready-twice early uninvited:1 forked-twice exited:1 failed-late
	type:3 type:99 pid:0 pid:-1 pid:1 pid:%master pid:%router refused failed:0 failed:-5 failed:999999
	exited-alive:0 exited-alive:9 exited-alive:127 exited-alive:65535 exited-alive:-1 exited-twice kills holds:%notes holds-on:%notes
	silent stuck closes closes-later flood:10 flood:11 deaf stubborn leaves:%notes'
name_of() { echo "$1" | tr -d ':%'; }
notes() { echo "$bad_home/$(name_of "$1")"; }
conf() {
	echo '
		timeout kill 1s
		timeout app 20s
		timeout idle 10m
		app app {
			command @bin@/app
			fork_server on
		}
		pool good {
			user @user@
			app app
			max_workers 1
		}'
	for mode in $modes; do
		name=$(name_of "$mode")
		argument=$(echo "$mode" | sed -n "s|%.*|$(notes "$mode")|;s|.*:| |p")
		echo "
			app bad-$name {
				command @bin@/badserver ${mode%%:*}$argument
				fork_server on
			}
			pool bad-$name {
				user @bad@
				app bad-$name
				max_workers 3
				timeout start $([ "$mode" = closes-later ] && echo 20 || echo 2)s
			}"
	done
	echo "
		pool many {
			user @bad@
			app bad-deaf
			max_workers 200
			min_workers 0
		}"
}

# The other tenant, all the time: what it got, if it was not its answer; at the end the longest time in ms, and how many.
neighbour() {
	exec perl -MTime::HiRes=time -e '
		my ($end, $max, $n) = (0, 0, 0);
		$SIG{TERM} = sub { $end = 1 };
		until ($end) {
			my $t = time;
			my $answer = `"$ARGV[0]" -s "$ARGV[1]" -p good -O show=REQUEST_METHOD 2>&1`;
			print "wrong: $answer\n" unless $answer eq "GET";
			$max = time - $t if time - $t > $max;
			$n++;
			select undef, undef, undef, 0.02;
		}
		printf "%d of %d\n", 1000 * $max, $n;' "$bin/client" "$sock"
}

# ask MODE: a request to its pool; $status, $tmp/out, $tmp/err, and $server, the process that is the app server
server_of() { sed -n "s/.*pool $1: app server \([0-9]*\): started .*/\1/p" "$tmp/zfpm.log" | tail -n 1; }
server_logged() {
	server=$(server_of "$pool")
	[ -n "$server" ]
}
ask() {
	pool=bad-$(name_of "$1")
	status=0
	start=$(date +%s)
	request "$pool" -t 30 >"$tmp/out" 2>"$tmp/err" || status=$?
	took=$(($(date +%s) - start))
	wait_until server_logged	# by the master, which may come to it later than we
}
session_gone() { [ -z "$(ps -o pid= -s "$server")" ]; }
is_ended() { passes "$1" wait_until session_gone || diag "$(ps -o pid,ppid,args -s "$server")"; }
# wrong MODE WHAT TITLE: it is found out with the first request, and ended. Three tests.
wrong() {
	ask "$1"
	like "$status $(cat "$tmp/err")" "^0 \$|^[03] stderr: (Cannot start FCGI process: start: its app server $2|FCGI process [0-9]+ )" \
	    "$3: the request is told, or was served before"
	passes "the log has it, with pool and process" wait_for_log "pool $pool: app server $server: Cannot start FCGI process: start: its app server $2\$"
	is_ended "it is ended"
}
retire() {
	timeout 60 "$zfpm" retire -c "$tmp/zfpm.conf" "$1" >"$tmp/retire" 2>&1
	is "$?" 0 "$2"
}

start_zfpm <<-END
	$(conf)
END
router=$(router_pid)
good=$(pid_of good)
is "$(in_log 'pool good: worker [0-9]+: started')" 1 "the other tenant has worker number 1"
echo "$zfpm_pid" >"$(notes pid:%master)"
echo "$router" >"$(notes pid:%router)"
neighbour good >"$tmp/times" &
neighbour=$!

# Two that do it right
for mode in good pieces; do
	ask $mode
	like "$(cat "$tmp/out")" '^pid [0-9]+' "$mode: this one can be used"
done
own='spoke of a worker that is not its own'
nobody='forked a worker that nobody asked for'
ready='said that it is ready, in another version or again'
wrong rubbish-first "$own" "rubbish instead of FS_READY"
wrong rubbish "$own" "rubbish behind FS_READY"
wrong half "$own" "half a message"
wrong version:2 "$ready" "another version"
wrong ready-twice "$ready" "FS_READY twice"
wrong early "$own" "a worker before FS_READY"
wrong uninvited:1 "$own" "a worker of another pool"
wrong forked-twice "$nobody" "a worker twice"
wrong exited:1 "$own" "the end of a worker of another pool"
wrong failed-late 'failed to fork a worker that nobody asked for' "a worker that was forked, and was not"
wrong type:3 'sent an unknown message' "a message of a router's"
wrong type:99 "sent an unknown message" "an unknown message"
wrong pid:0 "$nobody" "pid 0"
wrong pid:-1 "$nobody" "pid -1"
wrong pid:1 "$nobody" "pid 1"

# A pid that is another's: it is shown, and that is all.
for mode in pid:%master pid:%router; do
	ask $mode
	like "$(cat "$tmp/out")" '^pid [0-9]+' "$mode can not be told from a worker's"
	retire "$pool" "such a worker is ended by its app server, which knows better"
	is_ended "so is that"
	is "$(router_pid)" "$router" "and nobody else"
done

# What it says goes into the log and the answer as text.
ask refused
like "$(cat "$tmp/err")" '^stderr: Cannot start FCGI process: start: ' "FS_REFUSED is the request's answer"
esc='[\\]x1[bB]'
passes "and in the log" wait_for_log "pool bad-refused: app server $server: Cannot start FCGI process: start: $esc.31mred.*info: forged.*x\$"
is "$(in_log '^2026-01-01')" 0 "in one line"
is_ended "it is ended"
for mode in failed:0 failed:-5 failed:999999; do
	ask $mode
	like "$(cat "$tmp/err")" '^stderr: Cannot start FCGI process: for' "$mode: FS_FAILED is the request's answer"
	passes "and in the log" wait_for_log "pool $pool: app server $server: Cannot start FCGI process: for$esc.31mged.*line: "
done
fails "nothing in the log is for a terminal to obey" grep -q "$(printf '[\033\r]')" "$tmp/zfpm.log"

# The end of workers
for mode in exited-alive:0 exited-alive:9 exited-alive:127 exited-alive:65535 exited-alive:-1; do
	ask $mode
	like "$status $(cat "$tmp/err")" '^3 stderr: FCGI process [0-9]+ exited ' "$mode: FS_EXITED of one that serves: its request is told"
done
a=$(pid_of bad-exited-twice)
kill -KILL "$a"
wait_until gone "$a"
more() { [ -n "$(pid_of bad-exited-twice 2>/dev/null)" ]; }
passes "FS_EXITED twice is no offence: the next request is served" wait_until more
is "$(json '$pool{"bad-exited-twice"}{workers}{total}')" 1 "nothing is counted twice"
for i in 1 2 3; do
	ask kills
	like "$status $(cat "$tmp/err")" '^3 stderr: FCGI process [0-9]+ exited on signal 9 \(SIGKILL\)$' "one that kills its own workers: request $i is told"
done
ask holds:%notes
like "$status $(cat "$tmp/err")" '^3 stderr: FCGI process [0-9]+ exited with status 3$' "a connection that another process holds open: the request is told"
passes "at once" test "$took" -le 3
passes "it is held indeed" kill -0 "$(head -n 1 "$(notes holds:%notes)")"
request bad-holds-onnotes -t 30 >"$tmp/out" 2>"$tmp/err" &
client=$!
wait_until test -s "$(notes holds-on:%notes)"
start=$(date +%s)
kill -KILL "$(server_of bad-holds-onnotes)"
wait "$client"
is "$?" 3 "the same, when the app server is killed and its worker with it"
like "$(cat "$tmp/err")" '^stderr: FCGI process [0-9]+ exited on signal 9 \(SIGKILL\)$' "the request is told"
passes "at once" test $(($(date +%s) - start)) -le 5

# No answer
for mode in silent stuck; do
	ask $mode
	is "$(cat "$tmp/err")" "stderr: Timeout (2s) exceeded while starting FCGI process" "$mode: the request is told after timeout start"
	passes "not later" test "$took" -le 6
	passes "and so is the log" log_has "pool $pool: app server $server: Timeout \(2s\) exceeded while starting FCGI process"
	is_ended "it is ended"
done
# One end of a worker that nobody knows is an accident, a flood of them is not: there is a limit, if the time is not over before.
for mode in flood:10 flood:11; do
	ask $mode
	spoke='(Cannot start FCGI process: start: its app server spoke of a worker that is not its own|Timeout .2s. exceeded while starting FCGI process)'
	like "$(cat "$tmp/err")" "^stderr: $spoke\$" "$mode: the request is told"
	passes "not later" test "$took" -le 6
	passes "and so is the log" log_has "pool $pool: app server $server: $spoke"
	is_ended "it is ended"
done

# No connection
lost='Cannot start FCGI process: start: its fork server is not there: it was not loaded .needs .fork_server off.{2}, or has failed'
request bad-closes -t 30 >"$tmp/out1" 2>"$tmp/err1" &
first=$!
wait_for_log 'app server [0-9]+: started bad-closes$'
sleep 0.3	# so that it is lost, and not yet given up
ask closes
wait "$first"
like "$(cat "$tmp/err1")" "^stderr: $lost\$" "a connection that it closes: the request is told"
like "$(cat "$tmp/err")" "^stderr: $lost\$" "so is one that comes meanwhile"
passes "and does not wait longer for that" test "$took" -le 2
passes "the log has it" log_has "pool bad-closes: app server $server: $lost\$"
is_ended "it is ended"
clients=
for i in 1 2 3 4; do	# some come when it has closed it, and has not been given up yet
	request bad-closes-later -t 60 >"$tmp/later$i" 2>"$tmp/err$i" &
	clients="$clients $!"
	[ $i -gt 1 ] || wait_for_log 'pool bad-closes-later: worker [0-9]+: started$'
	[ $i -gt 1 ] || start=$(date +%s)
	sleep 0.1
done
server=$(sed -n 's/.*pool bad-closes-later: app server \([0-9]*\): started .*/\1/p' "$tmp/zfpm.log" | head -n 1)
passes "a connection that it closes later: the log has it" wait_for_log "pool bad-closes-later: app server $server: has closed its connection, and not ended within 1.0s; killed\$"
passes "soon, though it is asked to fork meanwhile" test $(($(date +%s) - start)) -le 10
is_ended "it is ended"
for p in $clients; do
	wait "$p"
done
like "$(cat "$tmp/err1")" '^$|^stderr: FCGI process [0-9]+ ' "the request is served or told"

# Not to be ended
ask deaf
retire bad-deaf "one that does not hear FS_KILL"
passes "the log has it" wait_for_log "pool bad-deaf: app server $server: did not end worker [0-9]+ within 1.0s; killed, with all of its session"
is_ended "it is ended"
ask stubborn
retire bad-stubborn "one that heeds neither FS_KILL nor SIGTERM"
passes "the log has it" wait_for_log "pool bad-stubborn: app server $server: did not end"
is_ended "it is ended"
ask leaves:%notes
retire "$pool" "one whose workers leave processes in sessions of their own"
is_ended "all but those are ended"
reload '/pool many {/,/}/s/min_workers .*/min_workers 200/'
router=$(router_pid)
patience=60
all_of_many() { json_is '$pool{many}{workers}{idle}' 200; }
passes "200 workers that nobody can end" wait_until all_of_many
server=$(server_of many)
sed -i '/pool many {/,/}/s/min_workers .*/min_workers 0/' "$tmp/zfpm.conf"
retire many "are ended"
is_ended "with their app server, though that never reads"

# The others
kill "$neighbour"
wait "$neighbour"
like "$(cat "$tmp/times")" '^([12]?[0-9]{1,3}) of' "the other tenant has been answered all the time"
unlike "$(cat "$tmp/times")" wrong "and always"
is "$(router_pid) $(pid_of good)" "$router $good" "by the same router and the same worker"
ask stubborn
stop_zfpm TERM
is "$zfpm_status" 0 "zfpm ends"
passes "though one heeds no SIGTERM" log_has "pool bad-stubborn: app server $server: did not end within 1.0s of SIGTERM; killed"
left=$(cat "$(notes holds:%notes)" "$(notes holds-on:%notes)" "$(notes leaves:%notes)")
isnt "$left" '' "what has left its app server's session"
for p in $left; do
	kill -KILL "$p" 2>/dev/null
done
passes "was all that was left" wait_until nobody_of "$bad" || diag "$(ps -o pid,ppid,args -u "$bad")"
