#!/bin/sh
# Status, headers, redirects, error pages and the moment at which bytes arrive are the script's own.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 58

tenants
touch "$tmp/www/a.test/x.app"
cat >"$tmp/www/a.test/show.php" <<-\EOF
	<?php
	header('Content-Type: text/plain');
	echo $_SERVER['REQUEST_METHOD'], ' ', $_SERVER['REDIRECT_STATUS'], ' ', $_SERVER['QUERY_STRING'], ' ',
	    $_SERVER['CONTENT_LENGTH'] ?? 'none', "\n";
EOF
cat >"$tmp/www/a.test/slow.php" <<-\EOF
	<?php
	while (ob_get_level())
		ob_end_clean();
	echo "first\n";
	flush();
	while (!file_exists($_GET['until']))
		usleep(10000);
	echo "second\n";
EOF
cat >"$tmp/www/a.test/code.php" <<-\EOF
	<?php
	http_response_code((int)$_GET['code']);
	if (isset($_GET['auth']))
		header('WWW-Authenticate: Basic realm="x"');
	if (isset($_GET['gzip']))
		header('Content-Encoding: gzip');
	header('Set-Cookie: a=1', false);
	header('Set-Cookie: b=2', false);
	echo $_GET['body'] ?? '';
EOF
cat >"$tmp/www/a.test/err.php" <<-\EOF
	<?php
	error_log('one');
	error_log("two\nthree");
	fwrite(STDERR ?? fopen('php://stderr', 'w'), '');
	error_log(str_repeat('x', 20000) . 'END');
	error_log("tab\there \x01");
	for ($i = 0; $i < 500; $i++)
		error_log("line $i of many");
	echo 'ok';
EOF
sed -i '/STDERR/d' "$tmp/www/a.test/err.php"
echo 'static page' >"$tmp/www/a.test/page.txt"
start_httpd event <<-EOF
	AddHandler zfpm:app .app
	LoadModule include_module @modules@/mod_include.so
	$(vhost a.test 'ErrorDocument 404 /show.php?404' 'ErrorDocument 403 "the forbidden page"' \
	    '<Location /own>' 'ZfpmErrorOverride off' '</Location>' 'Alias /own @tmp@/www/a.test' \
	    '<Location /ssi>' 'Options +Includes' 'SetOutputFilter INCLUDES' '</Location>' \
	    "<Directory @tmp@/www/a.test>" 'Options +Includes' '</Directory>')
EOF

# Status
is "$(code a.test '/code.php?code=201&body=x')" 201 "a Status"
like "$(get a.test '/x.app?code=299&out=1' -i)" '^HTTP/1.1 299' "one that nobody knows"
like "$(get a.test '/x.app?header=Status:%20418%20Short%20and%20stout&out=1' -i)" '^HTTP/1.1 418 Short and stout' "with its text"
for c in 100 099 600 20 2000 abc; do
	is "$(code a.test "/x.app?header=Status:%20$c&out=1")" 500 "Status: $c is none"
done
passes "and the error log says so" errors 'bad Status from script: abc'

# No body
is "$(get a.test '/code.php?code=204' -i | tr -d '\r' | sed -n '/^$/,$p')" '' "204 has no body"
is "$(get a.test '/x.app?code=304&header=ETag:%20%22x%22' -i | grep -c '^HTTP/1.1 304\|^ETag: "x"')" 2 "304 with its ETag"
is "$(code a.test '/x.app?header=ETag:%20%22x%22&out=5' -H 'If-None-Match: "x"')" 304 "a condition that holds is 304"
is "$(code a.test '/x.app?header=ETag:%20%22y%22&out=5' -H 'If-None-Match: "x"')" 200 "one that does not is 200"
like "$(get a.test '/x.app?header=Content-Length:%205000&out=5000' -I)" '^Content-Length: 5000' "HEAD keeps the Content-Length"
is "$(get a.test '/x.app?out=3000000' -I | tr -d '\r' | sed -n '/^$/,$p')" '' "HEAD drops a body of 3 MB"
is "$(get a.test /show.php?after | cut -d ' ' -f 1)" GET "and the connection goes on"

# Length
is "$(get a.test '/x.app?out=5000&header=Content-Length:%205000' -i | grep -ci 'content-length: 5000\|transfer-encoding')" 1 "a Content-Length is kept"
# If its end comes with it: on a busy machine that is not so each time, and then it is sent at once, in chunks.
has_length() { get a.test '/x.app?out=5000' -i | grep -qi 'content-length: 5000'; }
passes "a short response gets one" wait_until has_length
is "$(get a.test '/x.app?out=5000&header=Content-Length:%20100' | wc -c)" 100 "a body that is longer than its length is cut there"
get a.test '/x.app?out=100&header=Content-Length:%205000' >"$tmp/out" 2>&1
is "$?" 18 "one that is shorter is visibly cut"
is "$(get a.test '/x.app?out=100&header=Content-Length:%20abc' | wc -c)" 100 "a length that is none is ignored"
unlike "$(get a.test '/x.app?out=100&header=Transfer-Encoding:%20gzip&header=Keep-Alive:%20x' -i)" 'gzip|Keep-Alive: x' "so are Transfer-Encoding and Keep-Alive"
like "$(get a.test '/x.app?out=100&header=Connection:%20close' -i)" '^Connection: close' "Connection: close is obeyed"

