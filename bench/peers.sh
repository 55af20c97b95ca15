# shellcheck shell=sh
# bench/peers.sh: the three that bench/run compares, each behind an Apache of its own: zfpm with mod_zfpm, php-fpm
# with mod_proxy_fcgi, and mod_fcgid. Sourced after bench/lib.sh and t/httpd.sh. Owns their configurations and their
# processes. Never measures anything. What is the same for all of them:
#   PHP's version, php.ini, the extensions and OPcache's settings (settings_of_php)
#   Apache's modules and settings (httpd_of): event, one process of 128 threads; only the handler differs
#   8 workers ($workers), which do not end for want of work
#
#   need_peers              what is needed is there; sets $php, $fpm, $forks, $forks_why and makes what all use
#   start_peer NAME         zfpm, fpm or fcgid: the pool, and with a second word "cold" $cold more pools
#   stop_peer NAME          and wait until all of its processes are gone
#   url NAME                prints http://127.0.0.1:PORT
#   httpd_of_peer NAME      prints the process ids of its Apache's children that serve
#   workers_of_peer NAME    prints those of its workers, without an app server
#   app_server_of_zfpm      prints that of the process from which zfpm's workers were forked, if there is one
#   zfpm_conf POOLS         a zfpm.conf for row 9: so many pools
#   fpm_conf                the same for php-fpm
#
# The cold pools, c0 to c<$cold - 1>, have no process before their first request: for zfpm and mod_fcgid they
# are pools and virtual hosts of the same zfpm and Apache; for php-fpm a second master has them, with pm = ondemand.
# That has besides the pool "once", as static as php-fpm's first, which mod_proxy_fcgi asks without keeping connections.

workers=${WORKERS:-8} cold=${COLD:-10}
# shellcheck disable=SC2034 # for the scripts
peers='zfpm fpm fcgid'
php='' fpm='' forks=off forks_why='' files=20000
fpm_pid='' ondemand_pid='' httpd_pid_fcgid=''

