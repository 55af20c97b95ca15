#!/bin/sh
# PHP's settings, in PHP 7.4, 8.2 and 8.4: a pool has a php.ini of its own, an app another file or single values; a tenant
# sets in .user.ini what he may, and neither there, nor in a script, in .htaccess or in a request what is the administrator's.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
. "${0%/*}/php-versions.sh"
plan 101

want_user alice bob web
make_key
blog=${alice_home:?}/blog wiki=${bob_home:?}/wiki
ini=$tmp/ini
mkdir -p "$blog/sub" "$blog/greedy" "$blog/set" "$blog/php_value" "$wiki/mail" "$ini/blog.example.com"

# ---- the sites ------------------------------------------------------------------------------

# The settings asked for, after the script has tried to change them if it is to
cat >"$tmp/ini.php" <<-\END
	<?php
	foreach (explode(',', $_GET['get'] ?? 'memory_limit') as $name) {
		$name = strtr($name, '-', '.');
		if (isset($_GET['set']))
			@ini_set($name, $_GET['set']);
		echo $name, '=', ini_get($name), "\n";
	}
END
cat >"$tmp/about.php" <<-\END
	<?php
	echo PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION, ' ', posix_getpwuid(posix_geteuid())['name'], ' ', php_ini_loaded_file(), ' ',
	    (int)(opcache_get_status() !== false), ' ', (int)function_exists('shell_exec'), (int)function_exists('exec'), "\n";
END
cat >"$tmp/seen.php" <<-\END
	<?php
	foreach (['PHP_ADMIN_VALUE', 'PHP_VALUE', 'PHP_ADMIN_FLAG', 'PHPRC', 'PHP_INI_SCAN_DIR'] as $name)
		echo $_SERVER[$name] ?? 'none', ' ';
	echo ini_get('memory_limit'), ' ', ini_get('precision'), ' ', (int)function_exists('shell_exec'), ' ', basename(dirname(php_ini_loaded_file())), "\n";
END
for d in "$blog" "$blog/sub" "$blog/greedy" "$blog/set" "$blog/php_value" "$wiki" "$wiki/mail"; do
	cp "$tmp/ini.php" "$tmp/about.php" "$tmp/seen.php" "$d"
done
example php-versions/user.ini >"$blog/.user.ini"
# What is not the tenant's
cat >"$blog/greedy/.user.ini" <<-\END
	memory_limit = 999M
	upload_max_filesize = 999M
	disable_functions =
	opcache.memory_consumption = 99
	sendmail_path = /bin/false
	max_execution_time = 77
END
# Kinds of request variables which php-fpm and others take for settings
cat >"$blog/set/.htaccess" <<-END
	SetEnv PHP_ADMIN_VALUE "memory_limit = 999M"
	SetEnvIf Host . "PHP_VALUE=precision = 5"
	RewriteEngine on
	RewriteRule . - [E=PHP_ADMIN_FLAG:precision=5]
	SetEnv PHPRC $blog/set
	SetEnv PHP_INI_SCAN_DIR $blog/set
END
printf '%s\n' 'memory_limit = 999M' 'precision = 5' >"$blog/set/php.ini"
cp "$blog/set/php.ini" "$blog/set/x.ini"
echo 'php_value memory_limit 999M' >"$blog/php_value/.htaccess"
chown -R "${alice:?}:" "$alice_home"
chown -R "${bob:?}:" "$bob_home"

example php-versions/php.ini >"$ini/blog.example.com/php.ini"
printf '%s\n' 'memory_limit = 96M' 'precision = 9' >"$ini/wiki.ini"

{
	sed -n '/^<FilesMatch/,/^<.FilesMatch/p' "$top/dist/zfpm.apache.conf"
	example php-versions/settings.apache.conf
} >"$tmp/sites"

settings() { get "$1.example.com" "$2" | tr '\n' ' '; }
control() { "$zfpm" "$@" -c "$tmp/zfpm.conf" >>"$tmp/control" 2>&1; }

