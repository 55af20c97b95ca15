#!/bin/sh
# PHP 7.4, 8.2 and 8.4 serve side by side, with and without fork server: in a pool each, and in one pool, where the
# tenant chooses by .htaccess, of the pool's apps and no others. Each has what is its own, OPcache too, and what happens
# to one version leaves the workers of the others alone. Also a PHP of another Debian, by its own loader and in a chroot.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
. "${0%/*}/php-versions.sh"
plan 88

want_user alice bob web
make_key
www=${alice_home:?}/www old=${bob_home:?}/old shop=$bob_home/shop new=$bob_home/new
tree=$tmp/php-7.4
attic=$tree$bob_home/attic
notes=$tmp/notes
mkdir -p "$www/next/back" "$www/htaccess" "$www/files" "$www/all" "$www/unknown" "$www/handler" "$old/newer" "$shop" "$new" "$attic"
mkdir -m 1777 "$notes"

# ---- the sites ------------------------------------------------------------------------------

cat >"$tmp/who.php" <<-\END
	<?php
	usleep(1000 * ($_GET['ms'] ?? 0));
	echo PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION, ' ', posix_getpwuid(posix_geteuid())['name'], ' ', getmypid(), "\n";
END
# Until all three versions are here
cat >"$tmp/meet.php" <<-END
	<?php
	touch('$notes/meet.' . PHP_VERSION);
	for (\$i = 0; count(glob('$notes/meet.*')) < 3 && \$i < 1500; \$i++)
		usleep(20000);
	echo count(glob('$notes/meet.*')), ' ', PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION, "\n";
END
cat >"$tmp/opcache.php" <<-END
	<?php
	\$file = '$www/common.php';
	\$hits = function () use (\$file) { return opcache_get_status()['scripts'][\$file]['hits'] ?? 'none'; };
	echo 'before ', \$hits();
	require \$file;
	echo ' after ', \$hits(), "\n";
	flush();
	if (isset(\$_GET['hold']))
		for (touch('$notes/hold'), \$i = 0; file_exists('$notes/hold') && \$i < 1500; \$i++)
			usleep(20000);
END
echo '<?php function common() { return 1; }' >"$www/common.php"
cat >"$tmp/die.php" <<-END
	<?php
	if (isset(\$_GET['begun'])) {
		echo str_repeat('begun ', 5000);
		flush();
		for (\$i = 0; !file_exists('$notes/begun') && \$i < 1500; \$i++)	// until the client has some of it
			usleep(20000);
	}
	posix_kill(getmypid(), 9);
END
cat >"$tmp/tree.php" <<-\END
	<?php
	echo PHP_VERSION[0], ' ', posix_getpwuid(posix_geteuid())['name'] ?? 'unknown', ' ', bin2hex((string)iconv('UTF-8', 'ISO-8859-15', "\u{20ac}")), ' ',
	    (int)(opcache_get_status() !== false), ' ', trim(shell_exec('id -un 2>&1; env | grep -c -e LD_')), "\n";
END
cat >"$tmp/jail.php" <<-END
	<?php
	echo PHP_VERSION[0], ' ', posix_geteuid(), ' ', __FILE__, ' ', \$_SERVER['DOCUMENT_ROOT'], ' ', (int)file_exists('$tmp/zfpm.conf'), ' ',
	    php_ini_loaded_file(), "\n";
END
for d in "$www" "$www/next" "$www/next/back" "$www/htaccess" "$www/files" "$www/all" "$www/unknown" "$www/handler" "$old" "$old/newer" "$shop" "$new"; do
	cp "$tmp/who.php" "$tmp/meet.php" "$tmp/opcache.php" "$tmp/die.php" "$d"
