#!/bin/sh
# examples/perl: a guest book with CGI::Fast works through Apache and zfpm, in processes of its own and under the fork
# server; one app serves two tenants, each as its own user, with a program of his own.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
perl -MCGI::Fast -e 1 2>/dev/null || skip_all "no CGI::Fast"
plan 81

want_user alice bob web
make_key
for u in alice bob; do
	eval "owner=\$$u"
	mkdir -m 700 "$tmp/home/$u/guestbook"
	mkdir "$tmp/home/$u/www"
	cp "$top/examples/perl/app.pl" "$tmp/home/$u/guestbook/"
	echo 'a plain file' >"$tmp/home/$u/www/plain.txt"
	chown -R "${owner:?}:" "$tmp/home/$u"
done
book=${alice_home:?}/guestbook
{
	printf '\211PNG\r\n\032\n'
	head -c 1500000 /dev/urandom
} >"$tmp/up.png"
echo '<script>' >"$tmp/up.html"
cat "$tmp/up.png" "$tmp/up.png" "$tmp/up.png" "$tmp/up.png" | head -c 5500000 >"$tmp/big.png"
log=$tmp/www.example.com.error.log

alice_log() { grep -Eq -e "$1" "$log"; }
alice_runs() { ps -o pid= -u "${alice:?}" | sort -n | tr -d ' ' | tr '\n' ' '; }
# The processes of alice's that serve, which under the fork server are the children of another one of hers.
serving() {
	for serving_pid in $(workers "$alice"); do
		if [ "$mode" = on ]; then children_of "$serving_pid"; else echo "$serving_pid"; fi
	done
}
retire() { "$zfpm" retire -c "$tmp/zfpm.conf" www.example.com >"$tmp/retire.log" 2>&1; }
page_has() { get www.example.com /guestbook | grep -q "$1"; }
status_is() { [ "$(code www.example.com /guestbook)" = "$1" ]; }
# zfpm with the example's configuration, as these expressions of sed make it
run() { run_example perl/zfpm.conf "$@"; }

{
	echo "Define APACHE_LOG_DIR $tmp"
	example perl/apache.conf
} >"$tmp/apache.conf"
run
start_httpd <"$tmp/apache.conf"

