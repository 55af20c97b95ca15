#!/bin/sh
# Logs are opened anew when asked for, go to syslog as well, and nothing waits for whoever reads them or for room.
. "${0%/*}/lib.sh"
plan 42

# An error_log must not be where everybody can write: not in /tmp.
root_dir
dir=$root_dir

has() { grep -Eq -e "$2" "$1" 2>/dev/null; }
zc() { timeout 60 "$zfpm" "$@" -c "$tmp/zfpm.conf" >"$tmp/out" 2>"$tmp/err.txt"; }
# run COMMAND...: zfpm, below that
run() {
	"$@" "$zfpm" -c "$tmp/zfpm.conf" </dev/null >>"$tmp/zfpm.out" 2>>"$tmp/zfpm.log" &
	zfpm_pid=$!
	wait_until zfpm_settled
}
one_line() { request one "log=$1" >"$tmp/answer" 2>&1; }
# many N: requests with 200 lines of 100 characters each. zfpm reads so many of a worker in a second: "retire one"
# afterwards, and none waits any more.
many() {
	n=0
	while [ "$n" -lt "$1" ]; do
		request one "log=$(printf '%0100d' 7)" log-n=200 >"$tmp/answer" 2>&1 || return 1
		n=$((n + 1))
	done
}
served() { like "$(request "$1")" '^uid [1-9]' "$2"; }

make_conf "$tmp/conf" <<-END
	log @LOG@
	app app { command @bin@/app }
	pool one {
		user @user@
		app app
	}
	pool two {
		user @user@
		app app
	}
	pool own {
		user @user@
		app app
		error_log $dir/own.log
	}
END
with_log() { sed "s|@LOG@|$1|" "$tmp/conf" >"$tmp/zfpm.conf"; }

# Opened anew
mkdir "$tmp/log"
with_log "$tmp/log/zfpm.log"
run env
request own log=first >"$tmp/answer"
passes "a pool's error_log has its lines" wait_until has "$dir/own.log" 'first$'
one_line before
passes "zfpm's own has the others" wait_until has "$tmp/log/zfpm.log" 'router.* stderr: before$'
is "$(stat -c %a "$tmp/log/zfpm.log")" 640 "which not everybody may read"
mv "$tmp/log/zfpm.log" "$tmp/log/old.log"
mv "$dir/own.log" "$dir/own.old"
one_line between
passes "a log that is renamed goes on under its new name" wait_until has "$tmp/log/old.log" 'stderr: between$'
zc reopen
is "$? $(cat "$tmp/err.txt")" '0 ' "reopen"
one_line after
passes "makes a new one for the router" wait_until has "$tmp/log/zfpm.log" 'router.* stderr: after$'
request two >"$tmp/answer"
passes "and the master" wait_until has "$tmp/log/zfpm.log" 'master.* pool two: '
request own log=second >"$tmp/answer"
passes "and for a pool's error_log" wait_until has "$dir/own.log" 'second$'
fails "the old ones get nothing more" has "$tmp/log/old.log" 'stderr: after|pool two'
fails "nor does that" has "$dir/own.old" second
mv "$tmp/log/zfpm.log" "$tmp/log/old.log"
kill -USR1 "$zfpm_pid"
passes "SIGUSR1 does the same" wait_until test -e "$tmp/log/zfpm.log"
mv "$tmp/log" "$tmp/away"
zc reopen
is "$?" 1 "without its directory it fails"
like "$(cat "$tmp/err.txt")" "log $tmp/log/zfpm.log: No such file" "with the reason"
one_line still
passes "and the log goes on where it was" wait_until has "$tmp/away/zfpm.log" 'stderr: still$'
mkdir "$tmp/log"
zc reopen
is "$?" 0 "when there is one again it succeeds"
stop_zfpm

