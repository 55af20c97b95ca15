#!/bin/sh
# Responses through the filters and protocols of Apache: at once, whole, or visibly cut, over HTTP/1.0, 1.1 and 2,
# compressed, cached and with headers of the administrator's.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 46

tenants
www=$tmp/www/a.test
touch "$www/x.app"
mkdir -m 1777 "$tmp/notes"
mkdir "$tmp/cache"
# An event each time that the file for it is there
cat >"$www/events.php" <<-\EOF
	<?php
	header('Content-Type: text/event-stream');
	header('Cache-Control: no-cache');
	while (ob_get_level())
		ob_end_clean();
	for ($i = 1; $i <= 4; $i++) {
		while (!file_exists($_GET['go'] . $i))
			usleep(5000);
		echo "data: event $i\n\n";
		flush();
	}
EOF
cat >"$www/cookies.php" <<-\EOF
	<?php
	for ($i = 0; $i < 50; $i++)
		setcookie("c$i", str_repeat('v', 100));
	header('X-Two: a');
	header('X-Two: b', false);
	header('X-Gone: x');
	echo 'body';
EOF
cat >"$www/long.php" <<-\EOF
	<?php
	for ($i = 0; $i < 40; $i++)
		header("X-Long-$i: " . str_repeat('l', 1000));
	echo 'body';
EOF
cat >"$www/text.php" <<-\EOF
	<?php
	header('Content-Type: text/plain');
	for ($i = 0; $i < 20000; $i++)
		echo "line $i of many\n";
EOF
cat >"$www/gzipped.php" <<-\EOF
	<?php
	header('Content-Type: text/plain');
	header('Content-Encoding: gzip');
	echo gzencode("by the script\n");
EOF
cat >"$www/cached.php" <<-\EOF
	<?php
	file_put_contents($_GET['note'], "x", FILE_APPEND);
	header('Cache-Control: max-age=600');
	header('ETag: "one"');
	echo "cached\n";
EOF

start_httpd event <<-EOF
	LoadModule http2_module @modules@/mod_http2.so
	LoadModule filter_module @modules@/mod_filter.so
	LoadModule deflate_module @modules@/mod_deflate.so
	LoadModule cache_module @modules@/mod_cache.so
	LoadModule cache_disk_module @modules@/mod_cache_disk.so
	Protocols h2c http/1.1
	AddHandler zfpm:app .app
	CacheRoot $tmp/cache
	$(vhost a.test '<Location /zip>' 'SetOutputFilter DEFLATE' '</Location>' "Alias /zip $www" "Alias /cache $www" \
	    'CacheEnable disk /cache' '<Location /head>' 'Header set X-Added set' 'Header always set X-Always set' 'Header always unset X-Gone' \
	    'Header always append X-Two c' 'Header always edit Set-Cookie ^c0= zero=' '</Location>' "Alias /head $www")
EOF
chown "$web:" "$tmp/cache"

# At once: each event is there before the next one is let go.
has() { grep -q "event $1" "$tmp/events"; }
for how in -0 --http1.1 --http2-prior-knowledge zip; do
	path=/events.php
	[ $how != zip ] || path=/zip/events.php
	rm -f "$tmp/notes/"*
	case $how in
	zip) get_exec a.test "$path?go=$tmp/notes/" --compressed -N >"$tmp/events" & ;;
	*) get_exec a.test "$path?go=$tmp/notes/" "$how" -N >"$tmp/events" & ;;
	esac
	client=$!
	track $client
	for i in 1 2 3 4; do
		touch "$tmp/notes/$i"
		wait_until has $i || break
	done
	wait $client
	is "$? $(grep -c '^data: event' "$tmp/events")" "0 4" "events arrive one by one: $how"
done
raw() {	# PATH: the response as it is on the wire
	perl -MIO::Socket::INET -e '
		my $s = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die;
		print $s "GET $ARGV[1] HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
		$s->flush;
		local $/;
		print <$s>;' "$port" "$1"
}
raw '/x.app?out=400000&record=200' >"$tmp/raw"
chunks=$(tr -d '\r' <"$tmp/raw" | grep -Eac '^[0-9a-f]{1,5}$')
passes "2,000 records of a response that is all there do not make as many chunks: $chunks" test "$chunks" -lt 1000
is "$(get a.test '/x.app?out=400000&record=200' | cksum)" "$("$bin/client" pattern 400000 | cksum)" "and no byte is lost"