done
cp "$www/files/who.php" "$www/files/old.php"
cp "$tmp/tree.php" "$www"
cp "$tmp/jail.php" "$attic"
echo 'h1 { color: red }' >"$www/all/style.css"
echo 'ZfpmApp php7.4' >"$www/htaccess/.htaccess"
echo 'ZfpmApp php7.4' >"$www/next/back/.htaccess"
printf '%s\n' '<Files old.php>' 'SetHandler zfpm:php7.4' '</Files>' >"$www/files/.htaccess"
printf '%s\n' 'ZfpmApp php8.4' '<FilesMatch "\.php$">' 'SetHandler zfpm:php7.4' '</FilesMatch>' >"$www/all/.htaccess"
echo 'ZfpmApp php5.6' >"$www/unknown/.htaccess"
printf '%s\n' '<Files who.php>' 'SetHandler zfpm:php9' '</Files>' >"$www/handler/.htaccess"
echo 'ZfpmApp php8.4' >"$old/newer/.htaccess"
chown -R "${alice:?}:" "$alice_home"
chown -R "${bob:?}:" "$bob_home" "$attic"
# OPcache takes no file that is younger than two seconds.
find "$www" "$old" "$shop" "$new" -name '*.php' -exec touch -t 202001010000 {} +

multiarch=$(cd "$tree/usr/lib" && echo *-linux-gnu*)
loader=$(cd "$tree/usr/lib/$multiarch" && echo ld-2*.so)
# tree.conf and chroot.conf as they are for this tree and this processor
in_tree() {
	file=$1
	shift
	example "$file" -e "s|/srv/php7\.4|$tree|g;s|x86_64-linux-gnu|$multiarch|g;s|ld-2\.31\.so|$loader|g" "$@"
}
# configure on|off [SED OPTION...]: zfpm.conf, its apps with or without a fork server
configure() {
	mode=$1
	shift
	{
		echo 'listen @sock@ group @web@ mode 0660 key @tmp@/key'
		echo 'timeout idle 10m'		# the test looks for workers that it has seen before
		example php-versions/zfpm.conf "$@" -f "$tmp/php.sed" -e "s|fork_server on|fork_server $mode|"
		in_tree php-versions/tree.conf -e "s|app php7\.4|app php7.4-tree|;s|fork_server on|fork_server $mode|"
		in_tree php-versions/chroot.conf -e "s|fork_server on|fork_server $mode|"
		printf '%s\n' 'pool tree {' 'user @alice@' 'app php7.4-tree' '}'
	} >"$tmp/z"
}
mkdir -p "$tree$bin"
cp "$bin/zfpm-forkserver.so" "$tree$bin"

{
	sed -n '/^<FilesMatch/,/^<.FilesMatch/p' "$top/dist/zfpm.apache.conf"
	example php-versions/apache.conf
	in_tree php-versions/chroot.apache.conf
	printf '%s\n' '<VirtualHost *:@port@>' 'ServerName tree' "DocumentRoot $www" '</VirtualHost>'
} >"$tmp/sites"

who() { get "$1.example.com" "$2" | cut -d ' ' -f 1,2; }
pid() { get "$1.example.com" "$2" | cut -d ' ' -f 3; }
# A worker of each version in each pool, noted, and which of the noted ones have gone since: "old/who new/who "
note() {
	for p in old/who shop/who new/who www/who www/htaccess/who www/next/who; do
		echo "$p $(pid "${p%%/*}" "/${p#*/}.php")"
	done >"$tmp/noted"
}
left() {
	while read -r name noted; do
		! gone "$noted" || printf '%s ' "$name"
	done <"$tmp/noted"
}
have_left() { [ "$(left)" = "$1" ]; }
control() { "$zfpm" "$@" -c "$tmp/zfpm.conf" >>"$tmp/control" 2>&1; }
refused() {
	was=$(count_errors "$3")
	is "$(code "$1.example.com" "$2")" 500 "$4"
	passes "and the error log says so" errors_at_least $((was + 1)) "$3"
}

