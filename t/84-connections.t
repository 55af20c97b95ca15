#!/bin/sh
# Whatever happens to requests, no descriptor is lost, the connection that was used last is used next, and nothing
# that failed is in the way of the next request. FAILURES (2000): how many requests.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
[ -d /proc/self/fd ] || skip_all "no /proc/self/fd to count in"
plan 17

tenants
www=$tmp/www/a.test
touch "$www/x.app"
cat >"$www/send.php" <<-\EOF
	<?php
	header('X-Sendfile: ' . $_GET['f']);
EOF
echo '<?php echo strlen(file_get_contents("php://input"));' >"$www/post.php"
mkdir "$tmp/files"
echo file >"$tmp/files/f"
requests=${FAILURES:-2000}

# One client of four: its share of the requests, of every kind in turn. What is no answer at all is counted.
cat >"$tmp/client.pl" <<-'EOF'
	use strict;
	use IO::Socket::INET;
	my ($port, $tmp, $me, $n) = @ARGV;
	$SIG{PIPE} = 'IGNORE';
	my @quick = ('/x.app?out=10', '/nosuch.php', '/x.app?code=500&out=0', '/x.app?noheaders', '/x.app?pstatus=2', '/x.app?pstatus=3',
	    '/x.app?header=rubbish', '/x.app?header=Status:%20abc', '/x.app?header=Location:%20/x.app%3fout=5', '/x.app?out=100&header=Content-Length:%2050',
	    '/x.app?out=50&header=Content-Length:%20100', '/x.app?out=200000', "/send.php?f=$tmp/files/f", '/send.php?f=/etc/passwd',
	    '/x.app?stderr=oops', '/x.app?out=70000&record=65535', '/guarded/x.app?code=200', '/guarded/x.app?code=403',
	    '/zfpm-status?json', 'POST', 'CHUNKED', 'SHORT', 'LEAVE', 'EARLY', 'NOREAD');
	my @costly = ('/x.app?signal=9', '/x.app?at=mid&signal=9&out=100000', '/x.app?rubbish', '/x.app?badversion', '/x.app?closeafter&out=10',
	    '/x.app?at=end&close', '/x.app?at=record&close', '/x.app?exit=1');
	my $none = 0;
	for my $i (1 .. $n) {
		my $what = $i % 25 ? $quick[($i + $me) % @quick] : $costly[($i / 25 + $me) % @costly];
		my $s = IO::Socket::INET->new("127.0.0.1:$port") or die "connect: $!";
		my $head = "Host: a.test\r\nConnection: close\r\n";
		my $q = $what =~ m{^/} ? "GET $what HTTP/1.1\r\n$head\r\n" :
		    $what eq 'POST' ? "POST /post.php HTTP/1.1\r\n${head}Content-Length: 5\r\n\r\nabcde" :
		    $what eq 'CHUNKED' ? "POST /post.php HTTP/1.1\r\n${head}Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n" :
		    $what eq 'NOREAD' ? "POST /x.app?noread&out=10 HTTP/1.1\r\n${head}Content-Length: 200000\r\n\r\n" . "x" x 200000 :
		    $what eq 'SHORT' ? "POST /post.php HTTP/1.1\r\n${head}Content-Length: 500\r\n\r\nabcde" :
		    $what eq 'EARLY' ? "POST /x.app?echo HTTP/1.1\r\n${head}Content-Length: 500000\r\n\r\n" . "x" x 100000 :
		    "GET /x.app?out=3000000 HTTP/1.1\r\n$head\r\n";
		print $s $q;
		$s->flush;
		if ($what eq 'LEAVE' || $what eq 'EARLY') {
			sysread $s, my $some, 10000 if $what eq 'LEAVE';
			close $s;
			next;
		}
		shutdown $s, 1 if $what eq 'SHORT';
		local $/;
		my $answer = <$s>;
		$none++, print STDERR "no answer: $what\n" unless defined $answer && $answer =~ m{^HTTP/1.1 \d};
	}
	print "$none\n";