# php.ini-production's values where they are not PHP's own, and what these rows need.
settings_of_php() {
	mkdir -p "$tmp/php/conf.d" "$tmp/php/tmp"
	chmod 1777 "$tmp/php/tmp"
	cat >"$tmp/php/php.ini" <<-END
		output_buffering = 4096
		memory_limit = 128M
		post_max_size = 1G
		max_execution_time = 0
		display_errors = Off
		log_errors = On
		error_reporting = E_ALL
		sys_temp_dir = $tmp/php/tmp
		opcache.enable = 1
		opcache.memory_consumption = 64
		opcache.validate_timestamps = 1
		opcache.revalidate_freq = 2
	END
	# The extensions of the machine's php-cgi, for all three.
	scan=$("$php" -i | sed -n 's/.*Scan this dir for additional .ini files[^/]*\(\/[^ <]*\).*/\1/p')
	if [ -d "$scan" ]; then
		cat "$scan"/*.ini >"$tmp/php/conf.d/all.ini"
	fi
	PHPRC=$tmp/php PHP_INI_SCAN_DIR=$tmp/php/conf.d
	export PHPRC PHP_INI_SCAN_DIR
}

scripts() {
	mkdir -p "$tmp/www" "$tmp/held"
	chmod 1777 "$tmp/held"
	: >"$tmp/gate"
	chmod 644 "$tmp/gate"
	printf '%s\n' "<?php echo \"Hello World\\n\";" >"$tmp/www/hello.php"
	# 20 KB: 200 rows made, sorted and escaped. The comment says who made it.
	cat >"$tmp/www/page.php" <<-'END'
		<?php
		$rows = [];
		for ($i = 0; $i < 200; $i++) {
			$n = $i * 7919 % 200;
			$rows[] = ['id' => $n, 'name' => "Smith & Sons <no. $n>", 'price' => ($n * 31 % 97) + 0.95,
			    'text' => 'blue "quoted" & ' . ($n % 7)];
		}
		usort($rows, fn($a, $b) => $a['price'] <=> $b['price'] ?: strcmp($a['name'], $b['name']));
		echo "<!DOCTYPE html>\n<html><head><title>200 rows</title></head><body>\n<table>\n";
		foreach ($rows as $row) {
			echo '<tr><td>', $row['id'], '</td><td>', htmlspecialchars($row['name']), '</td><td>',
			    number_format($row['price'], 2), '</td><td>', htmlspecialchars($row['text']), "</td></tr>\n";
		}
		echo "</table>\n</body></html>\n<!-- ", getmypid(), " -->\n";
	END
	cat >"$tmp/www/down.php" <<-'END'
		<?php
		$piece = str_repeat('0123456789abcdef', 4096);
		for ($n = (int)$_GET['pieces']; $n > 0; $n--)
			echo $piece;
	END
	cat >"$tmp/www/up.php" <<-'END'
		<?php
		$in = fopen('php://input', 'r');
		for ($n = 0; !feof($in); $n += strlen($piece))
			$piece = fread($in, 65536);
		echo $n;
	END
	printf '%s\n' '<?php echo getmypid();' >"$tmp/www/pid.php"
	# Holds its worker until the gate opens: a lock that bench/run has meanwhile.
	cat >"$tmp/www/hold.php" <<-END
		<?php
		\$gate = fopen('$tmp/gate', 'r');
		touch('$tmp/held/' . basename(\$_GET['name']));
		flock(\$gate, LOCK_SH);
		echo 'released';
	END
}

# ---- zfpm ------------------------------------------------------------------------------------

app_php() {
	echo 'app php {'
	echo "command $php"
	echo 'extensions .php'
	echo "env PHPRC $PHPRC"
	echo "env PHP_INI_SCAN_DIR $PHP_INI_SCAN_DIR"
	[ "$forks" = off ] || echo 'fork_server on'
	echo '}'
}

zfpm_global() {	# NAME: of its socket, directory and log
	echo "listen $tmp/$1.sock group $web mode 0660 key $key"
	echo "run_dir $tmp/$1.run"
	echo "log $tmp/$1.log"
	echo 'router_user nobody'
	echo 'max_workers 10000'
	[ "$forks" = off ] || [ ! -e "$root_dir/zfpm-forkserver.so" ] ||
	    echo "fork_server_library $root_dir/zfpm-forkserver.so"
}

zfpm_pools() {	# FROM TO LINE...
	pools_from=$1 pools_to=$2
	shift 2
	awk -v i="$pools_from" -v last="$pools_to" -v user="$user" 'BEGIN {
		for (n = 1; n < ARGC; n++)
			lines = lines "\t" ARGV[n] "\n"
		for (; i < last; i++)
			printf "pool c%d {\n\tuser %s\n\tapp php\n%s}\n", i, user, lines
	}' "$@"
}

zfpm_conf() {
	zfpm_global zfpm
	app_php
	zfpm_pools 0 "$1" "max_workers $workers" 'timeout idle 1s'
}

bench_conf() {
	zfpm_global zfpm
	app_php
	printf '%s\n' 'pool bench {' "user $user" 'app php' "min_workers $workers" "max_workers $workers" \
	    'timeout idle 1h' '}'
	[ "$1" = 0 ] || zfpm_pools 0 "$1" "max_workers $workers" 'timeout idle 2s'
}

# Does this zfpm know the fork server? FORK_SERVER=on: it must; off: without it.
find_forks() {
	[ ! -e "$top/zfpm-forkserver.so" ] || install -m 755 "$top/zfpm-forkserver.so" "$root_dir/zfpm-forkserver.so"
	if [ "${FORK_SERVER:-}" = off ]; then
		forks_why='FORK_SERVER=off'
		return
	fi
	forks=on
	bench_conf 0 >"$tmp/forks.conf"
	if ! "$zfpm" -t -c "$tmp/forks.conf" >"$tmp/forks.txt" 2>&1; then
		[ "${FORK_SERVER:-}" != on ] || die "no fork server: $(cat "$tmp/forks.txt")"
		# shellcheck disable=SC2034 # for the scripts
		forks=off forks_why=$(head -n 1 "$tmp/forks.txt" | sed "s|$tmp/||")
	fi
}

# ---- php-fpm ----------------------------------------------------------------------------------

fpm_global() {	# NAME
	printf '%s\n' '[global]' "error_log = $tmp/$1.log" 'daemonize = no' "rlimit_files = $files"
}
fpm_static() {	# NAME SOCKET
	printf '%s\n' "[$1]" "user = $user" "group = $user" "listen = $2" "listen.group = $web" \
	    'listen.mode = 0660' 'pm = static' "pm.max_children = $workers" 'pm.max_requests = 0'
}
fpm_ondemand() {	# POOLS
	awk -v last="$1" -v user="$user" -v web="$web" -v tmp="$tmp" -v workers="$workers" 'BEGIN {
		for (i = 0; i < last; i++)
			printf "[c%d]\nuser = %s\ngroup = %s\nlisten = %s/fpm.d/c%d\nlisten.group = %s\nlisten.mode = 0660\n" \
			    "pm = ondemand\npm.max_children = %d\npm.process_idle_timeout = 1s\n", i, user, user, tmp, i, web, workers
	}'
}
fpm_conf() {
	fpm_global many
	fpm_ondemand "$1"
}

# ---- Apache -----------------------------------------------------------------------------------

# Between KeepAlive and the handler nothing differs. One process, so that every kept connection can
# serve every thread: what php-fpm needs to be at its best, whose workers belong to a connection until it closes.
httpd_of() {	# NAME COLD
	cat <<-END
		ServerRoot $tmp/httpd.$1
		ServerName localhost
		Listen 127.0.0.1:$(eval "echo \$port_$1")
		User $web
		Group $web
		PidFile $tmp/httpd.$1/pid
		ErrorLog $tmp/httpd.$1.log
		DefaultRuntimeDir $tmp/httpd.$1
		ServerTokens Full
		LoadModule mpm_event_module $lib_modules/mod_mpm_event.so
	END
	for m in unixd authn_core authz_core mime dir env alias setenvif; do
		printf '%s\n' "<IfModule !${m}_module>" "LoadModule ${m}_module $lib_modules/mod_$m.so" '</IfModule>'
	done
	"modules_$1"
	cat <<-END
		TypesConfig /dev/null
		ServerLimit 1
		StartServers 1
		ThreadLimit 128
		ThreadsPerChild 128
		MaxRequestWorkers 128
		MinSpareThreads 1
		MaxSpareThreads 128
		KeepAlive On
		MaxKeepAliveRequests 0
		<Directory />
		AllowOverride None
		Require all denied
		</Directory>
		DocumentRoot $tmp/www
		<Directory $tmp/www>
		Options +FollowSymLinks +ExecCGI
		AllowOverride None
		Require all granted
		</Directory>
		<VirtualHost *>
	END
	"handler_$1" bench
	echo '</VirtualHost>'
	i=0
	while [ "$i" -lt "$2" ]; do
		vhost_of "$1" "c$i"
		i=$((i + 1))
	done
	[ "$1" != fpm ] || [ "$2" -eq 0 ] || vhost_of fpm once
}
vhost_of() {
	printf '%s\n' '<VirtualHost *>' "ServerName $2"
	"handler_$1" "$2"
	echo '</VirtualHost>'
}
in_scripts() {	# LINE...
	printf '%s\n' '<FilesMatch "\.php$">' "$@" '</FilesMatch>'
}

modules_zfpm() {
	printf '%s\n' "LoadModule zfpm_module $bin/mod_zfpm.so" "ZfpmSocket $tmp/zfpm.sock" "ZfpmKey $key"
}
handler_zfpm() {
	echo "ZfpmPool $1"
	in_scripts 'SetHandler zfpm'
}

# max: as many connections as there are workers. With more, 8 clients are served and the others never: each waits for
# a worker that belongs to another one's connection.
modules_fpm() {
	printf '%s\n' "LoadModule proxy_module $lib_modules/mod_proxy.so" \
	    "LoadModule proxy_fcgi_module $lib_modules/mod_proxy_fcgi.so" \
	    "<Proxy \"fcgi://bench/\" ${FPM_PROXY:-enablereuse=on max=$workers retry=0}>" '</Proxy>'
}
# The other pools without reuse: a worker with an open connection is not free for the next request.
handler_fpm() {
	case $1 in
	bench) in_scripts "SetHandler \"proxy:unix:$tmp/fpm.sock|fcgi://bench/\"" ;;
	*) in_scripts "SetHandler \"proxy:unix:$tmp/fpm.d/$1|fcgi://$1/\"" ;;
	esac
}

modules_fcgid() {
	cat <<-END
		LoadModule fcgid_module $lib_modules/mod_fcgid.so
		FcgidIPCDir $tmp/httpd.fcgid
		FcgidProcessTableFile $tmp/httpd.fcgid/table
		FcgidInitialEnv PHPRC $PHPRC
		FcgidInitialEnv PHP_INI_SCAN_DIR $PHP_INI_SCAN_DIR
		FcgidInitialEnv PHP_FCGI_MAX_REQUESTS 0
		FcgidMaxRequestLen 2147483647
		FcgidMaxProcesses 2000
		FcgidIdleScanInterval 1
	END
}
handler_fcgid() {
	printf '%s\n' "FcgidMaxProcessesPerClass $workers" 'FcgidMaxRequestsPerProcess 0' 'FcgidProcessLifeTime 0' \
	    "FcgidWrapper $php .php"
	case $1 in
	bench) printf '%s\n' 'FcgidIdleTimeout 3600' "FcgidMinProcessesPerClass $workers" ;;
	*) printf '%s\n' 'FcgidIdleTimeout 2' 'FcgidMinProcessesPerClass 0' ;;
	esac
	in_scripts 'SetHandler fcgid-script'
}

# Manager and Apache each have a session of their own, as a service has: Linux may share a busy processor out by sessions
# (autogroups), and one that were in ours would have to share with the load.

# ---- all three ---------------------------------------------------------------------------------

need_peers() {
	if [ -z "$lib_httpd" ] || [ ! -d "$lib_modules" ]; then
		die "no Apache here: sh dist/packages bench"
	fi
	[ -e "$module" ] || die "no mod_zfpm.so: make"
	[ -e "$lib_modules/mod_fcgid.so" ] || die "no mod_fcgid: sh dist/packages bench"
	for f in curl wrk perl php-cgi; do
		command -v "$f" >"$tmp/where" || die "no $f: sh dist/packages bench"
	done
	php=$(readlink -f "$(command -v php-cgi)")
	php_version=$("$php" -n -v | sed -n '1s/PHP \([^ ]*\).*/\1/p')
	for f in /usr/sbin/php-fpm*; do
		[ -x "$f" ] && [ "$("$f" -n -v 2>"$tmp/fpm.txt" | sed -n '1s/PHP \([^ ]*\).*/\1/p')" = "$php_version" ] && fpm=$f
	done
	[ -n "$fpm" ] || die "no php-fpm of php-cgi's version, $php_version"
	# php-fpm has an open socket for each of 10,000 pools.
	# shellcheck disable=SC3045 # dash, bash, ksh and busybox have it
	ulimit -n 65536 2>"$tmp/limit.txt" || ulimit -n "$(ulimit -H -n)"
	# shellcheck disable=SC3045
	files=$(ulimit -n)
	want_user web
	make_key
	root_dir
	install -m 644 "$module" "$bin/mod_zfpm.so"
	mkdir "$tmp/fpm.d"
	settings_of_php
	scripts
	find_forks
	# shellcheck disable=SC2034 # by name
	port_zfpm=$(free_port) port_fpm=$(free_port) port_fcgid=$(free_port)
}

