#!/bin/sh
# examples/fcgiwrap: CGI scripts run through Apache, zfpm and fcgiwrap as the host's own user, with their bodies, errors and
# ends as they are; none outlives its time, nor zfpm.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
[ -x /usr/sbin/fcgiwrap ] || skip_all "no fcgiwrap"
plan 46

want_user alice bob web
make_key
mkdir -m 1777 "$tmp/notes"
# script NAME <text: one of alice's
script() {
	cat >"${alice_home:?}/cgi-bin/$1"
	chmod 755 "$alice_home/cgi-bin/$1"
}
for u in alice bob; do
	mkdir "$tmp/home/$u/www" "$tmp/home/$u/cgi-bin"
	cp "$top/examples/fcgiwrap/hello.cgi" "$tmp/home/$u/cgi-bin/"
	cp "$top/examples/fcgiwrap/hello.cgi" "$tmp/home/$u/www/"
done
echo 'a page' >"$alice_home/www/page.txt"
echo 'not for bob' >"$alice_home/secret"
chmod 600 "$alice_home/secret"
cp "$top/examples/fcgiwrap/hello.cgi" "$alice_home/www/notes.txt"
script sum.cgi <<-\END
	#!/bin/sh
	printf 'Content-Type: text/plain\r\n\r\n'
	cksum
END
script env.cgi <<-\END
	#!/bin/sh
	printf 'Status: 404 None\r\nContent-Type: text/plain\r\nX-Mine: yes\r\n\r\n'
	env | sort
END
script where.cgi <<-\END
	#!/bin/sh
	printf 'Location: /elsewhere\r\nStatus: 302 Found\r\n\r\n'
END
script fail.cgi <<-\END
	#!/bin/sh
	echo "it went wrong" >&2
	exit 3
END
script kill.cgi <<-\END
	#!/bin/sh
	kill -9 $$
END
script half.cgi <<-\END
	#!/bin/sh
	printf 'Content-Type: text/plain\r\n\r\nhalf'
	exit 3
END
script interpreter.cgi <<-\END
	#!/no/such/interpreter
END
script slow.cgi <<-END
	#!/bin/sh
	trap '' TERM
	echo \$\$ >>$tmp/notes/slow
	\${QUERY_STRING:-true}
	sleep 1000 &
	wait
END
# It ends when it has got a line: there is one for each.
script meet.cgi <<-END
	#!/bin/sh
	printf 'Content-Type: text/plain\r\n\r\n'
	echo here
	read -r end <$tmp/meet.gate
	echo "\$PPID"
END
echo 'echo no script' >"$alice_home/cgi-bin/data.txt"
script mode.cgi <"$top/examples/fcgiwrap/hello.cgi"
chmod 644 "$alice_home/cgi-bin/mode.cgi"
cp "$alice_home/cgi-bin/sum.cgi" "$alice_home/cgi-bin/data.txt"
cat >"${bob_home:?}/cgi-bin/steal.cgi" <<-END
	#!/bin/sh
	printf 'Content-Type: text/plain\r\n\r\n'
	cat $alice_home/secret || id -un
END
chmod 755 "$bob_home/cgi-bin/steal.cgi"
chown -R "${alice:?}:" "$alice_home"
chown -R "${bob:?}:" "$bob_home"

# zfpm with the example's configuration, as these expressions of sed make it
run() { run_example fcgiwrap/zfpm.conf "$@"; }
# The remains of a process are nothing that runs: who reaps them is the system's business.
none_runs() { [ -z "$(ps -o stat= -u "$1" | sed '/^Z/d')" ]; }
slow_script() { wait_until test -s "$tmp/notes/slow" && tail -n 1 "$tmp/notes/slow"; }
head_of() { sed -n "s/^$2: *//p" "$1" | tr -d '\r'; }

run
example fcgiwrap/apache.conf >"$tmp/apache.conf"
start_httpd <"$tmp/apache.conf"

# ---- what works -------------------------------------------------------------------------------

