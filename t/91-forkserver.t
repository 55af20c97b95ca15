#!/bin/sh
# zfpm-forkserver.so makes an app server of an application that does not know of it: workers are forked inside its first
# accept(), serve as if it had been started for them, and their ends are told; whoever asks for what cannot be gets a
# reason or is shown the door, and nobody else notices.
# shellcheck disable=SC2016 # the scripts are PHP's and Perl's
. "${0%/*}/lib.sh"
plan 63

lib=$top/zfpm-forkserver.so
app_lib=$lib
if [ -n "${ZFPM_BUILD:-}" ]; then
	# The same with the sanitizers, for programs that have them: they would miss the first place in LD_PRELOAD.
	app_lib=$tmp/zfpm-forkserver.so
	passes "the library can be built with the sanitizers" "${CC:-cc}" -std=c11 -D_GNU_SOURCE -O1 -g -fno-omit-frame-pointer \
	    -fsanitize=address,undefined -fPIC -fvisibility=hidden -shared -I"$top" -o "$app_lib" "$top/forkserver.c" -ldl
	ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0
else
	skip 1 "no sanitizers asked for"
fi

# run [OPTION...] COMMAND...: the script on standard input; what came of it is $got, what the program said outside workers $tmp/said
run() {
	options=''
	while :; do
		case $1 in
		-c) options="$options $1"; shift ;;
		-n | -u) options="$options $1 $2"; shift 2 ;;
		*) break ;;
		esac
	done
	preload=${preload:-$lib}
	rm -f "$tmp/app.sock"
	# shellcheck disable=SC2086 # a list of options
	got=$("$bin/forkserver" $options "$tmp/app.sock" "$preload" "$@" 2>"$tmp/run.err") || got="$got
status $?"
	[ ! -s "$tmp/run.err" ] || diag "$(cat "$tmp/run.err")"
	preload=''
}
run_app() {
	preload=${preload:-$app_lib}
	run "$bin/forkserver" app "$@"
}
lines() { printf '%s\n' "$got" | sed -n "$1"; }

if command -v readelf >/dev/null; then
	is "$(readelf -W --dyn-syms "$lib" | awk '$7 != "UND" && $5 == "GLOBAL" { print $8 }' | sort | tr '\n' ' ')" \
	    'accept accept4 ' "the library shows the application two functions, and nothing else"
	readelf -ldW "$lib" >"$tmp/elf"
	like "$(cat "$tmp/elf")" 'GNU_RELRO' "its relocations are made read-only"
	like "$(cat "$tmp/elf")" 'BIND_NOW|Flags:.* NOW' "all of them, when it is loaded"
else
	skip 3 "no readelf"
fi

# ---- an application in C, and what it finds in a worker

found='preload none, peer of 0 ENOTCONN, not listening, poll 1, family unix 1, cloexec 1, nonblock 0, group own, handlers 1 1, blocked 0 0 1, descriptors'
cat >"$tmp/report" <<-\END
	router 1
	get 1
	fork 1 5
	get 1
	text 5 report
	line 5
	text 5 hello
	line 5
	end 5
	output 5
	get 1
	signal TERM
	wait
END
served() {
	echo "$2READY
FORKED 5
$1
hello
accept: ESHUTDOWN
EXITED 5 exit 0
exit 0"
}
run_app plain <"$tmp/report"
is "$got" "$(served "$found 1" 'start
')" "a worker finds what a program that was started for it finds, and its own connection; what stdio held is written once"
run_app accept4 <"$tmp/report"
is "$(lines '4,$p')" "$(served "$(echo "$found 1" | sed 's/nonblock 0/nonblock 1/')" | sed '1,2d')" "accept4() and its flags work too"
run_app select <"$tmp/report"
is "$(lines '4,$p')" "$(served "$found 1" | sed '1,2d')" "a program that asks select() before accept() is served, and ends"
run_app poll <"$tmp/report"
is "$(lines '4,$p')" "$(served "$found 1" | sed '1,2d')" "one that asks poll() too"
run_app copy <"$tmp/report"
is "$(lines '4,$p')" "$(served "$found 2" | sed '1,2d')" "so does one that uses a copy of descriptor 0, and neither leads to the listening socket"
run_app thread <"$tmp/report"
is "$(lines '4,$p')" "$(served "$found 1" | sed '1,2d')" "one that serves in a thread while it waits for the next connection is not told too early that there is none"

