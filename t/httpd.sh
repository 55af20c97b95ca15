# shellcheck shell=sh
# t/httpd.sh: an Apache of the test's own, sourced after t/lib.sh. Owns the
# server root $tmp/httpd, one port of 127.0.0.1 and the user that serves.
# Never touches the machine's own Apache or its configuration.
#
#   start_httpd [MPM] <text     run it with mod_zfpm; MPM is event (default), worker or prefork.
#                               An older one is stopped first
#   httpd_test <text            check such a text; standard error and status are Apache's
#   stop_httpd                  at once; lib.sh does it at the end too
#   graceful_httpd, restart_httpd     and wait until the new processes serve
#   httpd_children              prints the process ids of the children
#   site NAME USER              a document root $tmp/www/NAME of this user's
#   vhost NAME [LINE...]       prints such a virtual host
#   tenants [LINE...]          users alice and bob, sites a.test and b.test, and a zfpm with their pools,
#                               whose apps are php (*.php) and app; LINEs are for both pools
#   get HOST PATH [OPTION...]   curl to that virtual host; the body on standard output
#   get_exec HOST PATH [OPTION...]     the same in place of the shell: get_exec ... & kill $!
#   code HOST PATH [OPTION...]  the status alone
#   errors ERE                  true if the error log has such a line
#   count_errors ERE            prints how many it has
#   errors_at_least N ERE       true if they are N or more
#   silent [ERE]                true if it has only such lines, and those of Apache's start; the others are in $tmp/said
#   need_php MODULE...          skip_all unless php-cgi is here, with these
#   of SITE NAME                prints what the test has kept as $tmp/r/SITE/NAME
#   hidden NAME FILE            prints the value of a form's field in the page FILE
#   json_of KEY <text           prints a value of JSON; KEY is one, or more with dots between: data.0.name
#
# The text is placed behind the LoadModule lines, with @tmp@ @t@ @sock@ @port@
# @key@ @modules@ and @NAME@ of make_user NAME replaced. $port and $httpd_pid
# are there after start_httpd, the error log is $tmp/error.log. More modules:
# LoadModule lines in the text (LoadModule http2_module @modules@/mod_http2.so).
# HTTPD_MODULE in the environment: another build of mod_zfpm.so; HTTPD_PRELOAD:
# what Apache is to load before all else (the library of a sanitizer, for such a build).

for lib_httpd in apache2 httpd /usr/sbin/apache2 /usr/sbin/httpd ''; do
	command -v "$lib_httpd" >/dev/null 2>&1 && break
done
lib_modules=$(${APXS:-apxs} -q LIBEXECDIR 2>/dev/null)
httpd_pid='' port=''
module=${HTTPD_MODULE:-$module}

need_httpd() {
	if [ -z "$lib_httpd" ] || [ ! -d "$lib_modules" ]; then
		skip_all "no Apache here"
	fi
	[ "$(id -u)" -eq 0 ] || skip_all "Apache is to start as root"
	[ -e "$module" ] || skip_all "no mod_zfpm.so: make"
}

httpd_conf() {
	lib_text=$(cat)
	mkdir -p "$tmp/httpd" "$tmp/www/default"
	want_user web
	make_key
	[ -n "$port" ] || port=$(free_port)
	set -- "$1" "$2" -e "s|@t@|$t|g;s|@tmp@|$tmp|g;s|@sock@|$sock|g;s|@port@|$port|g;s|@key@|$key|g" \
	    -e "s|@modules@|$lib_modules|g"
	for lib_name in $lib_names; do
		eval "set -- \"\$@\" -e \"s|@$lib_name@|\$$lib_name|g\""
	done
	lib_file=$1 lib_mpm=$2
	shift 2
	{
		echo "ServerRoot $tmp/httpd"
		echo "LoadModule mpm_${lib_mpm}_module $lib_modules/mod_mpm_$lib_mpm.so"
		for lib_m in unixd log_config authn_core authz_core alias dir mime env setenvif rewrite headers; do
			echo "<IfModule !${lib_m}_module>"
			echo "LoadModule ${lib_m}_module $lib_modules/mod_$lib_m.so"
			echo '</IfModule>'
		done
		cat <<-EOT
			LoadModule zfpm_module $module
			User ${web:?}
			Group $web
			Listen 127.0.0.1:$port
			ServerName default.test
			DocumentRoot $tmp/www/default
			PidFile $tmp/httpd/pid
			Mutex fcntl:$tmp/httpd
			DefaultRuntimeDir $tmp/httpd
			ErrorLog $tmp/error.log
			ErrorLogFormat "%M"
			LogLevel warn
			TypesConfig /dev/null
			DirectoryIndex index.php
			AddHandler zfpm .php
			ZfpmSocket $sock
			ZfpmKey $key
			<Directory $tmp/www>
			AllowOverride FileInfo
			Options +FollowSymLinks
			Require all granted
			</Directory>
		EOT
		printf '%s\n' "$lib_text" | sed "$@"
	} >"$lib_file"
}