# Headers
for v in http1.1 http2-prior-knowledge; do
	is "$(get a.test /cookies.php "--$v" -i | grep -aic '^set-cookie: c[0-9]*=v\{100\}')" 50 "50 cookies: $v"
	is "$(get a.test /long.php "--$v" -i | grep -aic '^x-long-[0-9]*: l\{1000\}')" 40 "40 KB of headers: $v"
	is "$(get a.test /x.app?code=204 "--$v" -w '%{http_code} %{size_download}')" '204 0' "204: $v"
	is "$(get a.test '/x.app?header=ETag:%20%22x%22&out=5' "--$v" -H 'If-None-Match: "x"' -w '%{http_code} %{size_download}')" '304 0' "304: $v"
	is "$(get a.test '/x.app?header=Content-Length:%205000&out=5000' "--$v" -I | tr -d '\r' | grep -aic '^content-length: 5000')" 1 "HEAD: $v"
	is "$(code a.test '/x.app?code=302&header=Location:%20/x' "--$v")" 302 "a redirect: $v"
	is "$(code a.test '/x.app?code=503&out=0' "--$v")" 503 "an error: $v"
done
h=$(get a.test /head/cookies.php -i | tr -d '\r')
is "$(printf '%s\n' "$h" | grep -Ec '^X-(Added|Always): set$')" 2 "mod_headers adds to a script's headers"
unlike "$h" '^X-Gone' "takes from them"
like "$h" '^X-Two: .*c$' "appends"
is "$(printf '%s\n' "$h" | grep -c '^Set-Cookie: zero=')$(printf '%s\n' "$h" | grep -c '^Set-Cookie: c')" 149 "and edits one of 50 cookies"

# Compression
for v in http1.1 http2-prior-knowledge; do
	is "$(get a.test /zip/text.php "--$v" --compressed | cksum)" "$(get a.test /text.php | cksum)" "mod_deflate: $v"
done
like "$(get a.test /zip/text.php -H 'Accept-Encoding: gzip' -i -o - | grep -a '^Content-Encoding')" '^Content-Encoding: gzip' "it is compressed"
is "$(get a.test /zip/gzipped.php --compressed)" 'by the script' "once, if the script has done it"
is "$(get a.test '/zip/x.app?out=5000&header=Content-Length:%205000' --compressed | cksum)" "$("$bin/client" pattern 5000 | cksum)" \
    "a Content-Length that is not true any more is not sent"

# A cache
for i in 1 2 3; do get a.test "/cache/cached.php?note=$tmp/notes/cached"; done >"$tmp/out"
is "$(cat "$tmp/out"; wc -c <"$tmp/notes/cached")" 'cached
cached
cached
1' "mod_cache: three responses, one request"
is "$(code a.test "/cache/cached.php?note=$tmp/notes/cached" -H 'If-None-Match: "one"')" 304 "conditions too"
for i in 1 2; do get a.test "/cache/text.php?$i" | cksum; done | uniq | wc -l >"$tmp/out"
is "$(cat "$tmp/out")" 1 "what may not be cached is not changed"

# Cut
cut_code() { get a.test "$@" >"$tmp/out" 2>"$tmp/curl.txt"; echo $?; }
for length in '' '&header=Content-Length:%203000000'; do
	for how in 'at=mid&signal=9' 'at=mid&close' 'at=mid&rubbish'; do
		is "$(cut_code "/x.app?$how&out=3000000$length" --http1.1)" 18 "HTTP/1.1 shows the cut: $how$length"
		like "$(cut_code "/x.app?$how&out=3000000$length" --http2-prior-knowledge)" '^(92|18|56)$' "HTTP/2 shows the cut: $how$length"
	done
done
is "$(cut_code "/zip/x.app?at=mid&signal=9&out=3000000" -H 'Accept-Encoding: gzip')" 18 "a compressed one too"
is "$(get a.test '/x.app?out=10' | wc -c)" 10 "the next request is served"
