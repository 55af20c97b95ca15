#!/bin/sh
# When zfpm or a worker is lost the client can see it, the log says what happened, and the next request is served.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 33

tenants
touch "$tmp/www/a.test/x.app"
cat >"$tmp/www/a.test/hello.php" <<-\EOF
	<?php
	echo "hello\n";
EOF
# Runs until the client has left, and notes it.
cat >"$tmp/www/a.test/forever.php" <<-\EOF
	<?php
	while (ob_get_level())
		ob_end_clean();
	register_shutdown_function(function () { touch($_GET['note']); });
	echo "begun\n";
	flush();
	for (;;) {
		usleep(100);	// so that zfpm is nearly always writing when the client leaves
		if (isset($_GET['talk'])) {
			echo "x\n";
			flush();
		} else if (connection_aborted()) {
			exit;
		}
	}
EOF
mkdir -m 1777 "$tmp/notes"
start_httpd event <<-EOF
	LogLevel zfpm:info
	AddHandler zfpm:app .app
	$(vhost a.test)
EOF
reset='Connection to FastCGI was reset by peer during reading response\. Check your FastCGI application log\. Increase LogLevel verbosity to .info. for additional protocol info\.'

# A worker dies
is "$(code a.test '/x.app?signal=9')" 500 "a worker that dies before its response is 500"
passes "with the message" errors "$reset"
passes "which names pool, app and URI" errors "$reset \\(pool a.test, app app, URI /x.app\\)"
passes "the reason, from zfpm" errors '^stderr: FCGI process [0-9]+ exited on signal 9 \(SIGKILL\)'
passes "and at level info what has been seen" errors '^protocol info: socket .*zfpm.sock, .*pool a.test, app app; sent [0-9]+ records, .*response: .*elapsed [0-9]+ ms'
is "$(code a.test /hello.php)" 200 "the next request is served"

get a.test '/x.app?at=mid&out=2000000&signal=9' >"$tmp/out" 2>"$tmp/curl.err"
is $? 18 "one that dies in the midst of a chunked response: it is cut"
get a.test '/x.app?at=mid&out=2000000&signal=9&header=Content-Length:%202000000' >"$tmp/out" 2>"$tmp/curl.err"
is $? 18 "so is one with a Content-Length"
passes "with the same message" errors_at_least 3 "$reset"
passes "and how far it had come" errors 'response: [0-9]{4,7} bytes of the body'
get a.test '/x.app?out=2000000&closeafter' | wc -c >"$tmp/out"
is "$(cat "$tmp/out")" 2000000 "one that closes after its response has not failed"
is "$(code a.test '/x.app?rubbish')" 500 "one that does not speak FastCGI is 500"

# zfpm goes and comes
stop_zfpm
is "$(code a.test /hello.php)" 503 "without zfpm: 503"
passes "and the error log says why" errors "^Cannot connect to zfpm at $sock: (No such file or directory|Connection refused)"
is "$(code a.test /missing.php)" 404 "a script that is no file is still 404"
start_zfpm <"$tmp/tenants"
is "$(code a.test /hello.php)" 200 "as soon as it is back, requests are served"
n=$(count_errors "$reset")
for i in 1 2 3; do
	get a.test "/hello.php?$i" -H 'Connection: close' &
done >"$tmp/out"
wait_three() { [ "$(grep -c hello "$tmp/out")" = 3 ]; }
passes "three at a time" wait_until wait_three
stop_zfpm
start_zfpm <"$tmp/tenants"
for i in 1 2 3 4 5; do code a.test "/hello.php?$i"; done >"$tmp/out"
is "$(cat "$tmp/out")" 200200200200200 "kept connections to the old zfpm are noticed before they are used"
is "$(count_errors "$reset")" "$n" "and not one request was lost"

router=$(router_pid)
get a.test "/x.app?at=start&note=$tmp/notes/busy&hang" -i >"$tmp/out" 2>&1 &
busy=$!
wait_until test -s "$tmp/notes/busy"
kill -KILL "$router"
wait "$busy"
like "$(cat "$tmp/out")" '^HTTP/1.1 500' "a running request of a router that is killed is 500"
again() { [ "$(code a.test /hello.php)" = 200 ]; }
passes "and requests are served again" wait_until again

# The client goes
aborted() { log_has "aborted by the web server.*$1"; }
note() { [ -e "$tmp/notes/$1" ]; }
get_exec a.test "/forever.php?note=$tmp/notes/talks&talk" -N >"$tmp/out" 2>&1 &
client=$!
begun() { grep -q begun "$tmp/out"; }
wait_until begun
kill "$client"
passes "a client that leaves while it reads: the script learns it" wait_until note talks
get_exec a.test "/x.app?at=start&note=$tmp/notes/silent&hang" -N >"$tmp/out" 2>&1 &
client=$!
wait_until test -s "$tmp/notes/silent"
kill "$client"
passes "one that leaves while nothing comes: zfpm is told" wait_until aborted silent
passes "and Apache's log notes it at level info" errors 'the client left before the end of the response'
is "$(code a.test /hello.php)" 200 "and the connection was not used again"

# Timeouts of the module's own
stop_httpd
start_httpd worker <<-EOF
	ZfpmTimeout 1
	AddHandler zfpm:app .app
	$(vhost a.test)
EOF
is "$(code a.test '/x.app?hang')" 504 "ZfpmTimeout: 504"
passes "with its message" errors 'Timeout \(1s\) exceeded while reading from socket \(zfpm\)'
is "$(code a.test '/x.app?out=10&record=1&pause=150' --max-time 20)" 200 "but not while something comes"
is "$(code a.test '/hello.php')" 200 "and the next request is served"

# What configtest refuses
bad() { printf '%s\n' "$1" | httpd_test 2>&1; }
printf '0123456789abcde\n' >"$tmp/short"
chmod 600 "$tmp/short"
cp "$tmp/key" "$tmp/open"
chmod 640 "$tmp/open"
like "$(bad "ZfpmKey $tmp/nokey")" "ZfpmKey: $tmp/nokey: No such file" "a key file that is missing"
like "$(bad "ZfpmKey $tmp/short")" "ZfpmKey: $tmp/short: the first line has fewer than 16 characters" "one that is too short"
like "$(bad "ZfpmKey $tmp/open")" "ZfpmKey: $tmp/open: group or others have access" "one that others can read"
for line in 'ZfpmSocket nonsense' 'ZfpmPool ../x' 'ZfpmApp a/b' 'ZfpmIdleConnections -1' 'ZfpmConnectTimeout 0' 'ZfpmTimeout x' \
    '<VirtualHost *>
ZfpmIdleConnections 3
</VirtualHost>' '<Directory /srv>
ZfpmSocket /x
</Directory>' '<Directory /srv>
ZfpmVirtual on
</Directory>' 'ZfpmVirtual maybe' 'ZfpmXSendfile relative' 'ZfpmXSendfile' 'ZfpmAuthorizer ../x' 'ZfpmAuthorizer app relative.php' \
    'ZfpmNosuch on'; do
	printf '%s\n' "$line" | httpd_test >"$tmp/out" 2>&1 && echo "$line"
done >"$tmp/taken"
is "$(cat "$tmp/taken")" '' "nonsense, wrong places and unknown directives are refused"