is "$(get www.example.com '/cgi-bin/hello.cgi/more/of%20it?a=b')" "$alice in $alice_home/cgi-bin
GET /cgi-bin/hello.cgi path '/more/of it' query 'a=b'" "a script runs as the host's user, in its own directory, with path and query"
is "$(get www.example.com /cgi-bin/hello.cgi -d 'the body')" "$alice in $alice_home/cgi-bin
POST /cgi-bin/hello.cgi path '' query ''
the body" "and with a body"
is "$(get www.example.net /cgi-bin/hello.cgi | head -n 1)" "$bob in $bob_home/cgi-bin" "the other host's as its own"
is "$(get www.example.net /cgi-bin/steal.cgi)" "$bob" "who can not read what is not his"
passes "of which the error log tells" wait_until errors '^stderr: cat: .*secret: Permission denied$'
is "$(get www.example.com /hello.cgi | head -n 1)" "$alice in $alice_home/www" "a script among the pages"
is "$(get www.example.com /page.txt) $(get www.example.com /notes.txt | head -n 1)" 'a page #!/bin/sh' "any other file there is a page"
head -c 3000000 /dev/urandom >"$tmp/big"
is "$(get www.example.com /cgi-bin/sum.cgi --data-binary "@$tmp/big")" "$(cksum <"$tmp/big")" "a body of 3 MB"
is "$(get www.example.com /cgi-bin/sum.cgi --data-binary "@$tmp/big" -H 'Transfer-Encoding: chunked')" "$(cksum <"$tmp/big")" "without a Content-Length too"
get www.example.com /cgi-bin/env.cgi -D "$tmp/head" >"$tmp/env"
is "$(head -n 1 "$tmp/head" | tr -d '\r') $(head_of "$tmp/head" X-Mine)" 'HTTP/1.1 404 None yes' "the status and the header are the script's"
like "$(cat "$tmp/env")" "^HOME=$alice_home\$" "it has the user's HOME"
unlike "$(cat "$tmp/env")" "ZFPM|$(cat "$tmp/key")" "and nothing of zfpm's"
get www.example.com /cgi-bin/where.cgi -D "$tmp/head" >"$tmp/out"
is "$(head -n 1 "$tmp/head" | tr -d '\r') $(head_of "$tmp/head" Location)" 'HTTP/1.1 302 Found /elsewhere' "a redirect"
is "$(workers "$alice" | wc -l) $(workers "$bob" | wc -l)" '1 1' "all of it by one fcgiwrap for each host"

# ---- what does not -----------------------------------------------------------------------------

is "$(code www.example.com /cgi-bin/fail.cgi)" 500 "a script that says nothing"
passes "what it wrote to standard error is in the log" wait_until errors '^stderr: it went wrong$'
passes "and what is wrong with it" errors 'End of script output before headers \(pool www.example.com, app cgi, URI /cgi-bin/fail.cgi\)'
is "$(code www.example.com /cgi-bin/kill.cgi)" 502 "one that dies of a signal"
is "$(get www.example.com /cgi-bin/half.cgi)" half "one that fails after its header: fcgiwrap does not tell"
is "$(code www.example.com /cgi-bin/mode.cgi)" 403 "one that is not executable"
passes "of which the log tells" wait_until errors 'stderr: Cannot get script name, are .* and is the script executable\?'
is "$(code www.example.com /cgi-bin/interpreter.cgi)" 502 "one whose interpreter is not there"
passes "the log names the script" wait_until errors 'stderr: Cannot execute script \(.*/interpreter.cgi\)'
is "$(code www.example.com /cgi-bin/none.cgi)" 404 "one that is not there"
is "$(code www.example.com /cgi-bin/data.txt)" 403 "a file that is no .cgi is not run"
passes "the log says why" wait_until errors "stderr: Access denied: '.*/data.txt' has no extension of application 'cgi'"
is "$(get www.example.com /cgi-bin/hello.cgi | head -n 1) $(workers "$alice" | wc -l)" "$alice in $alice_home/cgi-bin 1" "the same fcgiwrap serves on"