for mode in on off; do
	as="fork_server $mode:"
	run -e "s|fork_server on\t|fork_server $mode\t|"
	cp "$top/examples/perl/app.pl" "$book/app.pl"
	rm -rf "$book/data" "${bob_home:?}/guestbook/data"
	: >"$log"

	is "$(code www.example.com /guestbook)" 200 "$as the page is shown"
	is "$(serving | wc -l) $(alice_runs | wc -w)" "$([ $mode = on ] && echo 1 2 || echo 1 1)" "$as by a process of the user's"
	like "$(get www.example.com /guestbook)" '<form method=post action="/guestbook"' "$as which knows its place"
	is "$(get www.example.com /plain.txt)" 'a plain file' "$as the rest of the host is Apache's"
	is "$(code www.example.com /guestbook/nothing) $(code www.example.com /guestbooks)" '404 404' "$as what is not there"

	# A form
	get www.example.com /guestbook -i --data-urlencode 'name=Zoë' --data-urlencode 'text=a < b & äöü €' >"$tmp/answer"
	like "$(cat "$tmp/answer")" '^HTTP/1.1 303 ' "$as a form that is sent is answered with a redirect"
	like "$(cat "$tmp/answer")" '^Location: (http://www.example.com)?/guestbook' "$as to the page"
	like "$(cat "$tmp/answer")" '^Set-Cookie: name=Zo%C3%AB; path=/guestbook;.* HttpOnly' "$as and a cookie"
	like "$(get www.example.com /guestbook)" '<b>Zoë</b>: a &lt; b &amp; äöü €</p>' "$as the page has what was said"
	like "$(get www.example.com /guestbook -H 'Cookie: name=Zo%C3%AB')" 'name=name value="Zoë"' "$as the cookie comes back to the program"
	like "$(get www.example.com /guestbook)" 'name=name value=""' "$as and is not there for the next one"
	is "$(code www.example.com /guestbook -d name=x)" 400 "$as a form that is not filled in"
	passes "$as what it prints to STDERR is in the virtual host's log" wait_until alice_log '^stderr: entry 1 from 127.0.0.1$'
	is "$(stat -c '%U %a' "$book/data/entries")" "$alice 600" "$as the file is the tenant's alone"

	# Uploads
	is "$(code www.example.com /guestbook -F name=Ann -F text=hello -F "picture=@$tmp/up.png")" 303 "$as a picture of 1.5 MB is uploaded"
	get www.example.com /guestbook/2 -D "$tmp/head" >"$tmp/down.png"
	passes "$as and comes back as it was" cmp "$tmp/up.png" "$tmp/down.png"
	like "$(cat "$tmp/head")" '^Content-Type: image/png' "$as with its type"
	is "$(code www.example.com /guestbook -F name=Ann -F text=hello -F "picture=@$tmp/up.html")" 415 "$as something else is refused"
	is "$(code www.example.com /guestbook -F name=Ann -F text=hello -F "picture=@$tmp/big.png" -H Expect:)" 413 "$as so is one that is too big"
	is "$(code www.example.com /guestbook)" 200 "$as after which all is as before"

	# Many at a time
	sign() { get_exec www.example.com /guestbook -d "name=many&text=n$i" -o "$tmp/many.$i" -w '%{http_code}\n'; }
	at_once 12 many.code sign
	wait_all
	is "$(cat "$tmp"/many.code.* | sort | uniq -c | tr -s ' ')" ' 12 303' "$as twelve sign at a time"
	is "$(cut -f 1,2 "$book/data/entries" | grep '^many' | sort -u | wc -l)" 12 "$as none of them is lost"
	passes "$as there are no more processes than max_workers" test "$(serving | wc -l)" -le 3

	# The other tenant: the same app, another directory
	unlike "$(get www.example.net /guestbook)" 'Zoë' "$as the other host has a book of its own"
	is "$(code www.example.net /guestbook -d 'name=Bob&text=mine') $(stat -c %U "$bob_home/guestbook/data/entries")" "303 $bob" "$as which is its user's"

	# An error in a request: the file can not be written
	chmod 400 "$book/data/entries"
	before=$(alice_runs)
	is "$(code www.example.com /guestbook -d 'name=x&text=y') $(cat "$tmp/code.body")" \
	    '500 That did not work. It is noted, and will be seen to.' "$as what dies in a request is a 500"
	passes "$as the log says why" wait_until alice_log '^stderr: POST /guestbook: data/entries: Permission denied$'
	is "$(code www.example.com /guestbook) $(alice_runs)" "200 $before" "$as and the processes stay"

	# Another version: this one catches nothing
	sed -i 's|my @answer = eval {|my @answer = do {|;s|<h1>Guest book|<h1>Visitors|' "$book/app.pl"
	fails "$as a changed program does not count by itself" page_has '<h1>Visitors'
	passes "$as zfpm retire" retire
	passes "$as then it does" page_has '<h1>Visitors'
	before=$(serving)
	is "$(code www.example.com /guestbook -d 'name=x&text=y')" 500 "$as one that does not catch what dies is a 500 too"
	passes "$as the log has its last words" wait_until alice_log '^stderr: .*app.pl: data/entries: Permission denied$'
	passes "$as its process ends" wait_until gone "$before"
	is "$(code www.example.com /guestbook)" 200 "$as and another one serves"
	printf 'this is no Perl {\n' >>"$book/app.pl"
	retire
	is "$(code www.example.com /guestbook)" 500 "$as one with a syntax error"
	passes "$as zfpm's log has what perl says of it" wait_for_log 'pool www.example.com: .*stderr: syntax error at app.pl line'
	is "$(code www.example.net /guestbook)" 200 "$as nobody else suffers"
	cp "$top/examples/perl/app.pl" "$book/app.pl"
	passes "$as mended, it serves again without a command" wait_until status_is 200
done

# The app that is a customer's own, which stands in the example as a comment
mode=on
chmod 755 "$book/app.pl"
run -e '/^# app alice/,/^# }/s/^# *//' -e '/^pool www.example.com/,/^}/s/app perl/app alice-guestbook/'
passes "a customer's own app: it serves" status_is 200
sed -i 's|<h1>Guest book|<h1>Own|' "$book/app.pl"
passes "a changed program counts by itself" wait_until page_has '<h1>Own'
stop_zfpm
is "$zfpm_status $(alice_runs)" '0 ' "zfpm ends, and nothing is left"
