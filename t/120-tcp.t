#!/bin/sh
# zfpm over TCP.
. "${0%/*}/lib.sh"
plan 8

make_user user
make_key
port=$(free_port)
cat >"$tmp/conf" <<-EOF
	listen @sock@ key @tmp@/key
	listen 127.0.0.1:$port allow 127.0.0.1 key @tmp@/key
	app app {
		command @bin@/app
	}
	pool p {
		user @user@
		app app
		max_workers 4
	}
EOF

# many ADDRESS N KEY: so many connections at once, a request on each. When all are sent: a line on standard output; then what became of them.
cat >"$tmp/many" <<-\EOF
	use strict;
	use IO::Socket::INET;
	use IO::Socket::UNIX;
	my ($address, $n, $key) = @ARGV;
	sub record { my ($type, $text) = @_; pack('C2n2C2', 1, $type, 1, length $text, 0, 0) . $text }
	sub pair { pack('C2', length $_[0], length $_[1]) . $_[0] . $_[1] }
	my $request = record(1, pack('nCx5', 1, 1)) . record(4, pair('ZFPM_POOL', 'p') . pair('ZFPM_KEY', $key) .
	    pair('REQUEST_METHOD', 'GET') . pair('QUERY_STRING', 'out=3')) . record(4, '') . record(5, '');
	my (@s, %what);
	$| = 1;
	for (1 .. $n) {
		my $s = $address =~ m{^/} ? IO::Socket::UNIX->new($address) : IO::Socket::INET->new($address);
		$s or die "$address: $!\n";
		syswrite $s, $request;
		push @s, $s;
	}
	print "sent\n";
	alarm 60;
	for my $s (@s) {
		my $answer = '';
		1 while sysread $s, $answer, 8192, length $answer;
		$what{$answer =~ /^\x01\x06.*Content-Type: .*\x01\x03\0\x01\0\x08\0{7}/s ? 'served' : 'lost'}++;
	}
	print "$what{$_} $_\n" for sort keys %what;
EOF

# What has connected when zfpm is told to quit has sent its request, or is about to, and can not know whether it was begun.
for address in "127.0.0.1:$port" "$sock"; do
	start_zfpm <"$tmp/conf"
	router=$(router_pid)
	kill -STOP "$router"
	perl "$tmp/many" "$address" 100 "$(cat "$key")" >"$tmp/out" 2>"$tmp/err" &
	many=$!
	wait_until grep -q sent "$tmp/out"
	: >"$tmp/zfpm.log"
	"$zfpm" -c "$tmp/zfpm.conf" quit >"$tmp/quit" 2>&1 &
	quit=$!
	wait_for_log 'stopping when the running requests are done'
	kill -CONT "$router"
	wait "$many"
	is "$(cat "$tmp/out" "$tmp/err")" "$(printf 'sent\n100 served')" "zfpm quit serves those who have connected to $address before"
	wait "$quit"
	is "$?" 0 "and then it ends"
	"$bin/client" "$address" -p p -k "@$key" >"$tmp/out" 2>"$tmp/err"
	is "$?" 1 "who comes later is refused"
done

# One that has sent nothing yet is waited for, but not for long.
start_zfpm <"$tmp/conf"
perl -MIO::Socket::INET -e '$| = 1; my $s = IO::Socket::INET->new($ARGV[0]) or die; print "connected\n"; sysread $s, my $c, 1;' \
    "127.0.0.1:$port" >"$tmp/out" &
track $!
wait_until test -s "$tmp/out"
passes "nor does a silent connection hold it" timeout "$patience" "$zfpm" -c "$tmp/zfpm.conf" quit
passes "it has ended" gone "$zfpm_pid"
