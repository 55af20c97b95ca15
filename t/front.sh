# shellcheck shell=sh
# shellcheck disable=SC2016,SC2034 # the expressions are perl's; the tests use the variables
# t/front.sh: zfpm behind another web server than Apache with mod_zfpm; sourced
# after t/lib.sh. Owns the sites of alice (www.example.com) and bob
# (www.example.org) below $tmp/home, zfpm for them, and requests to the server
# on $port. What a server's test brings: its configuration from examples/$front,
# start_front, which starts the server and leaves its process id in $front_pid,
# and, where the server differs from the rest, the variables below.
#
#   make_sites                  users, key and sites, the same PHP scripts in both
#   front_zfpm [LINE...]        zfpm with examples/$front/zfpm.conf; LINEs are defaults for its pools
#   start_front                 the test's own. It calls:
#   front_up                    until it answers
#   stop_front                  SIGTERM, or what $front_stop names
#   renew_front SIGNAL          what reload_front can be: this signal, and wait until other children serve
#   lighttpd_conf <text         a configuration of lighttpd with this text; its log is $tmp/log/lighttpd.log
#   start_lighttpd, reload_lighttpd     what start_front and reload_front then are
#   get HOST PATH [OPTION...]   curl; the body on standard output
#   code HOST PATH [OPTION...]  the status
#   outcome HOST PATH [...]     the status, what curl exits with, how many bytes came: "200 0 12"
#   begin NAME HOST PATH [...]  in the background; its body is in $tmp/NAME, its outcome in $tmp/NAME.end
#   zstat EXPRESSION...         of zfpm's status, see t/unit/json.pl
#   front_log ERE               is there such a line in the server's log, $front_log
#
# The checks, each a fixed number of tests, so that plan can be $((sum)):
#   check_site, check_tenants FILE... (where the key is), check_streaming, check_kept,
#   check_errors, check_deaths, check_restart, check_leaving
#                               n_site, n_tenants ... are how many tests each of them is
#   check_all FILE...           all of them, n_all
#
# What a server is known to do otherwise, with what most do:
#   lost=502, down=502          status when the worker is lost before the response; when zfpm is not there
#   cut='^200 18 '              outcome of a response that breaks off
#   cut_query=''                more for the script whose response breaks off
#   static=yes                  does it serve files itself?
#   logs=yes                    does it log what comes as FCGI_STDERR?
#   keeps=yes                   does it keep connections to zfpm?
#   reload_waits=no             does it take no requests until those are done that run while it reloads?
#   reload_query=''             more for hold.php during a reload
#   chunked, chunked_title      what upload.php sees of a body without a length
# and the function reload_front.

chunked_title="it comes whole"
front_pid='' front_log='' front_stop=TERM port=''
lost=502 down=502 cut='^200 18 ' cut_query='' static=yes logs=yes keeps=yes reload_waits=no reload_query=''

