#!/bin/sh
# The connection to a worker is kept between requests, opened again when the application closes it, and a worker found dead is replaced in silence.
. "${0%/*}/lib.sh"
plan 20

start_zfpm <<-\EOF
	app app {
		command @bin@/app
	}
	app idle {
		command @bin@/app -i 50
	}
	app three {
		command @bin@/app -n 3
	}
	app two {
		command @bin@/app -c 2
		connections 2
	}
	pool p {
		user @user@
		app  app three idle two
		max_workers 4
	}
EOF
# The report's value of one name
value() { sed -n "s/^$1 //p" "$tmp/out"; }
req() { request p -O "$@" >"$tmp/out" 2>"$tmp/err"; }

req
first=$(value pid)
is "$(value connection) $(value request) $(value keep)" "1 1 1" "the first request opens a connection with FCGI_KEEP_CONN"
req
is "$(value pid) $(value connection) $(value request)" "$first 1 2" "the second one uses it again"
req -K
is "$(value pid) $(value connection) $(value request)" "$first 1 3" "whatever the web server does with its own"

# Its descriptor 3 is the connection. A request that comes before it is closed would find it alive.
closed() { ! [ -e "/proc/$first/fd/3" ]; }
req closeafter
is "$? $(value connection)" "0 1" "an application may close after its response"
wait_until closed
req
# 2 was the probe that asked whether it is back at accept(): the first time, it might be leaving.
is "$(value pid) $(value connection) $(value request)" "$first 3 1" "then the next request opens another connection to the same process"
for i in 1 2 3 4 5 6 7 8 9 10; do
	req closeafter || echo "request $i failed"
	wait_until closed
done >"$tmp/failed"
req
is "$(cat "$tmp/failed") $(value pid) $(value connection)" " $first 13" "ten times in a row"
req emptystdout pad=9
req
is "$(value connection)" 13 "padding and the end of STDOUT leave the connection in step"

# An application that closes idle connections by itself
req -a idle
idle=$(value pid)
reconnected() {
	req -a idle || return
	[ "$(value connection)" -gt 1 ]
}
wait_until reconnected
ok $? "a connection that the application closed while it was idle is opened again"
is "$(value pid)" "$idle" "to the same process"

# One that ends by itself, as PHP does
for i in 1 2 3 4 5 6 7 8 9 10; do
	req -a three || echo "request $i failed"
	value total
	[ "$(value total)" != 3 ] || wait_until gone "$(value pid)"
done >"$tmp/totals"
is "$(tr '\n' ' ' <"$tmp/totals")" "1 2 3 1 2 3 1 2 3 1 " "a worker that exits after its third response costs no request"

# Killed while idle. Its successor serves the very next request.
for i in 1 2 3 4 5 6 7 8 9 10; do
	req || echo "request $i failed"
	old=$(value pid)
	kill -KILL "$old"
	wait_until gone "$old"
	req || echo "request $i after the kill failed: $(cat "$tmp/err")"
	[ "$(value pid)" != "$old" ] || echo "the dead serve"
done >"$tmp/failed"
is "$(cat "$tmp/failed")" "" "a worker killed while it is idle costs no request, ten times in a row"
req -B 300000 -t 20
is "$(value stdin)" "300000 $("$bin/client" pattern 300000 | cksum | cut -d ' ' -f 1)" "a request with a large body finds a living one too"
old=$(value pid)
kill -KILL "$old"
wait_until gone "$old"
req -B 300000 -t 20
is "$? $(value stdin)" "0 300000 $("$bin/client" pattern 300000 | cksum | cut -d ' ' -f 1)" "even right after a kill"

# The most recently used worker first
for i in 1 2 3; do
	"$bin/client" -s "$sock" -p p sleep=0.3 >"$tmp/sleeper$i" &
	set -- "$@" $!
done
for i in "$@"; do
	wait "$i"
done
for i in 1 2 3 4 5 6; do
	req
	value pid
done | sort -u >"$tmp/pids"
is "$(grep -c . "$tmp/pids")" 1 "of several idle workers the most recently used one serves again and again"

# connections 2: two requests at a time in one process
req -a two
"$bin/client" -s "$sock" -p p -a two -O sleep=2 >"$tmp/sleeper" &
sleeper=$!
busy() {
	req -a two
	[ "$(value connection)" = 2 ]
}
wait_until busy
ok $? "with connections 2 a worker takes a second request beside the first"
two=$(value pid)
wait "$sleeper"
is "$(sed -n 's/^pid //p' "$tmp/sleeper")" "$two" "in the same process"

# Nothing is ever sent twice.
mkdir -m 777 "$tmp/notes"
req note="$tmp/notes/once" exit=1
is "$? $(grep -c . "$tmp/notes/once")" "3 1" "a request whose worker dies is not sent again"
req -B 300000 -t 20 note="$tmp/notes/big" close
is "$? $(grep -c '^start' "$tmp/notes/big")" "3 1" "nor is one with a large body"
req
is "$?" 0 "and the next one is served"
unlike "$(cat "$tmp/zfpm.log")" 'app: ' "the application has nothing to say against any of it"
