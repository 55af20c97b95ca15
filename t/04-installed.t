#!/bin/sh
# What make install has installed runs with the example configuration once the users' names are put in.
. "${0%/*}/lib.sh"
if ! command -v php-cgi >/dev/null || ! getent group www-data >/dev/null; then
	skip_all "the example wants /usr/bin/php-cgi and the group www-data"
fi
plan 15
unset MAKEFLAGS MFLAGS

make_user user
had_user=no
! id zfpm >/dev/null 2>&1 || had_user=yes

mkdir "$tmp/src"
cp -Rp "$top"/Makefile "$top"/*.[cho] "$top/zfpm" "$top/zfpm.conf.example" "$top/man" "$top/dist" "$top/examples" "$tmp/src"
cp -p "$top/zfpm-forkserver.so" "$tmp/src"
cp -p "$top/mod_zfpm.so" "$tmp/src" 2>/dev/null
cp -p "$zfpm" "$tmp/src/zfpm"
# Locked: it makes a user, and other tests do too. Nothing goes into this machine's Apache.
lib_locked make -C "$tmp/src" install PREFIX="$tmp/usr" sysconfdir="$tmp/etc" APXS=/nonexistent/apxs >"$tmp/make.txt" 2>&1
ok $? "make install" || diag "$(cat "$tmp/make.txt")"
router_user=$(getent passwd zfpm)
isnt "$router_user" '' "the router's user is there"
# One that was here before stays; ours goes with the test's other users.
[ "$had_user" = yes ] || lib_users="$lib_users zfpm"
like "$router_user" ':/usr/sbin/nologin$' "nobody can log in with it"
installed=$tmp/usr/sbin/zfpm conf=$tmp/etc/zfpm/zfpm.conf

"$installed" -t -c "$conf" >"$tmp/out" 2>"$tmp/check.txt"
is "$?" 1 "the example does not pass before the names are put in"
like "$(cat "$tmp/check.txt")" "user: 'alice' is unknown" "which is what is said"
# It was not made for this PREFIX.
library=$tmp/usr/lib/zfpm/zfpm-forkserver.so
sed -i "s/user alice/user $user/; s|/run/zfpm/zfpm.sock|$sock|; s|^# log_level .*|run_dir $tmp/run|
    s|^# log syslog.*|fork_server_library $library|" "$conf"
"$installed" -t -c "$conf" >"$tmp/out" 2>"$tmp/check.txt"
is "$? $(cat "$tmp/check.txt")" '0 ' "with a user's name it passes without a warning"

"$installed" -c "$conf" </dev/null 2>"$tmp/zfpm.log" &
zfpm_pid=$!
cp "$conf" "$tmp/zfpm.conf"
wait_until zfpm_settled
fails "it runs" gone "$zfpm_pid"
is "$(ps -o user= -p "$(router_pid)")" zfpm "the router runs as zfpm"

echo '<?php echo "I am ", posix_getuid(), PHP_EOL;' >"$user_home/i.php"
chmod 755 "$user_home"
key=@$tmp/etc/zfpm/key
like "$(request alice.example.com -k "$key" -O -p SCRIPT_FILENAME="$user_home/i.php")" "^I am $(id -u "$user")\$" \
    "with the key that was made a script is run, under the user"
server=$(children_of "$zfpm_pid" | while read -r p; do ps -o pid=,args= -p "$p"; done | sed -n 's/^ *\([0-9]*\) .*php-cgi.*/\1/p')
is "$(ps -o user:32= -p "$server" | tr -d ' ') $(children_of "$server" | grep -c .)" "$user 1" "PHP is an app server, under the user, with a worker"
like "$(request alice.example.com -p SCRIPT_FILENAME="$user_home/i.php" 2>"$tmp/stderr")" '^Status: 403' \
    "without it, it is not"
cp "$user_home/i.php" "$user_home/i.jpg"
like "$(request alice.example.com -k "$key" -p SCRIPT_FILENAME="$user_home/i.jpg" 2>"$tmp/stderr")" '^Status: 403' \
    "nor is a file that is no script"
is "$(stat -c '%a %G' "$sock")" '660 www-data' "the web server's group may connect"

if command -v systemd-analyze >/dev/null; then
	systemd-analyze verify "$tmp/usr/lib/systemd/system/zfpm.service" 2>&1 | grep 'zfpm.service' | grep -v "'man " >"$tmp/verify.txt"
	is "$(cat "$tmp/verify.txt")" '' "systemd finds nothing wrong with the unit"
else
	skip 1 "no systemd-analyze"
fi

stop_zfpm TERM
lib_locked make -C "$tmp/src" uninstall PREFIX="$tmp/usr" sysconfdir="$tmp/etc" APXS=/nonexistent/apxs >"$tmp/make.txt" 2>&1
is "$(find "$tmp/usr" -type f)" '' "make uninstall takes the files away"