site_php() {
	cat >"$1/hello.php" <<-'END'
		<?php
		header('Content-Type: text/plain; charset=utf-8');
		echo 'hello from ', posix_getpwuid(posix_geteuid())['name'], "\n";
	END
	cat >"$1/env.php" <<-'END'
		<?php
		header('Content-Type: text/plain');
		foreach ($_SERVER + getenv() as $name => $value)
			if (is_string($value))
				echo "$name=$value\n";
	END
	cat >"$1/form.php" <<-'END'
		<?php
		foreach ([$_GET, $_POST] as $fields)
			foreach ($fields as $name => $value)
				echo "$name=", bin2hex($value), "\n";
	END
	cat >"$1/upload.php" <<-'END'
		<?php
		if (isset($_FILES['file']))
			echo md5_file($_FILES['file']['tmp_name']), ' ', $_FILES['file']['size'], ' ', $_FILES['file']['name'], "\n";
		else {
			$in = fopen('php://input', 'rb');
			$hash = hash_init('md5');
			$size = hash_update_stream($hash, $in);
			echo hash_final($hash), " $size ", $_SERVER['REQUEST_METHOD'], "\n";
		}
	END
	cat >"$1/download.php" <<-'END'
		<?php
		header('Content-Type: application/octet-stream');
		while (ob_get_level() > 0)
			ob_end_clean();
		readfile(dirname(__DIR__) . '/big');
	END
	cat >"$1/cookies.php" <<-'END'
		<?php
		setcookie('first', 'a b;c');
		setcookie('second', '2', ['httponly' => true]);
		foreach ($_COOKIE as $name => $value)
			echo "$name=$value\n";
	END
	cat >"$1/redirect.php" <<-'END'
		<?php
		header('Location: /hello.php?from=redirect');
	END
	cat >"$1/missing.php" <<-'END'
		<?php
		http_response_code(404);
		echo 'no such page, says the script';
	END
	cat >"$1/stderr.php" <<-'END'
		<?php
		error_log('said on stderr by the script');
		echo 'done';
	END
	# Says "begun", waits until the file go-NAME is there, and leaves done-NAME.
	cat >"$1/hold.php" <<-'END'
		<?php
		while (ob_get_level() > 0)
			ob_end_clean();
		$home = dirname(__DIR__);
		$name = preg_replace('/\W/', '', $_GET['name']);
		if (isset($_GET['length']))
			header('Content-Length: ' . (int)$_GET['length']);
		if (!isset($_GET['buffered']))
			header('X-Accel-Buffering: no');	// means nginx
		if (!isset($_GET['silent'])) {
			echo "begun\n";
			flush();
		}
		touch("$home/begun-$name");
		for ($i = 0; $i < 1200 && !file_exists("$home/go-$name"); $i++) {
			usleep(50000);
			clearstatcache();
		}
		for ($i = 0; $i < 20 && !isset($_GET['once']); $i++) {
			echo str_repeat('x', 999), "\n";
			flush();
			usleep(10000);
		}
		touch("$home/done-$name");
		echo "ended\n";
	END
	# Dies behind so many bytes of the response; counts how often it has run.
	cat >"$1/die.php" <<-'END'
		<?php
		while (ob_get_level() > 0)
			ob_end_clean();
		file_put_contents(dirname(__DIR__) . '/deaths', "died\n", FILE_APPEND);
		if (isset($_GET['length']))
			header('Content-Length: ' . (int)$_GET['length']);
		if ($_GET['after'] > 0) {
			echo str_repeat('x', $_GET['after']);
			flush();
			usleep(200000);
		}
		posix_kill(posix_getpid(), SIGKILL);
		sleep(60);
	END
	mkdir "$1/dir"
	echo '<?php echo "the index of dir", PHP_EOL;' >"$1/dir/index.php"
	echo 'plain text <?php echo 6 * 7; ?>' >"$1/plain.txt"
}

make_sites() {
	want_user alice bob web
	make_key
	for front_home in "$alice_home" "$bob_home"; do
		mkdir "$front_home/www"
		site_php "$front_home/www"
	done
	head -c 22000000 /dev/urandom >"$tmp/big"
	ln "$tmp/big" "$alice_home/big"
	chown -R "$alice:" "$alice_home/www" "$alice_home"
	chown -R "$bob:" "$bob_home/www" "$bob_home"
	chmod 644 "$tmp/big"
	big_md5=$(md5sum <"$tmp/big" | cut -d ' ' -f 1)
	port=$(free_port)
	head -c 3000000 "$tmp/big" >"$tmp/part"
	chunked=$(md5_of "$tmp/part" POST)
}

# Of alice's home: what hold.php is told and tells.
go() { touch "$alice_home/go-$1"; }
has_begun() { [ -e "$alice_home/begun-$1" ]; }
is_done() { [ -e "$alice_home/done-$1" ]; }

front_zfpm() {
	{
		printf '%s\n' 'listen @sock@ group @web@ mode 0660 key @tmp@/key' "$@" 'app php {' \
		    'command /usr/bin/php-cgi' 'extensions .php' 'fork_server on' '}'
		example "$front/zfpm.conf" ${front_sed:+-e "$front_sed"}
	} | sed "s|command /usr/bin/php-cgi|& -d upload_max_filesize=64M -d post_max_size=64M -d log_errors=1|;${front_edit:-}" >"$tmp/zfpm.in"
	front_edit=
	start_zfpm <"$tmp/zfpm.in"
}

zstat() { "$zfpm" status -c "$tmp/zfpm.conf" -f json | perl "$t/unit/json.pl" "$@"; }
zstat_is() { [ "$(zstat "$1")" = "$2" ]; }

