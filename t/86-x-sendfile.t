#!/bin/sh
# X-Sendfile sends files below the allowed directories as Apache would send them itself, and nothing else.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 46

tenants
files=$tmp/files
mkdir -p "$files/sub" "$tmp/files-secret" "$tmp/priv" "$tmp/www/a.test/own" "$tmp/www/a.test/free" "$tmp/real"
head -c 100000 /dev/urandom >"$files/data.bin"
echo 'some text' | tee "$files/a.txt" "$files/sub/b.txt" "$tmp/files-secret/c.txt" "$tmp/www/a.test/own/d.txt" "$tmp/real/e.txt" >"$tmp/out"
echo '<?php echo "executed";' >"$files/x.php"
ln -s /etc/passwd "$files/passwd"
ln -s a.txt "$files/link.txt"
ln -s "$tmp/files-secret" "$files/dir"
ln -s "$tmp/real" "$tmp/linked"
mkfifo "$files/fifo"
echo x >"$files/locked"
chmod 600 "$files/locked"
cat >"$tmp/www/a.test/send.php" <<-\EOF
	<?php
	ini_set('default_mimetype', '');
	foreach ($_GET['h'] ?? [] as $line)
		header($line);
	header('X-Sendfile: ' . $_GET['f']);
	echo 'this is not sent';
EOF
cp "$tmp/www/a.test/send.php" "$tmp/www/a.test/free/"
printf 'text/plain txt\napplication/x-mine bin\n' >"$tmp/types"

# Apache gives what was written in the last second a weak ETag only.
find "$files" -type f -exec touch -d '2024-05-06 07:08:09' {} +
start_httpd event <<-EOF
	LoadModule http2_module @modules@/mod_http2.so
	LoadModule filter_module @modules@/mod_filter.so
	LoadModule deflate_module @modules@/mod_deflate.so
	Protocols h2c http/1.1
	TypesConfig $tmp/types
	LogLevel zfpm:info
	<Directory $tmp/www>
	AllowOverride All
	AllowOverrideList ZfpmXSendfile
	</Directory>
	$(vhost a.test "ZfpmXSendfile $files $tmp/www/a.test/own $tmp/linked" \
	    "<Directory $tmp/www/a.test/free>" 'ZfpmXSendfile none' '</Directory>' \
	    '<Location /zip>' 'SetOutputFilter DEFLATE' '</Location>' "Alias /zip $tmp/www/a.test")
EOF
send() { lib_f=$1; shift; get a.test "/send.php?f=$lib_f" -g "$@"; }
send_code() { lib_f=$1; shift; code a.test "/send.php?f=$lib_f" -g "$@"; }
send_head() { lib_f=$1; shift; get a.test "/send.php?f=$lib_f" -g "$@" -o "$tmp/body" -D - | tr -d '\r'; }

# The file
is "$(send "$files/data.bin" | cksum)" "$(cksum <"$files/data.bin")" "the file is the response"
h=$(send_head "$files/data.bin")
like "$h" '^Content-Length: 100000$' "with its length"
like "$h" '^Content-Type: application/x-mine$' "the type that its name has for Apache"
like "$h" '^Last-Modified: ' "its date"
like "$h" '^ETag: "' "an ETag"
like "$h" '^Accept-Ranges: bytes$' "and ranges"
unlike "$h" '[Xx]-[Ss]endfile' "without the header"
h=$(send_head "$files/data.bin&h[]=Content-Type:%20image/png&h[]=Content-Disposition:%20attachment&h[]=Content-Length:%205")
like "$h" '^Content-Type: image/png$' "the script's own type stays"
like "$h" '^Content-Disposition: attachment' "and its other headers"
like "$h" '^Content-Length: 100000' "but not its length"
is "$(send "$files/x.php")" '<?php echo "executed";' "a script is a file like others"
is "$(send "$files/sub/b.txt")" 'some text' "one in a directory below"
is "$(send "$files/link.txt")" 'some text' "one behind a link that stays below"
is "$(send "own/d.txt")" 'some text' "one that is named from where the script is"
is "$(send "$files/a.txt" --http2-prior-knowledge)" 'some text' "over HTTP/2"
is "$(send "$files/a.txt&h[]=Status:%20404" -w ' %{http_code}' | tr -d '\n')" 'some text 404' "with a status"
is "$(get a.test "/zip/send.php?f=$files/data.bin" --compressed | cksum)" "$(cksum <"$files/data.bin")" "compressed"

