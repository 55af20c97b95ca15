#!/bin/sh
# What a tenant may write into files and headers of his own reaches neither another pool nor the key.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 42

# Apache's own environment is the administrator's, but PassEnv is the tenant's.
ZFPM_POOL=b.test ZFPM_APP=app ZFPM_KEY=x HTTP_PROXY=evil:80
export ZFPM_POOL ZFPM_APP ZFPM_KEY HTTP_PROXY
tenants
www=$tmp/www/a.test
cat >"$www/who.php" <<-\EOF
	<?php
	header('Content-Type: text/plain');
	echo posix_getpwuid(posix_geteuid())['name'], "\n";
	if (isset($_GET['env']))
		foreach ($_SERVER as $name => $value)
			if (is_string($value))
				echo "$name=$value\n";
	if (isset($_GET['ini']))
		echo ini_get('memory_limit'), ' ', ini_get('auto_prepend_file'), "\n";
EOF
cp "$www/who.php" "$tmp/www/b.test/who.php"
echo 'text' | tee "$www/page.txt" "$www/page.shtml" >"$tmp/out"
mkdir "$www/ssi" "$www/dir"
ln -s "$tmp/www/b.test" "$www/link"
cp "$www/who.php" "$www/dir/"
touch "$www/x.app"

start_httpd event <<-EOF
	LoadModule proxy_module @modules@/mod_proxy.so
	LoadModule proxy_fcgi_module @modules@/mod_proxy_fcgi.so
	LoadModule proxy_http_module @modules@/mod_proxy_http.so
	LoadModule include_module @modules@/mod_include.so
	LoadModule actions_module @modules@/mod_actions.so
	LogLevel zfpm:trace8
	AddHandler zfpm:app .app
	ProxyRequests Off
	<Directory $tmp/www>
	AllowOverride All
	AllowOverrideList ZfpmPool ZfpmSocket ZfpmKey ZfpmTimeout ZfpmConnectTimeout ZfpmIdleConnections ZfpmVirtual ZfpmXSendfile ZfpmAuthorizer
	Options +FollowSymLinks +Includes
	AddOutputFilter INCLUDES .shtml
	</Directory>
	<Directory $tmp/www/b.test>
	ZfpmPool b.test
	</Directory>
	$(vhost a.test "Alias /alias $tmp/www/b.test")
	$(vhost b.test)
	<VirtualHost *>
	ServerName c.test
	DocumentRoot $tmp/www/a.test
	</VirtualHost>
EOF
unset ZFPM_POOL ZFPM_APP ZFPM_KEY HTTP_PROXY
htaccess() { printf '%s\n' "$@" >"$www/.htaccess"; }
who() { get a.test "$@" | head -n 1; }
secret=$(cat "$key")

# Into the environment
for line in 'PassEnv ZFPM_POOL ZFPM_APP ZFPM_KEY HTTP_PROXY' 'SetEnv zfpm_pool b.test' 'SetEnvIfExpr true ZFPM_POOL=b.test' \
    'SetEnvIfNoCase Host . ZFPM_POOL=b.test' 'BrowserMatch . ZFPM_POOL=b.test' 'RequestHeader set ZFPM_POOL b.test' \
    'RequestHeader set ZFPM-POOL b.test env=!x' 'UnsetEnv ZFPM_KEY'; do
	htaccess "$line"
	env=$(get a.test '/who.php?env')
	is "$(printf '%s\n' "$env" | head -n 1; printf '%s\n' "$env" | grep -E '^(ZFPM_|HTTP_PROXY=)')" "$alice" "$line"
done
htaccess 'RewriteEngine on' 'RewriteRule ^y$ /who.php?env [E=ZFPM_POOL:b.test,E=REDIRECT_ZFPM_POOL:b.test]'
is "$(who /y)" "$alice" "variables of a rewritten request"
htaccess 'SetEnv ZFPM_POOL b.test' 'ErrorDocument 404 /who.php?env'
is "$(who /nosuch)" "$alice" "an ErrorDocument, with what SetEnv has left in the first request"
unlike "$(get a.test /nosuch)" '^ZFPM_' "and no ZFPM_ variable arrives there"
is "$(who '/x.app?header=Location:%20/who.php')" "$alice" "an internal redirect"
htaccess 'SetEnv PHP_ADMIN_VALUE "memory_limit=1G"' 'SetEnv PHP_VALUE "auto_prepend_file=/etc/passwd"'
unlike "$(get a.test '/who.php?ini')" '1G|passwd' "PHP's settings are not the environment's"
htaccess
for h in 'ZFPM_POOL: b.test' 'ZFPM-POOL: b.test' 'Zfpm-Pool: b.test' 'Host: a.test
ZFPM_POOL: b.test'; do
	is "$(who /who.php -H "$h")" "$alice" "the client's header $(printf %s "$h" | tr '\n' ' ')"
