#!/bin/sh
# examples/django: two Django sites of two users behind Apache and zfpm, and the adapter fcgi_wsgi.py, which is a FastCGI
# server in its own right: no request harms another one, and no body or response that is cut off looks complete.
# shellcheck disable=SC2016 # the expressions are perl's
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
/usr/bin/python3 -c 'import django; exit(django.VERSION < (3, 2))' 2>/dev/null || skip_all "no Django here (python3-django)"
plan 147

make_user alice
make_user bob
make_user web
make_key
mkdir -m 1777 "$tmp/notes"
install -m 755 "$top/examples/django/fcgi_wsgi.py" "$tmp/fcgi_wsgi.py"
as() {
	as_user=$1
	shift
	setpriv --reuid="$as_user" --regid="$as_user" --init-groups env -i PATH="$PATH" HOME="$tmp/home" "$@"
}
noted() { wait_until grep -qs -x -e "$1" "$tmp/notes/log"; }
touch "$tmp/notes/log"
chmod 666 "$tmp/notes/log"

# ---- the adapter by itself ---------------------------------------------------------------------

bare=$alice_home/bare
mkdir "$bare"
cat >"$bare/bare.py" <<-END
	import os, sys, threading, time, urllib.parse, zlib
	NOTES = '$tmp/notes/'
	running, most, lock = 0, 0, threading.Lock()
	meeting = threading.Barrier(4)

	def note(text):
	    with open(NOTES + 'log', 'a') as f:
	        f.write(text + '\n')

	def wait_for(name):
	    end = time.time() + $patience
	    while not os.path.exists(NOTES + name) and time.time() < end:
	        time.sleep(0.02)

	class Pieces:
	    """What an iterable has to go through."""
	    def __init__(self, name, pieces):
	        self.name, self.pieces = name, pieces
	    def __iter__(self):
	        return iter(self.pieces)
	    def close(self):
	        note('closed ' + self.name)

	def endless(name):
	    try:
	        while True:
	            yield b'x' * 1000
	            time.sleep(0.01)
	    finally:
	        note('closed ' + name)

	def gated():
	    yield b'one\n'
	    wait_for('gate')
	    yield b'two\n'

	def application(environ, start_response):
	    q = dict(urllib.parse.parse_qsl(environ['QUERY_STRING'], keep_blank_values=True))
	    body = environ['wsgi.input']
	    ok = lambda: start_response('200 OK', [('Content-Type', 'text/plain')])
	    do = q.get('do')
	    if do == 'count':
	        global running, most
	        with lock:
	            running += 1
	            most = max(most, running)
	        time.sleep(0.1)
	        with lock:
	            running -= 1
	    if do == 'meet':
	        meeting.wait($patience)
	    if do == 'sum':
	        n, crc = 0, 0
	        for piece in iter(lambda: body.read(int(q.get('read', 10000))), b''):
	            n, crc = n + len(piece), zlib.crc32(piece, crc)
	        ok()
	        return [b'%d %d\n' % (n, crc)]
	    if do == 'lines':
	        ok()
	        return [b'[', body.readline(), b'|', body.read(3), b'|', b'+'.join(body), b']\n']
	    if do == 'commit':
	        body.read()
	        note('committed ' + q['name'])
	    if do == 'big':
	        ok()
	        return [bytes(range(256)) * 40000, b'', b'end\n']
	    if do == 'gated':
	        ok()
	        return gated()
	    if do == 'endless':
	        ok()
	        return endless(q['name'])
	    if do == 'pieces':
	        ok()
	        return Pieces(q['name'], [b'a', b'', b'b\n'])
	    if do == 'write':
	        write = ok()
	        write(b'written ')
	        return [b'and returned\n']
	    if do == 'replace':
	        ok()
	        try:
	            1 / 0
	        except ZeroDivisionError:
	            start_response('501 Replaced', [('X-Why', 'error')], sys.exc_info())
	        return [b'replaced\n']
	    if do == 'late':
	        write = ok()
	        write(b'begun\n')
	        try:
	            1 / 0
	        except ZeroDivisionError:
	            start_response('500 Late', [], sys.exc_info())
	    if do == 'halfway':
	        ok()
	        return Pieces('halfway', (1 // n and b'x\n' or b'y\n' for n in (1, 2, 0)))
	    if do == 'twice':
	        ok()
	        ok()
	    if do == 'split':
	        start_response('200 OK', [('X-Split', 'a\r\nSet-Cookie: b')])
	    if do == 'text':
	        ok()
	        return ['text']
	    if do == 'nothing':
	        return [b'no start_response']
	    if do == 'empty':
	        start_response('204 No Content', [('X-Empty', 'yes')])
	        return []
	    if do == 'exit':
	        sys.exit(3)
	    if do == 'raise':
	        raise LookupError('raised \u00fc ' + 'y' * 70000)
	    if do == 'stderr':
	        environ['wsgi.errors'].write('by wsgi.errors\n')
	        print('by print')
	        print('by sys.stderr', file=sys.stderr)
	        thread = threading.Thread(target=print, args=('by a thread',))
	        thread.start()
	        thread.join()
	    if do == 'keep':
	        global kept
	        kept = environ, start_response
	    if do == 'stale':
	        try:
	            kept[0]['wsgi.input'].read()
	        except ValueError as e:
	            note('stale body')
	        try:
	            kept[1].__self__.write(b'smuggled')
	        except OSError as e:
	            note('stale write')
	    ok()
	    report = [('%s=%r' % (k, v)) for k, v in sorted(environ.items()) if isinstance(v, (str, bool))]
	    report += ['thread %d' % threading.get_ident(), 'pid %d' % os.getpid(), 'most %d' % most, '']
	    return ['\n'.join(report).encode()]
END
chown -R "$alice:" "$bare"

# adapter NAME OPTION... : one of its own at the socket $bare/NAME, with descriptor 2 in NAME.out
adapter() {
	adapter_name=$1
	shift
	(cd "$bare" && exec setpriv --reuid="$alice" --regid="$alice" --init-groups \
	    "$bin/client" listen "$bare/$adapter_name" "$tmp/fcgi_wsgi.py" "$@") >"$tmp/$adapter_name.out" 2>&1 &
	adapter=$!
	track "$adapter"
	wait_until test -S "$bare/$adapter_name"
}
to() {
	to_name=$1
	shift
	"$bin/client" "$bare/$to_name" -t "$patience" "$@"
}
script() {
	script_name=$1
	shift
	"$bin/client" script "$bare/$script_name" -t "$patience" "$@"
}

adapter four -t 4 bare
four=$adapter
report=$(to four -O -p PATH_INFO="/$(printf '\303\274')" -u SCRIPT_NAME -p HTTPS=on)
like "$report" "^PATH_INFO='/Ã¼'\$" "bytes of the request are latin-1 characters of the environ (PEP 3333)"
like "$report" "^SCRIPT_NAME=''\$" "what CGI leaves out is an empty string"
like "$(printf '%s' "$report" | tr '\n' ' ')" "wsgi.multiprocess=True wsgi.multithread=True wsgi.run_once=False wsgi.url_scheme='https'" \
    "the flags say that there are threads and other processes"

"$bin/client" pattern 3000000 >"$tmp/body"
sum=$(/usr/bin/python3 -c 'import sys, zlib; d = open(sys.argv[1], "rb").read(); print(len(d), zlib.crc32(d))' "$tmp/body")
is "$(to four -O do=sum -B 3000000)" "$sum" "a body of 3 MB arrives byte for byte"
is "$(to four -O do=sum read=70000 -c 1000 -z 255 -B 3000000)" "$sum" "also in small records with padding"
want=$(to four -O do=sum -B 300)
is "$(to four -O do=sum -B 300 -S 1 -z 3)" "$want" "a request that comes byte by byte is the same"
is "$(to four -O do=sum -B 300 -c 1)" "$want" "and in records of one byte, over which its parameters straddle"
is "$(to four -O do=sum -B 300 -4)" "$want" "and with lengths of four bytes"
is "$(to four -O do=sum -B 600 -l 300)" "$want" "no more is read than CONTENT_LENGTH has announced"
printf 'first\nabcde\nf' >"$tmp/lines"
is "$(to four -O do=lines -b "$tmp/lines" | tr '\n' ' ')" '[first |abc|de +f] ' "readline(), read() and iteration of wsgi.input"
is "$(to four -O do=lines -B 0 -l none | tr '\n' ' ')" '[||] ' "a request without a body has an empty one"
for length in 99999999999999999999999 ²3 -1; do
	to four -O -l "$length" do=sum -B 300
done >"$tmp/out"
is "$(sort -u "$tmp/out")" "$want" "a CONTENT_LENGTH that is none is not believed"

to four do=commit name=truncated -B 3000 -T 1000 -l 3000 >"$tmp/out" 2>"$tmp/err"
is "$(head -n 1 "$tmp/out" | tr -d '\r')" 'Status: 500 Internal Server Error' "a body that ends before its CONTENT_LENGTH is an error"
like "$(cat "$tmp/err")" 'Gone: 2000 bytes of the request body are missing' "which says so"
to four do=commit name=left -B 300000 -Y 200000 -X 0 >"$tmp/out" 2>"$tmp/err"
to four do=commit name=aborted -K -B 300000 -Y 200000 -A 0 -v >"$tmp/out" 2>"$tmp/err"
is "$?" 0 "an ABORT_REQUEST in the midst of a body is answered with END_REQUEST"
unlike "$(cat "$tmp/out")" 'Status' "and with no response"
is "$(script four -q 'do=commit&name=next' <<-\END | cut -d ' ' -f 1,2 | tr '\n' ','
	begin 1 responder 1
	params 1
	text STDIN 1 xxx
	record ABORT_REQUEST 1 0
	wait 1
	begin 2 responder 1
	params 2
	end STDIN 2
	wait 2
END
)" 'END_REQUEST id=1,STDOUT id=2,END_REQUEST id=2,' "then the connection takes the next request" || diag "$(cat "$tmp/four.out")"
is "$(grep -c committed "$tmp/notes/log")$(grep -c 'committed next' "$tmp/notes/log")" 11 "none of the bodies that were cut off has been taken for a whole one"

to four do=endless name=abort -K -A 200 >"$tmp/out"
is "$?" 0 "an ABORT_REQUEST ends a response that has begun"
passes "its generator is closed" noted 'closed abort'
to four do=endless name=close -X 200 >"$tmp/out"
passes "and so is one whose reader has left" noted 'closed close'

to four -K -n 3 >"$tmp/out"
is "$(grep -c '^thread' "$tmp/out") $(grep '^thread' "$tmp/out" | sort -u | wc -l)" '3 1' "with KEEP_CONN a connection serves one request after the other"
to four -K -E -t 0.3 >"$tmp/out"
is "$?" 5 "and stays open"
passes "without it the connection is closed" to four -E -O do=empty
is "$(to four -O -2 do=sum -B 300 2>"$tmp/err")" "$want" "a second request on a connection that is busy does the first no harm"
like "$(cat "$tmp/err")" 'END_REQUEST id=2 .*CANT_MPX_CONN' "and is refused"
is "$("$bin/client" values "$bare/four")" "$(printf 'FCGI_MAX_CONNS=4\nFCGI_MAX_REQS=4\nFCGI_MPXS_CONNS=0')" "GET_VALUES is answered"
is "$(script four <<-\END | sed 's/^\([A-Z_]* id=[0-9]*\).*\( \(type\|status\)=[A-Z0-9_]*\)$/\1\2/;s/^\(STDOUT id=[0-9]*\).*/\1/' | tr '\n' ','
	record 99 0 300 5
	wait 1
	begin 1 authorizer 1
	params 1
	wait 1
	begin 7 responder 1
	params 7
	text STDIN 3 strange
	end STDIN 7
	wait 2
END
)" 'UNKNOWN_TYPE id=0 type=99,END_REQUEST id=1 status=UNKNOWN_ROLE,STDOUT id=7,END_REQUEST id=7 status=REQUEST_COMPLETE,' \
    "an unknown record and an unknown role are answered, records of other requests ignored"