url() { eval "echo http://127.0.0.1:\$port_$1"; }
answers() { [ "$(curl -s --max-time 10 "$(url "$1")/hello.php")" = 'Hello World' ]; }
settled() {	# NAME PID: it has ended, or it answers
	gone "$2" || answers "$1"
}

fpm_starts() {	# NAME: of its configuration; sets started
	setsid "$fpm" -F -y "$tmp/$1.conf" </dev/null >"$tmp/$1.out" 2>&1 &
	started=$!
	track "$started"
}

start_manager() {	# NAME COLD
	case $1 in
	zfpm)
		bench_conf "$2" >"$tmp/zfpm.conf"
		setsid "$zfpm" -c "$tmp/zfpm.conf" </dev/null >"$tmp/zfpm.out" 2>&1 &
		zfpm_pid=$!
		;;
	fpm)
		{ fpm_global fpm; fpm_static bench "$tmp/fpm.sock"; } >"$tmp/fpm.conf"
		fpm_starts fpm
		fpm_pid=$started
		[ "$2" -gt 0 ] || return 0
		{ fpm_global ondemand; fpm_static once "$tmp/fpm.d/once"; fpm_ondemand "$2"; } >"$tmp/ondemand.conf"
		fpm_starts ondemand
		ondemand_pid=$started
		;;
	esac
}