started=
for mode in off on; do
	how="fork_server $mode"
	configure "$mode"
	start_zfpm <"$tmp/z"
	[ -n "$started" ] || start_httpd <"$tmp/sites"
	started=1
	rm -f "$notes"/*

	# ---- who serves what ----------------------------------------------------------------

	is "$(who old /who.php)" "7.4 $bob" "$how: a pool with PHP 7.4, under its user"
	is "$(who shop /who.php)" "8.2 $bob" "one with 8.2"
	is "$(who new /who.php)" "8.4 $bob" "and one with 8.4"
	is "$(who www /who.php)" "8.2 $alice" "of a pool with all three the first is the default"
	is "$(who www /next/who.php)" "8.4 $alice" "another one by ZfpmApp in <Directory>"
	is "$(who www /htaccess/who.php)" "7.4 $alice" "or by ZfpmApp in .htaccess"
	is "$(who www /next/back/who.php)" "7.4 $alice" "which goes before a <Directory> above"
	is "$(who www /files/old.php) $(who www /files/who.php)" "7.4 $alice 8.2 $alice" "or by SetHandler in .htaccess, for one file"
	is "$(who www /all/who.php)" "7.4 $alice" "or for all, which goes before ZfpmApp"
	is "$(get www.example.com /all/style.css)" 'h1 { color: red }' "other files are what they were"

	# ---- within the pool's list ------------------------------------------------------------

	note
	refused www /unknown/who.php "stderr: Unknown application 'php5\.6' in pool 'www\.example\.com'" "$how: an app that nobody has is refused"
	refused www /handler/who.php "stderr: Unknown application 'php9' in pool 'www\.example\.com'" "by SetHandler too"
	refused old /newer/who.php "stderr: Unknown application 'php8\.4' in pool 'old\.example\.com'" "and one that other pools have"
	is "$(left)" '' "and nobody's worker minds"

	# ---- at the same time --------------------------------------------------------------------

	jobs=
	for p in meet next/meet htaccess/meet; do
		get www.example.com "/$p.php" >"$tmp/met.$(echo "$p" | tr -d /)" &
		jobs="$jobs $!"
	done
	# shellcheck disable=SC2086 # a list of words
	wait $jobs
	is "$(sort "$tmp"/met.* | tr '\n' ' ')" '3 7.4 3 8.2 3 8.4 ' "$how: the three versions run scripts of one pool at the same time"
	jobs=
	for p in 'old /who' 'shop /who' 'new /who' 'www /who' 'www /htaccess/who' 'www /next/who'; do
		get "${p% *}.example.com" "${p#* }.php?ms=[1-30]" >"$tmp/load.$(echo "$p" | tr -d ' /')" &
		jobs="$jobs $!"
	done
	# shellcheck disable=SC2086
	wait $jobs
	is "$(for f in "$tmp"/load.*; do cut -d ' ' -f 1,2 "$f" | sort | uniq -c; done | sed 's/^ *//' | sort)" \
	    "$(printf '%s\n' "30 7.4 $alice" "30 7.4 $bob" "30 8.2 $alice" "30 8.2 $bob" "30 8.4 $alice" "30 8.4 $bob" | sort)" \
	    "of six clients at a time each gets its version, all the time"
	rm -f "$tmp"/load.*

	# ---- OPcache ---------------------------------------------------------------------------

	control retire www.example.com
	get www.example.com '/opcache.php?hold' >"$tmp/held" &
	held=$!
	passes "$how: a script is compiled" wait_until test -e "$notes/hold"
	get www.example.com /opcache.php >"$tmp/second"
	get www.example.com /next/opcache.php >"$tmp/next"
	get www.example.com /htaccess/opcache.php >"$tmp/htaccess"
	get shop.example.com /opcache.php >"$tmp/shop"
	rm "$notes/hold"
	wait "$held"
	like "$(cat "$tmp/held")" '^before none after [0-9]' "OPcache has it then"
	if [ "$mode" = on ]; then
		like "$(cat "$tmp/second")" '^before [0-9]+ after [0-9]' "the pool's next worker has it there"
	else
		like "$(cat "$tmp/second")" '^before none after [0-9]' "another process without fork server has a memory of its own"
	fi
	is "$(cut -d ' ' -f 1,2 "$tmp/next" "$tmp/htaccess" | tr '\n' ' ')" 'before none before none ' "the other versions of the pool do not"
	like "$(cat "$tmp/shop")" '^before none' "nor does the same version in another pool"
	like "$(get www.example.com /next/opcache.php)" '^before [0-9]+' "each has it from its own the next time"

	# ---- one version dies ----------------------------------------------------------------------

	note
	is "$(code www.example.com /next/die.php)" 500 "$how: a script whose process is killed is a 500"
	passes "the error log has the signal" errors 'exited on signal 9 \(SIGKILL\)'
	: >"$tmp/cut"
	get_exec www.example.com '/next/die.php?begun' -N >"$tmp/cut" 2>"$tmp/cut.err" &
	cut=$!
	wait_until grep -q begun "$tmp/cut"
	touch "$notes/begun"
	wait "$cut"
	is "$?" 18 "when it has begun its response is visibly cut"
	is "$(who www /next/who.php) $(left)" "8.4 $alice www/next/who " "another worker serves then, and those of the other versions are what they were"

	# ---- one version changes -------------------------------------------------------------------

	note
	configure "$mode" -e "/^[[:space:]]*command .*php-cgi8\.4/s|\$| -d memory_limit=99M|"
	make_conf "$tmp/zfpm.conf" <"$tmp/z"
	passes "$how: a reload with another command for PHP 8.4" control reload
	passes "replaces its workers" wait_until have_left 'new/who www/next/who '
	is "$(who new /who.php) $(who www /who.php) $(left)" "8.4 $bob 8.2 $alice new/who www/next/who " "and no others, not in the same pool either"
	note
	passes "'zfpm retire' of one pool" control retire new.example.com
	passes "replaces the pool's workers" wait_until have_left 'new/who '
	is "$(who new /who.php) $(left)" "8.4 $bob new/who " "and no others"
	if [ "$mode" = on ]; then
		note
		sed 's/^memory_limit = .*/memory_limit = 88M/' "$tree/etc/php/7.4/cgi/php.ini" >"$tmp/php.ini"
		mv "$tmp/php.ini" "$tree/etc/php/7.4/cgi/php.ini"
		passes "$how: when a php.ini that is watched changes, its version is replaced in all pools, and no other" \
		    wait_until have_left 'old/who www/htaccess/who '
		is "$(who old /who.php) $(left)" "7.4 $bob old/who www/htaccess/who " "and serves on"
	fi

	# ---- a PHP of another Debian ------------------------------------------------------------------

	is "$(get tree /tree.php)" "7 $alice a4 1 $alice