# No room: what a full disk does, with a limit that signals besides. 64 blocks are 32K or 64K.
with_log "$tmp/log/full.log"
run sh -c 'ulimit -f 64 && exec "$@"' sh
passes "more lines than there is room for" many 4
size=$(stat -c %s "$tmp/log/full.log")
passes "stop at the limit" test "$size" -ge 32000 -a "$size" -le 65536
is "$(stat -c %s "$tmp/log/full.log")" "$size" "exactly"
served one "requests are served"
served two "processes are started"
fails "zfpm runs" gone "$zfpm_pid"
router=$(router_pid)
zc retire one
: >"$tmp/log/full.log"
one_line room
passes "when there is room again the log goes on" wait_until has "$tmp/log/full.log" 'stderr: room$'
passes "and says what is missing" has "$tmp/log/full.log" 'log: lines lost here: [0-9]+: (File too large|No space left on device)$'
is "$(router_pid)" "$router" "it is still the same router"
stop_zfpm

# A pipe that nobody reads
with_log stderr
mkfifo "$tmp/pipe"
exec 3<>"$tmp/pipe"
"$zfpm" -c "$tmp/zfpm.conf" </dev/null 2>"$tmp/pipe" 3>&- &
zfpm_pid=$!
wait_until zfpm_settled
passes "more lines than a pipe holds" many 4
served one "do not hold the router"
served two "nor the master"
zc retire one
zc reload
is "$?" 0 "it reloads"
cat <&3 >"$tmp/drained" &
track $!
exec 3>&-
one_line drained
passes "when somebody reads again the log goes on" wait_until has "$tmp/drained" 'stderr: drained$'
zc reload
passes "and says what is missing" wait_until has "$tmp/drained" 'log: lines lost here: [0-9]+: Resource temporarily unavailable$'
stop_zfpm

# syslog, at /dev/log of a /dev that is this test's alone
mkdir "$tmp/dev"
# shellcheck disable=SC2016 # for the inner shell
private='for f in null zero full random urandom; do
		: >"$0/$f" && mount --bind "/dev/$f" "$0/$f" || exit 1
	done
	mount --rbind "$0" /dev && exec "$@"'
if ! unshare -m sh -c "$private" "$tmp/dev" true 2>"$tmp/unshare.err"; then
	skip 12 "no mount namespace: $(cat "$tmp/unshare.err")"
	exit
fi
cat >"$tmp/syslogd" <<-\END
	use Socket;
	use IO::Handle;
	socket my $s, AF_UNIX, SOCK_DGRAM, 0 or die;
	unlink $ARGV[0];
	bind $s, pack_sockaddr_un($ARGV[0]) or die "$!";
	open my $to, '>>', $ARGV[1] or die;
	$to->autoflush(1);
	while (defined recv $s, my $text, 16384, 0) {
		print $to "$text\n";
	}
END
syslogd() {
	rm -f "$tmp/dev/log"
	perl "$tmp/syslogd" "$tmp/dev/log" "$tmp/syslog" &
	syslogd=$!
	track "$syslogd"
	wait_until test -S "$tmp/dev/log"
}
syslogd
with_log syslog
run unshare -m sh -c "$private" "$tmp/dev"
line='[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}'
passes "syslog gets lines of the master" wait_until has "$tmp/syslog" "^<30>$line zfpm\[$zfpm_pid\]: master: version "
one_line 'to%1Bsyslog'
passes "and of the router, escaped" wait_until has "$tmp/syslog" "^<30>$line zfpm\[$(router_pid)\]: router: pool one: .*: stderr: to\\\\x1Bsyslog\$"
zc reload
is "$?" 0 "a reload"
one_line reloaded
passes "goes on logging" wait_until has "$tmp/syslog" "zfpm\[$(router_pid)\]: router: .*: stderr: reloaded\$"

kill -STOP "$syslogd"
passes "a syslogd that does not read" many 4
served one "does not hold the router"
served two "nor the master"
zc retire one
kill -CONT "$syslogd"
went_on() { one_line went-on && has "$tmp/syslog" 'stderr: went-on$'; }
passes "when it reads again the log goes on" wait_until went_on
passes "and says what is missing" has "$tmp/syslog" 'log: lines lost here: [0-9]+: '

kill "$syslogd"
wait_until gone "$syslogd"
syslogd
zc reopen
is "$?" 0 "when syslogd was started anew, reopen"
one_line reopened
passes "finds it for the router, which has no /dev" wait_until has "$tmp/syslog" 'router: .*: stderr: reopened$'
stop_zfpm
passes "and for the master" has "$tmp/syslog" 'master: stopped$'