front_settled() { gone "$front_pid" || front_answers; }
front_answers() { curl -s -o "$tmp/front.null" --max-time 10 "http://127.0.0.1:$port/"; }
front_up() {
	track "$front_pid"
	if ! wait_until front_settled || gone "$front_pid"; then
		diag "the server did not start: $(cat "$tmp/front.out" "$front_log" 2>/dev/null)"
		exit 1
	fi
}

stop_front() {
	kill "-$front_stop" "$front_pid"
	wait_until gone "$front_pid" || kill -KILL "$front_pid"
	wait "$front_pid" 2>/dev/null
}

front_children() { children_of "$front_pid" | sort | tr '\n' ' '; }
front_renewed() { [ "$(front_children)" != "$front_old" ] && serves; }
renew_front() {
	front_old=$(front_children)
	kill "-$1" "$front_pid"
	wait_until front_renewed
}

lighttpd_conf() {
	mkdir -m 1777 "$tmp/uploads"
	mkdir "$tmp/empty" "$tmp/log"
	chown "$web:" "$tmp/log"
	{
		cat <<-EOF
			server.modules = ( "mod_indexfile" )
			server.document-root = "$tmp/empty"
			server.upload-dirs = ( "$tmp/uploads" )
			server.errorlog = "$tmp/log/lighttpd.log"
			server.pid-file = "$tmp/lighttpd.pid"
			server.username = "$web"
			server.groupname = "$web"
			server.bind = "127.0.0.1"
			server.port = $port
			index-file.names = ( "index.php", "index.html" )
			static-file.exclude-extensions = ( ".php" )
			mimetype.assign = ( ".txt" => "text/plain" )
		EOF
		cat
	} >"$tmp/lighttpd.conf"
}
start_lighttpd() {
	lighttpd-angel -D -f "$tmp/lighttpd.conf" >"$tmp/front.out" 2>&1 &
	front_pid=$!
	front_up
}
reload_lighttpd() {
	kill -HUP "$front_pid"
	wait_until grep -q 'graceful shutdown started' "$tmp/log/lighttpd.log"
}

front_log() { grep -aEq -e "$1" "$front_log"; }

front_curl() {
	front_host=$1 front_path=$2
	shift 2
	curl -sS --max-time 60 -H "Host: $front_host" "$@" "http://127.0.0.1:$port$front_path"
}
get() { front_curl "$@" 2>"$tmp/curl.txt"; }
code() { front_curl "$@" -o "$tmp/code.body" -w '%{http_code}' 2>"$tmp/curl.txt"; }
outcome() { front_curl "$@" -o "$tmp/outcome.body" -w '%{http_code} %{exitcode} %{size_download}' 2>"$tmp/curl.txt"; }
begin() {
	front_name=$1
	shift
	rm -f "$tmp/$front_name" "$tmp/$front_name.end"
	(front_curl "$@" -N -o "$tmp/$front_name" -w '%{http_code} %{exitcode}' >"$tmp/$front_name.new" 2>"$tmp/$front_name.txt"
	mv "$tmp/$front_name.new" "$tmp/$front_name.end") &
}
ended() { [ -e "$tmp/$1.end" ]; }
ends() { wait_until ended "$1" && cat "$tmp/$1.end"; }
md5_of() { printf '%s %s %s' "$(md5sum <"$1" | cut -d ' ' -f 1)" "$(wc -c <"$1")" "$2"; }
header() { grep -i "^$1:" "$tmp/head" | tr -d '\r'; }