is "$(to four -O do=big | cksum)" "$(/usr/bin/python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 40000 + b"end\n")' | cksum)" \
    "a response of 10 MB arrives byte for byte"
to four -O do=gated >"$tmp/gated" &
gated=$!
passes "what the application yields is sent at once" wait_until grep -qs one "$tmp/gated"
touch "$tmp/notes/gate"
wait "$gated"
is "$(tr '\n' ' ' <"$tmp/gated")" 'one two ' "and the rest when it comes"
is "$(to four -O do=pieces name=p) $(grep -c 'closed p$' "$tmp/notes/log")" 'ab 1' "an iterable is closed once"
is "$(to four -O do=write)" 'written and returned' "write() of start_response()"
is "$(to four do=replace | tr -d '\r' | tr '\n' ' ')" 'Status: 501 Replaced X-Why: error  replaced ' "a response can be replaced before its first byte"
is "$(to four do=empty | tr -d '\r' | tr '\n' ' ')" 'Status: 204 No Content X-Empty: yes  ' "a response without a body"

for what in raise exit twice split text nothing; do
	to four do=$what -K >"$tmp/out" 2>"$tmp/err.$what"
	echo "$? $(head -n 1 "$tmp/out" | tr -d '\r') $(grep -c Traceback "$tmp/err.$what")"
