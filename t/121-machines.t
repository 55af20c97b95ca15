#!/bin/sh
# Two zfpm machines, as in examples/machines. Behind HAProxy: a machine that quits loses no request, one that is killed
# or vanishes those alone that were running on it, and one that is there again gets requests again. Nothing that has
# been sent is sent a second time. Behind Apache's mod_proxy_balancer, with an Apache on each machine: the same.
#
# The test is in a network of its own: it is the web server, 10.0.0.2. Two others are the machines a and b, 10.0.0.5
# and 10.0.0.6. All are without a name and end with their last process.
[ -n "${own_network:-}" ] || { unshare --net true 2>/dev/null && exec env own_network=1 unshare --net sh "$0"; }
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
[ -n "${own_network:-}" ] || skip_all "no network namespaces here"
command -v php-cgi >/dev/null || skip_all "no php-cgi"
command -v haproxy >/dev/null || skip_all "no haproxy"
ip link set lo up
echo 3 >/proc/sys/net/ipv4/tcp_retries2	# of this network alone: 3 s instead of 15 minutes

# ---- machines --------------------------------------------------------------------------

# on a|b COMMAND...
on() {
	eval "lib_p=\$net_$1"
	shift
	nsenter --target "$lib_p" --net "$@"
}
apart() { [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
address() { case $1 in a) echo 10.0.0.5 ;; b) echo 10.0.0.6 ;; esac }

for m in a b; do
	unshare --net sleep 1000 &
	track $!
	eval "net_$m=$!"
	wait_until apart $!
	ip link add "to-$m" type veth peer name web netns $! 2>"$tmp/ip.err" || skip_all "no pairs of network devices here"
	ip addr add 10.0.0.2 peer "$(address $m)" dev "to-$m"
	ip link set "to-$m" up
	on $m ip link set lo up
	on $m ip addr add "$(address $m)/24" dev web
	on $m ip link set web up
done
plan 43

# Without a word: each side sends to where nobody is.
vanish() {
	ip neigh replace "$(address "$1")" lladdr 02:00:00:00:00:01 dev "to-$1" nud permanent
	on "$1" ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:01 dev web nud permanent
}
come_back() {
	ip neigh del "$(address "$1")" dev "to-$1"
	on "$1" ip neigh del 10.0.0.2 dev web
}

want_user alice web
make_key
chmod 755 "$tmp/home" "${alice_home:?}"
mkdir -p "$alice_home/www"
mkdir -m 1777 "$tmp/notes"
ran=$tmp/notes/ran
: >"$ran"
chmod 666 "$ran"
# Writes down that it runs, and where.
cat >"$alice_home/www/run.php" <<-END
	<?php
	file_put_contents('$ran', \$_GET['id'] . ' ' . getenv('MACHINE') . "\n", FILE_APPEND | LOCK_EX);
	usleep(20000);
	if (isset(\$_GET['die']))
		posix_kill(getmypid(), 9);
	echo \$_GET['id'], ' ', strlen(file_get_contents('php://input')), " end\n";
END
chmod 644 "$alice_home/www/run.php"

control() { "$zfpm" -c "$tmp/zfpm.$1.conf" "$2"; }
up() { control "$1" status >"$tmp/status" 2>&1; }
start_machine() {
	{
		cat <<-END
			listen @tmp@/$1.sock group @web@ mode 0660 key @tmp@/key
			run_dir @tmp@/run.$1
			app php {
				command /usr/bin/php-cgi
				extensions .php
				fork_server on
				env MACHINE $1
			}
		END
		example machines/zfpm.conf -e "s/10\.0\.0\.5/$(address "$1")/"
	} >"$tmp/conf.$1"
	make_conf "$tmp/zfpm.$1.conf" <"$tmp/conf.$1"
	eval "lib_p=\$net_$1"
	# Not on: $! has to be zfpm itself.
	nsenter --target "$lib_p" --net "$zfpm" -c "$tmp/zfpm.$1.conf" </dev/null >>"$tmp/zfpm.out" 2>>"$tmp/zfpm.$1.log" &
	eval "zfpm_$1=$!"
	track $!
	wait_until up "$1" || diag "zfpm of $1: $(cat "$tmp/zfpm.$1.log")"
}
router_of() {
	for lib_p in $(children_of "$1"); do
		case $(tr '\0' ' ' 2>/dev/null <"/proc/$lib_p/cmdline") in
		'zfpm: router'*) echo "$lib_p" ;;
		esac
	done
}

# ---- load -------------------------------------------------------------------------------