check_site() {
	set -- www.example.com
	is "$(get "$1" /hello.php) $(get www.example.org /hello.php)" "hello from $alice hello from $bob" "each host's script runs as its own user"
	is "$(get "$1" "/form.php?q=1" --data-urlencode 'name=a b&c=d+ü' -d other=2)" "q=31
name=$(printf 'a b&c=d+ü' | od -An -tx1 | tr -d ' \n')
other=32" "a form comes as it was filled in"
	is "$(get "$1" '/form.php?a=%26%3D%C3%BC%2F&b=%22%27%5C%3C%7C;%25&c=+')" 'a=263dc3bc2f
b=22275c3c7c3b25
c=20' "so does a query with odd characters"
	like "$(get "$1" '/env.php?x=%2F%20;a&&=')" '^QUERY_STRING=x=%2F%20;a&&=$' "and it is not touched on the way"
	is "$(get "$1" /upload.php -F "file=@$tmp/big;filename=big.bin")" "$(md5_of "$tmp/big" big.bin)" "22 MB are uploaded in a form"
	is "$(get "$1" /upload.php -T "$tmp/big")" "$(md5_of "$tmp/big" PUT)" "22 MB are put"
	is "$(get "$1" /upload.php -X POST -T "$tmp/part" -H 'Transfer-Encoding: chunked')" "$chunked" "3 MB whose length is not told ($chunked_title)"
	is "$(get "$1" /upload.php -X POST -d '' -H 'Content-Type: x/y')" "$(md5_of /dev/null POST)" "an empty body"
	is "$(get "$1" /download.php | md5sum | cut -d ' ' -f 1)" "$big_md5" "22 MB are downloaded"
	get "$1" '/env.php/extra/p%20a?q' >"$tmp/env"
	is "$(grep -Ex 'SCRIPT_NAME=/env.php|PATH_INFO=/extra/p a|SCRIPT_FILENAME=.*/www/env.php|REQUEST_METHOD=GET|REMOTE_ADDR=127.0.0.1' "$tmp/env" |
	    sort -u | sed "s|$alice_home||")" "PATH_INFO=/extra/p a
REMOTE_ADDR=127.0.0.1
REQUEST_METHOD=GET
SCRIPT_FILENAME=/www/env.php
SCRIPT_NAME=/env.php" "what follows the script's name is PATH_INFO"
	is "$(get "$1" '/cookies.php' -b 'x=1; y=%202' -D "$tmp/head")" "x=1
y= 2" "cookies come"
	is "$(header set-cookie | sed 's/^[^:]*: //')" "first=a%20b%3Bc
second=2; HttpOnly" "and go"
	is "$(code "$1" /redirect.php -D "$tmp/head")" 302 "a redirect"
	like "$(header location)" ': (http://www.example.com(:[0-9]+)?)?/hello.php.from=redirect$' "with its address"
	is "$(code "$1" /missing.php) $(cat "$tmp/code.body")" '404 no such page, says the script' "a script's own 404, with its page"
	is "$(outcome "$1" /hello.php -I -D "$tmp/head") $(grep -ic '^content-type: text/plain' "$tmp/head")" \
	    "200 0 0 1" "HEAD: the head alone"
	is "$(get "$1" /dir/)" 'the index of dir' "a directory's index"
	is "$(code "$1" /nofile.php)" 404 "a script that is not there"
	is "$(code "$1" /nofile.txt)" 404 "nor is that file"
	if [ "$static" = yes ]; then
		is "$(get "$1" /plain.txt)" 'plain text <?php echo 6 * 7; ?>' "another file is sent as it is"
	else
		is "$(code "$1" /plain.txt)" 404 "another file is not the business of this server"
	fi
	unlike "$(get "$1" /plain.txt/x.php)" 'plain text 42' "a file with the name of a script behind it does not run"
	is "$(get "$1" /stderr.php)" 'done' "a script that writes to its standard error"
	told 'said on stderr by the script' "which is in the server's log"
	get "$1" /env.php -H 'Proxy: evil' >"$tmp/env"
	unlike "$(cat "$tmp/env")" '^[A-Z_]*ZFPM_|^HTTP_PROXY=' "neither zfpm's parameters nor HTTP_PROXY get to the script"
	unlike "$(cat "$tmp/env")" "$(cat "$key")" "nor the key"
	is "$(get "$1" '/hello.php?[1-50]' | sort | uniq -c | tr -s ' ')" " 50 hello from $alice" "50 requests of one client"
}
n_site=26