# Ranges, conditions, HEAD
is "$(send "$files/data.bin" -r 1000-1999 | cksum)" "$(tail -c +1001 "$files/data.bin" | head -c 1000 | cksum)" "a range"
is "$(send_code "$files/data.bin" -r 1000-1999)" 206 "with its status"
is "$(send "$files/data.bin" -r -500 | cksum)" "$(tail -c 500 "$files/data.bin" | cksum)" "the end"
like "$(send_head "$files/data.bin" -r 0-9,50000-50009)" '^Content-Type: multipart/byteranges' "two ranges"
is "$(send_code "$files/data.bin" -r 200000-)" 416 "one that is not there"
tag=$(send_head "$files/data.bin" | sed -n 's/^ETag: //p')
is "$(send_code "$files/data.bin" -H "If-None-Match: $tag")" 304 "If-None-Match"
is "$(send_code "$files/data.bin" -H 'If-None-Match: "other"')" 200 "another one"
is "$(send_code "$files/data.bin" -z "$files/data.bin")" 304 "If-Modified-Since"
is "$(send_code "$files/data.bin" -r 0-9 -H "If-Range: $tag")" 206 "If-Range with the ETag"
is "$(send_code "$files/data.bin" -r 0-9 -H 'If-Range: "old"')" 200 "with another one"
is "$(send_code "$files/data.bin" -H 'If-Match: "old"')" 412 "If-Match"
is "$(send_head "$files/data.bin&h[]=ETag:%20%22mine%22" | sed -n 's/^ETag: //p')" '"mine"' "the script's own ETag"
like "$(send "$files/data.bin" -I)" '^Content-Length: 100000' "HEAD has the length"
is "$(send "$files/a.txt" -d body)" 'some text' "an answer to POST"

# Refused
refused() {
	is "$(send_code "$1")" 500 "$2"
	passes "$2: the log says why" errors "X-Sendfile: cannot send $1: .*$3.* \\(pool a.test, URI /send.php\\)"
}
refused /etc/passwd "a file that is elsewhere" '/etc/passwd is not below'
is "$(send "$files/../../../etc/passwd" | grep -c root:)" 0 "not through .. either"
refused "$files/passwd" "a link that leads out" '/etc/passwd is not below'
refused "$files/dir/c.txt" "a directory that is a link" 'files-secret/c.txt is not below'
is "$(send_code "$tmp/files-secret/c.txt")" 500 "a directory whose name only begins like an allowed one"
is "$(send_code "$files")$(send_code "$files/fifo" --max-time 5)$(send_code "$files/locked")$(send_code "$files/nosuch")" 500500500500 \
    "a directory, a fifo, a file that Apache may not read, none at all"
is "$(send_code "$tmp/linked/e.txt")" 500 "a directory that was allowed by the name of a link"
passes "of which Apache has warned" grep -q "ZfpmXSendfile: $tmp/linked is really $tmp/real" "$tmp/httpd.out" "$tmp/error.log"
like "$(get a.test "/free/send.php?f=$files/a.txt" -i)" '^X-Sendfile: .*a.txt' "where none is allowed the header is like any other"
printf 'ZfpmXSendfile /\n' >"$tmp/www/a.test/free/.htaccess"
is "$(code a.test "/free/send.php?f=$files/a.txt")" 500 "ZfpmXSendfile in .htaccess is an error"

# A tenant who exchanges a directory for a link all the time gets what he may have, or nothing.
perl -e '
	my ($dir, $other) = @ARGV;
	$SIG{TERM} = sub { exit };
	for (;;) {
		rename $dir, "$dir.away" and symlink $other, $dir;
		unlink $dir and rename "$dir.away", $dir;
	}' "$files/sub" "$tmp/priv" &
swapper=$!
track $swapper
echo 'the other one' >"$tmp/priv/b.txt"
i=0
while [ $i -lt 200 ]; do
	i=$((i + 1))
	printf '%s\n' "url = \"http://127.0.0.1:$port/send.php?f=$files/sub/b.txt\"" 'header = "Host: a.test"' next
done | sed '$d' >"$tmp/curlrc"
# Two hundred times, and until it was there once: on a busy machine the directory is away for long.
swapped() {
	curl -s --max-time 60 -K "$tmp/curlrc" >>"$tmp/swapped"
	grep -q 'some text' "$tmp/swapped"
}
wait_until swapped
served=$?
kill $swapper
is "$(grep -c 'the other one' "$tmp/swapped")" 0 "a link that comes and goes is never followed"
ok $served "while the file was served, too"
