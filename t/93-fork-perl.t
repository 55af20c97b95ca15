#!/bin/sh
# Perl programs, with FCGI.pm, with CGI::Fast and with sockets of their own, do under the fork server what they do in a
# process of their own.
. "${0%/*}/lib.sh"
perl -MFCGI -e 1 2>/dev/null || skip_all "no FCGI.pm"
plan 54

mkdir -m 1777 "$tmp/notes"

# ---- programs ----------------------------------------------------------------------------

cat >"$tmp/fcgi.pl" <<-\END
	#!/usr/bin/perl
	# With FCGI.pm; what it does is the request's to choose.
	use strict;
	use warnings;
	use FCGI;
	use POSIX ();

	my ($notes, $how) = @ARGV;
	my $started = $$;
	my $served = 0;
	print STDERR "program starts\n";
	sub END { note('end', "$$\n") if defined $notes }
	sub note {
		open my $f, '>>', "$notes/$_[0]" or die;
		syswrite $f, $_[1];
	}
	sub meet {
		note("meet.$$", 'x');
		for (1 .. 1000) {
			return if (() = glob "$notes/meet.*") >= 3;
			select undef, undef, undef, 0.02;
		}
	}
	my $request = FCGI::Request();
	for (;;) {
		if ($how eq 'select') {		# some wait so, and do something else meanwhile
			my $r = '';
			vec($r, 0, 1) = 1;
			select $r, undef, undef, 0.1 or next if !$served;
		}
		last if $request->Accept < 0;
		$served++;
		my %q = map { split /=/, $_, 2 } split /&/, $ENV{QUERY_STRING};
		print "Content-Type: text/plain\r\n\r\n";
		my $do = $q{do} // '';
		if ($do eq 'environment') {
			print map { "$_=$ENV{$_}\n" } sort grep { !/^FCGI_/ } keys %ENV;
			print "program $_\n" for grep { /PRELOAD|forkserver/ } `env`;
		} elsif ($do eq 'body') {
			my ($n, $sum, $got) = (0, 0);
			while (($got = read STDIN, my $b, 10000) > 0) {
				$n += $got;
				$sum = ($sum + unpack '%32C*', $b) % 2**32;
			}
			print "$n $sum\n";
		} elsif ($do eq 'random') {
			meet();
			print "rand ", rand, "\npid $$\nhash ", join(',', map { int rand 1000 } 1 .. 20), "\n";
		} elsif ($do eq 'die') {
			print "begun\n";
			die "died of it\n";
		} elsif ($do eq 'caught') {
			eval { die "not for long\n" };
			print "caught $@";
		} elsif ($do eq 'exit') {
			print "begun\n";
			exit 3;
		} elsif ($do eq '_exit') {
			POSIX::_exit(4);
		} elsif ($do eq 'kill') {
			kill 'KILL', $$;
		} elsif ($do eq 'stderr') {
			print STDERR "for the web server\n";
			warn "a warning\n";
			POSIX::write(2, "for the log\n", 12);
			print "$$\n";
		} elsif ($do eq 'big') {
			print 'x' x 9999, "\n" for 1 .. 1000;
		} elsif ($do eq 'child') {
			my $pid = fork;
			if (!$pid) {
				$notes = undef;
				POSIX::_exit(7);
			}
			waitpid $pid, 0;
			print $? >> 8, "\n";
		} else {
			print "pid $$ served $served started ", $started == $$ ? 'here' : 'there', " x=", $ENV{HTTP_X} // '-', "\n";
		}
	}
	note('left', "$$\n");
END

cat >"$tmp/fast.pl" <<-\END
	#!/usr/bin/perl
	use strict;
	use warnings;
	use CGI::Fast;

	my $n = 0;
	while (my $q = CGI::Fast->new) {
		$n++;
		print $q->header('text/plain'), "$$ $n ", $q->request_method, ' ', join('&', map { "$_=" . $q->param($_) } sort $q->param), "\n";
	}
END

cat >"$tmp/raw.pl" <<-\END
	#!/usr/bin/perl
	# Without a library: one request a connection, which it closes whatever is asked for. Perl's accept() is the C library's accept4().
	use strict;
	use warnings;
	use Socket;

	open my $listen, '<&=', 0 or die;
	sub record { pack('CCnnCC', 1, $_[0], $_[1], length $_[2], 0, 0) . $_[2] }
	while (accept my $c, $listen) {
		my ($id, $buf) = (0, '');
		for (;;) {
			while (length $buf < 8) { sysread $c, $buf, 8192, length $buf or last }
			last if length $buf < 8;
			my (undef, $type, $i, $len, $pad) = unpack 'CCnnC', $buf;
			while (length $buf < 8 + $len + $pad) { sysread $c, $buf, 8192, length $buf or die }
			substr $buf, 0, 8 + $len + $pad, '';
			$id = $i;
			last if $type == 5 && $len == 0;
		}
		next if !$id;
		my $all = record(6, $id, "Content-Type: text/plain\r\n\r\nraw $$\n") . record(6, $id, '') . record(3, $id, pack 'NCx3', 0, 0);
		syswrite $c, $all;
		close $c;
	}
	syswrite STDERR, "no more: " . ($! + 0 ? 'error' : 'none') . "\n";