# load PORT N FILE: N clients at once, until FILE.stop is there, each a request after the other, every third a POST.
# A line in FILE for each: when it began, its id, "ok" or what came instead.
cat >"$tmp/load" <<-\END
	use strict;
	use IO::Socket::INET;
	use Time::HiRes 'time';
	my ($port, $n, $file) = @ARGV;
	$SIG{PIPE} = 'IGNORE';
	open my $out, '>>', $file or die;
	$out->autoflush(1);
	for my $client (1 .. $n) {
		next if fork;
		for (my $i = 1; !-e "$file.stop"; $i++) {
			my ($begin, $id) = (time, "$$-$i-" . $file =~ s{.*\.}{}r);
			my $body = $i % 3 == 0 ? 'b' x 30000 : '';
			my $answer = '';
			alarm 60;
			if (my $s = IO::Socket::INET->new("127.0.0.1:$port")) {
				print $s $body ne '' ? 'POST' : 'GET', " /run.php?id=$id HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n",
				    $body ne '' ? 'Content-Length: ' . length($body) . "\r\n" : '', "\r\n", $body;
				$s->flush;
				1 while sysread $s, $answer, 65536, length $answer;
			}
			my $ok = $answer =~ m{^HTTP/1\.1 200 } && $answer =~ /\b$id @{[length $body]} end\n/;
			syswrite $out, "$begin $id " . ($ok ? 'ok' : substr($answer, 9, 3) || 'nothing') . "\n";
		}
		exit;
	}
	1 while wait > 0;
END
clients=6
start_load() {
	load=$tmp/load.$1
	: >"$load"
	perl "$tmp/load" "$port" "$clients" "$load" 2>"$tmp/load.err" &
	load_pid=$!
	track "$load_pid"
}
stop_load() {
	: >"$load.stop"
	wait "$load_pid"
}
served() { grep -c 'ok$' "$load"; }
now() { perl -MTime::HiRes=time -e 'print time'; }
# How many requests of this load has a machine run?
runs() { grep -c -- "-${load##*.} $1\$" "$ran"; }
more_runs() { [ "$(runs "$1")" -ge "$2" ]; }
# N more from this machine.
works() { wait_until more_runs "$1" $(($(runs "$1") + $2)); }
# Those that were not answered, the whole line.
failed() { grep -v 'ok$' "$load"; }
twice() { cut -d ' ' -f 1 "$ran" | sort | uniq -d; }
# Those that began after that moment.
failed_after() { failed | awk -v t="$1" '$1 > t'; }
# lost_few TEXT: of the load that has stopped; TEXT is what had happened at $since
lost_few() {
	is "$(failed_after "$since")" '' "no request has failed that began when $1"
	passes "and of the others not more than ran there" test "$(failed | wc -l)" -le "$clients"
}

# ---- HAProxy ----------------------------------------------------------------------------

{
	cat <<-END
		global
		    user ${web:?}
		    group $web
		    stats socket $tmp/haproxy.admin mode 600 level admin
		defaults
		    mode http
		    timeout connect 5s
		    timeout client 50s
		    timeout server 50s
	END
	example machines/haproxy.cfg -e "s|/run/haproxy/zfpm\.sock|$tmp/haproxy.sock|" -e 's/^\(.*srvtcpka-.*\) [0-9]*s$/\1 1s/;s/inter 1s/inter 200ms/;s/timeout \(check\|connect\) 2s/timeout \1 1s/'
} >"$tmp/haproxy.cfg"
haproxy_says() {
	perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new($ARGV[0]) or exit 1; print $s "$ARGV[1]\n"; $s->flush; print <$s>;' "$tmp/haproxy.admin" "$1"
}
# The state of a|b as HAProxy has found it
state() { haproxy_says 'show stat' | awk -F , -v s="$1" '$1 == "zfpm" && $2 == s { print $18 }'; }
state_is() { [ "$(state "$1")" = "$2" ]; }

start_machine a
start_machine b
haproxy -db -f "$tmp/haproxy.cfg" >"$tmp/haproxy.log" 2>&1 &
track $!
wait_until test -S "$tmp/haproxy.sock" || diag "$(cat "$tmp/haproxy.log")"
serve() {
	start_httpd event <<-END
		StartServers 1
		ServerLimit 1
		ThreadsPerChild 16
		MaxRequestWorkers 16
		MinSpareThreads 1
		MaxSpareThreads 16
		$(cat "$tmp/site")
	END
}
example machines/apache.conf -e "s|/run/haproxy/zfpm\.sock|$tmp/haproxy.sock|" >"$tmp/site"
serve
passes "HAProxy finds a" wait_until state_is a UP
passes "and b" wait_until state_is b UP

# Quit
start_load quit
passes "requests run on a" works a 20
passes "and on b" works b 20
control b quit >"$tmp/quit" 2>&1
is "$?" 0 "b quits under load"
passes "HAProxy notices" wait_until state_is b DOWN
passes "a has the work" works a 20
start_machine b
passes "b comes back, HAProxy notices" wait_until state_is b UP
passes "and it has work again" works b 20
stop_load
is "$(failed)" '' "not one request has failed"
is "$(grep -c -- '-quit ' "$ran")" "$(served)" "each was run once"

