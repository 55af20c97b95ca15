#!/bin/sh
# cgi-fcgi of libfcgi in front of zfpm, as examples/cgi-fcgi has it: as the bridge
# from a web server that can do no more than CGI, with everything that a site does,
# the pool from the server's configuration alone and errors as designed; and as a
# client for the command line.
. "${0%/*}/lib.sh"
. "${0%/*}/front.sh"
command -v cgi-fcgi >/dev/null || skip_all "no cgi-fcgi here"
command -v lighttpd >/dev/null || skip_all "no lighttpd here, for its CGI"
plan $((n_all + 9))

front=cgi-fcgi
front_log=$tmp/log/scripts.log
keeps=no lost=500 down=500 reload_waits=yes
# CGI has no word for a response that breaks off: its length alone shows it.
cut_query='&length=40000'
make_sites
(umask 027 && head -n 1 "$key" >"$tmp/cgi.key")
chgrp "$web" "$tmp/cgi.key"
example cgi-fcgi/zfpm-cgi -e "s|/etc/zfpm/cgi.key|$tmp/cgi.key|" >"$bin/zfpm-cgi"
example cgi-fcgi/zfpm-request >"$bin/zfpm-request"
chmod 755 "$bin/zfpm-cgi" "$bin/zfpm-request"
example cgi-fcgi/cgi.conf -e "s|/usr/local/lib/zfpm/zfpm-cgi|$bin/zfpm-cgi|;s|/var/log/lighttpd|$tmp/log|" >"$tmp/example"
lighttpd_conf <"$tmp/example"
start_front() { start_lighttpd; }
reload_front() { reload_lighttpd; }

front_zfpm
start_front
check_all "$tmp/cgi.key"

# The command line
"$bin/zfpm-request" www.example.com "$alice_home/www/hello.php" >"$tmp/answer" 2>&1
is "$? $(tail -n 1 "$tmp/answer")" "0 hello from $alice" "a request from the command line"
like "$(cat "$tmp/answer")" '^Content-Type: text/plain' "its headers come too"
is "$("$bin/zfpm-request" www.example.org "$bob_home/www/form.php" 'a=%26&b=2' | tail -n 2)" 'a=26
b=32' "with a query"
is "$(printf 'a=xyz' | CONTENT_LENGTH=5 "$bin/zfpm-request" www.example.org "$bob_home/www/form.php" | tail -n 1)" a=78797a "with a body"
"$bin/zfpm-request" no-such "$bob_home/www/hello.php" >"$tmp/answer" 2>"$tmp/answer.txt"
like "$(cat "$tmp/answer")" '^Status: 500' "an unknown pool"
is "$(cat "$tmp/answer.txt")" "Unknown pool 'no-such'" "zfpm's message is on standard error"
"$bin/zfpm-request" www.example.com "$alice_home/www/die.php" 'after=20000' >"$tmp/answer" 2>"$tmp/answer.txt"
isnt "$?" 0 "a response that breaks off: the exit status tells"
like "$(cat "$tmp/answer.txt")" 'exited on signal 9' "and so does zfpm's message"
fails "a tenant can not use it" setpriv --reuid "$alice" --regid "$alice" --init-groups \
    "$bin/zfpm-request" www.example.org "$bob_home/www/hello.php" 2>"$tmp/answer.txt"

# Nothing of it stays: cgi-fcgi ends with its server.
stop_front
nobody_left() { [ -z "$(ps -o pid= -u "$web")" ]; }
wait_until nobody_left
