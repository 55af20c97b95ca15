#!/bin/sh
# Apache may be restarted, stopped and killed: a script that is running completes its work, in the same process, and
# serves the next request.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 20

tenants
# Writes all the time: it would be stopped at its next write if it were told that nobody listens.
cat >"$tmp/www/a.test/work.php" <<-\EOF
	<?php
	while (ob_get_level())
		ob_end_clean();
	touch($_GET['note'] . '.begun');
	for ($i = 0; $i < 20; $i++) {
		echo str_repeat('x', 10000), "\n";
		flush();
		usleep(100000);
	}
	file_put_contents($_GET['note'], getmypid());
EOF
echo '<?php echo getmypid();' >"$tmp/www/a.test/pid.php"
mkdir -m 1777 "$tmp/notes"

for how in graceful restart stop kill; do
	start_httpd event <<-EOF
		$(vhost a.test)
	EOF
	worker=$(get a.test /pid.php)
	get a.test "/work.php?note=$tmp/notes/$how" >"$tmp/out" 2>"$tmp/curl.txt" &
	client=$!
	passes "$how: a script runs" wait_until test -e "$tmp/notes/$how.begun"
	case $how in
	graceful) graceful_httpd ;;
	restart) restart_httpd ;;
	stop) stop_httpd ;;
	kill)
		children=$(httpd_children)
		kill -KILL "$httpd_pid"
		# shellcheck disable=SC2086
		kill -KILL $children
		wait "$httpd_pid" 2>"$tmp/wait.txt"
		httpd_pid=
		;;
	esac
	ok $? "$how"
	passes "$how: the script completes" wait_until test -s "$tmp/notes/$how"
	is "$(cat "$tmp/notes/$how")" "$worker" "$how: in the process that began it"
	wait "$client"
	status=$?
	if [ $how = graceful ]; then
		is "$status $(wc -c <"$tmp/out")" "0 200020" "$how: and its client has the whole of it"
	else
		[ -n "$httpd_pid" ] || start_httpd event <<-EOF
			$(vhost a.test)
		EOF
		is "$(get a.test /pid.php)" "$worker" "$how: which serves the next request"
	fi
done
