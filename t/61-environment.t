#!/bin/sh
# No tenant can choose another pool or read the key, whatever he writes into .htaccess; CGI variables are as with mod_cgi.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 39

tenants
cat >"$tmp/www/a.test/env.php" <<-\EOF
	<?php
	header('Content-Type: text/plain');
	foreach ($_SERVER as $name => $value)
		if (is_string($value))
			echo "$name=$value\n";
	echo 'user=', posix_getpwuid(posix_geteuid())['name'], "\n";
EOF
echo 'x' >"$tmp/www/a.test/show.app"
mkdir "$tmp/www/a.test/sub"
cp "$tmp/www/a.test/env.php" "$tmp/www/a.test/sub/"

start_httpd event <<-EOF
	LoadModule proxy_module @modules@/mod_proxy.so
	LoadModule proxy_fcgi_module @modules@/mod_proxy_fcgi.so
	<Directory $tmp/www>
	AllowOverride FileInfo AuthConfig Indexes
	AllowOverrideList ZfpmPool
	</Directory>
	AddHandler zfpm:app .app
	$(vhost a.test "Alias /alias $tmp/www/a.test/sub")
	$(vhost b.test 'ZfpmPool a.test' "DocumentRoot $tmp/www/a.test")
EOF
env=$(get a.test '/env.php?q=1%20b')
value() { printf '%s\n' "$env" | sed -n "s|^$1=||p"; }
is "$(value user)" "$alice" "the pool is the virtual host's name"
is "$(value QUERY_STRING)" 'q=1%20b' "QUERY_STRING"
is "$(value SCRIPT_NAME)" /env.php "SCRIPT_NAME"
is "$(value SCRIPT_FILENAME)" "$tmp/www/a.test/env.php" "SCRIPT_FILENAME"
is "$(value DOCUMENT_ROOT)" "$tmp/www/a.test" "DOCUMENT_ROOT"
is "$(value REDIRECT_STATUS)" 200 "REDIRECT_STATUS is set"
is "$(value GATEWAY_INTERFACE)" CGI/1.1 "GATEWAY_INTERFACE"
unlike "$env" '^ZFPM_|^CONTENT_LENGTH' "nothing of zfpm's own arrives, and no length where there is no body"
is "$(get b.test /env.php | sed -n 's/^user=//p')" "$alice" "ZfpmPool in a virtual host names the pool"

env=$(get a.test /env.php/some/info)
is "$(value PATH_INFO) $(value SCRIPT_NAME) $(value PATH_TRANSLATED)" "/some/info /env.php $tmp/www/a.test/some/info" "PATH_INFO behind a script"
env=$(get a.test /alias/env.php/i)
is "$(value PATH_INFO) $(value SCRIPT_NAME) $(value SCRIPT_FILENAME)" "/i /alias/env.php $tmp/www/a.test/sub/env.php" "and behind one under an Alias"

# What a tenant may try. $1: the text of .htaccess
htaccess() { printf '%s\n' "$@" >"$tmp/www/a.test/.htaccess"; }
htaccess 'SetEnv ZFPM_POOL b.test' 'SetEnv ZFPM_APP app' 'SetEnv ZFPM_KEY wrong' 'SetEnv HTTP_PROXY evil:80' 'SetEnv ZFPM_X y' \
    'SetEnv KEPT yes'
env=$(get a.test /env.php -H 'Proxy: evil:80' -H 'ZFPM-Pool: b.test')
is "$(value user)" "$alice" "SetEnv ZFPM_POOL changes nothing"
is "$(value KEPT)" yes "other variables of SetEnv arrive"
unlike "$env" '^ZFPM_' "no ZFPM_ variable arrives"
unlike "$env" '^HTTP_PROXY=' "nor HTTP_PROXY, from SetEnv or from the client"
htaccess 'SetEnvIf Request_URI . ZFPM_POOL=b.test ZFPM_KEY=x' 'RewriteEngine on' 'RewriteRule . - [E=ZFPM_POOL:b.test,E=ZFPM_APP:app]'
env=$(get a.test /env.php)
is "$(value user)" "$alice" "nor do SetEnvIf and RewriteRule [E=...]"
htaccess 'ZfpmPool b.test'
is "$(code a.test /env.php)" 500 "ZfpmPool in .htaccess is an error, even where AllowOverrideList names it"
passes "and the error log says so" errors 'ZfpmPool.*(not allowed|cannot occur)'
htaccess '<Files env.php>' 'ZfpmPool b.test' '</Files>'
is "$(code a.test /env.php)" 500 "in a section of .htaccess too"
htaccess 'ZfpmSocket /nowhere'
is "$(code a.test /env.php)" 500 "so is ZfpmSocket"
htaccess 'ZfpmKey /etc/passwd'
is "$(code a.test /env.php)" 500 "and ZfpmKey"