done >"$tmp/fails"
is "$(sort -u "$tmp/fails")" '0 Status: 500 Internal Server Error 1' "an application that fails is a 500 with a traceback for the web server"
is "$(sed -n 's/^stderr: LookupError: raised ü //p' "$tmp/err.raise" | tr -d '\n' | wc -c)" 70000 "all of it"
like "$(cat "$tmp/err.split")" "ValueError: a header is more than a line" "a header can not be split"
for what in late halfway; do
	to four do=$what -K >"$tmp/out.$what" 2>"$tmp/err"
	echo "$? $(grep -c ZeroDivisionError "$tmp/err")"
done >"$tmp/fails"
is "$(sort -u "$tmp/fails")" '3 1' "one that fails within its response gets no END_REQUEST"
is "$(tail -n 2 "$tmp/out.halfway" | tr '\n' ' ')" 'x y ' "after what it has sent"
passes "and its iterable is closed" noted 'closed halfway'

to four do=stderr >"$tmp/out" 2>"$tmp/err"
is "$(tr '\n' ' ' <"$tmp/err")" 'stderr: by wsgi.errors stderr: by print stderr: by sys.stderr ' "a request's errors and prints go to the web server"
passes "those of the application's own threads to descriptor 2" wait_until grep -q 'by a thread' "$tmp/four.out"
is "$(to four -O do=keep -K -n 2 | grep -c '^pid')$(to four -O do=stale | grep -c '^pid\|smuggled')" 21 "what is left of a request can neither read"
passes "nor write" noted 'stale write'
passes "in the next one" noted 'stale body'

meet=''
for i in 1 2 3 4; do
	to four -O do=meet >"$tmp/meet.$i" &
	meet="$meet $!"
done
# shellcheck disable=SC2086
wait $meet
is "$(cat "$tmp"/meet.? | grep -c '^pid')" 4 "four requests that wait for each other run at once"
meet=''
for i in 1 2 3 4 5 6 7; do
	to four -O do=count >"$tmp/meet.$i" &
	meet="$meet $!"
done
# shellcheck disable=SC2086
wait $meet
is "$(cat "$tmp"/meet.? | grep -c '^pid') $(to four -O | sed -n 's/^most //p')" '7 4' "of seven not more than four, and the others wait"