preload="$app_lib:libc.so.6"
run_app plain <"$tmp/report"
like "$got" '^preload libc.so.6, ' "of LD_PRELOAD stays what others have put there"

run_app threads <<-\END
	connect 1
	router 2
	get 2
	closed 2
	wait
END
is "$(lines '2,$p')" "REFUSED the program has threads when it first waits for a request: it needs 'fork_server off'
closed
exit 1" "a program that has threads when it first accepts says so to the router, and exits"
run_app forked <<-\END
	router 1
	get 1
	closed 1
END
is "$(lines '2,$p')" "REFUSED of another process the program has forked before it waits for a request: it needs 'fork_server off'
closed" "so does one that has forked"
run -c "$bin/forkserver" app plain <<-\END
	wait
END
is "$got" "start
accept: EINVAL
accept: EINVAL
accept: EINVAL
accept: EINVAL
exit 3" "where descriptor 0 is no listening socket the library stays out of it"

# ---- the life of a worker

run_app plain <<-\END
	router 1
	skip 1 1
	fork 1 1
	fork 1 2
	fork 1 3
	skip 1 3
	kill 1 1 TERM
	output 1 1
	text 1 still here
	line 1
	end 1
	output 1
	get 1
	end 2
	output 2
	get 1
	text 3 child
	line 3
	signal KILL 3
	get 1
END
is "$(lines '2,4p')" 'accept: EINTR after a signal
still here
accept: ESHUTDOWN' "a signal that the program handles interrupts its accept(), and the next one goes on waiting"
is "$(lines '5,7p')" 'EXITED 1 exit 0
accept: ESHUTDOWN
EXITED 2 exit 0' "a connection that ends before its first byte is an end like any other"
is "$(lines '$p')" 'EXITED 3 signal 9' "a worker that is killed is told of"
pid=$(lines '8p')
like "$pid" '^[0-9]+$' "it had started a process"
passes "which goes with it" wait_until gone "${pid:-$$}"

run_app plain <<-\END
	router 1
	skip 1 1
	fork 1 1
	skip 1 1
	text 1 child
	line 1
	text 1 hang
	kill 1 1 TERM
	kill 1 1 KILL
	get 1
	kill 1 1 TERM
	get 1
END
is "$(lines '3,$p')" 'EXITED 1 signal 9
UNKNOWN 1' "FS_KILL ends a worker that does not obey; once more, and the worker is unknown"
pid=$(lines '2p')
passes "what it had started goes with it" wait_until gone "${pid:-$$}"

run_app plain <<-\END
	router 1 1 1 200
	skip 1 1
	fork 1 1
	fork 1 2
	skip 1 2
	text 1 hang
	text 2 child
	line 2
	close 1
	gone 1
	gone 2
	router 2
	adopt 2 1
	get 2 2
END
is "$(lines '3,$p')" 'READY
UNKNOWN 1' "when a router's connection ends its workers end, those that do not obey too"

run_app plain <<-\END
	router 1 1 1 200
	router 2
	skip 1 1
	skip 2 1
	fork 1 1
	fork 1 2
	fork 1 3
	fork 1 4
	skip 1 4
	release 1 1
	adopt 2 2
	adopt 2 3
	adopt 2 99
	skip 2 1
	release 1 2
	release 1 3
	release 1 4
	adopt 1 99
	skip 1 1
	end 4
	gone 4
	fork 1 5
	skip 1 1
	close 1
	gone 5
	adopt 2 1
	adopt 2 4
	get 2
	text 1 one
	line 1
	end 1
	get 2
	signal KILL 2
	get 2
	text 3 three
	line 3
END
is "$(lines '2,$p')" 'UNKNOWN 4
one
EXITED 1 exit 0
EXITED 2 signal 9
three' "workers that a router has released, before or after the next one adopted them, outlive its connection, and the next one hears of their ends"

run_app plain <<-\END
	router 1
	skip 1 1
	fork 1 1
	fork 1 2
	skip 1 2
	text 1 hello
	line 1
	text 1 hang
	signal TERM
	fork 1 3
	get 1
	end 2
	get 1
	kill 1 1 KILL
	get 1
	wait
END
is "$(lines '3,$p')" 'FAILED 3 ECANCELED fork
EXITED 2 exit 0
EXITED 1 signal 9
exit 0' "an app server that gets SIGTERM forks no more, and exits when its last worker has gone"
for signal in INT QUIT HUP; do
	run_app plain <<-END
		router 1 1 1 100
		skip 1 1
		fork 1 1
		skip 1 1
		text 1 hang
		signal $signal
		get 1
		wait
	END
	is "$(lines '2,$p')" 'EXITED 1 signal 9
