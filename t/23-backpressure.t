#!/bin/sh
# The router's memory stays bounded, however much is under way and however slowly it is taken.
. "${0%/*}/lib.sh"
plan 16

start_zfpm <<-\EOF
	app app {
		command @bin@/app -c 1
	}
	pool p {
		user @user@
		app  app
		max_workers 30
	}
	pool q {
		user @user@
		app  app
		max_workers 1
	}
EOF
sums() {
	"$bin/client" pattern "$1" | cksum | awk '{ print $2, $1 }'
}
mkdir -m 777 "$tmp/notes"
router=$(router_pid)
high_water() {
	sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$router/status"
}
bounded() {	# kB, title
	grown=$(($(high_water) - before))
	echo "# the router's memory has grown by $grown kB"
	[ -z "${SANITIZE:-}" ] || set -- 200000 "$2"	# the sanitizers' own memory
	passes "$2" test "$grown" -le "$1"
}
request p -O -C out=1000000 >"$tmp/out"		# warm
request p -O -C -B 1000000 echo >"$tmp/out"

before=$(high_water)
is "$(request p -O -C -t 60 -W 1000 out=100000000)" "$(sums 100000000)" "100 MB for a reader that takes nothing in the first second"
bounded 1000 "the router holds no more than buffer_response of it"
is "$(request p -O -C -t 60 -w 1:300000 out=30000000 big)" "$(sums 30000000)" "30 MB for a slow reader"
bounded 1000 "in as little memory"
is "$(request p -O -C -t 60 -w 5:9 record=1 out=500)" "$(sums 500)" "one that takes 9 bytes at a time"
is "$(request p -O -t 60 -B 50000000 sleep=1 | grep '^stdin')" "stdin $(sums 50000000)" "50 MB for a script that reads nothing in the first second"
bounded 1500 "the router holds no more than buffer_request of it"
is "$(request p -O -t 60 -B 2000000 slowread=5 | grep '^stdin')" "stdin $(sums 2000000)" "2 MB for a slow script"

set --
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	"$bin/client" -s "$sock" -p p -O -C -t 60 -W 500 out=2000000 >"$tmp/out$i" &
	set -- "$@" $!
done
for pid in "$@"; do
	wait "$pid"
done
is "$(cat "$tmp"/out[0-9]* | sort | uniq -c | awk '{ print $1, $2, $3 }')" "20 $(sums 2000000)" "20 slow readers at once"
bounded 10000 "in no more than 20 times that"

# The response is taken ahead of a slow reader, so that the worker is free again early.
"$bin/client" -s "$sock" -p q -O -C -t 20 -W 2000 out=400000 note="$tmp/notes/ahead" at=end >"$tmp/ahead" &
ahead=$!
wait_until test -s "$tmp/notes/ahead"
is "$(request q -O out=3)$(kill -0 "$ahead" && test ! -s "$tmp/ahead" && echo " ahead")" "012 ahead" \
    "the only worker serves the next request while the response of the last one is still on its way"
wait "$ahead"
is "$(cat "$tmp/ahead")" "$(sums 400000)" "which arrives whole"

# Connections on which nothing happens
before=$(high_water)
perl -MSocket -e '
	for (1 .. 400) {
		socket $s[$_], AF_UNIX, SOCK_STREAM, 0 or die;
		connect $s[$_], pack_sockaddr_un($ARGV[0]) or die;
		syswrite $s[$_], pack "C8", 1, 9, 0, 0, 0, 0, 0, 0;
		sysread $s[$_], $answer, 8 or die;
	}' "$sock"
bounded 3000 "400 idle connections need no buffers"

# Questions whose answers are not taken: a peer can not make the router store them.
flood() {	# hexadecimal: first, then for ever
	before=$(high_water)
	perl -MSocket -MFcntl -e '
		my ($path, $first, $question) = @ARGV;
		socket my $s, AF_UNIX, SOCK_STREAM, 0 or die;
		connect $s, pack_sockaddr_un($path) or die;
		fcntl $s, F_SETFL, O_NONBLOCK;
		syswrite $s, pack("H*", $first);
		my $many = pack("H*", $question) x 1000;
		my ($sent, $idle) = (0, 0);
		while ($sent < 10_000_000 && $idle < 10) {
			my $n = syswrite $s, $many, length($many) - $sent % length($many), $sent % length($many);
			if (defined $n) { $sent += $n; $idle = 0; next }
			last unless $!{EAGAIN};
			$idle++;
			select undef, undef, undef, 0.05;
		}' "$sock" "$1" "$2"
}
flood '' 01090000001000000e00464347495f4d41585f434f4e4e53
bounded 2000 "a flood of FCGI_GET_VALUES is not answered without end"
flood '' 014d000000000000
bounded 2000 "nor one of unknown types"
flood 01010001000800000001010000000000 01010002000800000001010000000000
bounded 2000 "nor one of BEGIN_REQUESTs"
