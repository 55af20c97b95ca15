#!/bin/sh
# Through Apache and mod_zfpm PHP is served by a fork server as by processes of its own, of each virtual host's user.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
[ -x /usr/bin/php-cgi ] || skip_all "no php-cgi"
plan 50

make_user alice
make_user bob
want_user web
make_key
site a.test "$alice"
site b.test "$bob"
mkdir -m 1777 "$tmp/notes"

# ---- scripts -------------------------------------------------------------------------------

cat >"$tmp/www/a.test/who.php" <<-\END
	<?php
	header('Content-Type: text/plain');
	echo posix_getpwuid(posix_geteuid())['name'], ' ', getmypid(), ' ', posix_getppid(), ' ', $_GET['x'] ?? '-', "\n";
END
cat >"$tmp/www/a.test/form.php" <<-\END
	<?php
	echo $_SERVER['REQUEST_METHOD'], ' ', $_POST['a'] ?? '-', ' ', strlen(file_get_contents('php://input')), "\n";
END
cat >"$tmp/www/a.test/upload.php" <<-\END
	<?php
	echo $_FILES['f']['name'], ' ', $_FILES['f']['size'], ' ', md5_file($_FILES['f']['tmp_name']), "\n";
END
cat >"$tmp/www/a.test/download.php" <<-\END
	<?php
	header('Content-Type: application/octet-stream');
	if (isset($_GET['length']))
		header('Content-Length: ' . 20 * 1024 * 1024);
	for ($i = 0; $i < 2560; $i++)
		echo str_repeat(chr($i % 251), 8192);
END
cat >"$tmp/www/a.test/redirect.php" <<-\END
	<?php
	header('Location: ' . $_GET['to']);
END
cat >"$tmp/www/a.test/status.php" <<-\END
	<?php
	http_response_code((int)$_GET['code']);
	echo "a body of its own\n";
END
cat >"$tmp/www/a.test/die.php" <<-\END
	<?php
	while (ob_get_level())
		ob_end_clean();
	if (isset($_GET['length']))
		header('Content-Length: 1000000');
	if (isset($_GET['mid'])) {
		echo str_repeat("x", 100000);
		flush();
	}
	posix_kill(getmypid(), (int)$_GET['signal']);
	sleep(60);
END
cat >"$tmp/www/a.test/fatal.php" <<-\END
	<?php
	nosuch();
END
# Until the test lets it go; it says how it was.
cat >"$tmp/www/a.test/long.php" <<-\END
	<?php
	ignore_user_abort(true);
	while (ob_get_level())
		ob_end_clean();
	echo "begun\n";
	flush();
	file_put_contents($_GET['note'], getmypid());
	for ($i = 0; $i < 3000 && !file_exists("$_GET[note].go"); $i++)
		usleep(10000);
	echo str_repeat("and written\n", 10000);
	flush();
	file_put_contents("$_GET[note].done", getmypid());
END
cat >"$tmp/www/a.test/look.php" <<-\END
	<?php
	echo 'mine ', is_string(@file_get_contents(__DIR__ . '/private')) ? 'read' : 'refused', "\n",
	    'theirs ', is_string(@file_get_contents($_GET['theirs'])) ? 'read' : 'refused', "\n",
	    'app servers ', @posix_kill((int)$_GET['server'], 0) ? 'reached' : 'refused', "\n",
	    'cached ', count(preg_grep('#/' . $_GET['site'] . '/#', array_keys(opcache_get_status()['scripts'] ?? []))), "\n";
