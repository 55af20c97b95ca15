#!/bin/sh
# What a script learns of its request: the CGI variables of every kind of URL, over HTTP/1.0, 1.1 and 2; and when
# the client is asked for its body.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 56

tenants
www=$tmp/www/a.test
cat >"$www/env.php" <<-\EOF
	<?php
	header('Content-Type: text/plain');
	foreach ($_SERVER as $name => $value)
		if (is_string($value))
			echo "$name=$value\n";
	echo 'body=', strlen(file_get_contents('php://input')), "\n";
EOF
mkdir -p "$www/ä ö" "$www/secret" "$tmp/www/home/joe/public_html" "$www/limit" "$www/virtual"
cp "$www/env.php" "$www/ä ö/ü é.php"
cp "$www/env.php" "$www/err.php"
cp "$www/env.php" "$www/secret/env.php"
cp "$www/env.php" "$www/limit/env.php"
cp "$www/env.php" "$tmp/www/home/joe/public_html/env.php"
echo 'SetEnv FROM_HTACCESS yes' >"$www/virtual/.htaccess"
echo 'a file' >"$www/virtual/file.txt"
cat >"$www/note.php" <<-\EOF
	<?php
	file_put_contents($_GET['note'], strlen(file_get_contents('php://input')) . "\n");
EOF
mkdir -m 1777 "$tmp/notes" "$tmp/spool"
TMPDIR=$tmp/spool
export TMPDIR

# shellcheck disable=SC2016 # $1 is RewriteRule's
start_httpd event <<-EOF
	LoadModule http2_module @modules@/mod_http2.so
	LoadModule userdir_module @modules@/mod_userdir.so
	LoadModule authz_host_module @modules@/mod_authz_host.so
	Protocols h2c http/1.1
	ServerLimit 1
	StartServers 1
	$(vhost a.test 'AllowEncodedSlashes NoDecode' 'ErrorDocument 404 /err.php/of/error' "UserDir $tmp/www/home/*/public_html" \
	    '<Location /secret>' 'Require all denied' '</Location>' \
	    '<Location /limit>' 'LimitRequestBody 1000' '</Location>' \
	    '<Location /v>' 'SetHandler zfpm:app' 'ZfpmVirtual on' '</Location>' \
	    '<Location /virtual/>' 'SetHandler zfpm:app' 'ZfpmVirtual on' '</Location>' \
	    '<Location /virtual/file.txt>' 'SetHandler none' 'ZfpmVirtual off' '</Location>' \
	    '<LocationMatch "^/m[0-9]+">' 'SetHandler zfpm:app' 'ZfpmVirtual on' '</LocationMatch>' \
	    '<Location /phpv>' 'SetHandler zfpm:php' 'ZfpmVirtual on' '</Location>' \
	    'RewriteEngine on' 'RewriteRule ^/rw/(.*)$ /v/$1 [PT]')
	$(vhost b.test 'AllowEncodedSlashes On' "DocumentRoot $tmp/www/a.test" 'ZfpmVirtual on' 'SetHandler zfpm:app' 'AcceptPathInfo Off')
EOF
unset TMPDIR
fetch() { env=$(get a.test "$@"); }
value() { printf '%s\n' "$env" | sed -n "s|^$1=||p"; }
values() { for lib_v in "$@"; do printf '%s=%s;' "$lib_v" "$(value "$lib_v")"; done; }

# Characters
fetch '/env.php/a%2Fb?x=%2F'
is "$(values SCRIPT_NAME PATH_INFO REQUEST_URI QUERY_STRING)" \
    'SCRIPT_NAME=/env.php;PATH_INFO=/a%2Fb;REQUEST_URI=/env.php/a%2Fb?x=%2F;QUERY_STRING=x=%2F;' "an encoded slash"