# Nothing that a client sends chooses the pool, and no tenant reads the key.
check_tenants() {
	is "$(get www.example.com /hello.php -H 'Zfpm-Pool: www.example.org' -H 'ZFPM_POOL: www.example.org' -H 'ZFPM-POOL;' \
	    -H 'ZFPM_STATUS: json' -H 'ZFPM_APP: x')" "hello from $alice" "a client's headers choose no pool"
	is "$(get www.example.com '/hello.php?ZFPM_POOL=www.example.org' -b ZFPM_POOL=www.example.org -d ZFPM_POOL=www.example.org)" \
	    "hello from $alice" "nor do its query, cookies or body"
	get no-such.example.net /hello.php >"$tmp/strange"
	fails "an unknown Host header is not the name of a pool" log_has 'no-such'
	get www.example.com '/env.php' --request-target 'http://www.example.org/env.php' >"$tmp/env"
	is "$(sed -n 's|^SCRIPT_FILENAME=.*/home/\([a-z]*\)/.*|\1|p' "$tmp/env" | sort -u)" \
	    "$(sed -n "s/^USER=$alice\$/alice/p;s/^USER=$bob\$/bob/p" "$tmp/env")" "script and user are one host's, whatever the request line says"
	cat >"$alice_home/www/peek.php" <<-'END'
		<?php
		foreach ($argv = explode(',', $_GET['files']) as $file)
			echo @file_get_contents($file) === false ? "no\n" : "$file\n";
	END
	front_files=$key
	for front_file in "$@" "/proc/$front_pid/environ" "/proc/$front_pid/mem"; do
		front_files=$front_files,$front_file
	done
	is "$(get www.example.com "/peek.php?files=$front_files" | sort -u)" no "the key is in no file that a tenant can read"
	is "$(cat /proc/[0-9]*/cmdline 2>/dev/null | grep -acFf "$key")" 0 "and in no command line"
}
n_tenants=6

check_streaming() {
	begin stream www.example.com '/hold.php?name=stream'
	passes "a script runs" wait_until has_begun stream
	passes "what it has flushed is there before it ends" wait_until grep -qs begun "$tmp/stream"
	is "$(get www.example.org /hello.php) $(get www.example.com /hello.php)" "hello from $bob hello from $alice" "others are served meanwhile"
	go stream
	is "$(ends stream)" '200 0' "it goes on to its end"
	is "$(wc -l <"$tmp/stream"),$(tail -n 1 "$tmp/stream")" '22,ended' "and its response is whole"
}
n_streaming=5

# The server's log has what zfpm tells it, where it logs that at all.
told() {
	if [ "$logs" = yes ]; then
		passes "$2" wait_until front_log "$1"
	else
		fails "$front logs nothing of it" front_log "$1"
	fi
}

check_errors() {
	# One worker, a queue of one
	front_edit='s/^	app php.*/&\n	max_workers 1\n	max_queue 1/' front_zfpm 'timeout wait 6s'
	begin first www.example.com '/hold.php?name=first'
	wait_until has_begun first
	begin second www.example.com /hello.php
	wait_until zstat_is '$j->{queue}{length}' 1
	is "$(code www.example.com /hello.php -D "$tmp/head") $(header retry-after | tr '[:upper:]' '[:lower:]')" '503 retry-after: 5' "queue full: 503, with Retry-After"
	passes "zfpm's log says so" wait_for_log 'Queue is full \(1 requests\) while waiting for FCGI process to become available'
	told 'Queue is full \(1 requests\) while waiting for FCGI process to become available' "the server's too"
	is "$(ends second)" '500 0' "a wait too long: 500"
	passes "zfpm's log says so" wait_for_log 'www.example.com.*Timeout \(6s\) exceeded while waiting for FCGI process to become available'
	told 'Timeout \(6s\) exceeded while waiting for FCGI process to become available' "the server's too"
	is "$(get www.example.org /hello.php)" "hello from $bob" "the other tenant notices nothing"
	go first
	is "$(ends first)" '200 0' "nor does the request that runs"
	is "$(zstat '$pool{"www.example.com"}{workers}{total}'),$(get www.example.com '/hello.php?[1-10]' | sort | uniq -c | tr -s ' ')" \
	    "1, 10 hello from $alice" "one worker serves what comes on all connections"

	# A script that is silent
	front_zfpm 'timeout app 2s' 'timeout kill 500ms'
	is "$(code www.example.com '/hold.php?silent&name=silent1')" 500 "a script that says nothing for too long: 500"
	passes "zfpm's log says so" wait_for_log 'Timeout \(2s\) exceeded while reading from socket \(application\)'
	told 'Timeout \(2s\) exceeded while reading from socket \(application\)' "the server's too"
	like "$(outcome www.example.com "/hold.php?buffered&name=silent2$cut_query")" "$cut" "one that falls silent in the midst: a response that is visibly cut"

	# Refusals
	front_edit='s/pool www.example.org/pool www.example.net/' front_zfpm
	is "$(code www.example.org /hello.php) $(get www.example.com /hello.php)" "500 hello from $alice" "an unknown pool: 500, and others are served"
	passes "zfpm's log names it" wait_for_log "Unknown pool 'www.example.org'"
	told "Unknown pool 'www.example.org'" "so does the server's"
	front_edit='s/extensions .php/extensions .phtml/' front_zfpm
	is "$(code www.example.com /hello.php)" 403 "a script with the wrong extension: 403"
	cp -p "$key" "$tmp/key.old"
	echo 0123456789abcdef0123456789abcdef >"$key"
	front_zfpm
	is "$(code www.example.com /hello.php)" 403 "a wrong key: 403"
	passes "zfpm's log says so" wait_for_log 'ZFPM_KEY is missing or wrong'
	cp -p "$tmp/key.old" "$key"
	front_zfpm
	is "$(get www.example.com /hello.php)" "hello from $alice" "zfpm with the right key: served again"
	stop_zfpm
	is "$(code www.example.com /hello.php)" "$down" "no zfpm: $down"
	front_zfpm
	passes "zfpm is there again: so are the sites" wait_until serves
}
n_errors=22
serves() { [ "$(get www.example.com /hello.php)" = "hello from $alice" ]; }