EOF

descriptors() { for lib_p in $(httpd_children); do find "/proc/$lib_p/fd" -mindepth 1 | wc -l; done | sort -n | tail -n 1; }
to_zfpm() { awk -v s="$sock" '$8 == s && $6 == "03"' /proc/net/unix | wc -l; }
to_zfpm_at_most() { [ "$(to_zfpm)" -le "$1" ]; }
storm() {
	pids=
	for me in 0 1 2 3; do
		perl "$tmp/client.pl" "$port" "$tmp" $me $(($1 / 4)) >"$tmp/none.$me" 2>>"$tmp/none.txt" &
		pids="$pids $!"
	done
	# shellcheck disable=SC2086
	wait $pids
}
# Several at a time, so that as many connections as may be are kept afterwards: a lost descriptor shows then, and only that.
four() { [ "$(cat "$tmp"/out.[1-4] 2>/dev/null | wc -c)" = 40 ]; }
warm() {
	rm -f "$tmp"/out.[1-4]
	for i in 1 2 3 4; do get a.test '/x.app?at=start&sleep=0.3&out=10' >"$tmp/out.$i" & done
	wait_until four
}
served() { [ "$(get a.test '/x.app?out=10' | wc -c)" = 10 ]; }
back_to() { [ "$(descriptors)" -le "$1" ]; }

conf() {
	cat <<-EOF
		LogLevel zfpm:trace1
		AddHandler zfpm:app .app
		ServerLimit $1
		StartServers $1
		MaxRequestWorkers $2
		$3
		ZfpmIdleConnections 2
		ZfpmConnectTimeout 3
		$(vhost a.test "ZfpmXSendfile $tmp/files" '<Location /zfpm-status>' 'SetHandler zfpm-status' '</Location>' \
		    '<Location /guarded>' 'ZfpmAuthorizer judge' '</Location>' "Alias /guarded $www")
	EOF
}
sed 's/^app app {/app judge {\ncommand @bin@\/app\nroles authorizer\n}\n&/; s/^app php app/app php app judge/' "$tmp/tenants" >"$tmp/tenants.new"
start_zfpm <"$tmp/tenants.new"

for mpm in event prefork; do
	case $mpm in
	event) conf 1 8 'ThreadsPerChild 8' >"$tmp/text"; limit=2 n=$requests ;;
	prefork) conf 4 4 'MinSpareServers 4' >"$tmp/text"; limit=8 n=$((requests / 4)) ;;
	esac
	start_httpd $mpm <"$tmp/text"
	storm 200
	warm
	before=$(descriptors)
	storm "$n"
	is "$(cat "$tmp"/none.? | tr '\n' ' ')" '0 0 0 0 ' "$mpm: $n requests of 33 kinds, each is answered"
	passes "$mpm: and no descriptor is lost: there were $before" wait_until back_to "$before"
	passes "$mpm: not more connections are kept than ZfpmIdleConnections" wait_until to_zfpm_at_most "$limit"
	passes "$mpm: the next request is served" served

	# zfpm is not there for a while
	stop_zfpm
	for i in 1 2 3 4 5; do code a.test '/x.app?out=10'; done >"$tmp/codes"
	is "$(cat "$tmp/codes")" 503503503503503 "$mpm: without zfpm each is 503"
	start_zfpm <"$tmp/tenants.new"
	passes "$mpm: the first one after it is back is served" served
	passes "$mpm: no descriptor is lost by that either" wait_until back_to "$before"
	fails "$mpm: no process of Apache has died" errors 'exit signal|Segmentation'
	[ $mpm = event ] || continue

	# Last in, first out
	warm
	: >"$tmp/error.log"
	for i in 1 2 3 4 5 6; do served; done
	is "$(grep -Eo 'kept connection .*descriptor [0-9]+' "$tmp/error.log" | sort | uniq -c | awk '{ print $1, $2 }')" '6 kept' \
	    "one request after another always takes the connection that was used last"
	stop_httpd
done
