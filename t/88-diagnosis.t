#!/bin/sh
# The error log says of a request that failed in which pool, by which app, at which URI and why; at level info what
# had been seen of the protocol; at trace levels each record, and never a value that could be a secret.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 25

tenants
www=$tmp/www/a.test
touch "$www/x.app"
echo '<?php echo "hello";' >"$www/hello.php"
printf 'X-Long: %066000d\n' 0 >"$tmp/long"
conf() {
	cat <<-EOF
		LogLevel zfpm:$1
		AddHandler zfpm:app .app
		ZfpmTimeout 1
		LimitRequestFieldSize 100000
		$(vhost a.test "ZfpmXSendfile $tmp/files")
	EOF
}
conf warn >"$tmp/text"
start_httpd <"$tmp/text"

# Each kind of failure: what is in the log behind the request for QUERY
i=0
fails_with() {	# QUERY ERE [OPTION...]
	i=$((i + 1))
	lib_query=$1 lib_why=$2
	shift 2
	code a.test "/x.app?n=$i&$lib_query" "$@" >"$tmp/code" 2>&1
	wait_until errors "$lib_why \\(pool a\\.test, app app, URI /x\\.app\\)$"
	ok $? "$lib_query: the line names the reason, the pool, the app and the URI"
}
: >"$tmp/error.log"
fails_with noheaders 'End of script output before headers'
fails_with 'header=rubbish' 'malformed header from script: rubbish'
fails_with 'header=Status:%20x' 'bad Status from script: x'
fails_with 'header=Content-Length:%20x&out=1' 'bad Content-Length from script: x'
fails_with 'header=Content-Length:%205&out=10' 'the response is longer than its Content-Length of 5, the rest is dropped'
fails_with 'header=Content-Length:%2010&out=5' 'the response ends after 5 bytes, its Content-Length is 10'
fails_with 'noheaders&pstatus=2' 'zfpm ended the request with status 2 \(overloaded\)'
fails_with 'signal=9' "Connection to FastCGI was reset by peer .* for additional protocol info\\."
fails_with 'hang' 'Timeout \(1s\) exceeded while reading from socket \(zfpm\)'
fails_with "header=X-Sendfile:%20/etc/passwd" 'X-Sendfile: cannot send /etc/passwd: /etc/passwd is not below a directory of ZfpmXSendfile'
fails_with 'out=1' 'the variable HTTP_X_LONG is too long for a FastCGI record \([0-9]+ bytes\)' -H "@$tmp/long"
is "$(count_errors '^protocol info')" 0 "at level warn there is no protocol info"
stop_zfpm
fails_with 'out=1' "Cannot connect to zfpm at $sock: .*"
start_zfpm <"$tmp/tenants"
is "$(count_errors 'mod_php is loaded')" 0 "where there is no mod_php none is spoken of"

# mod_php beside it, as a package may bring it along: its name is what counts
cat >"$tmp/mod_php.c" <<-'END'
	#include "httpd.h"
	#include "http_config.h"
	AP_DECLARE_MODULE(php) = { STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, NULL, 0 };
END
apxs=${APXS:-apxs}
# shellcheck disable=SC2046 # apxs prints words
(cd "$tmp" && "${CC:-cc}" -fPIC -shared $("$apxs" -q EXTRA_CPPFLAGS) -I"$("$apxs" -q INCLUDEDIR)" -I"$("$apxs" -q APR_INCLUDEDIR)" -o mod_php.so mod_php.c)
{
	echo 'LoadModule php_module @tmp@/mod_php.so'
	conf warn
} >"$tmp/text"
start_httpd <"$tmp/text"
errors "mod_php is loaded too: it can run the scripts of every host, all of them as Apache's user"
ok $? "mod_php beside mod_zfpm is warned of"

# Level info
conf info >"$tmp/text"
start_httpd <"$tmp/text"
: >"$tmp/error.log"
code a.test '/hello.php' >"$tmp/code"
is "$(count_errors .)" 0 "at level info a request that succeeds is silent"
summary() {	# QUERY ERE TITLE [OPTION...]
	: >"$tmp/error.log"
	lib_query=$1 lib_ere=$2 lib_title=$3
	shift 3
	get a.test "/x.app?$lib_query" "$@" >"$tmp/out" 2>&1
	wait_until errors "^protocol info: socket $sock, (new|kept) connection, pool a\\.test, app app; sent [0-9]+ records, [0-9]+ bytes .*$lib_ere.*elapsed [0-9]+ ms$"
	ok $? "$lib_title" || diag "$(cat "$tmp/error.log")"
}
summary 'signal=9' '\(0 of the body, complete\); received [0-9]+ records, .* \(stdout 0, stderr [0-9]+\); response: no byte yet' \
    "protocol info: a worker that dies before it answers"
summary 'at=mid&out=100000&signal=9' 'response: [0-9]{4,6} bytes of the body' "one that dies in the midst of it"
summary 'at=mid&out=100000&hang' 'response: [0-9]{4,6} bytes of the body' "one that falls silent"
summary 'hang' 'response: no byte yet;' "from the first byte on"
summary 'at=start&hang' '\(5 of the body, complete\)' "a body that was sent" -d 12345
summary 'pstatus=2&out=5' 'response: .*' "one that is ended with an error"
summary 'out=100&record=10&pause=100' 'response: [0-9]+ bytes of the body' "a client that leaves" --max-time 0.5

# Trace
conf trace7 >"$tmp/text"
start_httpd <"$tmp/text"
: >"$tmp/error.log"
get a.test '/x.app?out=10&word=sesame' -d 'a body' -u joe:opensesame -b 'session=secretcookie' >"$tmp/out"
for line in "new connection to $sock, descriptor [0-9]+" 'send BEGIN_REQUEST, 8 bytes' 'send PARAMS, [0-9]{3,4} bytes' \
    'send PARAMS, 0 bytes' 'send STDIN, 6 bytes' 'send STDIN, 0 bytes' 'received STDOUT, [0-9]+ bytes' 'received END_REQUEST, 8 bytes' \
    'parameter ZFPM_KEY, 48 bytes' 'descriptor [0-9]+ is kept'; do
	errors "^$line$" || echo "$line"
done >"$tmp/missing"
is "$(cat "$tmp/missing")" '' "at trace levels there is each connection, record and parameter"
fails "but no value" grep -Eq "$(cat "$key")|opensesame|secretcookie|$(printf 'joe:opensesame' | base64)" "$tmp/error.log"