htaccess "SetHandler \"proxy:unix:$sock|fcgi://x\"" 'SetEnv ZFPM_POOL b.test'
is "$(code a.test /env.php)" 403 "mod_proxy_fcgi to zfpm's socket is refused for want of the key"
passes "and zfpm's log says why" log_has 'ZFPM_KEY is missing or wrong'
htaccess "SetHandler \"proxy:unix:$sock|fcgi://x\"" 'SetEnv ZFPM_POOL b.test' 'SetEnv ZFPM_KEY 0123456789abcdef0123456789abcdef'
is "$(code a.test /env.php)" 403 "with a wrong key too"

# An application's choice, within what the pool allows.
htaccess ''
like "$(get a.test '/show.app?')" '^param SCRIPT_NAME' "zfpm:NAME names the app"
htaccess 'ZfpmApp app'
like "$(get a.test '/env.php')" '^param SCRIPT_NAME' "so does ZfpmApp in .htaccess"
unlike "$(get a.test '/env.php')" 'ZFPM_|[^a-z]key' "and that application gets no ZFPM_ variable either"
htaccess 'ZfpmApp nosuch'
is "$(code a.test /env.php)" 500 "an app that the pool does not name is an error"
passes "and the error log says which" errors "^stderr: Unknown application 'nosuch' in pool 'a.test'"
htaccess 'ZfpmApp ../x'
is "$(code a.test /env.php)" 500 "what can not be a name is refused"

# Authorization
htaccess ''
env=$(get a.test /env.php -u joe:secret)
is "$(value PHP_AUTH_USER):$(value PHP_AUTH_PW)" joe:secret "the Authorization header is passed"
htaccess 'ZfpmPassAuthorization off'
unlike "$(get a.test /env.php -u joe:secret)" 'AUTHORIZATION|PHP_AUTH' "unless ZfpmPassAuthorization is off"

# RewriteRule to script and PATH_INFO
htaccess 'RewriteEngine on' 'RewriteRule ^x$ /env.php/info [L]' 'RewriteRule ^y$ /env.php [L]' 'RewriteRule ^z$ sub/env.php/i [L]'
env=$(get a.test /x)
is "$(value SCRIPT_NAME) $(value PATH_INFO) $(value PHP_SELF)" '/env.php /info /env.php/info' "RewriteRule to a script with PATH_INFO"
is "$(value REQUEST_URI) $(value SCRIPT_FILENAME)" "/x $tmp/www/a.test/env.php" "and the other variables are right"
env=$(get a.test /y)
is "$(value SCRIPT_NAME) $(value PATH_INFO) $(value REDIRECT_URL)" '/env.php  /y' "RewriteRule to a script alone"
env=$(get a.test /z)
is "$(value SCRIPT_NAME) $(value PATH_INFO)" '/sub/env.php /i' "RewriteRule to a script in a directory"
htaccess 'FallbackResource /env.php'
env=$(get a.test /no/such/thing)
is "$(value SCRIPT_NAME) $(value REQUEST_URI)" '/env.php /no/such/thing' "FallbackResource"
htaccess 'DirectoryIndex env.php'
env=$(get a.test /sub/)
is "$(value SCRIPT_NAME)" '/sub/env.php' "DirectoryIndex"

# A variable that is longer than PHP and most servers take in one piece.
long=$(head -c 7000 /dev/zero | tr '\0' a)
rm "$tmp/www/a.test/.htaccess"
env=$(get a.test /env.php -H "X-Long: $long")
is "$(value HTTP_X_LONG)" "$long" "a header of 7,000 bytes"
