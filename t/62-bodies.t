#!/bin/sh
# Request and response bodies of any size arrive whole, and one that was cut off never reaches a script as complete.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 36

tenants
cat >"$tmp/www/a.test/post.php" <<-\EOF
	<?php
	header('Content-Type: text/plain');
	$in = fopen('php://input', 'r');
	$sum = hash_init('md5');
	for ($n = 0; !feof($in); $n += strlen($piece)) {
		$piece = fread($in, 65536);
		hash_update($sum, $piece);
	}
	if (isset($_GET['note']))
		file_put_contents($_GET['note'], "$n\n");
	echo $n, ' ', hash_final($sum), ' ', $_SERVER['CONTENT_LENGTH'] ?? 'none', "\n";
EOF
cat >"$tmp/www/a.test/file.php" <<-\EOF
	<?php
	header('Content-Type: application/octet-stream');
	if (isset($_GET['length']))
		header('Content-Length: ' . filesize($_GET['f']));
	while (ob_get_level())
		ob_end_clean();
	readfile($_GET['f']);
EOF
cat >"$tmp/www/a.test/upload.php" <<-\EOF
	<?php
	echo $_POST['field'], ' ', $_FILES['file']['size'], ' ', md5_file($_FILES['file']['tmp_name']), "\n";
EOF
touch "$tmp/www/a.test/x.app"
mkdir -m 1777 "$tmp/notes"

start_httpd event <<-EOF
	LoadModule http2_module @modules@/mod_http2.so
	LoadModule filter_module @modules@/mod_filter.so
	LoadModule deflate_module @modules@/mod_deflate.so
	LoadModule reqtimeout_module @modules@/mod_reqtimeout.so
	AddHandler zfpm:app .app
	Timeout 20
	Protocols h2c http/1.1
	RequestReadTimeout body=1,MinRate=1000
	$(vhost a.test '<Location /limit.php>' 'LimitRequestBody 1000' '</Location>' 'AliasMatch ^/limit.php @tmp@/www/a.test/post.php' \
	    '<Location /inflate.php>' 'SetInputFilter DEFLATE' '</Location>' 'AliasMatch ^/inflate.php @tmp@/www/a.test/post.php')
EOF

head -c 200000000 /dev/urandom >"$tmp/big"
chmod 644 "$tmp/big"
md5() { md5sum | cut -d ' ' -f 1; }
sum=$(md5 <"$tmp/big")
post() { get a.test "$@" -H 'Content-Type: application/octet-stream'; }

is "$(get a.test "/file.php?f=$tmp/big" | md5)" "$sum" "200 MB down, chunked"
is "$(get a.test "/file.php?length&f=$tmp/big" | md5)" "$sum" "200 MB down with a Content-Length"
is "$(get a.test "/file.php?f=$tmp/big" --http2-prior-knowledge | md5)" "$sum" "200 MB down over HTTP/2"
is "$(get a.test "/file.php?f=$tmp/big" --limit-rate 150M | md5)" "$sum" "200 MB down to a slow reader"
is "$(post /post.php -X POST -T "$tmp/big")" "200000000 $sum 200000000" "200 MB up with a Content-Length"
is "$(post /post.php -X POST -T - <"$tmp/big")" "200000000 $sum 200000000" "200 MB up, chunked: CONTENT_LENGTH is true"
is "$(post /post.php -X POST -T "$tmp/big" --http2-prior-knowledge)" "200000000 $sum 200000000" "200 MB up over HTTP/2"
is "$(post /post.php -X POST -T - --http2-prior-knowledge <"$tmp/big")" "200000000 $sum 200000000" "200 MB up over HTTP/2 without a length"
is "$(post '/x.app?echo' -X POST -T "$tmp/big" | md5)" "$sum" "200 MB both ways at once"
is "$(post '/x.app?early=300000000&out=300000000' -X POST -T "$tmp/big" | wc -c)" 300000000 "300 MB from an application that answers before it reads 200 MB"
is "$(post '/x.app?noread&out=100000' -X POST -T "$tmp/big" | wc -c)" 100000 "an answer from one that never reads them"
is "$(find "$tmp/httpd" /tmp /var/tmp -maxdepth 1 -name 'zfpm.??????' 2>/dev/null | wc -l)" 0 "no spool file is left"
rm "$tmp/big"