END
cp "$tmp/www/a.test"/*.php "$tmp/www/b.test"
for host in a b; do
	echo secret >"$tmp/www/$host.test/private"
	chmod 600 "$tmp/www/$host.test/private"
	user=$([ $host = a ] && echo "$alice" || echo "$bob")
	chown -R "$user:" "$tmp/www/$host.test"
done
# OPcache takes no file that is younger than two seconds.
find "$tmp/www" -name '*.php' -exec touch -t 202001010000 {} +

start_zfpm <<-END
	listen @sock@ group @web@ mode 0660 key @tmp@/key
	app php {
		command /usr/bin/php-cgi -d log_errors=1 -d display_errors=0 -d error_log= -d upload_max_filesize=50M -d post_max_size=50M
		extensions .php
		fork_server on
	}
	pool a.test {
		user @alice@
		app php
		max_workers 4
	}
	pool b.test {
		user @bob@
		app php
		max_workers 4
	}
END
conf=$(vhost a.test; vhost b.test "ErrorLog $tmp/b.error.log")
start_httpd event <<-END
	$conf
END
reset='Connection to FastCGI was reset by peer during reading response'

# ---- requests of all kinds ----------------------------------------------------------------------

get a.test /who.php >"$tmp/a"
get b.test /who.php >"$tmp/b"
is "$(cut -d ' ' -f 1 "$tmp/a") $(cut -d ' ' -f 1 "$tmp/b")" "$alice $bob" "two virtual hosts, two users" || diag "$(cat "$tmp/error.log")"
server=$(cut -d ' ' -f 3 "$tmp/a")
other=$(cut -d ' ' -f 3 "$tmp/b")
isnt "$server" "$other" "each has an app server of its own"
isnt "$server" "$zfpm_pid" "which has forked the worker"
is "$(get a.test '/who.php?x=1%202' | cut -d ' ' -f 4-)" '1 2' "GET with a query"
is "$(get a.test /form.php -d a=b)" 'POST b 3' "POST"
is "$(get a.test /form.php -d a=b -H 'Transfer-Encoding: chunked')" 'POST b 3' "POST without a length"
is "$(code a.test /who.php -I)" 200 "HEAD"
"$bin/client" pattern 5000000 >"$tmp/up.bin"
sum=$(md5sum <"$tmp/up.bin" | cut -d ' ' -f 1)
is "$(get a.test /upload.php -F "f=@$tmp/up.bin")" "up.bin 5000000 $sum" "an upload of 5 MB"
at_once 3 up get a.test /upload.php -F "f=@$tmp/up.bin"
wait_all
is "$(cat "$tmp/up.1" "$tmp/up.2" "$tmp/up.3" | sort | uniq -c | awk '{ print $1, $4 }')" "3 $sum" "three at a time"
want=$(perl -e 'print chr($_ % 251) x 8192 for 0 .. 2559' | cksum)
is "$(get a.test /download.php | cksum)" "$want" "a download of 20 MB"
is "$(get a.test '/download.php?length' | cksum)" "$want" "with a Content-Length"
is "$(get a.test '/download.php' --limit-rate 20M | cksum)" "$want" "to a client that takes its time"
is "$(code a.test '/redirect.php?to=http://a.test/elsewhere')" 302 "a redirect"
like "$(get a.test '/redirect.php?to=/elsewhere' -i)" '^Location: /elsewhere' "one to a path"
is "$(code a.test /missing.php)" 404 "a script that is no file is 404"
is "$(code a.test '/status.php?code=404') $(cat "$tmp/code.body")" '404 a body of its own' "and one that says so itself"
is "$(code a.test /fatal.php)" 500 "a fatal error is 500"
passes "with PHP's message in the error log" errors '^stderr: .*Call to undefined function nosuch'

who() { get a.test "/who.php?x=$i"; }
at_once 20 many who
wait_all
is "$(cat "$tmp"/many.* | awk '{ print $4 }' | sort -n | tr '\n' ' ')" '1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 ' "twenty at a time, four workers"
is "$(cat "$tmp"/many.* | awk '{ print $3 }' | sort -u)" "$server" "all of one app server"
is "$(count_errors "$reset")" 0 "nothing of this was an error"

# ---- what they see of each other -----------------------------------------------------------------------

get a.test "/look.php?theirs=$tmp/www/b.test/private&server=$other&site=b.test" >"$tmp/out"
is "$(tr '\n' ' ' <"$tmp/out")" 'mine read theirs refused app servers refused cached 0 ' "a.test sees its own"
get b.test "/look.php?theirs=$tmp/www/a.test/private&server=$server&site=a.test" >"$tmp/out"
is "$(tr '\n' ' ' <"$tmp/out")" 'mine read theirs refused app servers refused cached 0 ' "and b.test its own"
get b.test /fatal.php >"$tmp/out"
passes "an error of b.test is in its own error log" grep -q '^stderr: .*undefined function nosuch() in .*/b.test/' "$tmp/b.error.log"
fails "and not in that of the other" errors '/b\.test/'