start_peer() {
	peer_cold=0
	[ "${2:-}" != cold ] || peer_cold=$cold
	mkdir -p "$tmp/httpd.$1"
	chown "$web:" "$tmp/httpd.$1"
	start_manager "$1" "$peer_cold"
	httpd_of "$1" "$peer_cold" >"$tmp/httpd.$1.conf"
	# A session of its own: Apache ends itself by a signal to its whole process group.
	setsid "$lib_httpd" -f "$tmp/httpd.$1.conf" -DFOREGROUND </dev/null >"$tmp/httpd.$1.out" 2>&1 &
	peer_pid=$!
	track "$peer_pid"
	eval "httpd_pid_$1=$peer_pid"
	if ! wait_until settled "$1" "$peer_pid" || gone "$peer_pid"; then
		die "$1 does not answer: $(tail -n 20 "$tmp/httpd.$1.out" "$tmp/httpd.$1.log" "$tmp/$1".*)"
	fi
}

end_process() {
	[ -n "$1" ] || return 0
	kill "$1" 2>"$tmp/kill.txt" || return 0
	wait_until gone "$1" || die "$2 did not end"
	wait "$1" 2>"$tmp/wait.txt" || :
}

# Of all generations.
descendants() {
	ps -eo pid=,ppid= | awk -v top="$1" '
		{ parent[$1] = $2 }
		END {
			for (pid in parent) {
				for (p = pid; p in parent && p != top && parent[p] != p; p = parent[p])
					;
				if (p == top && pid != top)
					print pid
			}
		}'
}
leaf() { [ -z "$(ps -o pid= --ppid "$1")" ]; }
runs() { [ "$(readlink "/proc/$1/exe")" = "$2" ]; }

