#!/bin/sh
# When the client leaves, PHP's own ignore_user_abort decides, whatever the protocol and the MPM, and be it that the client
# never meant to stay; a request that still waits for a worker is not run at all.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 34

make_user alice
want_user web
make_key
site a.test "${alice:?}"
site one.test "$alice"
start_zfpm <<-'EOF'
	listen @sock@ group @web@ mode 0660 key @tmp@/key
	app php {
		command /usr/bin/php-cgi
		extensions .php
	}
	app app {
		command @bin@/app
	}
	pool a.test {
		user @alice@
		app php app
		max_workers 10
	}
	pool one.test {
		user @alice@
		app app
		max_workers 1
	}
EOF
# Talks until it is stopped, or until it is told that it has talked enough.
cat >"$tmp/www/a.test/talk.php" <<-\EOF
	<?php
	ignore_user_abort((bool)$_GET['ignore']);
	while (ob_get_level())
		ob_end_clean();
	register_shutdown_function(function () { file_put_contents($_GET['note'] . '.end', connection_status()); });
	touch($_GET['note'] . '.begun');
	while (!file_exists($_GET['note'] . '.enough')) {
		echo "talk\n";
		flush();
		usleep(2000);
	}
	touch($_GET['note'] . '.whole');
EOF
# Says nothing before it is told to.
cat >"$tmp/www/a.test/silent.php" <<-\EOF
	<?php
	ignore_user_abort((bool)$_GET['ignore']);
	touch($_GET['note'] . '.begun');
	while (!file_exists($_GET['note'] . '.enough'))
		usleep(2000);
	echo "now\n";
	while (ob_get_level())
		ob_end_clean();
	flush();
	touch($_GET['note'] . '.whole');
EOF
# For nobody
cat >"$tmp/www/a.test/background.php" <<-\EOF
	<?php
	ignore_user_abort(true);
	touch($_GET['note']);
EOF
touch "$tmp/www/one.test/x.app"
mkdir -m 1777 "$tmp/notes"

# A request whose answer nobody wants, as programs start work in the background with it: sent, and closed.
send_and_close() {
	perl -MIO::Socket::INET -e '
		my $s = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die;
		syswrite $s, "GET $ARGV[2] HTTP/1.1\r\nHost: $ARGV[1]\r\nConnection: close\r\n\r\n"' "$port" "$@"
}
left() { [ "$(count_errors 'the client left before the end')" -gt "$before" ]; }

for mpm in event prefork; do
	start_httpd $mpm <<-EOF
		LogLevel zfpm:info
		AddHandler zfpm:app .app
		StartServers 3
		<IfModule !mpm_prefork_module>
		LoadModule http2_module @modules@/mod_http2.so
		Protocols h2c http/1.1
		</IfModule>
		$(vhost a.test '<Location /zfpm-status>' 'SetHandler zfpm-status' '</Location>')
		$(vhost one.test)
	EOF
	versions=http1.1
	[ $mpm = prefork ] || versions='http1.1 http2-prior-knowledge'
	for v in $versions; do
		for script in talk silent; do
			for ignore in 0 1; do
				note=$tmp/notes/$mpm.$v.$script.$ignore
				what="$mpm, ${v%-prior*}, $script"
				before=$(count_errors 'the client left before the end')
				get_exec a.test "/$script.php?ignore=$ignore&note=$note" "--$v" -N >"$tmp/out" 2>"$tmp/curl.txt" &
				client=$!
				track $client
				wait_until test -e "$note.begun"
				[ $script = silent ] || wait_until grep -q talk "$tmp/out"
				kill -KILL $client
				passes "$what: it is noticed that the client leaves" wait_until left
				if [ "$script$ignore" = talk0 ]; then
					passes "$what: the script is stopped" wait_until test -s "$note.end"
					is "$(cat "$note.end")$(ls "$note.whole" 2>/dev/null)" 1 "$what: in its midst"
				elif [ "$script$ignore" = talk1 ]; then
					touch "$note.enough"
					passes "$what: with ignore_user_abort it goes on to its end" wait_until test -e "$note.whole"
				elif [ "$script$ignore" = silent1 ]; then
					touch "$note.enough"
					passes "$what: with ignore_user_abort one that is silent too" wait_until test -e "$note.whole"
				else
					touch "$note.enough"
				fi
			done
		done
	done

	run=0
	for i in 1 2 3 4 5; do
		send_and_close a.test "/background.php?note=$tmp/notes/$mpm.background.$i"
		wait_until test -e "$tmp/notes/$mpm.background.$i" || break
		run=$i
	done
	is "$run" 5 "$mpm: requests whose client closes as soon as they are sent are run"

	# The whole body is there after 1.2 s, END_REQUEST 0.4 s later.
	before=$(count_errors 'the client left before the end')
	get one.test '/x.app?header=Content-Length:%203000&out=3000&record=1000&pause=400' >"$tmp/whole"
	is "$(wc -c <"$tmp/whole")" 3000 "$mpm: a client that closes when it has all that was promised"
	get one.test /x.app?show=X >"$tmp/whole"
	fails "$mpm: has not left before the end" left

	# One worker, which is busy: the next request waits.
	get_exec one.test "/x.app?at=headers&note=$tmp/notes/$mpm.held&out=6000&record=1000&pause=500" >"$tmp/held" &
	held=$!
	wait_until test -s "$tmp/notes/$mpm.held"
	before=$(count_errors 'the client left before the end')
	get_exec one.test "/x.app?at=start&note=$tmp/notes/$mpm.waits" >"$tmp/out" &
	client=$!
	track $client
	queued() { get a.test '/zfpm-status?json' | grep -q '"queue":{"length":1'; }
	wait_until queued
	kill -KILL $client
	passes "$mpm: a client that leaves while its request waits is noticed" wait_until left
	wait $held
	fails "$mpm: the request has not been run" test -e "$tmp/notes/$mpm.waits"
	stop_httpd
done