exit 0' "so does one that gets SIG$signal; it waits for its workers as long as the router said"
done
run_app plain <<-\END
	router 1
	skip 1 1
	fork 1 1
	skip 1 1
	text 1 hang
	signal USR1
	fork 1 2
	get 1
	signal KILL
	wait
	gone 1
	gone 2
	ended 2
END
is "$(lines '2,$p')" 'FORKED 2
signal 9
ended' "other signals it does not notice; when it is killed its workers die"

# ---- what cannot be

run_app plain <<-\END
	router 1 1 99
	get 1
	closed 1
	router 2
	get 2
	connect 3
	raw 3 40
	close 3
	connect 3
	raw 3 400
	closed 3
	connect 3
	say 3 KILL 1
	closed 3
	connect 3
	close 3
	router 2
	closed 2
END
is "$(lines '2,$p')" 'REFUSED the router speaks version 99, zfpm-forkserver.so 1
closed
READY
closed
closed
closed' "another version is refused; what is no FS_HELLO or FS_FORK ends the connection that it came on, as a second router of one number does"

run_app plain <<-\END
	router 1
	router 2 2 1 100
	skip 1 1
	skip 2 1
	fork 1 1
	fork 2 2
	get 1
	get 2
	raw 2 500
	closed 2
	gone 2
	text 1 one
	line 1
	router 3 3 1 100
	skip 3 1
	fork 3 3
	skip 3 1
	kill 3 3 99
	closed 3
	gone 3
	text 1 one
	line 1
	router 4
	skip 4 1
	say 4 ADOPT 1 0 1
	closed 4
	router 4
	skip 4 1
	say 4 READY 0
	closed 4
	router 4
	say 4 FORK 7
	closed 4
	text 1 report
	line 1
	fork 1 9
	get 1
	text 9 report
	line 9
END
is "$(lines '2,$p')" "FORKED 1
FORKED 2
closed
one
closed
one
closed
closed
closed
$found 1
FORKED 9
$found 1" "rubbish ends the router's connection and its workers, a descriptor that nobody asked for is closed, others notice nothing"

run_app plain <<-\END
	router 1
	skip 1 1
	fork 1 1
	get 1
	fork 1 6 1 1
	get 1
	fork 1 2 0
	get 1
	fork 1 3 2
	get 1
	fork 1 4 3
	get 1
	ended 2
	ended 3
	text 1 one
	line 1
	connect 2
	say 2 FORK 5 0 1
	closed 2
	connect 3
	trickle 3 HELLO 0
	get 3
	trickle 3 ADOPT 77
	get 3
	trickle 3 KILL 1
	closed 3
END
is "$(lines '2,$p')" 'FORKED 1
FAILED 1 EEXIST worker
FAILED 2 EBADF descriptor
FAILED 3 EMFILE descriptor
FAILED 4 EMFILE descriptor
ended
ended
one
closed
READY
UNKNOWN 77
closed' "a number that is taken, a descriptor that is missing or too much fail; a router that nobody knows gets nothing; messages may come in pieces"

run_app plain <<-\END
	router 1
	fork 1 1
	text 1 one
	line 1
	get 1 2
END
is "$(lines '2,$p')" 'one
READY
FORKED 1' "a router need not wait for FS_READY, nor for FS_FORKED before it writes to the worker"

run_app plain <<-\END
	router 1
	router 2
	skip 1 1
	skip 2 1
	fork 1 1
	skip 1 1
	flood 1
	end 1
	gone 1
	fork 2 2
	get 2
	text 2 two
	line 2
	drain 1
	flood 1
	text 2 two
	line 2
	end 2
	get 2
	drain 1
END
is "$(lines '2,$p')" 'FORKED 2
two
EXITED 1 exit 0
two
EXITED 2 exit 0' "a router that does not read gets all when it does, the end of its worker too; nobody else waits"

run_app plain <<-\END
	router 1 1 1 100
	router 2
	skip 2 1
	fork 1 1
	fork 2 2
	skip 2 1
	text 1 one
	line 1
	release 1 1
	flood 1
	close 1
	text 1 one
	line 1
	adopt 2 1
	adopt 2 99
	skip 2 1
	end 1
	get 2
	text 2 two
	line 2
END
is "$(lines '2,$p')" 'one
one
EXITED 1 exit 0
two' "what a router has said before it went without reading counts"

