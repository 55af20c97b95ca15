#!/bin/sh
# zfpm and the web server on two machines: FastCGI over TCP, IPv4 and IPv6, as in examples/tcp. Who is not allowed is
# logged and refused; nothing waits for an acknowledgement; who vanishes without a word is noticed; and zfpm quit
# serves those who have connected.
#
# The test is in a network of its own: it is the web server, 10.0.0.2. Another one is zfpm's machine, 10.0.0.5. Both
# are without a name and end with their last process.
[ -n "${own_network:-}" ] || { unshare --net true 2>/dev/null && exec env own_network=1 unshare --net sh "$0"; }
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
[ -n "${own_network:-}" ] || skip_all "no network namespaces here"
command -v php-cgi >/dev/null || skip_all "no php-cgi"
ip link set lo up
unshare --net sleep 1000 &
zfpm_machine=$!
track "$zfpm_machine"
there() { nsenter --target "$zfpm_machine" --net "$@"; }
apart() { [ "$(readlink "/proc/$zfpm_machine/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
wait_until apart
ip link add zfpm0 type veth peer name web0 netns "$zfpm_machine" 2>"$tmp/ip.err" || skip_all "no pairs of network devices here"
[ -e /proc/net/if_inet6 ] || skip_all "no IPv6 here"
plan 63

ip link set zfpm0 up
there ip link set lo up
there ip link set web0 up
ip addr add 10.0.0.2/24 dev zfpm0
ip addr add 2001:db8::2/64 dev zfpm0 nodad
there ip addr add 10.0.0.5/24 dev web0
there ip addr add 2001:db8::5/64 dev web0 nodad

# Without a word: each side sends to where nobody is.
vanish() {
	ip neigh replace 10.0.0.5 lladdr 02:00:00:00:00:01 dev zfpm0 nud permanent
	there ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:01 dev web0 nud permanent
}
come_back() {
	ip neigh del 10.0.0.5 dev zfpm0
	there ip neigh del 10.0.0.2 dev web0
}

# sockets PID PORT [OPTION=VALUE...]: of all connections of this process from or to the port, the options; or set them.
cat >"$tmp/sockets" <<-\EOF
	use strict;
	use Socket;
	my %option = (keepalive => [SOL_SOCKET, SO_KEEPALIVE], nodelay => [6, 1], idle => [6, 4], interval => [6, 5], count => [6, 6]);
	my ($pid, $port, @set) = @ARGV;
	my $process = syscall 434, $pid + 0, 0;
	for my $path (sort glob "/proc/$pid/fd/*") {
		next if (readlink $path // '') !~ /^socket:/;
		my $fd = syscall 438, $process, $path =~ /(\d+)$/ ? $1 + 0 : 0, 0;
		next if $fd == -1;
		open my $s, '+<&=', $fd or next;
		next if !getpeername $s or !grep { $port == $_ } map { (unpack 'S n', $_)[1] } grep { unpack('S', $_) != AF_UNIX } getpeername $s, getsockname $s;
		for (@set) {
			my ($name, $value) = split /=/;
			setsockopt $s, $option{$name}[0], $option{$name}[1], $value + 0 or die "$name: $!";
		}
		print join(' ', map { "$_=" . unpack 'i', getsockopt $s, $option{$_}[0], $option{$_}[1] } sort keys %option), "\n";
	}
EOF
zfpm_sockets() { perl "$tmp/sockets" "$(router_pid)" "$@"; }
apache_sockets() { for lib_p in $(httpd_children); do perl "$tmp/sockets" "$lib_p" "$@"; done; }
hurry='idle=1 interval=1 count=2'	# the two minutes, shortened

want_user alice bob web
make_key
chmod 755 "$tmp/home" "${alice_home:?}"
mkdir -p "$alice_home/www"
printf '#!/bin/sh\nexec nsenter --target %s --net %s "$@"\n' "$zfpm_machine" "$zfpm" >"$tmp/zfpm.there"
chmod 755 "$tmp/zfpm.there"
zfpm=$tmp/zfpm.there
{
	cat <<-\EOF
		listen @sock@ key @tmp@/key
		listen 10.0.0.5:9001 allow 192.0.2.0/24 10.0.0.3 2001:db8:1::/48 198.51.100.7
		listen [2001:db8::5]:9001 allow 2001:db8:1::/48 fe80::/10 10.0.0.0/8
		listen [2001:db8::5]:9002 allow 192.0.2.0/24 2001:db8:1::/48 2001:db8::2/127
		listen [::]:9003 allow 10.0.0.0/24
		listen [::]:9004 allow ::ffff:10.0.0.0/120
		listen [::]:9005 allow ::/0
		listen [::]:9006 allow ::1 10.0.0.0/31
		listen [::1]:9007 allow ::1
		listen 10.0.0.5:9008 allow 10.0.0.2 key @tmp@/key
		app php {
			command /usr/bin/php-cgi
			extensions .php
		}
		app app {
			command @bin@/app
		}
		pool p {
			user @bob@
			app app
		}
		pool vanished.test {
			user @bob@
			app app
		}
	EOF
	example tcp/zfpm.conf
} >"$tmp/conf"
start_zfpm <"$tmp/conf"
at() { "$bin/client" "$1" -p p -O out=3 2>&1; }
accepted() { "$zfpm" -c "$tmp/zfpm.conf" status | sed -n 's/^connections .* \([0-9]*\) accepted$/\1/p'; }
connections() { "$zfpm" -c "$tmp/zfpm.conf" status | sed -n 's/^connections *\([0-9]*\) now.*/\1/p'; }

# Who may connect
refused() {
	: >"$tmp/zfpm.log"
	is "$(at "$1"; echo $?)" 3 "$2"
	passes "and the log says who" log_has "warn: listen [^ ]*:${1##*:}: peer $3 is not allowed\$"
}
is "$(at '[2001:db8::5]:9002')" 012 "of several networks one is enough"
refused 10.0.0.5:9001 "none of them: closed at once" 10.0.0.2
refused '[2001:db8::5]:9001' "with IPv6 too" 2001:db8::2
is "$(at 10.0.0.5:9003)" 012 "a network of IPv4 counts for those who come by IPv4 to a socket of IPv6"
refused '[2001:db8::5]:9003' "but not for others" 2001:db8::2
is "$(at 10.0.0.5:9004)" 012 "it can be written as one of IPv6"
refused '[2001:db8::5]:9004' "which is nobody else's" 2001:db8::2
is "$(at 10.0.0.5:9005)$(at '[2001:db8::5]:9005')" 012012 "::/0 is everybody"
refused 10.0.0.5:9006 "an IPv4 address is not ::1, and neither in another network" 10.0.0.2
is "$(there "$bin/client" '[::1]:9007' -p p -O out=3 2>&1)" 012 "::1 is the machine itself"
is "$(at '[2001:db8::5]:9007'; echo $?)" "client: [2001:db8::5]:9007: Connection refused
1" "and nobody from elsewhere"

# The example
cat >"$alice_home/www/index.php" <<-\EOF
	<?php
	if ($_SERVER['REQUEST_METHOD'] === 'POST') {
		header('Content-Type: application/octet-stream');
		$in = fopen('php://input', 'r');
		while (($piece = fread($in, 65536)) !== false && $piece !== '')
			echo $piece;
		exit;
	}
	echo posix_getpwuid(posix_geteuid())['name'], ' ', $_SERVER['SCRIPT_FILENAME'];
EOF
chmod 644 "$alice_home/www/index.php"
site vanished.test "${bob:?}"
touch "$tmp/www/vanished.test/x.app"
"$bin/client" pattern 5000000 >"$tmp/big"
serve() {
	port=
	start_httpd event <<-EOF
		StartServers 1
		ServerLimit 1
		ThreadsPerChild 4
		MaxRequestWorkers 4
		MinSpareThreads 1
		MaxSpareThreads 4
		LogLevel zfpm:info
		AddHandler zfpm:app .app
		$(example tcp/apache.conf "$@")
		$(vhost vanished.test 'ZfpmSocket 10.0.0.5:9008' 'ZfpmConnectTimeout 1s' 'ZfpmTimeout 2s' | sed 's/<VirtualHost \*>/<VirtualHost *:@port@>/')
	EOF
}
: >"$tmp/zfpm.log"
serve
is "$(get www.example.com /)" "$alice $alice_home/www/index.php" "examples/tcp serves, as alice, with the key"
like "$(ss -Htn state established '( dport = :9000 )')" '10\.0\.0\.2:[0-9]+ +10\.0\.0\.5:9000' "from machine to machine"
before=$(accepted)
get www.example.com / --data-binary "@$tmp/big" -H 'Content-Type: application/octet-stream' >"$tmp/back"
passes "5 MB both ways" cmp "$tmp/big" "$tmp/back"
get www.example.com / --data-binary @- -H 'Content-Type: application/octet-stream' -H 'Transfer-Encoding: chunked' <"$tmp/big" >"$tmp/back"
passes "without a length too" cmp "$tmp/big" "$tmp/back"
is "$(for i in 1 2 3 4 5 6 7 8; do code www.example.com / -d "$i"; done)" 200200200200200200200200 "small ones, one after the other"
is "$(accepted)" "$before" "all of them over one kept connection"

# No small piece waits for the acknowledgement of the one before, which may take 40 ms: it is said to both ends.
like "$(zfpm_sockets 9000)" 'nodelay=1$' "zfpm sends small records at once"
like "$(apache_sockets 9000)" 'nodelay=1$' "so does mod_zfpm"
# Each byte is written when the one before has arrived.
mkfifo -m 666 "$tmp/go"
cat >"$alice_home/www/flush.php" <<-EOF
	<?php
	header('Content-Type: text/plain');
	while (ob_get_level() > 0)
		ob_end_flush();
	\$go = fopen('$tmp/go', 'r');
	for (\$i = 0; \$i < 20; \$i++) {
		echo chr(97 + \$i);
		flush();
		fgets(\$go);
	}
EOF
chmod 644 "$alice_home/www/flush.php"
perl -MIO::Socket::INET -e '
	my $s = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die;
	alarm 60;
	print $s "GET /flush.php HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n";
	$s->flush;
	open my $go, ">", $ARGV[1] or die;
	$go->autoflush(1);
	$/ = "\r\n\r\n";
	<$s>;
	$/ = "\r\n";
	while (<$s> ne "0\r\n") {
		print scalar(<$s>) =~ s/\r\n//r;
		print $go "\n";
	}' "$port" "$tmp/go" >"$tmp/out" 2>"$tmp/err"
is "$(cat "$tmp/out" "$tmp/err")" abcdefghijklmnopqrst "and each flush arrives before the next"

serve -e 's|^\(.*ZfpmSocket\) 10\.0\.0\.5:9000|\1 [2001:db8::5]:9000|'
is "$(get www.example.com /)" "$alice $alice_home/www/index.php" "the same over IPv6"
like "$(ss -Htn state established '( dport = :9000 )')" '\[2001:db8::2\]:[0-9]+ +\[2001:db8::5\]:9000' "an address in brackets"
get www.example.com / --data-binary "@$tmp/big" -H 'Content-Type: application/octet-stream' >"$tmp/back"
passes "5 MB both ways" cmp "$tmp/big" "$tmp/back"
before=$(accepted)
is "$(get www.example.com / | wc -w) $(accepted)" "2 $before" "and a kept connection"

# What ZfpmSocket takes, and what comes of what it does not
for text in 127.0.0.1:9000 '[::1]:9000' '[2001:db8::5]:9000' localhost:9000; do
	echo "ZfpmSocket $text" | httpd_test >"$tmp/out" 2>&1
	is "$?" 0 "ZfpmSocket $text"
done
for text in '[::1]' 10.0.0.5 :9000 10.0.0.5:http '[2001:db8::5' '[2001:db8::5]9000' '[fe80::zz]:9000' 10.0.0.5:99999; do
	echo "ZfpmSocket $text" | httpd_test >"$tmp/out" 2>&1
	like "$? $(cat "$tmp/out")" "ZfpmSocket: .* (is neither a PATH with a slash nor HOST:PORT|no such host)" "ZfpmSocket $text is refused"
done

# Who vanishes is noticed. The system would ask after two hours; zfpm and mod_zfpm have it ask after one minute.
is "$(zfpm_sockets 9000 | sort -u)" 'count=6 idle=60 interval=10 keepalive=1 nodelay=1' "zfpm has kept connections probed"
is "$(apache_sockets 9000 | sort -u)" 'count=6 idle=60 interval=10 keepalive=1 nodelay=1' "so has mod_zfpm"
serve
mkdir -m 1777 "$tmp/notes"
cat >"$alice_home/www/sleep.php" <<-EOF
	<?php
	touch('$tmp/notes/sleeps');
	sleep(1000);
EOF
chmod 644 "$alice_home/www/sleep.php"
# Nothing is under way: else the system waits for an acknowledgement, which has its own, longer time.
quiet() { ! { ss -Htn state established; there ss -Htn state established; } | grep -v '^0  *0 ' >"$tmp/ss"; }
towards_zfpm() { ss -Htn state established '( dport = :9000 )'; }
nothing_held() { [ -z "$(zfpm_sockets 9000; zfpm_sockets 9003)" ]; }
alone() { [ -z "$(towards_zfpm)" ]; }
"$bin/client" 10.0.0.5:9003 -p p -t 100 "at=start&note=$tmp/notes/hangs&hang" >"$tmp/hangs" 2>&1 &
track $!
get www.example.com /sleep.php -o "$tmp/cut" -w '%{http_code}' >"$tmp/cut.code" 2>&1 &
sleeper=$!
wait_until test -s "$tmp/notes/hangs" -a -e "$tmp/notes/sleeps"
get www.example.com / >"$tmp/out"
is "$(towards_zfpm | wc -l) $(connections)" '2 3' "a connection with a request, one that is kept, and another program's"
wait_until quiet
vanish
# shellcheck disable=SC2086
apache_sockets 9000 $hurry >"$tmp/out"
wait "$sleeper"
is "$(cat "$tmp/cut.code")" 500 "zfpm vanishes: a request that waits for its response is given up"
passes "and the error log says so" errors 'Connection to FastCGI was reset by peer during reading response'
passes "a kept connection is no more" wait_until alone
: >"$tmp/zfpm.log"
# shellcheck disable=SC2086
{ zfpm_sockets 9000 $hurry; zfpm_sockets 9003 $hurry; } >"$tmp/out"
passes "the web server vanishes: zfpm holds nothing for it" wait_until nothing_held
passes "its script goes on, with on_server_close finish" log_has 'pool p: web server closed the connection \(GET .*, the script goes on'
is "$(code vanished.test /x.app)" 503 "a connection to it takes ZfpmConnectTimeout and no longer"
passes "and the error log names the address" errors 'Cannot connect to zfpm at 10\.0\.0\.5:9008: .*timed out'
come_back
is "$(code www.example.com /) $(code vanished.test /x.app)" '200 200' "when it is back it is used again"
wait_until quiet
vanish
is "$(code vanished.test /x.app)" 504 "a request on a kept connection, sent to nobody: ZfpmTimeout"
passes "and its message" errors 'Timeout \(2s\) exceeded while reading from socket \(zfpm\)'
come_back
is "$(code vanished.test /x.app)" 200 "the next one is served"
stop_httpd

# What has connected when zfpm is told to quit has sent its request, or is about to, and can not know whether it was
# begun; others it can send elsewhere.
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

for address in 10.0.0.5:9008 "$sock"; do
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
    10.0.0.5:9008 >"$tmp/out" &
track $!
wait_until test -s "$tmp/out"
timeout "$patience" "$zfpm" -c "$tmp/zfpm.conf" quit >"$tmp/quit" 2>&1
is "$?" 0 "nor does a silent connection hold it"
passes "it has ended" gone "$zfpm_pid"