fetch '/%C3%A4%20%C3%B6/%C3%BC%20%C3%A9.php/%E2%82%AC%20x/?q=a%20b'
is "$(values SCRIPT_NAME PATH_INFO SCRIPT_FILENAME)" \
    "SCRIPT_NAME=/ä ö/ü é.php;PATH_INFO=/€ x/;SCRIPT_FILENAME=$www/ä ö/ü é.php;" "spaces and UTF-8"
is "$(values QUERY_STRING REQUEST_URI)" \
    'QUERY_STRING=q=a%20b;REQUEST_URI=/%C3%A4%20%C3%B6/%C3%BC%20%C3%A9.php/%E2%82%AC%20x/?q=a%20b;' "query and REQUEST_URI are as they were sent"
fetch '//env.php//a///b'
is "$(values SCRIPT_NAME PATH_INFO SCRIPT_FILENAME)" "SCRIPT_NAME=/env.php;PATH_INFO=/a/b;SCRIPT_FILENAME=$www/env.php;" "double slashes"
fetch '/env.php/?'
is "$(values SCRIPT_NAME PATH_INFO QUERY_STRING)" 'SCRIPT_NAME=/env.php;PATH_INFO=/;QUERY_STRING=;' "a slash alone"
fetch '/secret/../env.php/./x' --path-as-is
is "$(values SCRIPT_NAME PATH_INFO)" 'SCRIPT_NAME=/env.php;PATH_INFO=/x;' "dots are resolved before"
is "$(code a.test '/env.php%00.txt')" 404 "a NUL byte is in no name"
is "$(code a.test '/env.php%0Ax')" 404 "nor is a script what only begins like one"

# Userdirs and error pages
fetch '/~joe/env.php/info'
is "$(values SCRIPT_NAME PATH_INFO SCRIPT_FILENAME CONTEXT_PREFIX)" \
    "SCRIPT_NAME=/~joe/env.php;PATH_INFO=/info;SCRIPT_FILENAME=$tmp/www/home/joe/public_html/env.php;CONTEXT_PREFIX=/~joe;" "a userdir"
fetch '/no/such?a=b' -X POST -d 'the body'
is "$(values SCRIPT_NAME PATH_INFO REQUEST_URI REDIRECT_STATUS REQUEST_METHOD QUERY_STRING REDIRECT_QUERY_STRING body)" \
    'SCRIPT_NAME=/err.php;PATH_INFO=/of/error;REQUEST_URI=/no/such?a=b;REDIRECT_STATUS=404;REQUEST_METHOD=GET;QUERY_STRING=;REDIRECT_QUERY_STRING=a=b;body=0;' \
    "an ErrorDocument with PATH_INFO"

# Headers
fetch /env.php -H 'X-Many: a' -H 'X-Many: b, c' -H 'X-Many: d'
is "$(value HTTP_X_MANY)" 'a, b, c, d' "several headers of one name are joined"
fetch /env.php -H 'X-Many: a' -H 'X-Many: b' --http2-prior-knowledge
is "$(value HTTP_X_MANY)" 'a, b' "over HTTP/2 too"
fetch /env.php -H 'X-Under_score: a' -H 'X.Dot: b' -H 'X-Empty;' -H 'Content-Type: x/y' -H 'User-Agent:'
is "$(values HTTP_X_UNDER_SCORE HTTP_X_DOT CONTENT_TYPE HTTP_USER_AGENT)" \
    'HTTP_X_UNDER_SCORE=;HTTP_X_DOT=;CONTENT_TYPE=x/y;HTTP_USER_AGENT=;' "names that could be taken for others are not passed"
like "$env" '^HTTP_X_EMPTY=$' "an empty header is there"
unlike "$env" '^HTTP_CONTENT' "and none is there twice"
if command -v nghttp >/dev/null; then
	is "$(nghttp -H ':authority: a.test' -H 'cookie: a=1' -H 'cookie: b=2' -H 'x-a: 1' -H 'x-a: 2' "http://127.0.0.1:$port/env.php" |
	    grep -E '^HTTP_(COOKIE|X_A)=' | sort | tr '\n' ';')" 'HTTP_COOKIE=a=1; b=2;HTTP_X_A=1, 2;' "nghttp: cookies of HTTP/2 are joined as cookies"
