#!/bin/sh
# SetHandler zfpm-status shows zfpm's status page to those whom the server's own configuration allows it.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 25

tenants
echo '<?php echo "hello";' >"$tmp/www/a.test/hello.php"
mkdir "$tmp/www/a.test/my"
echo x >"$tmp/www/a.test/my/index.html"
start_httpd event <<-EOF
	LoadModule authz_host_module @modules@/mod_authz_host.so
	LoadModule http2_module @modules@/mod_http2.so
	Protocols h2c http/1.1
	LogLevel zfpm:info
	<Directory $tmp/www>
	AllowOverride All
	</Directory>
	$(vhost a.test '<Location /zfpm-status>' 'SetHandler zfpm-status' 'Require ip 127.0.0.1' '</Location>' \
	    '<Location /closed>' 'SetHandler zfpm-status' 'Require ip 192.0.2.1' '</Location>' \
	    '<Location /filter>' 'SetHandler zfpm-filter' '</Location>')
	$(vhost b.test)
EOF
is "$(get a.test /hello.php)" hello "a request, to be counted"

h=$(get a.test /zfpm-status -i)
like "$h" '^HTTP/1.1 200' "the page"
like "$h" '^Content-Type: text/html' "is HTML"
like "$h" 'a\.test' "which names the pool"
is "$(printf '%s\n' "$h" | grep -Ec '(src|href)="?(https?:)?//')" 0 "and needs nothing from elsewhere"
like "$(get a.test '/zfpm-status?json' -i)" '^Content-Type: application/json' "?json"
get a.test '/zfpm-status?json' >"$tmp/json"
# shellcheck disable=SC2016 # Perl
passes "is JSON, with the pool" perl -MJSON::PP -e \
    'local $/; exit !grep { $_->{name} eq "a.test" } @{decode_json(<STDIN>)->{pools}}' <"$tmp/json"
like "$(get a.test '/zfpm-status?text' -i)" '^Content-Type: text/plain' "?text"
like "$(get a.test '/zfpm-status?openmetrics' -i)" '^Content-Type: application/openmetrics-text' "?openmetrics"
is "$(get a.test '/zfpm-status?openmetrics' | tail -n 1)" '# EOF' "is complete"
is "$(get a.test '/zfpm-status?json' --http2-prior-knowledge | head -c 1)" '{' "over HTTP/2"
is "$(get a.test '/zfpm-status' -I | head -n 1 | tr -d '\r')" 'HTTP/1.1 200 OK' "HEAD"
is "$(code a.test '/zfpm-status' -d x)" 405 "POST is not allowed"
like "$(get a.test '/zfpm-status' -X OPTIONS -i)" '^Allow: .*GET' "OPTIONS says what is"
is "$(code a.test '/zfpm-status' -X DELETE)" 405 "nor is anything else"
is "$(code a.test /closed)" 403 "Apache's access control is in front of it"

# A tenant is not to see what others run, nor to be shown the source of what has a handler by a wrong name.
echo 'SetHandler zfpm-status' >"$tmp/www/a.test/my/.htaccess"
is "$(code a.test /my/index.html)" 403 "SetHandler in .htaccess is refused"
passes "and the log says so" errors 'zfpm-status: only a <Location> of the server.s configuration can give this handler \(URI /my/index.html'
echo 'AddHandler zfpm-status .html' >"$tmp/www/a.test/my/.htaccess"
is "$(code a.test /my/index.html)" 403 "AddHandler too"
printf 'RewriteEngine on\nRewriteRule . - [H=zfpm-status]\n' >"$tmp/www/a.test/my/.htaccess"
is "$(code a.test /my/index.html)" 403 "and RewriteRule [H=]"
echo 'SetEnv ZFPM_STATUS json' >"$tmp/www/a.test/.htaccess"
is "$(get a.test /hello.php)" hello "SetEnv ZFPM_STATUS means nothing"
is "$(code a.test /filter)" 500 "FILTER is refused"
passes "clearly" errors 'there is no handler zfpm-filter: .*the FILTER role is not supported'

stop_zfpm
is "$(code a.test /zfpm-status)" 503 "without zfpm: 503"
passes "and the log says why" errors "^Cannot connect to zfpm at $sock: .* \\(status of zfpm, URI /zfpm-status\\)"