# Killed
start_load kill
works b 10
router=$(router_of "$zfpm_b")
kill -KILL "$zfpm_b"
passes "b's master is killed, and b is gone" wait_until gone "$router"
since=$(now)
passes "HAProxy notices" wait_until state_is b DOWN
passes "a has the work" works a 20
start_machine b
passes "b comes back and has work again" works b 20
stop_load
lost_few 'b was gone'

# Vanished
start_load vanish
works b 10
vanish b
since=$(now)
passes "b vanishes, HAProxy notices" wait_until state_is b DOWN
passes "a has the work" works a 20
come_back b
passes "b comes back and has work again" works b 20
stop_load
lost_few 'b had vanished'

# Stands still
kill -STOP "$(router_of "$zfpm_b")"
passes "a zfpm that stands still is found out" wait_until state_is b DOWN
is "$(get www.example.com '/run.php?id=still' -d body) $(grep still "$ran")" 'still 4 end still a' "its requests go to the other one"
kill -CONT "$(router_of "$zfpm_b")"
passes "until it goes on" wait_until state_is b UP

# Lost half-way
is "$(code www.example.com '/run.php?id=lost&die' -d body) $(grep -c lost "$ran")" '500 1' "a POST whose script dies is an error, and sent to nobody else"
control a quit >"$tmp/quit" 2>&1
control b quit >"$tmp/quit" 2>&1
is "$(code www.example.com '/run.php?id=none') $(grep -c none "$ran")" '500 0' "with no machine at all there is an error"
stop_httpd

# ---- Apache in front of two -------------------------------------------------------------

start_machine a
start_machine b
example machines/apache-behind.conf | sed 's/@port@/80/' >"$tmp/behind"
start_behind() {
	mkdir -p "$tmp/httpd.$1" "$tmp/up.$1"
	echo "<?php echo 'up';" >"$tmp/up.$1/up.php"
	httpd_conf "$tmp/httpd.$1.conf" event <<-END
		LoadModule authz_host_module @modules@/mod_authz_host.so
		LoadModule remoteip_module @modules@/mod_remoteip.so
		$(cat "$tmp/behind")
	END
	sed -i "s|$tmp/httpd\(/.*\)*\$|$tmp/httpd.$1\1|;s|^Listen .*|Listen $(address "$1"):80|;s|/usr/local/lib/zfpm-up|$tmp/up.$1|
	    s|^ErrorLog .*|ErrorLog $tmp/error.$1.log|;s|^ZfpmSocket .*|ZfpmSocket $tmp/$1.sock|" "$tmp/httpd.$1.conf"
	eval "lib_p=\$net_$1"
	nsenter --target "$lib_p" --net setsid "$lib_httpd" -f "$tmp/httpd.$1.conf" -DFOREGROUND </dev/null >>"$tmp/httpd.$1.out" 2>&1 &
	eval "httpd_$1=$!"
	track $!
	wait_until is_up "$1" || diag "Apache of $1: $(cat "$tmp/httpd.$1.out" "$tmp/error.$1.log")"
}
is_up() { [ "$(curl -s --max-time 10 "http://$(address "$1")/up.php")" = up ]; }
idle() { control "$1" status | grep -Eq '^workers .* 0 busy'; }
example machines/apache-balancer.conf -e 's/ProxyTimeout 1200/ProxyTimeout 3/;s/connectiontimeout=2/connectiontimeout=1/;s/hcinterval=2/hcinterval=1/' >"$tmp/site"
start_behind a
start_behind b
start_httpd event <<-END
	$(for m in proxy proxy_http proxy_balancer proxy_hcheck slotmem_shm lbmethod_byrequests lbmethod_bybusyness; do
		echo "LoadModule ${m}_module @modules@/mod_$m.so"
	done)
	LogLevel proxy_hcheck:info
	$(cat "$tmp/site")
END

start_load file
passes "a balancer in front of two Apaches: requests run on a" works a 20
passes "and on b" works b 20
rm "$tmp/up.b/up.php"
passes "a file is taken away, the balancer notices" wait_until errors 'Health check DISABLING http://10\.0\.0\.6'
passes "b finishes what it has" wait_until idle b
kill -WINCH "$httpd_b"
control b quit >"$tmp/quit" 2>&1
passes "and goes" wait_until gone "$httpd_b"
passes "a has the work" works a 20
start_machine b
start_behind b
passes "b comes back and has work again" works b 20
stop_load
is "$(failed)" '' "not one request has failed"
is "$(grep -c -- '-file ' "$ran")" "$(served)" "each was run once"

start_load away
works b 10
vanish b
since=$(now)
passes "b vanishes, the balancer notices" wait_until errors 'disabling worker for \(10\.0\.0\.6:80\)'
passes "a has the work" works a 20
come_back b
passes "b comes back and has work again" works b 20
stop_load
lost_few 'b had vanished'
is "$(code www.example.com '/run.php?id=gone&die' -d body) $(grep -c gone "$ran")" '500 1' "a POST whose script dies is an error, and sent to nobody else"
is "$(twice)" '' "no request at all was run twice"