# Location
like "$(get a.test '/x.app?header=Location:%20http://else.test/' -i)" '^HTTP/1.1 302' "Location with a URL is 302"
like "$(get a.test '/x.app?header=Location:%20http://else.test/' -i)" '^Location: http://else.test/' "and goes to the client"
is "$(get a.test '/x.app?header=Location:%20/show.php%3fq' -d body)" 'GET 200 q none' "Location with a path is a GET inside, without the body"
is "$(get a.test '/x.app?header=Location:%20/page.txt')" 'static page' "also to a file"
like "$(get a.test '/x.app?code=303&header=Location:%20/show.php' -i)" '^HTTP/1.1 303' "with a Status of its own it goes to the client"
like "$(get a.test '/x.app?code=303&header=Location:%20/show.php' -i)" '^Location: /show.php' "as it is"

# Error pages
is "$(get a.test '/code.php?code=403')" 'the forbidden page' "an empty 403 becomes ErrorDocument"
is "$(code a.test '/code.php?code=403')" 403 "with its status"
is "$(get a.test '/code.php?code=403&body=mine')" mine "one with a body stays as it is"
is "$(get a.test '/code.php?code=404')" 'GET 404 404 none' "an ErrorDocument that is a script"
is "$(code a.test '/code.php?code=404')" 404 "keeps the status"
is "$(get a.test '/code.php?code=404' -d some=body)" 'GET 404 404 none' "also behind a POST"
is "$(get a.test '/missing.php' -d some=body)" 'GET 404 404 none' "also for a script that does not exist"
is "$(get a.test '/own/code.php?code=403')" '' "not with ZfpmErrorOverride off"
is "$(get a.test '/code.php?code=401&auth&gzip' -i | grep -c '^WWW-Auth\|^Set-Cookie: [ab]=')" 3 "its own header fields stay"
unlike "$(get a.test '/code.php?code=401&auth&gzip' -i)" 'gzip' "but for those of the body"

like "$(get a.test '/code.php?code=404' -I)" '^Set-Cookie: a=1' "an answer to HEAD is the script's"
is "$(code a.test '/x.app?noheaders&pstatus=2')" 503 "END_REQUEST with FCGI_OVERLOADED is 503"
is "$(code a.test '/x.app?noheaders&pstatus=3')" 500 "with FCGI_UNKNOWN_ROLE 500"
passes "and the log says what it was" errors 'zfpm ended the request with status 3 \(unknown role\) \(pool a.test'
get a.test '/x.app?at=end&sleep=0.3&out=100&pstatus=2' >"$tmp/out" 2>&1
is $? 18 "behind a part of the response it is cut"

# Headers
like "$(get a.test '/x.app?header=X-Odd:%20%20a%20%20b%20%20&out=1' -i | tr -d '\r')" '^X-Odd: a  b$' "blanks around a value are not part of it"
cat >"$tmp/www/a.test/long.php" <<-\EOF
	<?php
	for ($i = 0; $i < (int)$_GET['n']; $i++)
		header("X-Long-$i: " . str_repeat('l', (int)$_GET['len']));
	echo 'body';
EOF
is "$(get a.test '/long.php?n=1&len=30000' -i --http1.1 | grep -c '^X-Long-0: l\{30000\}')" 1 "a line of 30,000 bytes"
is "$(get a.test '/long.php?n=60&len=1000' -i | grep -c '^X-Long-[0-9]*: l\{1000\}')" 60 "60 lines of 1,000"
is "$(code a.test '/long.php?n=70&len=1000')" 500 "more than 64 KB are refused"
is "$(code a.test '/x.app?header=rubbish%20without%20colon&out=1')" 500 "a line that is no header too"
passes "with the line in the error log" errors 'malformed header from script: rubbish without colon'
is "$(code a.test '/x.app?noheaders')" 500 "so is no header at all"
is "$(get a.test '/x.app?out=2000&split=1&record=1' -i | tail -c 2000 | wc -c)" 2000 "a response of records of one byte"
printf '<!--#include virtual="/show.php?ssi" -->' >"$tmp/www/a.test/page.shtml"
mkdir "$tmp/www/a.test/ssi" && mv "$tmp/www/a.test/page.shtml" "$tmp/www/a.test/ssi/"
is "$(get a.test /ssi/page.shtml)" 'GET 200 ssi none' "a script that another page includes"

# Streaming
get a.test "/slow.php?until=$tmp/www/a.test/go" -N >"$tmp/out" &
track $!
first() { grep -q first "$tmp/out"; }
passes "what a script flushes arrives before it ends" wait_until first
touch "$tmp/www/a.test/go"
second() { grep -q second "$tmp/out"; }
passes "and the rest later" wait_until second

# Standard error
get a.test /err.php >"$tmp/out"
is "$(grep -Ec '^stderr: (one|two|three|tab.there .*|line [0-9]+ of many)$' "$tmp/error.log")" 504 "a line of stderr is a line of the error log"
is "$(grep -E '^stderr: x+(END)?$' "$tmp/error.log" | tr -cd x | wc -c)" 20000 "one of 20,000 bytes is there in whole"