0" "$how: PHP in a tree, by its own loader, knows the machine's users and programs, and has its own modules"
	is "$(get attic.example.com /jail.php)" "7 $(id -u "$bob") $bob_home/attic/jail.php $bob_home/attic 0 /etc/php/7.4/cgi/php.ini" \
	    "PHP in a chroot sees the tree alone, its files under the names of there"

	# ---- how they run ---------------------------------------------------------------------------------

	for p in 'old 7.4' 'shop 8.2' 'new 8.4'; do
		grep -q "pool ${p% *}\.example\.com: app server [0-9]*: ready" "$tmp/zfpm.log"
		is "$?" "$([ "$mode" = on ] && echo 0 || echo 1)" "$how: PHP ${p#* } has $([ "$mode" = on ] && echo an || echo no) app server"
	done
done

# ---- one version is not there --------------------------------------------------------------------

configure on -e 's|php-cgi7\.4|php-cgi7.3|'
make_conf "$tmp/zfpm.conf" <"$tmp/z"
fails "zfpm -t refuses a version whose package is not there" control -t
passes "and says where" grep -Eq 'zfpm\.conf:[0-9]+: .*/php-cgi7\.3: No such file' "$tmp/control"
note
control reload
is "$(code old.example.com /who.php)" 500 "a reload takes it: it may come later, and until then its requests are answered with 500"
passes "with the reason in the error log" errors 'Cannot start FCGI process: .*php-cgi7\.3'
is "$(who shop /who.php) $(who www /who.php) $(left | grep -c -e shop -e 'www/who')" "8.2 $bob 8.2 $alice 0" "the others serve on"

stop_zfpm TERM
is "$zfpm_status" 0 "zfpm ends"
