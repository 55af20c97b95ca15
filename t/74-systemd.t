#!/bin/sh
# zfpm tells a service manager what it does, and uses the sockets that it passes.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 40

# A service manager, as much of it as is needed: each message to NOTIFY_SOCKET is a line of $tmp/said, `|` between its parts.
cat >"$tmp/manager" <<-\END
	use Socket;
	socket my $s, AF_UNIX, SOCK_DGRAM, 0 or die;
	bind $s, pack_sockaddr_un($ARGV[0]) or die "$!";
	open my $said, '>>', $ARGV[1] or die;
	$said->autoflush(1);
	while (defined recv $s, my $text, 8192, 0) {
		$text =~ s/\n+/|/g;
		print $said "$text\n";
	}
END
perl -MIO::Handle "$tmp/manager" "$tmp/notify" "$tmp/said" &
track $!
wait_until test -S "$tmp/notify"
# run_passed ADDRESS... -- COMMAND...: with these sockets, bound here, as systemd passes them (SOCKETS: how many it says there are)
cat >"$tmp/passer" <<-\END
	use Socket;
	$^F = 100;
	my @sockets;
	while ((my $a = shift) ne '--') {
		my ($type, $addr) = $a =~ /^(udp:)?(.*)/;
		my $s;
		if ($addr =~ m{^/}) {
			unlink $addr;
			socket $s, AF_UNIX, SOCK_STREAM, 0 or die;
			umask 0;
			bind $s, pack_sockaddr_un($addr) or die "$addr: $!";
		} else {
			my ($host, $port) = split /:/, $addr;
			socket $s, AF_INET, $type ? SOCK_DGRAM : SOCK_STREAM, 0 or die;
			setsockopt $s, SOL_SOCKET, SO_REUSEADDR, 1;
			bind $s, pack_sockaddr_in($port, inet_aton($host)) or die "$addr: $!";
		}
		$type or listen $s, 20 or die;
		die "descriptor " . fileno $s if fileno $s != 3 + @sockets;
		push @sockets, $s;
	}
	$ENV{LISTEN_PID} = $ENV{OTHER_PID} ? $$ + 1 : $$;
	$ENV{LISTEN_FDS} = @sockets;
	$ENV{LISTEN_FDNAMES} = join ':', ('zfpm.socket') x @sockets;
	delete $ENV{OTHER_PID};
	exec @ARGV or die;
END
said() { grep -Eq -e "$1" "$tmp/said" 2>/dev/null; }
said_often() { [ "$(grep -Ec -e "$1" "$tmp/said")" -ge "$2" ]; }
refused() { ! "$bin/client" "$1" -P one >"$tmp/out" 2>"$tmp/err.txt"; }
# run COMMAND...: zfpm, below that; requests can come when this returns
run() {
	NOTIFY_SOCKET=$tmp/notify "$@" "$zfpm" -c "$tmp/zfpm.conf" </dev/null >>"$tmp/zfpm.out" 2>>"$tmp/zfpm.log" &
	zfpm_pid=$!
	wait_until zfpm_settled
}
zc() {
	"$zfpm" "$@" -c "$tmp/zfpm.conf" >"$tmp/out" 2>"$tmp/err.txt"
	is "$? $(cat "$tmp/err.txt")" '0 ' "zfpm $1"
}

port=$(free_port) other=$(free_port) third=$(free_port)
make_conf "$tmp/zfpm.conf" <<-END
	listen $sock mode 0666
	listen 127.0.0.1:$port allow 127.0.0.0/8
	app app { command @bin@/app }
	pool one {
		user @user@
		app app
	}
END
cp "$tmp/zfpm.conf" "$tmp/first.conf"