else
	skip 1 "no nghttp here"
fi

# Versions
fetch /env.php -0
is "$(values SERVER_PROTOCOL REQUEST_METHOD body)" 'SERVER_PROTOCOL=HTTP/1.0;REQUEST_METHOD=GET;body=0;' "HTTP/1.0"
unlike "$(get a.test /env.php -0 -i)" '^Transfer-Encoding' "without chunks"
fetch /env.php -0 -d 12345
is "$(values REQUEST_METHOD CONTENT_LENGTH body)" 'REQUEST_METHOD=POST;CONTENT_LENGTH=5;body=5;' "with a body"
fetch /env.php --http2-prior-knowledge -d 12345
is "$(values SERVER_PROTOCOL CONTENT_LENGTH body)" 'SERVER_PROTOCOL=HTTP/2.0;CONTENT_LENGTH=5;body=5;' "HTTP/2"
for m in PUT DELETE PATCH PROPFIND OPTIONS; do
	fetch /env.php -X $m -d body
	is "$(values REQUEST_METHOD body)" "REQUEST_METHOD=$m;body=4;" "$m"
done
fetch /env.php -d ''
is "$(values REQUEST_METHOD CONTENT_LENGTH)" 'REQUEST_METHOD=POST;CONTENT_LENGTH=0;' "an empty body has its length"

# ZfpmVirtual
report() { get "$@" | sed -n 's/^param //p' | grep -E '^(SCRIPT_NAME|PATH_INFO|SCRIPT_FILENAME|PATH_TRANSLATED|FROM_HTACCESS)=' | sort | tr '\n' ';'; }
is "$(report a.test /v/some/where%20else?)" 'PATH_INFO=/some/where else;SCRIPT_NAME=/v;' "virtual: the Location is the script, the rest PATH_INFO"
is "$(report a.test /v?)" 'SCRIPT_NAME=/v;' "the Location itself has none"
is "$(report a.test /v/?)" 'PATH_INFO=/;SCRIPT_NAME=/v;' "but for a slash"
is "$(code a.test /vx)" 404 "what only begins like it is not in it"
is "$(report a.test /v/a%2Fb?)" 'PATH_INFO=/a%2Fb;SCRIPT_NAME=/v;' "an encoded slash"
is "$(report a.test /virtual/new?)" 'PATH_INFO=/new;SCRIPT_NAME=/virtual;' "files and .htaccess of that name are not looked at"
is "$(get a.test /virtual/file.txt)" 'a file' "where it is off again they are"
is "$(report a.test /m12/x?)" 'PATH_INFO=/m12/x;SCRIPT_NAME=;' "of a pattern the whole is PATH_INFO"
is "$(report b.test /any/thing.php?)" 'PATH_INFO=/any/thing.php;SCRIPT_NAME=;' "as of a whole virtual host"
is "$(report b.test /env.php?)" 'PATH_INFO=/env.php;SCRIPT_NAME=;' "also where there is a file"
is "$(report a.test /rw/x?)" 'PATH_INFO=/x;SCRIPT_NAME=/v;' "a rewritten URL"
is "$(get a.test '/v/up?echo' -d 'some body')" 'some body' "a body"
is "$(get a.test '/v/up?echo' -T - --http2-prior-knowledge -X POST <"$www/env.php" | cksum)" "$(cksum <"$www/env.php")" "one without a length"
is "$(code a.test /phpv/x.php)" 403 "an app that asks for scripts gets none"
is "$(code a.test /v/x -X TRACE)$(get a.test /v/x -X TRACE | grep -c '^TRACE /v/x')" 2001 "TRACE is Apache's"

