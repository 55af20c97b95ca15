#!/bin/sh
# The connection to a worker is kept between requests, opened again when the application closes it, and a worker found dead is replaced in silence.
. "${0%/*}/lib.sh"
plan 25

# One that closes after each response, and dies of a connection without a request, having closed that: as Ruby's fcgi does.
cat >"$tmp/fragile.pl" <<-\END
	#!/usr/bin/perl
	use strict;
	use warnings;
	use Socket;

	open my $listen, '<&=', 0 or die;
	sub record { pack('CCnnCC', 1, $_[0], $_[1], length $_[2], 0, 0) . $_[2] }
	while (accept my $c, $listen) {
		my ($buf, $slow, $ended) = ('', 0, 0);
		until ($ended) {
			my ($type, $len, $pad) = (0, 0, 0);
			for (;;) {
				(undef, $type, undef, $len, $pad) = unpack 'CCnnC', $buf if length $buf >= 8;
				last if length $buf >= 8 + $len + $pad;
				next if sysread $c, $buf, 8192, length $buf;
				close $c;
				select undef, undef, undef, 0.1;
				die "no request\n";
			}
			$slow = 1 if $type == 4 && index($buf, 'slow') >= 0;
			$ended = $type == 5 && $len == 0;
			substr $buf, 0, 8 + $len + $pad, '';
		}
		$SIG{PIPE} = 'IGNORE';
		select undef, undef, undef, 0.5 if $slow;
		syswrite $c, record(6, 1, "Content-Type: text/plain\r\n\r\npid $$\n") . record(3, 1, pack 'NCx3', 0, 0);
		close $c;
	}
END
chmod 755 "$tmp/fragile.pl"
start_zfpm <<-\EOF
	app fragile {
		command @tmp@/fragile.pl
	}
	pool fragile {
		user @user@
		app  fragile
		max_workers 1
	}
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
req emptystdout pad=9
req
is "$(value connection)" 1 "padding and the end of STDOUT leave the connection in step"

# Its descriptor 3 is the connection. A request that comes before it is closed would find it alive.
closed() { ! [ -e "/proc/$first/fd/3" ]; }
req closeafter
is "$? $(value connection)" "0 1" "an application may close after its response"
wait_until closed
req
# 2 and 3 have asked whether it is back at accept(): the first time, it might be leaving.
is "$(value pid) $(value connection) $(value request)" "$first 4 1" "then the next request opens another connection to the same process"
for i in 1 2 3 4 5 6 7 8 9 10; do
	req closeafter || echo "request $i failed"
	wait_until closed
done >"$tmp/failed"
req
is "$(cat "$tmp/failed") $(value pid) $(value connection)" " $first 15" "ten times in a row"

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
# An application that dies of being asked
# It is asked when a request finds its connection closed.
fragile() { request fragile -O "$@" 2>>"$tmp/fragile.err"; }
for i in 1 2 3 4 5 6 7 8 9 10; do
	fragile >"$tmp/out" || echo "request $i failed"
	cat "$tmp/out"
	first=$(value pid)
	wait_until closed
done >"$tmp/fragile"
is "$(grep -vc '^pid' "$tmp/fragile")" 0 "one that dies of an empty connection loses no request" || diag "$(cat "$tmp/fragile" "$tmp/fragile.err")"
is "$(sort -u "$tmp/fragile" | grep -c .)" 2 "and only the first of its processes does"
passes "zfpm's log says so" wait_for_log 'pool fragile: app fragile: does not survive an empty connection'
fragile -t 20 -X 100 slow >"$tmp/left"
is "$?" 6 "a client leaves"
fragile -t 20 >"$tmp/out"
is "$? $(grep -c '^pid' "$tmp/out")" "0 1" "the next request is served all the same"

unlike "$(cat "$tmp/zfpm.log")" 'app: ' "the application has nothing to say against any of it"