started=
for kind in '8.2 off' '7.4 on' '8.2 on' '8.4 on'; do
	version=${kind% *} mode=${kind#* }
	how="PHP $version, fork_server $mode"
	{
		echo 'listen @sock@ group @web@ mode 0660 key @tmp@/key'
		# The apps keep their names; it is the programs behind them that are of this version.
		for f in zfpm settings; do
			example "php-versions/$f.conf" -e "s|/etc/php/8\.2|/etc/php/$version|g;s|php-cgi8\.2|php-cgi$version|" -f "$tmp/php.sed" \
			    -e "s|/etc/zfpm/php|$ini|g;s|fork_server on|fork_server $mode|"
		done
	} >"$tmp/z"
	start_zfpm <"$tmp/z"
	[ -n "$started" ] || start_httpd <"$tmp/sites"
	started=1

	# ---- a php.ini of the pool's own ---------------------------------------------------------

	is "$(get blog.example.com /about.php)" "$version $alice $ini/blog.example.com/php.ini 1 00" \
	    "$how: a pool has a php.ini of its own, the modules of conf.d, and not the functions that are disabled"
	is "$(settings blog '/ini.php?get=memory_limit,upload_max_filesize,opcache-memory_consumption,expose_php')" \
	    'memory_limit=64M upload_max_filesize=20M opcache.memory_consumption=64 expose_php= ' "its settings are there"
	is "$(settings blog '/ini.php?get=memory_limit,upload_max_filesize,opcache-memory_consumption&set=99M')" \
	    'memory_limit=64M upload_max_filesize=20M opcache.memory_consumption=64 ' "a script can not change those of a section PATH, nor those that PHP reads at its start"
	is "$(settings blog '/ini.php?get=precision&set=5')$(settings blog '/ini.php?get=precision')" 'precision=5 precision=14 ' \
	    "it can change others, for itself"
	sed 's/^memory_limit = .*/memory_limit = 48M/' "$ini/blog.example.com/php.ini" >"$tmp/new.ini"
	cp "$ini/blog.example.com/php.ini" "$tmp/old.ini"
	cat "$tmp/new.ini" >"$ini/blog.example.com/php.ini"
	control retire blog.example.com
	is "$(settings blog /ini.php)" 'memory_limit=48M ' "a change of it counts after 'zfpm retire'"
	cat "$tmp/old.ini" >"$ini/blog.example.com/php.ini"
	control retire blog.example.com

	# ---- .user.ini -------------------------------------------------------------------------------

	is "$(settings blog '/ini.php?get=date-timezone,max_execution_time')" 'date.timezone=Europe/Vienna max_execution_time=120 ' "$how: .user.ini sets what a tenant may"
	is "$(settings blog '/sub/ini.php?get=date-timezone,max_execution_time')" 'date.timezone=Europe/Vienna max_execution_time=120 ' "in the directories below as well"
	is "$(settings blog '/greedy/ini.php?get=memory_limit,upload_max_filesize,opcache-memory_consumption,max_execution_time,date-timezone')" \
	    'memory_limit=64M upload_max_filesize=20M opcache.memory_consumption=64 max_execution_time=77 date.timezone=Europe/Vienna ' \
	    "but not what is the administrator's, whatever else it says"
	is "$(get blog.example.com /greedy/about.php | cut -d ' ' -f 5)" 00 "and disabled functions stay so"
	isnt "$(settings blog '/greedy/ini.php?get=sendmail_path')" 'sendmail_path=/bin/false ' "as does the program that sends mail"
	is "$(settings blog '/ini.php?get=max_execution_time')" 'max_execution_time=120 ' "the next script of another directory has nothing of it"
	isnt "$(settings wiki '/ini.php?get=date-timezone')" 'date.timezone=Europe/Vienna ' "nor has another pool"
	is "$(code blog.example.com /.user.ini)" 403 "and nobody can read it"

	# ---- .htaccess, and requests ------------------------------------------------------------------

	is "$(get blog.example.com /set/seen.php)" "memory_limit = 999M precision = 5 precision=5 $blog/set $blog/set 64M 14 0 blog.example.com" \
	    "$how: PHP_ADMIN_VALUE, PHP_VALUE, PHPRC and others of .htaccess are variables like any other, and no settings"
	is "$(code blog.example.com /php_value/ini.php)" 500 "php_value, which is mod_php's, is an error"
	passes "which the error log names" errors "Invalid command 'php_value'"
	is "$(settings blog '/set/ini.php?-d+memory_limit=999M')" 'memory_limit=64M ' "nor is the query string an option"
	unlike "$(get blog.example.com '/ini.php?-s')" '<code|ini_set' "nor does it show a source"

	# ---- settings of an app ---------------------------------------------------------------------------

	is "$(get wiki.example.com /about.php)" "$version $bob $ini/wiki.ini 1 11" "$how: an app has another file by -c, and the modules"
	is "$(settings wiki '/ini.php?get=memory_limit,precision')" 'memory_limit=96M precision=9 ' "with its settings"
	is "$(settings wiki '/mail/ini.php?get=memory_limit,sendmail_path')" \
	    "memory_limit=64M sendmail_path=/usr/sbin/sendmail -t -i -f bob@example.com " "another one single values by -d, one of them with blanks"
	is "$(get wiki.example.com /mail/about.php | cut -d ' ' -f 1,2)" "$version $bob" "in the same pool"
	is "$(settings wiki '/mail/ini.php?set=99M')" 'memory_limit=99M ' "a value by -d is a default: a script can change it"
	is "$(settings wiki '/mail/ini.php?get=sendmail_path&set=x')" 'sendmail_path=/usr/sbin/sendmail -t -i -f bob@example.com ' \
	    "unless PHP lets nobody change it"
done

# ---- a file that is watched -------------------------------------------------------------------------

printf '%s\n' 'memory_limit = 97M' >"$ini/wiki.ini"
has_97() { [ "$(settings wiki /ini.php)" = 'memory_limit=97M ' ]; }
passes "when the file of -c changes its app server is replaced" wait_until has_97
is "$(grep -c 'pool wiki.example.com: app server [0-9]*: its program or a file that it has read has changed' "$tmp/zfpm.log")" 1 "and no other of the pool"
# What does not parse
printf '%s\n' 'memory_limit = 98M' '[[[ "' 'precision = 8' >"$ini/wiki.ini"
control retire wiki.example.com
is "$(settings wiki '/ini.php?get=memory_limit,precision')" 'memory_limit=98M precision=14 ' "a php.ini with an error in it stops nobody, and counts up to there"
passes "PHP says so in zfpm's log" wait_for_log "pool wiki.example.com: app server [0-9]+: stderr: .*syntax error.*wiki\.ini"

stop_zfpm TERM
is "$zfpm_status" 0 "zfpm ends"