check_deaths() {
	rm -f "$alice_home/deaths"
	is "$(code www.example.com '/die.php?after=0')" "$lost" "a worker is killed before the response: $lost"
	passes "zfpm's log names the signal" wait_for_log 'FCGI process [0-9]+ exited on signal 9 \(SIGKILL\)'
	told 'FCGI process [0-9]+ exited on signal 9 \(SIGKILL\)' "so does the server's"
	like "$(outcome www.example.com "/die.php?after=20000$cut_query")" "$cut" "one is killed in the midst of it: visibly cut"
	is "$(wc -l <"$alice_home/deaths")" 2 "no script has run twice"
	is "$(get www.example.com /hello.php) $(get www.example.org /hello.php)" "hello from $alice hello from $bob" "both sites go on"
}
n_deaths=6

check_restart() {
	begin reload www.example.com "/hold.php?name=reload$reload_query"
	wait_until has_begun reload
	reload_front
	[ "$reload_waits" = no ] || go reload
	passes "after a reload it serves" wait_until serves
	go reload
	is "$(ends reload)" '200 0' "the client of a script that was running has its response"
	passes "which has come to its end" wait_until is_done reload
	begin restart www.example.com '/hold.php?name=restart'
	wait_until has_begun restart
	stop_front
	start_front
	is "$(get www.example.com /hello.php)" "hello from $alice" "after a stop and a start it serves"
	isnt "$(ends restart)" '200 0' "the client of a script that was running has lost it"
	fails "but the script runs" is_done restart
	go restart
	passes "and comes to its end" wait_until is_done restart
}
n_restart=7

check_leaving() {
	begin leaving www.example.com '/hold.php?name=leaving' --max-time 600
	front_left=$!
	wait_until has_begun leaving
	wait_until grep -qs begun "$tmp/leaving"
	for front_p in $(children_of "$front_left"); do
		kill "$front_p"
	done
	go leaving
	passes "the client leaves: its worker is free again" wait_until zstat_is '$pool{"www.example.com"}{workers}{busy}' 0
	passes "the script has come to its end" wait_until is_done leaving
}
n_leaving=2

check_kept() {
	front_before=$(zstat '$j->{connections_accepted}')
	for front_i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		get www.example.com /hello.php
	done >"$tmp/twenty"
	front_opened=$(($(zstat '$j->{connections_accepted}') - front_before))
	is "$(sort "$tmp/twenty" | uniq -c | tr -s ' ')" " 20 hello from $alice" "20 clients are served"
	if [ "$keeps" = yes ]; then
		passes "over few connections to zfpm ($front_opened)" test "$front_opened" -le 5
		isnt "$(zstat '$j->{connections}')" 0 "which stay open"
		is "$(zstat '$j->{workers}{busy}')" 0 "and hold no worker"
	else
		passes "over a connection to zfpm each ($front_opened)" test "$front_opened" -ge 20
		passes "which is closed behind the request" wait_until zstat_is '$j->{connections}' 0
		is "$(zstat '$j->{workers}{busy}')" 0 "and holds no worker"
	fi
}
n_kept=4

check_all() {
	check_site
	check_tenants "$@"
	check_streaming
	check_kept
	check_errors
	check_deaths
	check_restart
	check_leaving
}
n_all=$((n_site + n_tenants + n_streaming + n_kept + n_errors + n_deaths + n_restart + n_leaving))