# What it says
run env
passes "READY=1 when requests can come" wait_until said '(^|\|)READY=1(\||$)'
passes "with a status line" said '(^|\|)STATUS=[^|]+(\||$)'
like "$(request one)" '^uid [1-9]' "they can"
unlike "$(request one)" 'NOTIFY_SOCKET|WATCHDOG|LISTEN' "an application knows nothing of it"
is "$(grep -c WATCHDOG "$tmp/said")" 0 "no watchdog is fed where there is none"
: >"$tmp/said"
before=$(perl -MTime::HiRes=clock_gettime,CLOCK_MONOTONIC -e 'printf "%d", clock_gettime(CLOCK_MONOTONIC) * 1e6')
zc reload
after=$(perl -MTime::HiRes=clock_gettime,CLOCK_MONOTONIC -e 'printf "%d", clock_gettime(CLOCK_MONOTONIC) * 1e6')
passes "is RELOADING=1, then READY=1" wait_until said '(^|\|)READY=1(\||$)'
like "$(head -n 1 "$tmp/said")" '(^|\|)RELOADING=1(\||$)' "in this order"
usec=$(sed -n 's/.*MONOTONIC_USEC=\([0-9]*\).*/\1/p' "$tmp/said" | head -n 1)
passes "with the time, between the command and its end" test "$before" -le "${usec:-0}" -a "${usec:-0}" -le "$after"
: >"$tmp/said"
echo nonsense >>"$tmp/zfpm.conf"
"$zfpm" reload -c "$tmp/zfpm.conf" >"$tmp/out" 2>&1
is "$?" 1 "a reload that fails"
passes "ends with READY=1 all the same" wait_until said '(^|\|)READY=1(\||$)'
cp "$tmp/first.conf" "$tmp/zfpm.conf"
: >"$tmp/said"
zc upgrade
passes "is RELOADING=1, then READY=1" wait_until said '(^|\|)READY=1(\||$)'
like "$(head -n 1 "$tmp/said")" '(^|\|)RELOADING=1(\||$).*MONOTONIC_USEC=' "in this order, with the time"
: >"$tmp/said"
hold_in one a
kill -QUIT "$zfpm_pid"
passes "STOPPING=1 while a request is finished" wait_until said '(^|\|)STOPPING=1(\||$)'
let_go a
passes "and then it ends" wait_until gone "$zfpm_pid"
fails "its socket is removed" test -e "$sock"

# The watchdog
: >"$tmp/said"
run env WATCHDOG_USEC=200000
passes "WATCHDOG=1 again and again" wait_until said_often '(^|\|)WATCHDOG=1(\||$)' 3
zc upgrade
: >"$tmp/said"
passes "after an upgrade too" wait_until said_often '(^|\|)WATCHDOG=1(\||$)' 2
stop_zfpm
: >"$tmp/said"
run env WATCHDOG_USEC=200000 WATCHDOG_PID=1
wait_until said READY=1
zc reload
is "$(grep -c WATCHDOG "$tmp/said")" 0 "a watchdog for another process is not fed"
stop_zfpm

# Sockets
: >"$tmp/zfpm.log"
run perl "$tmp/passer" "$sock" "127.0.0.1:$other" "127.0.0.1:$port" "udp:127.0.0.1:$other" --
inode() { stat -c %i "$sock"; }
path=$(inode)
is "$(stat -c %a "$sock")" 666 "mode and owner become those of listen"
like "$(request one)" '^uid [1-9]' "a request by a socket that was passed"
like "$("$bin/client" "127.0.0.1:$port" -P one)" '^uid [1-9]' "and one by TCP"
passes "one that no listen names is closed" log_has "LISTEN_FDS: descriptor 4 \(127.0.0.1:$other\) matches no listen; closed\$"
passes "so is one that does not listen" log_has 'LISTEN_FDS: descriptor 6 is no listening stream socket; closed$'
passes "nobody can connect to that" refused "127.0.0.1:$other"
unlike "$(request one)" 'LISTEN' "an application knows nothing of it"
zc reload
zc upgrade
like "$(request one) $(inode)" "$path\$" "after a reload and an upgrade it is still the same"
sed -i "s/^listen .*:$port.*/listen 127.0.0.1:$third allow 127.0.0.0\/8/" "$tmp/zfpm.conf"
zc reload
like "$("$bin/client" "127.0.0.1:$third" -P one)" '^uid [1-9]' "a reload adds another address"
passes "and closes one that was passed" refused "127.0.0.1:$port"
zc stop
wait_until gone "$zfpm_pid"
is "$(inode)" "$path" "a path that was passed is not removed"
rm -f "$sock"
cp "$tmp/first.conf" "$tmp/zfpm.conf"

: >"$tmp/zfpm.log"
OTHER_PID=1 run perl "$tmp/passer" "127.0.0.1:$other" --
like "$(request one)" '^uid [1-9]' "sockets for another process are none of ours"
passes "and are not kept" refused "127.0.0.1:$other"
unlike "$(cat "$tmp/zfpm.log")" LISTEN_FDS "without a word"