"$bin/client" fuzz "$bare/four" 107 200 >"$tmp/out"
is "$?" 0 "malformed streams do it no harm"
{
	"$bin/client" script "$bare/four" -t 5 <<-\END
		begin 1
		header 1 PARAMS 1 12 0
		hex ff ff ff ff ff ff ff ff 41 42 43 44
		end PARAMS 1
		end STDIN 1
		closed
	END
	"$bin/client" script "$bare/four" -t 5 <<-\END
		begin 1
		header 1 PARAMS 1 2 0
		hex 83 00
		end PARAMS 1
		closed
	END
} >"$tmp/out"
is "$(cut -d ' ' -f 1 "$tmp/out" | tr '\n' ' ')" 'closed closed ' "nor do lengths that lie"
is "$(to four -O do=sum -B 300)" "$want" "it goes on serving"
is "$(grep -c Traceback "$tmp/four.out")" 0 "and nothing of this was an error of its own" || diag "$(cat "$tmp/four.out")"
like "$(sort -u "$tmp/four.out")" '^fcgi_wsgi: this is not FastCGI$' "it says what was wrong"

# Its end: one connection is idle, one is busy
rm -f "$tmp/notes/gate"
printf 'begin 1 responder 1\nparams 1\nend STDIN 1\nwait 2\nclosed\n' | script four >"$tmp/idle" &
idle=$!
to four -K -O do=gated >"$tmp/gated" &
gated=$!
wait_until grep -qs one "$tmp/gated"
wait_until grep -q END_REQUEST "$tmp/idle"
kill "$four"
wait "$idle"
is "$(tail -n 1 "$tmp/idle")" closed "on SIGTERM a connection without a request ends"
fails "a request that runs goes on" gone "$four"
touch "$tmp/notes/gate"
wait "$gated"
is "$? $(tr '\n' ' ' <"$tmp/gated")" '0 one two ' "to its end"
wait "$four"
is "$?" 0 "and then the process, with status 0"

adapter one bare
one=$adapter
like "$(to one -O)" "^wsgi.multithread=False\$" "with one thread an application is not told of others"
meet=''
for i in 1 2 3; do
	to one -O do=count >"$tmp/meet.$i" &
	meet="$meet $!"
done
# shellcheck disable=SC2086
wait $meet
is "$(to one -O | sed -n 's/^most //p')" 1 "its requests run one at a time"
kill "$one"
wait "$one"
is "$?" 0 "idle it ends at once"
(cd "$bare" && "$tmp/fcgi_wsgi.py" bare) </dev/null >"$tmp/out" 2>&1
is "$? $(grep -c 'descriptor 0 is no listening socket' "$tmp/out")" '2 1' "by hand it says what it is for"

# ---- two sites -----------------------------------------------------------------------------------

