#!/bin/sh
# examples/libfcgi: a C program with libfcgi serves through Apache and zfpm, by itself and under the fork server, and one
# with threads serves as many requests at a time in one process as it has connections.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
command -v cc >/dev/null || skip_all "no compiler"
[ -e /usr/include/fcgi_stdio.h ] || skip_all "no libfcgi-dev"
plan 59

want_user alice web
make_key
dir=${alice_home:?}/fcgi
mkdir "$dir" "$alice_home/www"
passes "the program with one request at a time is built" cc -Wall -Wextra -Werror -O2 -o "$dir/count" "$top/examples/libfcgi/count.c" -lfcgi
passes "so is the one with threads" cc -Wall -Wextra -Werror -O2 -pthread -o "$dir/talk" "$top/examples/libfcgi/talk.c" -lfcgi
chown -R "${alice:?}:" "$alice_home"
head -c 3000000 /dev/urandom >"$tmp/big"
sum=$(perl -0777 -ne 'my $s = 0; $s += $_ for unpack "C*", $_; print $s' "$tmp/big")

# zfpm with the example's configuration, as these expressions of sed make it
run() { run_example libfcgi/zfpm.conf "$@"; }
# The processes of count that serve, which under the fork server are the children of another one.
serving() {
	for serving_pid in $(workers "$alice"); do
		if [ "$mode" = on ]; then children_of "$serving_pid"; else echo "$serving_pid"; fi
	done
}
status_has() { "$zfpm" status -c "$tmp/zfpm.conf" -f json www.example.com.talk | grep -Eq "$1"; }
busy_is() { status_has "\"busy\": ?$1, ?\"connections\": ?16"; }
waiting() { "$zfpm" status -c "$tmp/zfpm.conf" www.example.com.talk | grep -Eq "^queued +$1"; }
pid_in() { sed -n 's/.* of process \([0-9]*\), .*/\1/p' "$1"; }

run
example libfcgi/apache.conf >"$tmp/apache.conf"
start_httpd <"$tmp/apache.conf"

# ---- one request at a time -----------------------------------------------------------------

for mode in on off; do
	as="fork_server $mode:"
	run -e "s|fork_server on\t|fork_server $mode\t|"
	get www.example.com '/count/a%20path/of?q=1&r=%20' >"$tmp/a"
	pid=$(pid_in "$tmp/a")
	is "$(sed "s/$pid/PID/" "$tmp/a")" "request 1 of process PID, user $(id -u "$alice")
GET /count path '/a path/of' query 'q=1&r=%20'
body of 0 bytes, sum 0" "$as the program is asked, and runs as the pool's user"
	is "$(serving)" "$pid" "$as it is $([ $mode = on ] && echo 'forked from the app server' || echo 'a process of its own')"
	is "$(get www.example.com /count --data-binary "@$tmp/big" | tr '\n' ' ')" "request 2 of process $pid, user $(id -u "$alice") POST /count path '' query '' body of 3000000 bytes, sum $sum " \
	    "$as the same process takes a body of 3 MB"
	is "$(get www.example.com /count --data-binary "@$tmp/big" -H 'Transfer-Encoding: chunked' | tail -n 1)" "body of 3000000 bytes, sum $sum" "$as without a Content-Length too"
	is "$(code www.example.com /count -X DELETE)" 405 "$as a status of its own"
	passes "$as its standard error is in the web server's log" wait_until errors '^stderr: method DELETE$'
	is "$(code www.example.com /count -X PUT --data-binary "@$tmp/big")" 405 "$as one that does not read the body"
	is "$(get www.example.com /count | tail -n 1)" 'body of 0 bytes, sum 0' "$as leaves nothing of it to the next"

	# More at a time than there may be processes: uploads that are not complete hold one each
	for i in 1 2 3 4; do
		get_exec www.example.com /count --limit-rate 100k --data-binary "@$tmp/big" -H Expect: >"$tmp/slow.$i" 2>"$tmp/slow.err" &
		eval "slow$i=$!"
	done
	has_four() { [ "$(serving | wc -l)" -eq 4 ]; }
	passes "$as four uploads have four processes" wait_until has_four
	three=$(serving | head -n 1)
	all_busy() { "$zfpm" status -c "$tmp/zfpm.conf" -f json www.example.com | tr -d '\n ' | grep -Eq '"busy":4,'; }
	passes "$as which are all busy" wait_until all_busy
	kill -KILL "$three"
	broken() { errors "stderr: FCGI process $three exited on signal 9 \\(SIGKILL\\)"; }
	passes "$as one dies: the error log says so" wait_until broken
	is "$(get www.example.com /count | tail -n 1)" 'body of 0 bytes, sum 0' "$as and another takes its place"
	for i in 1 2 3 4; do
		eval "kill \$slow$i 2>/dev/null; wait \$slow$i 2>/dev/null"
	done
	is "$(get www.example.com /count | tail -n 1)" 'body of 0 bytes, sum 0' "$as their clients leave, and the next one is served"
	: >"$tmp/error.log"
done

# A new program counts by itself.
mode=on
run
is "$(get www.example.com /count | head -n 1 | cut -d ' ' -f 1)" request "fork_server on: the program as it was"
sed 's/"request %lu/"number %lu/' "$top/examples/libfcgi/count.c" >"$tmp/new.c"
cc -O2 -o "$dir/count.new" "$tmp/new.c" -lfcgi
chown "$alice:" "$dir/count.new"
mv "$dir/count.new" "$dir/count"
renewed() { get www.example.com /count | grep -q '^number 1 '; }
passes "one that is built anew takes its place" wait_until renewed

# ---- threads ------------------------------------------------------------------------------