# ---- many at a time --------------------------------------------------------------------------------

# With NO_BUFFERING what is printed is there before the end.
mkfifo -m 666 "$tmp/meet.gate"
at_once 5 meet get_exec www.example.com /cgi-bin/meet.cgi -N
all_print() { [ "$(cat "$tmp"/meet.? | grep -c here)" -eq 5 ]; }
passes "five scripts run at a time, and what each prints goes out at once" wait_until all_print
is "$(workers "$alice" | wc -l)" 5 "by a fcgiwrap each"
get_exec www.example.com /cgi-bin/hello.cgi >"$tmp/sixth" &
sixth=$!
waits() { "$zfpm" status -c "$tmp/zfpm.conf" www.example.com | grep -Eq '^queued +1'; }
passes "a sixth waits, for there are max_workers" wait_until waits
is "$(code www.example.net /cgi-bin/hello.cgi)" 200 "one of the other host does not"
exec 9<>"$tmp/meet.gate"
printf '\n\n\n\n\n' >&9
wait_all
exec 9>&-
wait "$sixth"
is "$(grep -h '^[0-9]' "$tmp"/meet.? | sort -u | wc -l) $(head -n 1 "$tmp/sixth")" "5 $alice in $alice_home/cgi-bin" "then it is served"

# ---- the end -----------------------------------------------------------------------------------

get_exec www.example.com /cgi-bin/slow.cgi >"$tmp/out" 2>&1 &
client=$!
pid=$(slow_script)
isnt "$pid" '' "a script that ignores SIGTERM runs"
stop_zfpm TERM
wait "$client"
passes "zfpm stops: nothing of the user's is left" wait_until none_runs "$alice"
rm "$tmp/notes/slow"

# More than the second in which mod_zfpm does not miss a client that left at once.
run -e 's/timeout app 60s/timeout app 3s/'
is "$(code www.example.com /cgi-bin/slow.cgi)" 500 "a script that prints nothing within timeout app is a 500"
passes "the log says why" wait_until errors 'stderr: Timeout \(3s\) exceeded while reading from socket \(application\)'
passes "and the script ends, though fcgiwrap leaves it" wait_until gone "$(slow_script)"
is "$(get www.example.com /cgi-bin/hello.cgi | head -n 1)" "$alice in $alice_home/cgi-bin" "the next one is served"
rm "$tmp/notes/slow"

get_exec www.example.com /cgi-bin/slow.cgi >"$tmp/out" 2>&1 &
client=$!
pid=$(slow_script)
kill "$client"
wait "$client" 2>"$tmp/wait"
passes "the client leaves: zfpm notes it" wait_for_log 'pool www.example.com: aborted by the web server \(GET /cgi-bin/slow.cgi\)'
passes "and the script has the same time, then it ends" wait_until gone "$pid"
passes "as the log says" wait_for_log 'worker [0-9]+: did not come back within 3s of losing its request'
rm "$tmp/notes/slow"

# What a script puts into the background on purpose goes on when its fcgiwrap ends because there is nothing to do.
script leave.cgi <<-END
	#!/bin/sh
	printf 'Content-Type: text/plain\r\n\r\n'
	sleep 1000 >/dev/null 2>&1 </dev/null &
	echo \$!
END
chown "$alice:" "$alice_home/cgi-bin/leave.cgi"
run -e 's/timeout app 60s/timeout idle 100ms/'
left=$(get www.example.com /cgi-bin/leave.cgi)
like "$left" '^[0-9]+$' "a script leaves something in the background"
no_workers() { [ -z "$(workers "$alice")" ]; }
passes "its fcgiwrap is not needed any more" wait_until no_workers
fails "and that goes on" gone "$left"
get www.example.com /cgi-bin/leave.cgi >"$tmp/left"
stop_zfpm TERM
kill -KILL "$left"
passes "with zfpm itself that ends too" wait_until none_runs "$alice"
is "$zfpm_status" 0 "zfpm ends well"