done
is "$(code c.test /who.php)" 500 "a virtual host without a pool has none"
passes "and not another one's" errors "Unknown pool 'c.test'"
is "$(who /who.php -H 'Host: a.test:80')" "$alice" "a port in the Host header changes nothing"

# Handlers
for h in 'zfpm:b.test' 'zfpm:php
ZFPM_POOL=b.test' 'zfpm:../app' 'zfpm:app b'; do
	printf 'SetHandler "%s"\n' "$(printf %s "$h" | tr '\n' ' ')" >"$www/.htaccess"
	is "$(code a.test /who.php)" 500 "SetHandler $(printf %s "$h" | tr '\n' ' ')"
done
passes "the log says what there is not" errors "Unknown application 'b.test' in pool 'a.test'"
htaccess 'SetHandler zfpm-nosuch'
is "$(code a.test /who.php)" 500 "a handler that zfpm has not: no source is shown"
htaccess 'Action my /who.php' 'AddHandler my .txt'
is "$(who /page.txt)" "$alice" "Action, with PATH_INFO"

# Straight to the socket: everything but the key is known to a tenant.
for line in "SetHandler \"proxy:unix:$sock|fcgi://x\"" "RewriteRule ^who.php$ \"unix:$sock|fcgi://x$www/who.php\" [P]" \
    "RewriteRule ^who.php$ - [H=proxy:unix:$sock|fcgi://x]" "RewriteRule ^who.php$ \"proxy:unix:$sock|fcgi://x$www/who.php\" [P]"; do
	htaccess 'RewriteEngine on' 'RewriteOptions AllowAnyURI' "$line" 'SetEnv ZFPM_POOL b.test' 'SetEnv ZFPM_KEY 0123456789abcdef' \
	    'SetEnv ZFPM_STATUS json'
	like "$(get a.test /who.php -w '%{http_code}')" '[45]0[0-9]$' "refused: $line"
	unlike "$(get a.test /who.php)" "^($alice|$bob)$|a\\.test\"" "and nothing has been run or shown"
done
passes "zfpm's log says why" log_has 'ZFPM_KEY is missing or wrong'

# Files that are somebody else's, in a directory of one's own
htaccess
is "$(who /link/who.php)" "$alice" "a symbolic link to another tenant's directory: the script runs in the pool of who asks"
is "$(get a.test /alias/who.php | head -n 1)" "$bob" "an Alias of the administrator's, where he names the pool"

# mod_include
echo '<!--#set var="ZFPM_POOL" value="b.test" --><!--#set var="ZFPM_KEY" value="x" --><!--#include virtual="/who.php" -->' >"$www/page.shtml"
is "$(get a.test /page.shtml)" "$alice" "variables that a page sets before it includes a script"
echo '<!--#printenv -->[<!--#echo var="ZFPM_KEY" -->]' >"$www/print.shtml"
get a.test /print.shtml >"$tmp/printed"
htaccess 'Header always set X-Key "%{ZFPM_KEY}e"'
get a.test /who.php -i >>"$tmp/printed"
get a.test '/x.app?' >>"$tmp/printed"
fails "the key is in nothing that a page can print" grep -Fq "$secret" "$tmp/printed"

# Configuration
for d in 'ZfpmPool b.test' "ZfpmSocket $sock" 'ZfpmKey /etc/passwd' 'ZfpmTimeout 1' 'ZfpmConnectTimeout 1' 'ZfpmIdleConnections 1' \
    'ZfpmVirtual on' 'ZfpmXSendfile /' 'ZfpmAuthorizer none'; do
	htaccess "$d"
	code a.test /who.php
	htaccess '<If "true">' "$d" '</If>'
	code a.test /who.php
	htaccess '<FilesMatch .>' "$d" '</FilesMatch>'
	code a.test /who.php
done >"$tmp/codes"
is "$(cat "$tmp/codes")" "$(printf '500%.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27)" \
    "no directive but ZfpmApp, ZfpmErrorOverride and ZfpmPassAuthorization counts in .htaccess, in a section or not"
fails "and the key is in no log" grep -Fq "$secret" "$tmp/error.log" "$tmp/zfpm.log"
