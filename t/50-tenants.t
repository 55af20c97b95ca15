#!/bin/sh
# Two tenants with PHP: each script is its own user, and reaches neither files nor sockets nor processes of the other.
. "${0%/*}/lib.sh"
if ! command -v php-cgi >/dev/null; then
	skip_all "no php-cgi"
fi
plan 21

make_user alice
make_user bob
for u in alice bob; do
	eval "name=\$$u home=\$${u}_home"
	mkdir "$home/www"
	echo "secret of $u" >"$home/secret"
	cat >"$home/www/id.php" <<-\END
		<?php
		header('Content-Type: text/plain');
		echo 'uid=', posix_getuid(), ' euid=', posix_geteuid(), ' gid=', posix_getgid(), ' egid=', posix_getegid(),
		    ' groups=', implode(',', posix_getgroups()), "\n", 'id: ', shell_exec('id -u'), 'pid=', getmypid(), "\n";
	END
	cat >"$home/www/try.php" <<-\END
		<?php
		header('Content-Type: text/plain');
		function try_it($what, $result) {
		    echo $what, ': ', $result ? 'yes' : 'no: ' . (error_get_last()['message'] ?? ''), "\n";
		    error_clear_last();
		}
		$socket = fn($path) => @stream_socket_client("unix://$path", $errno, $error, 2) ?: (@trigger_error($error) && false);
		try_it('read', @file_get_contents($_GET['file']));
		try_it('write', @file_put_contents($_GET['file'], 'x'));
		try_it('list', @scandir(dirname($_GET['file'])));
		try_it('zfpm', $socket($_GET['sock']));
		try_it('worker', $socket($_GET['worker']));
		try_it('apps', @scandir(dirname($_GET['worker'])));
		try_it('kill', posix_kill((int)$_GET['pid'], 0));
		try_it('setuid', posix_setuid((int)$_GET['uid']));
		try_it('environ', @file_get_contents("/proc/$_GET[pid]/environ"));
		try_it('own', @file_get_contents($_GET['own']));
	END
	chown -R "$name:" "$home"
	chmod 700 "$home" "$home/www"
	chmod 600 "$home/secret" "$home/www"/*
done
start_zfpm <<-END
	app php { command $(readlink -f "$(command -v php-cgi)") }
	pool alice {
		user @alice@
		app php
	}
	pool bob {
		user @bob@
		app php
	}
END

php() {	# POOL SCRIPT [OPTION...]
	pool=$1 script=$2
	shift 2
	request "$pool" -p SCRIPT_FILENAME="$script" -p SCRIPT_NAME=/x.php -p REDIRECT_STATUS=200 -O "$@" 2>"$tmp/stderr"
}

for u in alice bob; do
	eval "name=\$$u home=\$${u}_home"
	out=$(php "$u" "$home/www/id.php")
	i=$(id -u "$name") g=$(id -g "$name")
	like "$out" "^uid=$i euid=$i gid=$g egid=$g groups=$g\$" "the script of $u runs under the ids of $u"
	like "$out" "^id: $i\$" "and so does what it starts"
	eval "${u}_pid=\$(printf '%s\n' \"\$out\" | sed -n 's/^pid=//p')"
done
isnt "$alice_pid" "$bob_pid" "they are two processes"

for u in alice:bob bob:alice; do
	eval "home=\$${u#*:}_home own=\$${u%:*}_home pid=\$${u#*:}_pid name=\$${u#*:}"
	# Alice's worker was the first, bob's the second.
	for socket in "$tmp/run/apps"/w*; do
		[ "${u#*:}" = bob ] || break
	done
	php "${u%:*}" "$own/www/try.php" "file=$home/secret" "own=$own/secret" "sock=$sock" "worker=$socket" "pid=$pid" \
	    "uid=$(id -u "$name")" >"$tmp/try" 2>"$tmp/try.txt"
	out=$(cat "$tmp/try")
	is "$(grep -c ': no' "$tmp/try")" 9 "${u%:*} can do nothing to ${u#*:}" || diag "$out" "$(cat "$tmp/try.txt")"
	like "$out" '^own: yes' "but read a file of its own"
	like "$out" '^read: no.*Permission denied' "it can not read the other's file"
	like "$out" '^zfpm: no.*Permission denied' "nor connect to zfpm's socket, to name another pool"
	like "$out" '^worker: no.*Permission denied' "nor to a worker's"
	like "$out" '^kill: no' "nor signal the other's process"
	like "$out" '^setuid: no' "nor become the other"
done
is "$(php alice "$bob_home/www/id.php" | grep -c '^uid=')" 0 "a script of bob's does not run for alice"
is "$(php alice "$alice_home/www/id.php" | sed -n 's/^pid=//p')" "$alice_pid" "alice's process is still the same"