get www.example.com /talk >"$tmp/talk"
process=$(sed -n 's/^process \([0-9]*\):.*/\1/p' "$tmp/talk")
has_threads() { [ "$(sed -n 's/^Threads:[[:space:]]*//p' "/proc/$process/status")" = 16 ]; }
passes "the other program has 16 threads" wait_until has_threads
is "$(get www.example.com /talk/say --data-binary 'first words')" '1 first words' "something is said"
is "$(get www.example.com '/talk/wait?0')" '1 first words' "who has not heard it gets it at once"

at_once 15 wait get_exec www.example.com '/talk/wait?1'
passes "15 wait at a time" wait_until busy_is 15
is "$(get www.example.com /talk/say -d 'to all of you')" '2 to all of you' "the 16th says something"
wait_all
is "$(sort "$tmp"/wait.* | uniq -c | tr -s ' ')" ' 15 2 to all of you' "all of them hear it"

at_once 16 wait get_exec www.example.com '/talk/wait?2'
passes "16 wait" wait_until busy_is 16
get_exec www.example.com /talk >"$tmp/17" &
get17=$!
passes "number 17 has to wait for one of them" wait_until waiting 1
is "$(workers "$alice" | xargs ps -o args= -p | grep -c '/talk 16$')" 1 "there is one process"
is "$(code www.example.com /count)" 200 "the other pool of the same user does not wait"

# What is one's end is everybody's.
kill -SEGV "$process"
wait_all
is "$(grep -l '500 Internal Server Error' "$tmp"/wait.* | wc -l)" 16 "the process crashes: all 16 get a 500"
is "$(count_errors 'stderr: FCGI process '"$process"' exited on signal 11 \(SIGSEGV\)')" 16 "the error log says why"
wait "$get17"
like "$(cat "$tmp/17")" '^process [0-9]+: say, or wait' "the one that waited for its turn is served by the next process"
process=$(sed -n 's/^process \([0-9]*\):.*/\1/p' "$tmp/17")

# A client that leaves
get_exec www.example.com '/talk/wait?0' >"$tmp/left" &
left=$!
get_exec www.example.com '/talk/wait?0' >"$tmp/stays" &
stays=$!
passes "two wait" wait_until busy_is 2
kill "$left"
wait "$left" 2>"$tmp/wait.err"
passes "one leaves, and does not count any more" wait_until busy_is 1
is "$(get www.example.com /talk/say -d 'is anybody there?')" '1 is anybody there?' "somebody speaks"
wait "$stays"
is "$(cat "$tmp/stays")" '1 is anybody there?' "the other one hears it"

# Load
head -c 100000 /dev/urandom | base64 -w 0 >"$tmp/long"
is "$(get www.example.com /talk/say -d "@$tmp/long" | wc -c)" 1002 "of a text that is too long the program reads the beginning"
say() { get_exec www.example.com '/talk/say?[1-50]' --max-time 120 -d "client $i"; }
at_once 16 load say
wait_all
right=0
i=0
while [ $((i += 1)) -le 16 ]; do
	[ "$(grep -c -x "[0-9]* client $i" "$tmp/load.$i") $(wc -l <"$tmp/load.$i")" = '50 50' ] && right=$((right + 1))
done
is "$right" 16 "16 clients with 50 requests each: each gets what is its own"
is "$(cut -d ' ' -f 1 "$tmp"/load.* | sort -n | uniq | sed -n '1p;$p' | tr '\n' ' ')$(cat "$tmp"/load.* | cut -d ' ' -f 1 | sort -u | wc -l)" '3 802 800' "and each number comes once"
like "$(get www.example.com /talk)" "^process $process:" "the same process all the way"
sockets=$(find "/proc/$process/fd" -lname 'socket:*' | wc -l)
passes "with no more than 16 connections" test "$sockets" -le 17 || diag "$sockets"

# The fork server is not for threads.
run -e '/^app talk/,/^}/{s/fork_server off/fork_server on/;/connections/d}'
is "$(code www.example.com /talk)" 500 "fork_server on: there is none for a program with threads"
passes "and zfpm says what to do" \
    wait_for_log "Cannot start FCGI process: start: the program has threads when it first waits for a request: it needs 'fork_server off'"
is "$(code www.example.com /count)" 200 "the one without has one"
# All threads ask at one time, and a program may end when one of them is told that there is nothing.
cat >"$tmp/hasty.c" <<-\END
	#include <sys/socket.h>
	#include <pthread.h>
	#include <unistd.h>

	static void *
	hasty(void *unused)
	{
		if (accept(0, NULL, NULL) == -1)
			_exit(0);
		return unused;
	}

	int
	main(void)
	{
		pthread_t t;
		int i;

		for (i = 0; i < 8; i++)
			pthread_create(&t, NULL, hasty, NULL);
		hasty(NULL);
	}
END
cc -O2 -pthread -o "$dir/hasty" "$tmp/hasty.c"
chown "$alice:" "$dir/hasty"
run -e '/^app talk/,/^}/{s/fork_server off/fork_server on/;/connections/d;s|/talk 16|/hasty|}'
is "$(code www.example.com /talk/hasty)" 500 "nor for one whose threads all wait at a time"
passes "which is said of it too" \
    wait_for_log "Cannot start FCGI process: start: the program has threads when it first waits for a request: .* \\(GET /talk/hasty"
example_conf libfcgi/zfpm.conf -e '/^app talk/,/^}/s/fork_server off/fork_server on/' | make_conf "$tmp/wrong.conf"
like "$("$zfpm" -t -c "$tmp/wrong.conf" 2>&1)" "connections: 16 can not be with 'fork_server on'" "with connections zfpm -t refuses it"

stop_zfpm TERM
is "$zfpm_status $(ps -o pid= -u "$alice" | wc -l)" '0 0' "zfpm ends, and nothing is left"