# When is the client asked for its body?
ask() {	# PATH LENGTH-HEADER [BODY]: what comes until the client would have to send
	perl -MIO::Socket::INET -e '
		my ($port, $path, $header, $body) = @ARGV;
		$body =~ s/\n/\r\n/g if defined $body;
		my $s = IO::Socket::INET->new("127.0.0.1:$port") or die;
		print $s "POST $path HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nExpect: 100-continue\r\n$header\r\n\r\n";
		$s->flush;
		alarm 20;
		my $first = <$s>;
		$first =~ s/\r?\n//;
		print "$first;";
		print($s $body), $s->flush if $first =~ / 100 /;
		while (<$s>) { print "$1;" if m{^HTTP/1.1 (\d+)}; print $_ if /^body=/ }' "$port" "$@"
}
is "$(ask /env.php 'Content-Length: 5' 12345)" 'HTTP/1.1 100 Continue;200;body=5' "100 Continue where a script reads"
is "$(ask /env.php 'Transfer-Encoding: chunked' '5
12345
0

')" 'HTTP/1.1 100 Continue;200;body=5' "for a chunked body too"
like "$(ask /nosuch.php 'Content-Length: 5')" '^HTTP/1.1 404' "not for a script that is missing"
like "$(ask /secret/env.php 'Content-Length: 5')" '^HTTP/1.1 403' "nor for one that is not allowed"
like "$(ask /limit/env.php 'Content-Length: 5000')" '^HTTP/1.1 413' "nor for a body that is too large"
kept() { find "$tmp/spool" -type f | wc -l; }

# Spooled: a file without a name
mkfifo "$tmp/body"
perl -MIO::Socket::INET -e '
	my $s = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die;
	print $s "POST /env.php HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
	print $s "30d40\r\n", "x" x 200000, "\r\n";
	$s->flush;
	<STDIN>;
	print $s "3\r\nend\r\n0\r\n\r\n";
	local $/;
	print <$s>;' "$port" <"$tmp/body" >"$tmp/spooled" &
spooler=$!
track $spooler
exec 9>"$tmp/body"
spooling() { for lib_p in $(httpd_children); do ls -l "/proc/$lib_p/fd"; done 2>/dev/null | grep -q "$tmp/spool/zfpm\.[A-Za-z0-9]* (deleted)"; }
passes "a long body without a length is in a file" wait_until spooling
is "$(kept)" 0 "that has no name"
echo >&9
exec 9>&-
wait $spooler
like "$(cat "$tmp/spooled")" '^CONTENT_LENGTH=200003' "the script is told its true length"
fails "and the file is gone" spooling
chmod 700 "$tmp/spool"
is "$(head -c 200000 /dev/zero | code a.test /env.php -X POST -T -)" 200 "where TMPDIR can not be used another directory is"
is "$(head -c 20000 /dev/zero | get a.test /env.php -X POST -T - | sed -n 's/^body=//p')" 20000 "a short one needs none"
chmod 1777 "$tmp/spool"

# Half-way
for v in http1.1 http2-prior-knowledge; do
	for how in 'Content-Length: 1000000' 'X: y'; do
		n=$v-${how%%:*}
		head -c 300000 /dev/zero >"$tmp/part"
		mkfifo "$tmp/fifo.$n"
		get_exec a.test "/note.php?note=$tmp/notes/$n" "--$v" -X POST -H "$how" -T "$tmp/fifo.$n" -N -v >"$tmp/out" 2>"$tmp/curl.$n" &
		client=$!
		exec 8>"$tmp/fifo.$n"
		cat "$tmp/part" >&8
		kill $client
		exec 8>&-
		wait $client
	done
done 2>"$tmp/err.txt"
is "$(get a.test /env.php -d 123 | sed -n 's/^body=//p')" 3 "clients that leave in the midst of a body"
is "$(ls "$tmp/notes")" '' "have run no script"

stop_zfpm
like "$(ask /env.php 'Content-Length: 5')" '^HTTP/1.1 503' "without zfpm nobody is asked for a body"
like "$(ask /env.php 'Transfer-Encoding: chunked')" '^HTTP/1.1 503' "nor for a chunked one"
