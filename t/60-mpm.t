#!/bin/sh
# Each virtual host's scripts run under its own user, whatever MPM serves.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 33

tenants
for h in a.test b.test; do
	cat >"$tmp/www/$h/who.php" <<-\EOF
		<?php
		$pw = posix_getpwuid(posix_geteuid());
		echo $pw['name'], ' ', $_SERVER['SERVER_NAME'], ' ', join(',', posix_getgroups()), "\n";
	EOF
done

answers() { [ "$(sort "$1" | uniq -c | awk '{ print $1, $2 }' | tr '\n' ' ')" = "20 $alice 20 $bob " ]; }

for mpm in event worker prefork; do
	start_httpd "$mpm" <<-EOF
		StartServers 2
		ServerLimit 4
		<IfModule !mpm_prefork_module>
		ThreadsPerChild 4
		</IfModule>
		MaxRequestWorkers 4
		$(vhost a.test)
		$(vhost b.test)
	EOF
	is "$(get a.test /who.php)" "$alice a.test $(id -G "$alice" | tr ' ' ',')" "$mpm: a script of the first host runs as its user"
	is "$(get b.test /who.php)" "$bob b.test $(id -G "$bob" | tr ' ' ',')" "$mpm: one of the second as the other"
	is "$(code a.test /missing.php)" 404 "$mpm: a script that does not exist is 404"
	fails "$mpm: and zfpm has not been asked" log_has 'missing\.php'

	i=0
	while [ $i -lt 40 ]; do
		[ $((i % 2)) = 0 ] && h=a.test || h=b.test
		printf '%s\n' "url = \"http://127.0.0.1:$port/who.php?$i\"" "header = \"Host: $h\"" next
		i=$((i + 1))
	done | sed '$d' >"$tmp/curlrc"
	pids=
	for n in 1 2 3 4; do
		curl -s --max-time 60 -K "$tmp/curlrc" >"$tmp/out.$n" &
		pids="$pids $!"
	done
	# shellcheck disable=SC2086
	wait $pids
	for n in 1 2 3 4; do
		cut -d ' ' -f 1 "$tmp/out.$n" >"$tmp/who.$n"
		passes "$mpm: 40 requests in turn to both hosts, client $n of 4 at a time" answers "$tmp/who.$n"
	done

	passes "$mpm: a graceful restart" graceful_httpd
	is "$(get a.test /who.php | cut -d ' ' -f 1)" "$alice" "$mpm: and the new processes serve"
	fails "$mpm: no error is logged" errors 'Connection to FastCGI|Cannot connect|exit signal'
	stop_httpd
done