# site_of USER HOME: the site as its user sets it up, with views for this test besides
site_of() {
	mkdir "$2/site" "$2/www"
	cp -r "$top/examples/django/manage.py" "$top/examples/django/notes" "$2/site"
	rm -rf "$2/site/notes/__pycache__"
	sed "s|@notes@|$tmp/notes/|;s|@patience@|$patience|" "$tmp/trial.py" >"$2/site/notes/trial.py"
	printf '\nfrom .trial import trials  # noqa\nurlpatterns += trials\n' >>"$2/site/notes/urls.py"
	echo 'just a file' >"$2/www/index.html"
	chown -R "$1:" "$2"
	chmod 700 "$2/site"
	(cd "$2/site" && as "$1" sh -c "umask 077 && mkdir var && openssl rand -base64 48 >var/secret && ./manage.py migrate &&
	    DJANGO_SUPERUSER_PASSWORD=secret ./manage.py createsuperuser --noinput --username $3 --email $3@example.com &&
	    umask 022 && ./manage.py collectstatic --noinput") >"$tmp/setup.$3" 2>&1
}
cat >"$tmp/trial.py" <<-\END
	import gc, os, random, signal, threading, time
	from django.http import HttpResponse, StreamingHttpResponse
	from django.urls import path
	meeting = threading.Barrier(8)

	def note(text):
	    with open('@notes@log', 'a') as f:
	        f.write(text + '\n')

	def wait_for(name):
	    end = time.time() + @patience@
	    while not os.path.exists('@notes@' + name) and time.time() < end:
	        time.sleep(0.02)

	def who(request):
	    return HttpResponse('pid %d uid %d thread %d random %r\nin %s\nversion 1\n' % (os.getpid(), os.getuid(),
	        threading.get_ident(), random.random(), os.getcwd()))

	def meet(request):
	    meeting.wait(@patience@)
	    return who(request)

	def hold(request, name):
	    note('holds ' + name)
	    wait_for(name)
	    return who(request)

	def pieces(request, name):
	    def generate():
	        yield 'one\n'
	        wait_for(name)
	        yield 'two %d\n' % os.getpid()
	    return StreamingHttpResponse(generate())

	def ticks(request, name):
	    def generate():
	        while not os.path.exists('@notes@' + name):
	            yield 'tick\n'
	            time.sleep(0.1)
	        yield 'end\n'
	    return StreamingHttpResponse(generate())

	def endless(request):
	    def generate():
	        try:
	            while True:
	                yield 'x' * 1000
	                time.sleep(0.01)
	        finally:
	            note('endless closed')
	    return StreamingHttpResponse(generate())

	def halfway(request):
	    def generate():
	        yield 'x' * 100000
	        raise LookupError('halfway')
	    return StreamingHttpResponse(generate())

	def die(request):
	    def generate():
	        yield 'x' * 100000
	        time.sleep(0.2)
	        os.kill(os.getpid(), signal.SIGKILL)
	    return StreamingHttpResponse(generate())

	def collect(request):
	    return HttpResponse('%d\n' % gc.collect())

	def fail(request):
	    raise LookupError('an error of the test')

	trials = [path('trial/' + p, v) for p, v in (('who', who), ('meet', meet), ('hold/<name>', hold), ('pieces/<name>', pieces), ('ticks/<name>', ticks),
	    ('endless', endless), ('halfway', halfway), ('die', die), ('collect', collect), ('fail', fail))]
END
site_of "$alice" "$alice_home" anna &
setup_alice=$!
site_of "$bob" "$bob_home" bert &
setup_bob=$!
wait "$setup_alice"
alice_status=$?
wait "$setup_bob"
is "$alice_status $?" '0 0' "the sites are set up by their users" || diag "$(tail -n 5 "$tmp/setup.anna" "$tmp/setup.bert")"
as "$alice" sh -c "cd $alice_home/site && ./manage.py makemigrations --check --dry-run" >"$tmp/out" 2>&1
is "$?" 0 "the example's migration is what its models need" || diag "$(cat "$tmp/out")"

run_example django/zfpm.conf -e "s|/usr/local/bin/fcgi_wsgi.py|$tmp/fcgi_wsgi.py|"
{
	printf '<Directory />\nOptions FollowSymLinks\nAllowOverride None\nRequire all denied\n</Directory>\n'
	printf '<VirtualHost *:@port@>\nServerName default.test\n</VirtualHost>\n'
	printf 'DirectoryIndex index.html\n<FilesMatch "\\.php$">\nSetHandler zfpm\n</FilesMatch>\n'
	example django/apache.conf
} >"$tmp/a"
start_httpd event <"$tmp/a"

A=www.example.com B=www.example.net
# page HOST PATH [OPTION...]: as a browser with cookies of its own for each host
page() {
	page_host=$1 page_path=$2
	shift 2
	curl -sS --max-time 60 --resolve "$page_host:$port:127.0.0.1" -b "$tmp/cookies.$page_host" -c "$tmp/cookies.$page_host" "$@" \
	    "http://$page_host:$port$page_path"
}
token() { sed -n 's/.*name="csrfmiddlewaretoken" value="\([^"]*\)".*/\1/p' "$1" | head -n 1; }
fetch() {
	fetch_name=$1
	shift
	get_exec "$@" >"$tmp/$fetch_name" 2>"$tmp/$fetch_name.err" &
	eval "fetched_$fetch_name=$!"
}
fetched() { for n in "$@"; do eval "wait \$fetched_$n"; done; }
field() { sed -n "s/.*\\<$1 \\([0-9.]*\\).*/\\1/p" "$2"; }
table() { as "$alice" /usr/bin/python3 -c 'import sqlite3, sys; print(*sqlite3.connect("site/var/db.sqlite3").execute(sys.argv[1]).fetchone())' "$1"; }
json() { "$zfpm" status -c "$tmp/zfpm.conf" -f json | perl "$t/unit/json.pl" "$@"; }
cd "$alice_home" || exit 1

is "$(page $A /static/admin/css/base.css | cksum)" "$(cksum </usr/lib/python3/dist-packages/django/contrib/admin/static/admin/css/base.css)" \
    "Apache serves the static files"
is "$(workers | wc -l)" 0 "and asks nobody"
is "$(page $A /site/var/secret -o "$tmp/out" -w '%{http_code}') $(page $A /static/../../site/var/secret --path-as-is -o "$tmp/out" -w '%{http_code}')" \
    '404 400' "the program is not in reach"
ln -s /etc/passwd "$alice_home/www/static/passwd"
chown -h "$alice:" "$alice_home/www/static/passwd"
is "$(code $A /static/passwd)" 403 "and a link in there leads to nobody else's files"
echo '<?php echo 1;' >"$alice_home/www/static/x.php"
is "$(page $A /static/x.php)" '<?php echo 1;' "nothing in there is a script"

is "$(page $A / -o "$tmp/out" -w '%{http_code} %{redirect_url}')" "302 http://$A:$port/login?next=/" "the site wants a login"
is "$(get $A /trial/who | sed -n 's/^in //p')" "$alice_home/site" "it runs in the pool's directory"
get $A /trial/who >"$tmp/who"
is "$(field uid "$tmp/who")" "$(id -u "$alice")" "as its user"
curl -sS --max-time 60 -H "Host: $A" "http://127.0.0.1:$port/trial/who?[1-5]" >"$tmp/whos"
is "$(grep -c '^pid' "$tmp/whos") $(grep '^pid' "$tmp/whos" | cut -d ' ' -f 2,6 | sort -u | wc -l)" '5 1' \
    "request after request is for the same thread, over a connection that zfpm keeps"
page $A '/login?next=/' >"$tmp/form"
isnt "$(token "$tmp/form")" '' "the form has a token"
login() { page "$1" "$2login" -d "csrfmiddlewaretoken=$(token "$tmp/form")" -d "username=$3" -d "password=$4" -o "$tmp/out" -w '%{http_code} %{redirect_url}'; }
is "$(login $A / anna wrong)" '200 ' "a wrong password does not log in"
page $A /login >"$tmp/form"
is "$(login $A / anna secret)" "302 http://$A:$port/" "the right one does"
page $A / >"$tmp/form"
like "$(cat "$tmp/form")" '<p>anna' "the session is known in the next request"
is "$(page $A / -d text=forged -o "$tmp/out" -w '%{http_code}')" 403 "a form without its token is refused (CSRF)"
passes "of which the virtual host's error log tells" wait_until errors 'stderr: Forbidden \(CSRF token missing'
is "$(page $A / -d "csrfmiddlewaretoken=$(token "$tmp/form")" --data-urlencode 'text=äöü € <b>' -o "$tmp/out" -w '%{http_code}')" 302 "one with it is taken"
is "$(table 'SELECT count(*), max(text) FROM notes_note')" '1 äöü € <b>' "and is in the database, without the forged one"
like "$(page $A /)" '<p>äöü € &lt;b&gt;' "and on the page"
is "$(stat -c '%U %a' "$alice_home/site/var" "$alice_home/site/var/db.sqlite3" | tr '\n' ' ')" "$alice 700 $alice 600 " "the database is the user's alone"
fails "another tenant can not read it" as "$bob" cat "$alice_home/site/var/db.sqlite3" 2>"$tmp/err"
like "$(page $A /admin/notes/note/)" '/static/admin/css/base.css' "Django's admin works"

head -c 5000000 /dev/urandom >"$tmp/up.bin"
page $A / >"$tmp/form"
is "$(page $A / -F "csrfmiddlewaretoken=$(token "$tmp/form")" -F 'text=with a file' -F "file=@$tmp/up.bin;filename=grün.bin" -o "$tmp/out" -w '%{http_code}')" \
    302 "a file of 5 MB is uploaded"
passes "it has arrived byte for byte" cmp "$tmp/up.bin" "$alice_home/site/var/files/grün.bin"
page $A /files/2 -D "$tmp/head" >"$tmp/down.bin"
passes "and comes back so" cmp "$tmp/up.bin" "$tmp/down.bin"
like "$(tr -d '\r' <"$tmp/head")" "^Content-Disposition: attachment; filename\\*=utf-8''gr%C3%BCn.bin\$" "under its name"
is "$(page $A / -H 'Transfer-Encoding: chunked' -F "csrfmiddlewaretoken=$(token "$tmp/form")" -F 'text=chunked' -F "file=@$tmp/up.bin;filename=chunked.bin" \
    -o "$tmp/out" -w '%{http_code}') $(cksum <"$alice_home/site/var/files/chunked.bin")" "302 $(cksum <"$tmp/up.bin")" "one without a Content-Length too"
is "$(page $A /export | tail -n 2 | tr '\n' ' ')" "2 anna 'with a file' 3 anna 'chunked' " "a response that is made line by line"

# A client that leaves in the midst of an upload
page $A / >"$tmp/form"
(page $A / -F "csrfmiddlewaretoken=$(token "$tmp/form")" -F 'text=cut' -F "file=@$tmp/up.bin;filename=cut.bin" --limit-rate 400k -o "$tmp/out" & echo $! >"$tmp/pid"; wait)  2>"$tmp/err" &
cut=$!
track "$cut"
wait_until sh -c "ls $alice_home/site/var/*.upload* >$tmp/out 2>&1"
# shellcheck disable=SC2046
kill $(children_of "$(cat "$tmp/pid")") "$(cat "$tmp/pid")" 2>/dev/null
wait "$cut"
no_upload() { [ "$(find "$alice_home/site/var" -name '*.upload*' | wc -l)" = 0 ]; }
nothing_runs() { [ "$(json '$pool{"www.example.com"}{workers}{busy}')" = 0 ]; }
wait_until nothing_runs
get $A /trial/collect >"$tmp/out"	# Django leaves its file to Python's garbage collector
passes "of an upload whose client leaves nothing stays" wait_until no_upload
is "$(table 'SELECT count(*) FROM notes_note') $(find "$alice_home/site/var/files" -name 'cut*' | wc -l)" '3 0' "and nothing is saved"
fetch endless $A /trial/endless -N
wait_until test -s "$tmp/endless"
kill "$fetched_endless"
passes "a response whose client leaves ends" noted 'endless closed'

# Streams, and many at a time
fetch pieces $A /trial/pieces/gate1 -N
passes "what the site yields reaches the client at once" wait_until grep -qs one "$tmp/pieces"
touch "$tmp/notes/gate1"
fetched pieces
is "$(wc -l <"$tmp/pieces")" 2 "and the rest when it comes"
for i in 1 2 3 4 5 6 7 8; do fetch "m$i" $A /trial/meet; done
fetched m1 m2 m3 m4 m5 m6 m7 m8
is "$(cat "$tmp"/m? | grep -c '^pid') $(cat "$tmp"/m? | sed -n 's/^pid \([0-9]*\) .*/\1/p' | sort -u | wc -l)" '8 1' \
    "eight requests that wait for each other are served by one process"
is "$(workers "$alice" | wc -l)" 1 "there is no other"
for i in 1 2 3 4 5 6 7 8; do fetch "m$i" $A "/trial/hold/gate2"; done
held() { [ "$(grep -c "holds $1\$" "$tmp/notes/log")" -ge "$2" ]; }
wait_until held gate2 8
get $A /trial/who >"$tmp/ninth"
isnt "$(field pid "$tmp/ninth")" "$(field pid "$tmp/who")" "while eight are held the ninth is for a second process"
for i in a b c d e f g h; do fetch "m$i" $A "/trial/hold/gate2"; done
wait_until held gate2 16
fetch last $A /trial/who
waits() { [ "$(json '$pool{"www.example.com"}{queue}{length}')" = 1 ]; }
passes "the seventeenth waits in zfpm's queue" wait_until waits
is "$(workers "$alice" | wc -l)" 2 "for two processes"
is "$(page $B / | head -n 1)" 'just a file' "the other tenant does not notice"
touch "$tmp/notes/gate2"
fetched m1 m2 m3 m4 m5 m6 m7 m8 ma mb mc md me mf mg mh last
is "$(cat "$tmp"/m? "$tmp/last" | grep -c '^pid')" 17 "all seventeen are answered"

# What goes wrong
is "$(page $A /trial/fail -o "$tmp/out" -w '%{http_code}') $(grep -c '<h1>Server Error (500)' "$tmp/out")" '500 1' "an exception is Django's page for it, with 500"
passes "and a traceback in the virtual host's error log" wait_until errors '^stderr: LookupError: an error of the test'
like "$(cat "$tmp/error.log")" '^stderr: Internal Server Error: /trial/fail' "that tells the URL"
fails "not in zfpm's" log_has 'an error of the test'
get $A /trial/halfway >"$tmp/out" 2>"$tmp/err"
is "$? $(wc -c <"$tmp/out")" '18 100000' "one in the midst of a response cuts it"
passes "with a traceback too" wait_until errors '^stderr: LookupError: halfway'
passes "and Apache says why" wait_until errors 'Connection to FastCGI was reset by peer'
get $A /trial/who >"$tmp/who"
fetch beside $A /trial/hold/never
wait_until held never 1
got=$(get $A /trial/die -o "$tmp/out" -w '%{http_code}' 2>"$tmp/err")
is "$got $(wc -c <"$tmp/out")" '200 100000' "a process that is killed cuts the response that it has begun"
like "$(cat "$tmp/err")" 'curl: \(18\)' "visibly"
fetched beside
is "$(curl -s --max-time 60 -o "$tmp/out" -w '%{http_code}' "http://127.0.0.1:$port/trial/who" -H "Host: $A")" 200 "the next request has another one"
passes "the error log names the signal" wait_until errors 'stderr: FCGI process [0-9]+ exited on signal 9 \(SIGKILL\)'
passes "zfpm's log the request" wait_for_log "pool $A: worker [0-9]+: FCGI process [0-9]+ exited on signal 9 .SIGKILL. .GET /trial/die"
like "$(cat "$tmp/beside")" '<title>500 Internal Server Error' "a request beside it in the same process is a 500"

# Another version of the program
fetch old $A /trial/hold/gate3
wait_until held gate3 1
old=$(workers "$alice")
sed 's/version 1/version 2/' "$alice_home/site/notes/trial.py" >"$tmp/trial.py" && cat "$tmp/trial.py" >"$alice_home/site/notes/trial.py"
"$zfpm" retire -c "$tmp/zfpm.conf" $A >"$tmp/retired" 2>&1 &
retire=$!
passes "zfpm retire replaces its workers" wait_for_log "pool $A: replacing its workers"
is "$(get $A /trial/who | sed -n 's/^version //p')" 2 "the next request is served by the new program"
touch "$tmp/notes/gate3"
fetched old
is "$(sed -n 's/^version //p' "$tmp/old")" 1 "one that ran goes on with the old one"
wait "$retire"
is "$? $(cat "$tmp/retired")" "0 pool $A: all workers have been replaced" "and the command ends with it"
is "$(for p in $old; do wait_until gone "$p"; done; workers "$alice" | wc -l)" 1 "as the old processes do"
printf 'this is no Python\n' >>"$alice_home/site/notes/settings.py"
"$zfpm" retire -c "$tmp/zfpm.conf" $A >"$tmp/out" 2>&1
is "$(code $A /trial/who)" 500 "a program that does not start is a 500"
passes "zfpm's log has the reason" wait_for_log "pool $A: worker [0-9]+: stderr: SyntaxError: invalid syntax"
passes "and what came of it" wait_for_log "pool $A: worker [0-9]+: exited with status 1"
# How it ended, or on a busy machine only that it did: zfpm waits for that for a fifth of a second.
passes "the virtual host's error log too" \
    wait_until errors 'stderr: (Cannot start FCGI process: start: exited with status 1|FCGI process [0-9]+ closed the connection)'
sed '$d' "$alice_home/site/notes/settings.py" >"$tmp/settings.py" && cat "$tmp/settings.py" >"$alice_home/site/notes/settings.py"
serves() { [ "$(code $A /trial/who)" = 200 ]; }
passes "once it is mended it serves" wait_until serves

# The other tenant, below /shop
rm -f "$tmp/out"
is "$(page $B /shop/ -o "$tmp/out" -w '%{http_code} %{redirect_url}')" "302 http://$B:$port/shop/login?next=/shop/" "Django's URLs are below its SCRIPT_NAME"
is "$(page $B /shop -o "$tmp/out" -w '%{http_code} %{redirect_url}')" "302 http://$B:$port/shop/login?next=/shop/" "also without a slash"
is "$(page $B / | head -n 1) $(code $B /shopping)" 'just a file 404' "beside it are ordinary files"
page $B '/shop/login' >"$tmp/form"
like "$(cat "$tmp/form")" 'href="/shop/static/admin/css/base.css"' "its static files are below it too"
is "$(get $B /shop/static/admin/css/base.css | cksum)" "$(page $A /static/admin/css/base.css | cksum)" "and come from Apache"
is "$(login $B /shop/ bert secret)" "302 http://$B:$port/shop/" "its user logs in"
page $B /shop/ >"$tmp/form"
is "$(page $B /shop/ -d "csrfmiddlewaretoken=$(token "$tmp/form")" -d 'text=of bert' -o "$tmp/out" -w '%{http_code} %{redirect_url}')" \
    "302 http://$B:$port/shop/" "and posts"
is "$(page $B /shop/export)" "1 bert 'of bert'" "into a database of its own"
get $B /shop/trial/who >"$tmp/who"
is "$(field uid "$tmp/who") $(workers "$bob" | wc -l)" "$(id -u "$bob") 1" "in a process of its own user's"
cp "$tmp/cookies.$A" "$tmp/cookies.kept"
sed "s/$A/$B/" "$tmp/cookies.kept" >"$tmp/cookies.$B"
is "$(page $B /shop/ -o "$tmp/out" -w '%{http_code}')" 302 "a session of the one site is none of the other"

# One request at a time: the other app of zfpm.conf, under the fork server. And a request that says nothing.
run_example django/zfpm.conf -e "s|/usr/local/bin/fcgi_wsgi.py|$tmp/fcgi_wsgi.py|" \
    -e '/^# app django-single/,/^# }/s/^# \{0,1\}//' -e '/^pool www.example.com/,/^}/s/app django$/app django-single/' \
    -e '/^pool www.example.net/,/^}/s/umask 077/&\n\ttimeout app 2s\n\ttimeout kill 3s/'
get $A /trial/who >"$tmp/who"
is "$(field uid "$tmp/who")" "$(id -u "$alice")" "with a fork server it runs as its user too" || diag "$(cat "$tmp/who")"
server=$(sed -n 's/.*app server \([0-9]*\): ready.*/\1/p' "$tmp/zfpm.log")
is "$(ps -o ppid= -p "$(field pid "$tmp/who")" | tr -d ' ')" "$server" "as a child of the process in which Django is loaded"
fetch m1 $A /trial/hold/gate4
fetch m2 $A /trial/hold/gate4
wait_until held gate4 2
touch "$tmp/notes/gate4"
fetched m1 m2
is "$(field pid "$tmp/m1" | cat - "$tmp/m2" | sed 's/^pid \([0-9]*\) .*/\1/' | head -n 2 | sort -u | wc -l)" 2 "two requests have two processes"
is "$(cat "$tmp/m1" "$tmp/m2" | sed -n 's/.* random //p' | sort -u | wc -l)" 2 "whose random numbers differ"
page $A / >"$tmp/form"
is "$(page $A / -F "csrfmiddlewaretoken=$(token "$tmp/form")" -F 'text=forked' -F "file=@$tmp/up.bin;filename=forked.bin" -o "$tmp/out" -w '%{http_code}') $(cksum <"$alice_home/site/var/files/forked.bin")" \
    "302 $(cksum <"$tmp/up.bin")" "an upload arrives, and the session is still known"
is "$(page $A /files/1 -o "$tmp/out" -w '%{http_code}') $(page $A /files/4 | cksum)" "404 $(cksum <"$tmp/up.bin")" "and comes back"

fetch beside $B /shop/trial/ticks/gate5 -N
wait_until grep -qs tick "$tmp/beside"
fetch slow $B /shop/trial/hold/never -w '\n%{http_code}'
passes "a request that says nothing for too long is ended" wait_until errors 'stderr: Timeout .2s. exceeded while reading from socket .application.'
touch "$tmp/notes/gate5"
fetched slow beside
is "$(tail -n 1 "$tmp/slow")" 500 "with 500"
is "$(tail -n 1 "$tmp/beside") $(cat "$tmp/beside.err")" 'end ' "one beside it in the same process comes to its end"
slow=$(sed -n "s/.*pool $B: worker \\([0-9]*\\): started django\$/\\1/p" "$tmp/zfpm.log" | tail -n 1)
passes "then zfpm ends the process" wait_until gone "$slow"
is "$(code $B /shop/trial/who)" 200 "and the next request has another one"

stop_zfpm TERM
is "$zfpm_status" 0 "zfpm ends"