for n in 0 1 7999 8000 63999 64000 64001 65535 65536 65537 128001; do
	head -c "$n" /dev/urandom >"$tmp/part"
	sum=$(md5 <"$tmp/part")
	{
		post /post.php --data-binary "@$tmp/part"
		post /post.php --data-binary "@$tmp/part" -H 'Transfer-Encoding: chunked'
	} >"$tmp/got"
	is "$(uniq "$tmp/got")" "$n $sum $n" "$n bytes up, with a length and chunked"
done
head -c 300000 /dev/urandom >"$tmp/part"
sum=$(md5 <"$tmp/part")
is "$(get a.test /upload.php -F field=value -F "file=@$tmp/part")" "value 300000 $sum" "a form with a file"
gzip -c "$tmp/part" >"$tmp/part.gz"
is "$(post /inflate.php --data-binary "@$tmp/part.gz" -H 'Content-Encoding: gzip')" "300000 $sum 300000" "a length that an input filter changes is right"

is "$(post /post.php --data-binary "@$tmp/part" -H 'Expect: 100-continue' --expect100-timeout 50 --max-time 20)" "300000 $sum 300000" "a client that waits for 100 Continue gets it at once"
is "$(code a.test /limit.php --data-binary "@$tmp/part")" 413 "LimitRequestBody"
is "$(code a.test /limit.php --data-binary "@$tmp/part" -H 'Transfer-Encoding: chunked')" 413 "LimitRequestBody, chunked"
is "$(code a.test /limit.php --data-binary 'small')" 200 "and less than that passes"

# A client that sends the header and a part of the body, then what $2 says.
part() {
	perl -MIO::Socket::INET -e '
		my $s = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die;
		my ($note, $length, $part, $then) = @ARGV[1 .. 4];
		print $s "POST /post.php?note=$note HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n",
		    "Content-Type: application/octet-stream\r\n", $length, "\r\n\r\n", $part;
		$s->flush;
		if ($then eq "close") { close $s; exit }
		shutdown $s, 1 if $then eq "half";
		local $/;
		print <$s>;' "$port" "$@"
}
ran() { [ -e "$tmp/notes/$1" ]; }
hundred=$(head -c 100 /dev/zero | tr '\0' b)
part "$tmp/notes/closed" 'Content-Length: 1000' "$hundred" close
like "$(part "$tmp/notes/half" 'Content-Length: 1000' "$hundred" half)" '^HTTP/1.1 400' "a body that ends too early is 400"
like "$(part "$tmp/notes/slow" 'Content-Length: 1000' "$hundred" wait)" '^HTTP/1.1 408' "one that stops is 408"
like "$(part "$tmp/notes/chunk" 'Transfer-Encoding: chunked' '64
bbbb' half)" '^HTTP/1.1 400' "a chunked one that ends too early is 400"
big=$(head -c 100000 /dev/zero | tr '\0' b)
like "$(part "$tmp/notes/large" 'Content-Length: 1000000' "$big" half)" '^HTTP/1.1 (400|500)|^$' "100 KB of 1 MB"
like "$(part "$tmp/notes/whole" "Content-Length: 100" "$hundred" wait)" "^100 [0-9a-f]+ 100" "a body that is complete is served"
# The large one was with php-cgi already: zfpm kills a worker that waits for a body which will never come.
for n in closed half slow chunk large; do
	ran "$n" && echo "$n"
done >"$tmp/ran"
is "$(cat "$tmp/ran")" '' "no script ran on a part of a body"
passes "that one ran shows in the same way" ran whole