httpd_test() {
	httpd_conf "$tmp/httpd.test.conf" event
	env ${HTTPD_PRELOAD:+"LD_PRELOAD=$HTTPD_PRELOAD"} "$lib_httpd" -t -f "$tmp/httpd.test.conf"
}

lib_serving() { [ "$(count_errors 'resuming normal operations')" -gt "$lib_before" ] && curl -s -o "$tmp/curl.null" "http://127.0.0.1:$port/"; }
httpd_settled() { gone "$httpd_pid" || lib_serving; }
count_errors() { grep -Ec -e "$1" "$tmp/error.log" 2>/dev/null || :; }
errors() { grep -Eq -e "$1" "$tmp/error.log" 2>/dev/null; }
errors_at_least() { [ "$(count_errors "$2")" -ge "$1" ]; }

silent() { ! grep -Ev "AH00(094|163|489)${1:+|$1}" "$tmp/error.log" >"$tmp/said"; }

need_php() {
	command -v php-cgi >/dev/null || skip_all "no php-cgi here"
	php-cgi -m >"$tmp/php-modules"
	for lib_m; do
		grep -qx "$lib_m" "$tmp/php-modules" || skip_all "no PHP with $lib_m here"
	done
}

of() { cat "$tmp/r/$1/$2" 2>/dev/null; }
hidden() { sed -n "s/.*name=\"$1\" value=\"\([^\"]*\)\".*/\1/p" "$2" | head -n 1; }
json_of() {
	perl -MJSON::PP -0777 -e '
		binmode STDOUT, ":utf8";
		my $v = eval { decode_json(<STDIN>) };
		$v = ref $v eq "ARRAY" ? $v->[$_] : ref $v ? $v->{$_} : undef for split /[.]/, $ARGV[0];
		print $v // ""' "$1"
}

start_httpd() {
	httpd_conf "$tmp/httpd.conf" "${1:-event}"
	stop_httpd
	touch "$tmp/error.log"
	# "resuming normal operations" is a notice, which LogLevel warn keeps out of ErrorLog unless the core may speak
	sed 's/^LogLevel .*/& mpm_'"${1:-event}"':notice/' "$tmp/httpd.conf" >"$tmp/httpd.conf.new" &&
	    mv "$tmp/httpd.conf.new" "$tmp/httpd.conf"
	lib_before=$(count_errors 'resuming normal operations')
	# A session of its own: Apache ends itself by a signal to its whole process group.
	setsid env ${HTTPD_PRELOAD:+"LD_PRELOAD=$HTTPD_PRELOAD"} "$lib_httpd" -f "$tmp/httpd.conf" -DFOREGROUND </dev/null >"$tmp/httpd.out" 2>&1 &
	httpd_pid=$!
	if ! wait_until httpd_settled || gone "$httpd_pid"; then
		diag "Apache did not start: $(cat "$tmp/httpd.out" "$tmp/error.log")"
		exit 1
	fi
}

stop_httpd() {
	[ -n "$httpd_pid" ] || return 0
	kill -TERM "$httpd_pid" 2>/dev/null
	wait_until gone "$httpd_pid" || kill -KILL "$httpd_pid"
	wait "$httpd_pid" 2>/dev/null
	httpd_pid=
}

lib_signal() {
	lib_before=$(count_errors 'resuming normal operations')
	kill "-$1" "$httpd_pid" && wait_until httpd_settled && ! gone "$httpd_pid"
}
graceful_httpd() { lib_signal USR1; }
restart_httpd() { lib_signal HUP; }

httpd_children() { ps -o pid= --ppid "$httpd_pid" | tr -d ' '; }

site() {
	mkdir -p "$tmp/www/$1"
	chown "$2:" "$tmp/www/$1"
}

vhost() {
	lib_host=$1
	shift
	printf '%s\n' '<VirtualHost *>' "ServerName $lib_host" "DocumentRoot $tmp/www/$lib_host" "$@" '</VirtualHost>'
}

tenants() {
	want_user alice bob web
	make_key
	site a.test "${alice:?}"
	site b.test "${bob:?}"
	{
		printf '%s\n' 'listen @sock@ group @web@ mode 0660 key @tmp@/key' \
		    'app php {' 'command /usr/bin/php-cgi' 'extensions .php' '}' \
		    'app app {' 'command @bin@/app' '}'
		for lib_site in a.test:alice b.test:bob; do
			printf '%s\n' "pool ${lib_site%:*} {" "user @${lib_site#*:}@" 'app php app' 'max_workers 10' "$@" '}'
		done
	} >"$tmp/tenants"
	start_zfpm <"$tmp/tenants"
}

get() { (get_exec "$@"); }

get_exec() {
	lib_host=$1 lib_path=$2
	shift 2
	exec curl -sS --max-time 60 -H "Host: $lib_host" "$@" "http://127.0.0.1:$port$lib_path"
}

code() {
	lib_host=$1 lib_path=$2
	shift 2
	curl -s --max-time 60 -o "$tmp/code.body" -w '%{http_code}' -H "Host: $lib_host" "$@" "http://127.0.0.1:$port$lib_path"
}