httpd_of_peer() {
	eval "peer_top=\$httpd_pid_$1"
	for p in $(descendants "$peer_top"); do
		! runs "$p" "$(readlink "/proc/$peer_top/exe")" || echo "$p"
	done
}
workers_of_peer() {
	case $1 in
	zfpm) peer_top=$zfpm_pid ;;
	fpm) peer_top=$fpm_pid ;;
	fcgid) peer_top=$httpd_pid_fcgid ;;
	esac
	for p in $(descendants "$peer_top"); do
		if [ "$1" = fpm ] || { runs "$p" "$php" && leaf "$p"; }; then
			echo "$p"
		fi
	done
}
app_server_of_zfpm() {
	for p in $(descendants "$zfpm_pid"); do
		if runs "$p" "$php" && ! leaf "$p"; then
			echo "$p"
		fi
	done
}

all_gone() {
	for p in "$@"; do
		gone "$p" || return 1
	done
}
stop_peer() {
	eval "peer_top=\$httpd_pid_$1"
	left=$(for p in $peer_top; do descendants "$p"; done)
	[ "$1" != zfpm ] || [ -z "$zfpm_pid" ] || left="$left $(descendants "$zfpm_pid")"
	[ "$1" != fpm ] || left="$left $(for p in $fpm_pid $ondemand_pid; do descendants "$p"; done)"
	end_process "$peer_top" "Apache of $1"
	eval "httpd_pid_$1="
	case $1 in
	zfpm) stop_zfpm TERM ;;
	fpm)
		end_process "$fpm_pid" php-fpm
		end_process "$ondemand_pid" php-fpm
		fpm_pid='' ondemand_pid=''
		;;
	esac
	# shellcheck disable=SC2086 # a list
	wait_until all_gone $left || die "$1 has left processes behind"
}