run_app plain <<-\END
	repeat 40 connect 9
	router 1
	get 1
	repeat 60 fork 1 #
	skip 1 60
	text 60 sixty
	line 60
	repeat 60 end #
	skip 1 60
	signal TERM
	wait
END
is "$(lines '2,$p')" 'READY
sixty
exit 0' "connections that say nothing give up their places, and many workers at once are no matter"

run_app plain <<-\END
	router 1
	skip 1 1
	signal TERM
	wait
	closed 1
END
is "$(lines '2,$p')" 'exit 0
closed' "without workers SIGTERM is the end at once"

make_user user
preload=$lib
run -n 2 -u "$user" /usr/bin/perl -MFCGI -e 'FCGI::Request()->Accept(); exit 3' <<-\END
	router 1
	get 1
	fork 1 1
	get 1
	fork 1 2
	get 1
	ended 2
	end 1
	get 1
	fork 1 3
	get 1
END
is "$got" 'READY
FORKED 1
FAILED 2 EAGAIN fork
ended
EXITED 1 exit 3
FORKED 3' "where the user may have no more processes FS_FORK fails with EAGAIN, and works when he may again"

# ---- PHP

php=$(command -v php-cgi)
printf '%s\n' '<?php echo "pid ", getmypid(), " random ", mt_rand(), "\n";' >"$tmp/pid.php"
printf '%s\n' '<?php echo getenv("LD_PRELOAD") === false ? "none" : "there", " ", exec("echo \${LD_PRELOAD-none}"), "\n";' >"$tmp/preload.php"
printf '%s\n' '<?php echo opcache_get_status(false)["opcache_statistics"]["hits"], "\n";' >"$tmp/hits.php"
printf '%s\n' '<?php register_shutdown_function(function () { echo "shutdown\n"; });' \
    'touch($_SERVER["AT"]); for ($i = 0; $i < 50 && !file_exists($_SERVER["GO"]); $i++) usleep(20000); echo "done\n";' >"$tmp/busy.php"
printf '%s\n' '<?php $l = exec("ls -l /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd | grep -c socket:"); echo "sockets $l\n"; ' \
    'file_put_contents("php://stderr", "to the log\n");' >"$tmp/fds.php"
