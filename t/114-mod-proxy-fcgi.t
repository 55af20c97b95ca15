#!/bin/sh
# Apache's own mod_proxy_fcgi in front of zfpm, as examples/mod_proxy_fcgi has it:
# everything that a site does, the pool from the virtual host alone, kept
# connections that pin no worker, errors as designed, and scripts that outlive a
# graceful restart and a stop of Apache.
. "${0%/*}/lib.sh"
. "${0%/*}/front.sh"
httpd=$(command -v apache2 || command -v httpd) || skip_all "no Apache here"
modules=$(apxs -q LIBEXECDIR 2>/dev/null)
[ -e "$modules/mod_proxy_fcgi.so" ] || skip_all "no mod_proxy_fcgi.so here"
plan $((n_all + 3))

front=mod_proxy_fcgi
front_log=$tmp/error.log
lost=503 down=503
make_sites
mkdir "$tmp/httpd" "$tmp/empty"
(umask 077 && sed -n '1s/.*/ProxyFCGISetEnvIf "true" ZFPM_KEY "&"/p' "$key" >"$tmp/apache.key")
{
	echo "ServerRoot $tmp/httpd"
	for m in mpm_event unixd authz_core dir mime setenvif alias proxy proxy_fcgi; do
		echo "<IfModule !${m}_module>"
		echo "LoadModule ${m}_module $modules/mod_$m.so"
		echo "</IfModule>"
	done
	cat <<-EOF
		User $web
		Group $web
		Listen 127.0.0.1:$port
		ServerName default.test
		PidFile $tmp/httpd/pid
		Mutex fcntl:$tmp/httpd
		DefaultRuntimeDir $tmp/httpd
		ErrorLog $front_log
		LogLevel warn mpm_event:notice
		TypesConfig /etc/mime.types
		DirectoryIndex index.php
		ServerLimit 2
		MaxRequestWorkers 50
		StartServers 2
		KeepAliveTimeout 2
	EOF
	example mod_proxy_fcgi/apache.conf -e "s|/etc/zfpm/mod_proxy_fcgi.key|$tmp/apache.key|" -e "s|@port@|$port|"
} >"$tmp/httpd.conf"
sed -i "s|@port@|$port|" "$tmp/httpd.conf"

start_front() {
	setsid "$httpd" -f "$tmp/httpd.conf" -DFOREGROUND </dev/null >"$tmp/front.out" 2>&1 &
	front_pid=$!
	front_up
}
generations() { grep -c 'resuming normal operations' "$front_log"; }
renewed() { [ "$(generations)" -gt "$front_generation" ] && serves; }
reload_front() {
	front_generation=$(generations)
	kill -USR1 "$front_pid"
	wait_until renewed
}

front_zfpm
start_front
check_all "$tmp/apache.key"

# Ways to the key, and to another pool
printf 'ProxyFCGISetEnvIf "true" ZFPM_POOL www.example.org\nProxyFCGISetEnvIf "true" SHOW %%{reqenv:ZFPM_KEY}\n' >"$alice_home/www/.htaccess"
is "$(get www.example.com /hello.php)" "hello from $alice" "a .htaccess file chooses no pool"
sed -i 's|^.*ServerName www.example.com|&\nProxyErrorOverride on\nErrorDocument 404 /env.php?404|' "$tmp/httpd.conf"
reload_front
is "$(code www.example.com /missing.php) $(grep -c '^REDIRECT_STATUS=404' "$tmp/code.body")" '404 1' "a script as ErrorDocument"
unlike "$(cat "$tmp/code.body")" "ZFPM_|$(cat "$key")" "is not told of the key by Apache's REDIRECT_ variables"
