#!/bin/sh
# Each timeout of zfpm through Apache: its exact message in the virtual host's error log, a 500 or a visibly cut
# response for the client, and the next request served.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 24

make_user alice
want_user web
make_key
{
	printf '%s\n' 'listen @sock@ group @web@ mode 0660 key @tmp@/key' 'timeout kill 1s' 'app app {' 'command @bin@/app' '}'
	for p in wait app server request; do
		case $p in
		wait) limits='timeout wait 1s' ;;
		app) limits='timeout app 1s' ;;
		server) limits='timeout server 2s' ;;
		request) limits='timeout request 2s' ;;
		esac
		printf '%s\n' "pool $p.test {" 'user @alice@' 'app app' 'max_workers 1' "$limits" '}'
	done
} >"$tmp/conf"
start_zfpm <"$tmp/conf"
for p in wait app server request; do
	site $p.test "${alice:?}"
	touch "$tmp/www/$p.test/x.app"
done
start_httpd event <<-EOF
	AddHandler zfpm .app
	$(for p in wait app server request; do vhost $p.test; done)
EOF
mkdir -m 1777 "$tmp/notes"

# tells TEXT: the message stands in Apache's error log as a line of zfpm's
tells() { passes "$1" wait_until grep -Fxq "stderr: $1" "$tmp/error.log"; }
served() { is "$(code "$1" '/x.app?show=QUERY_STRING')" 200 "the next request is served"; }

# wait
get wait.test "/x.app?note=$tmp/notes/held&at=headers&out=6000&record=1000&pause=500" >"$tmp/held" 2>&1 &
held=$!
wait_until test -s "$tmp/notes/held"
is "$(code wait.test /x.app)" 500 "timeout wait: 500"
tells 'Timeout (1s) exceeded while waiting for FCGI process to become available'
wait "$held"
is "$?" 0 "the request that ran has not noticed"
served wait.test

# app, reading
is "$(code app.test '/x.app?hang')" 500 "timeout app, nothing relayed: 500"
tells 'Timeout (1s) exceeded while reading from socket (application)'
get app.test '/x.app?at=mid&out=100000&hang' >"$tmp/out" 2>"$tmp/curl.txt"
is "$?" 18 "something relayed: the response is cut"
passes "and no 500 is mixed into it" test "$(wc -c <"$tmp/out")" -lt 100000
fails "nor any HTML" grep -q '<html>' "$tmp/out"
passes "the message again" errors_at_least 2 '^stderr: Timeout \(1s\) exceeded while reading from socket \(application\)$'
served app.test

# app, writing
head -c 5000000 /dev/zero >"$tmp/body"
is "$(code app.test '/x.app?at=start&hang' --data-binary "@$tmp/body" -H 'Expect:')" 500 "timeout app, writing: 500"
tells 'Timeout (1s) exceeded while writing to socket (application)'
served app.test

# server, reading: a client that sends a part of its body and waits, HOST, REQUEST, BODY
part() {
	perl -MIO::Socket::INET -e '
		my $s = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die;
		print $s "$ARGV[2] HTTP/1.1\r\nHost: $ARGV[1]\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n", $ARGV[3];
		$s->flush;
		local $/;
		print <$s>;' "$port" "$@"
}
like "$(part server.test 'POST /x.app' 'a part')" '^HTTP/1.1 500' "timeout server, reading: 500"
tells 'Timeout (2s) exceeded while reading from socket (server)'
served server.test

# server, writing: a client that reads nothing. The web server can not be told, so zfpm's own log has it.
mkfifo "$tmp/held.fifo"
perl -MIO::Socket::INET -e '
	my $s = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die;
	print $s "GET /x.app?out=50000000 HTTP/1.1\r\nHost: server.test\r\n\r\n";
	$s->flush;
	<STDIN>;' "$port" <"$tmp/held.fifo" &
track $!
exec 9>"$tmp/held.fifo"
passes "timeout server, writing: zfpm's log names pool, method and URI" wait_for_log \
    'pool server.test: worker [0-9]+: Timeout \(2s\) exceeded while writing to socket \(server\) \(GET /x.app\?out=50000000'
exec 9>&-
served server.test

# request
is "$(code request.test '/x.app?sleep=20')" 500 "timeout request: 500"
tells 'Timeout (2s) exceeded while processing request'
get request.test '/x.app?out=10000&record=1000&pause=500' >"$tmp/out" 2>"$tmp/curl.txt"
is "$?" 18 "one that moves, but for too long, is cut"
passes "with the same message" errors_at_least 2 '^stderr: Timeout \(2s\) exceeded while processing request$'
served request.test