touch -d '1 minute ago' "$tmp"/*.php	# OPcache leaves new files alone
run_php() { run "$php" -d opcache.enable=1 -d opcache.validate_timestamps=1 "$@"; }

run_php <<-END
	router 1
	get 1
	fork 1 1
	get 1
	fork 1 2
	get 1
	fork 1 3
	get 1
	request 1 $tmp/pid.php
	answer 1
	request 2 $tmp/pid.php
	answer 2
	request 1 $tmp/pid.php
	answer 1
	request 1 $tmp/hits.php
	answer 1
	request 2 $tmp/hits.php
	answer 2
	request 2 $tmp/preload.php
	answer 2
	request 2 $tmp/fds.php
	answer 2
	sleep 6000
	request 3 $tmp/hits.php
	answer 3
	end 1
	get 1
	kill 1 2 TERM
	end 2
	get 1
	output 2
	kill 1 3 KILL
	get 1
	fork 1 4
	get 1
	pid 4
	kill 1 4 TERM
	get 1
	signal TERM
	wait
END
is "$(lines '1,4p')" 'READY
FORKED 1
FORKED 2
FORKED 3' "php-cgi becomes an app server"
like "$(lines 5p)" '^pid [0-9]+ random' "a forked worker serves a request"
isnt "$(lines 5p | cut -d' ' -f2)" "$(lines 6p | cut -d' ' -f2)" "two workers are two processes"
is "$(lines 7p | cut -d' ' -f2)" "$(lines 5p | cut -d' ' -f2)" "a worker serves all the requests of its connection"
isnt "$(lines 5p | cut -d' ' -f4)" "$(lines 6p | cut -d' ' -f4)" "their random numbers differ"
is "$(lines 8,9p | tr '\n' ' ')" "2 3 " "OPcache's memory is theirs in common: a hit in one is counted in the other"
is "$(lines 10p)" 'none none' "neither the script nor a program that it starts finds LD_PRELOAD"
is "$(lines 11p)" 'sockets 2' "nor has such a program the connection, or any socket but descriptor 0"
like "$(lines 12p)" '^[3-9]' "a worker that has been silent for 6 seconds serves: PHP would have closed the connection after 5"
is "$(lines 13p)" 'EXITED 1 exit 0' "when its connection is closed it exits with status 0"
is "$(lines 14p)" 'EXITED 2 exit 0' "so it does after SIGTERM"
is "$(lines 15p)" 'to the log' "what it writes to descriptor 2 comes by its own pipe"
is "$(lines 16p)" 'EXITED 3 signal 9' "SIGKILL is told as that"
is "$(lines 19p)" 'EXITED 4 exit 0' "SIGTERM ends a worker that has served nothing, by PHP's own handler"
is "$(lines 20p)" 'exit 0' "the app server exits"

run_php <<-END
	router 1
	skip 1 1
	fork 1 1
	skip 1 1
	request 1 $tmp/busy.php AT=$tmp/at GO=$tmp/go
	file $tmp/at
	kill 1 1 TERM
	answer 1
	get 1
	fork 1 2
	skip 1 1
	request 2 $tmp/busy.php AT=$tmp/at2 GO=$tmp/go
	file $tmp/at2
	close 1
	answer 2
	gone 2
	router 2
	get 2
	fork 2 3
	skip 2 1
	request 3 $tmp/busy.php AT=$tmp/at3 GO=$tmp/go
	file $tmp/at3
	signal TERM
	answer 3
	get 2
	wait
END
is "$(lines 1,3p)" 'done
shutdown
EXITED 1 exit 0' "SIGTERM while it serves: the request is finished, then it exits, as PHP does"
is "$(lines 4,5p)" 'done
shutdown' "a worker whose router has gone finishes its request within its time"
is "$(lines '6,$p')" 'READY
done
shutdown
EXITED 3 exit 0
exit 0' "as one whose app server is told to end does"

run_php <<-END
	router 1 1 1 200
	skip 1 1
	fork 1 1
	skip 1 1
	request 1 $tmp/busy.php AT=$tmp/at4 GO=$tmp/go
	file $tmp/at4
	signal KILL
	answer 1
	gone 1
END
is "$got" 'no end of the response' "when the app server is killed a worker dies in the middle of its request"

{
	echo 'router 1'
	echo 'skip 1 1'
	i=0
	while [ "$i" -lt 40 ]; do
		i=$((i + 1))
		printf '%s\n' "fork 1 $i" "kill 1 $i TERM" "get 1 2"	# it does not even wait for FS_FORKED
	done
} >"$tmp/race"
run_php <"$tmp/race"
is "$(printf '%s\n' "$got" | sed 's/ [0-9]*//' | sort | uniq -c | tr -s ' ')" ' 40 EXITED exit 0
 40 FORKED' "SIGTERM that comes before the worker has got to its accept() is not lost"

preload=libc.so.6
run_php <<-END
	router 1
	closed 1
	signal TERM
	wait
END
is "$got" 'closed
exit 0' "php-cgi without the library closes the connection on which FS_HELLO came"

PHP_FCGI_CHILDREN=2
export PHP_FCGI_CHILDREN
run "$php" <<-\END
	router 1
	get 1
END
unset PHP_FCGI_CHILDREN
like "$got" "^REFUSED of another process the program has forked .*'fork_server off'" "PHP with children of its own is refused"

# ---- Perl

cat >"$tmp/app.pl" <<-\END
	use FCGI;
	my $r = FCGI::Request();
	while ($r->Accept() >= 0) {
		my $outside = qx(echo \${LD_PRELOAD-none});
		print "Content-Type: text/plain\r\n\r\n$$ ", $ENV{LD_PRELOAD} // "none", " $outside";
	}
	syswrite STDERR, "perl left\n";
END
run /usr/bin/perl "$tmp/app.pl" <<-\END
	router 1
	get 1
	fork 1 1
	fork 1 2
	get 1 2
	request 1 /
	answer 1
	request 1 /
	answer 1
	request 2 /
	answer 2
	end 1
	output 1
	get 1
	sleeps 2
	kill 1 2 TERM
	get 1
	signal TERM
	wait
END
like "$(lines 4p)" '^[0-9]+ none none$' "Perl's FCGI serves in a forked worker, and does not see LD_PRELOAD"
is "$(lines 5p)" "$(lines 4p)" "one request after the other on one connection"
isnt "$(lines 6p)" "$(lines 4p)" "two workers are two processes"
is "$(lines '7,$p')" 'perl left
EXITED 1 exit 0
EXITED 2 exit 0
exit 0' "it leaves by its own ways: the loop when the connection ends, libfcgi's handler on SIGTERM"