# ---- workers that are killed -------------------------------------------------------------------------------

is "$(code a.test '/die.php?signal=9')" 500 "a worker that is killed before its response is 500"
passes "with the reason" errors '^stderr: FCGI process [0-9]+ exited on signal 9 \(SIGKILL\)'
passes "and the module's message" errors "$reset"
get a.test '/die.php?signal=9&mid' >"$tmp/out" 2>"$tmp/curl.err"
is $? 18 "one that is killed in the midst of a response: it is cut"
is "$(tr -d x <"$tmp/out" | wc -c | tr -d ' ') $(wc -c <"$tmp/out" | tr -d ' ')" '0 100000' "behind what it has sent"
get a.test '/die.php?signal=9&mid&length' >"$tmp/out" 2>"$tmp/curl.err"
is $? 18 "with a Content-Length too"
is "$(count_errors '^stderr: FCGI process [0-9]+ exited on signal 9 \(SIGKILL\)')" 3 "each has its reason in the error log"
passes "and in zfpm's, with what it served" log_has 'pool a.test: worker [0-9]+: .*exited on signal 9 \(SIGKILL\) \(GET /die.php\?signal=9&mid&length, script .*/a.test/die.php, '
is "$(code a.test '/die.php?signal=11')" 500 "one that crashes"
passes "with its signal" errors '^stderr: FCGI process [0-9]+ exited on signal 11 \(SIGSEGV\)'

get a.test "/long.php?note=$tmp/notes/killed" >"$tmp/out" 2>"$tmp/curl.err" &
client=$!
wait_until test -s "$tmp/notes/killed"
kill -KILL "$(cat "$tmp/notes/killed")"
wait "$client"
is $? 18 "one that is killed by another process"
is "$(get a.test /who.php | cut -d ' ' -f 3)" "$server" "the same app server goes on after all of this"

get a.test "/long.php?note=$tmp/notes/server" >"$tmp/out" 2>"$tmp/curl.err" &
client=$!
wait_until test -s "$tmp/notes/server"
kill -KILL "$server"
wait "$client"
is $? 18 "the app server is killed: its workers go with it"
again() {
	new=$(get a.test /who.php | cut -d ' ' -f 3)
	[ "$(code a.test /who.php)" = 200 ] && [ "$new" != "$server" ]
}
passes "and another one follows" wait_until again
isnt "$new" "$server" "not the same"
is "$(get b.test /who.php | cut -d ' ' -f 3)" "$other" "the other virtual host's has not been touched"

# ---- the web server comes and goes ----------------------------------------------------------------------------

for how in graceful restart stop; do
	get a.test "/long.php?note=$tmp/notes/$how" >"$tmp/$how.out" 2>"$tmp/curl.err" &
	client=$!
	wait_until test -s "$tmp/notes/$how"
	case $how in
	graceful) graceful_httpd ;;
	restart) restart_httpd ;;
	stop)
		stop_httpd
		start_httpd event <<-END
			$conf
		END
		;;
	esac
	: >"$tmp/notes/$how.go"
	wait_until test -s "$tmp/notes/$how.done"
	is "$(cat "$tmp/notes/$how.done")" "$(cat "$tmp/notes/$how")" "Apache: $how: a script that runs completes its work"
	wait "$client"
	is "$(get a.test /who.php | cut -d ' ' -f 1,3)" "$alice $new" "and the app server serves on"
done
is "$(wc -l <"$tmp/graceful.out" | tr -d ' ')" 10001 "after a graceful restart its client has got all of it"

unlike "$(cat "$tmp/zfpm.log")" 'can not be used|not its own|error: ' "zfpm has nothing to complain of"
stop_httpd
stop_zfpm TERM
is "$zfpm_status" 0 "zfpm ends"