END
chmod 755 "$tmp/fcgi.pl" "$tmp/fast.pl" "$tmp/raw.pl"

apps='' pools=''
for mode in on off; do
	apps="$apps
app fcgi-$mode { command /usr/bin/perl $tmp/fcgi.pl $tmp/notes plain
	fork_server $mode }
app select-$mode { command /usr/bin/perl $tmp/fcgi.pl $tmp/notes select
	fork_server $mode }
app fast-$mode { command /usr/bin/perl $tmp/fast.pl
	fork_server $mode }
app raw-$mode { command /usr/bin/perl $tmp/raw.pl
	fork_server $mode }"
	for app in fcgi select fast raw; do
		pools="$pools
pool $app-$mode {
	user @user@
	app $app-$mode
	max_workers 1
}"
	done
done
make_user user
start_zfpm <<-END
	$apps
	$pools
	pool many {
		user @user@
		app fcgi-on
		max_workers 3
	}
	pool short {
		user @user@
		app fcgi-on
		max_workers 1
		max_requests 2
	}
END

body() {
	body_pool=$1
	shift
	request "$body_pool" -O -t 30 "$@"
}
begin() {
	begin_name=$1 begin_pool=$2
	shift 2
	"$bin/client" -s "$sock" -P "$begin_pool" -O -t 60 "$@" >"$tmp/$begin_name" 2>"$tmp/$begin_name.txt" &
	eval "begun_$begin_name=$!"
}
finish() { for n in "$@"; do eval "wait \$begun_$n"; done; }
noted() { wait_until grep -q -x -e "$2" "$tmp/notes/$1"; }
pid_of() { sed -n 's/^pid \([0-9]*\).*/\1/p' "$tmp/$1"; }

# ---- FCGI.pm ---------------------------------------------------------------------------------

body fcgi-on >"$tmp/a" 2>"$tmp/err"
like "$(cat "$tmp/a")" '^pid [0-9]+ served 1 started there x=-$' "a Perl program with FCGI.pm is served" || diag "$(cat "$tmp/err")"
body fcgi-on -p HTTP_X=1 >"$tmp/b"
is "$(cat "$tmp/b")" "pid $(pid_of a) served 2 started there x=1" "the same process serves the next request"
is "$(body fcgi-on)" "pid $(pid_of a) served 3 started there x=-" "and a parameter of one is not there in another"
for i in 1 2 3; do begin "m$i" many -n 20 -K -p HTTP_X="$i"; done
finish m1 m2 m3
is "$(for i in 1 2 3; do grep -c " x=$i\$" "$tmp/m$i"; done | tr '\n' ' ')" '20 20 20 ' "of three clients at a time each gets what is its own"
for mode in off on; do
	body fcgi-$mode do=environment -p HTTP_Y=why >"$tmp/$mode"
done
is "$(cat "$tmp/on")" "$(cat "$tmp/off")" "%ENV is what it is without a fork server"
like "$(cat "$tmp/on")" '^HTTP_Y=why' "the request's parameters"
unlike "$(cat "$tmp/on")" 'PRELOAD|forkserver' "and nothing of the fork server"
for mode in off on; do body fcgi-$mode do=body -B 3000000 >"$tmp/$mode"; done
is "$(cat "$tmp/on")" "$(cat "$tmp/off")" "a body of 3 MB"
like "$(cat "$tmp/on")" '^3000000 ' "all of it"
is "$(body fcgi-on do=big | cksum)" "$(body fcgi-off do=big | cksum)" "a response of 10 MB"
is "$(body fcgi-on do=child)" 7 "a child of the program's own"
is "$(body fcgi-on do=caught)" 'caught not for long' "an exception that is caught"

for i in 1 2 3; do begin "r$i" many do=random; done
finish r1 r2 r3
for what in rand pid hash; do
	is "$(sed -n "s/^$what //p" "$tmp/r1" "$tmp/r2" "$tmp/r3" | sort -u | grep -c .)" 3 "$what differs in three workers"
done

body fcgi-on do=stderr >"$tmp/a" 2>"$tmp/err"
like "$(cat "$tmp/err")" '^stderr: for the web server' "what it prints to STDERR goes to the web server"
like "$(cat "$tmp/err")" 'a warning' "so do warnings"
passes "what it writes to descriptor 2 is in the log, as the worker's" wait_for_log "pool fcgi-on: worker $(cat "$tmp/a"): stderr: for the log\$"
is "$(grep -c 'pool many: app server [0-9]*: stderr: program starts$' "$tmp/zfpm.log")" 1 "and what it wrote at start is there once, as the app server's"
is "$(grep -c 'pool many: worker [0-9]*: stderr: program starts$' "$tmp/zfpm.log")" 0 "not for each worker again"

# ---- its end ------------------------------------------------------------------------------------

body short >"$tmp/a"
fails "a program is not at its end before it is" grep -qs -x "$(pid_of a)" "$tmp/notes/end"
body short >"$tmp/b"
is "$(pid_of a)" "$(pid_of b)" "a worker that is to serve two requests serves them"
passes "then its loop ends" noted left "$(pid_of a)"
passes "and its END block runs, once" noted end "$(pid_of a)"
is "$(grep -c -x "$(pid_of a)" "$tmp/notes/end")" 1 "and not again in another process"
body short >"$tmp/b"
isnt "$(pid_of b)" "$(pid_of a)" "another one follows"
is "$(grep -c 'pool short: app server [0-9]*: ready' "$tmp/zfpm.log")" 1 "from the same app server"

# How a request ends whose program does; the process ids are not the same.
for what in die exit _exit kill; do
	for mode in off on; do
		body fcgi-$mode do=pid >"$tmp/pid"
		request fcgi-$mode do=$what >"$tmp/$what.$mode" 2>"$tmp/$what.$mode.err"
		echo "status $?" >>"$tmp/$what.$mode"
		sed "s/$(pid_of pid)/PID/g" "$tmp/$what.$mode.err" >>"$tmp/$what.$mode"
	done
	is "$(cat "$tmp/$what.on")" "$(cat "$tmp/$what.off")" "$what: as without a fork server"
	passes "its worker has gone" wait_until gone "$(pid_of pid)"
	like "$(body fcgi-on)" '^pid [0-9]+ served 1 ' "and another one serves"
done
like "$(cat "$tmp/die.on")" 'died of it' "of one that dies the web server gets its last words"
like "$(cat "$tmp/_exit.on")" 'FCGI process PID exited with status 4' "of one that is gone how it ended"
like "$(cat "$tmp/kill.on")" 'FCGI process PID exited on signal 9 \(SIGKILL\)' "of one that is killed the signal"

# ---- other ways to wait for a request ---------------------------------------------------------------

body select-on >"$tmp/a"
like "$(cat "$tmp/a")" '^pid [0-9]+ served 1 started there' "a program that asks select() before it accepts"
is "$(body select-on)" "pid $(pid_of a) served 2 started there x=-" "serves the next one too"

body raw-on -K >"$tmp/a"
like "$(cat "$tmp/a")" '^raw [0-9]+$' "a program without a library that closes after each response"
passes "its worker ends with its connection" wait_until gone "$(cut -d ' ' -f 2 "$tmp/a")"
for i in 1 2 3 4 5 6 7 8 9 10; do
	body raw-on -K >"$tmp/c"
	cat "$tmp/c"
	wait_until gone "$(cut -d ' ' -f 2 "$tmp/c")"
done >"$tmp/b" 2>"$tmp/err"
is "$(grep -c '^raw' "$tmp/b") $(sort -u "$tmp/b" | grep -c .)" '10 10' "the next ten have a worker each" || diag "$(cat "$tmp/err")"
passes "its accept() says that there are no more, and it leaves in its own way" wait_for_log 'pool raw-on: worker [0-9]+: stderr: no more: error'
# By now zfpm knows its way: it does not give such a worker a second request in the moment before it closes.
body raw-on -n 30 -K >"$tmp/b" 2>"$tmp/err"
is "$(grep -c '^raw' "$tmp/b") $(sort -u "$tmp/b" | grep -c .)" '30 30' "so have thirty without a pause" || diag "$(cat "$tmp/err")"
is "$(grep -c 'pool raw-on: app server [0-9]*: ready' "$tmp/zfpm.log")" 1 "all from one app server"

if perl -MCGI::Fast -e 1 2>/dev/null; then
	printf 'b=2&c=3' >"$tmp/form"
	for mode in off on; do
		body fast-$mode a=1
		body fast-$mode -b "$tmp/form" -p CONTENT_TYPE=application/x-www-form-urlencoded
		body fast-$mode a=4
	done >"$tmp/fast" 2>"$tmp/fast.err"
	is "$(sed -n '4,6s/^[0-9]* //p' "$tmp/fast")" "$(sed -n '1,3s/^[0-9]* //p' "$tmp/fast")" "CGI::Fast: as without a fork server"
	is "$(sed -n '4,6s/^[0-9]* //p' "$tmp/fast" | tr '\n' ' ')" '1 GET a=1 2 POST b=2&c=3 3 GET a=4 ' "one process, the requests' own parameters"
else
	skip 2 "no CGI::Fast"
fi

unlike "$(cat "$tmp/zfpm.log")" 'can not be used|not its own|error: ' "zfpm has nothing to complain of"
stop_zfpm TERM
is "$zfpm_status" 0 "zfpm ends"
