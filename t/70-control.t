#!/bin/sh
# Commands reach the zfpm of their configuration through its control socket, wait until they are done, and say what
# came of it; when they can not, they fail and say why.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 58

cat >"$tmp/conf" <<-\END
	app app { command @bin@/app -g }
	pool one {
		user @user@
		app app
		max_workers 2
		timeout kill 1s
	}
	pool two {
		user @user@
		app app
	}
END
control=$tmp/run/control
zc() {		# COMMAND...: $status, $out, $err
	timeout 60 "$zfpm" "$@" -c "$tmp/zfpm.conf" >"$tmp/out" 2>"$tmp/err.txt" </dev/null
	status=$?
	out=$(cat "$tmp/out") err=$(cat "$tmp/err.txt")
}
pid_of() { request "$@" | sed -n 's/^pid //p'; }
served() { like "$(request one)" '^uid [1-9]' "$1"; }

# Nobody there
make_conf "$tmp/zfpm.conf" <"$tmp/conf"
for command in status reload reopen upgrade stop quit 'retire one'; do
	# shellcheck disable=SC2086
	zc $command
	is "$status $out $err" "1  zfpm: zfpm is not running (control socket $control: No such file or directory)" \
	    "$command: nobody is running"
done

# Who may
start_zfpm <"$tmp/conf"
is "$(stat -c '%F %a %U' "$control")" 'socket 600 root' "the control socket is root's alone"
cp "$zfpm" "$tmp/zfpm"
chmod 755 "$tmp/zfpm" "$tmp/run"
setpriv --reuid="$user" --regid="$user" --clear-groups "$tmp/zfpm" stop -c "$tmp/zfpm.conf" >"$tmp/out" 2>"$tmp/err.txt"
is "$? $(cat "$tmp/err.txt")" "1 zfpm: only root can do that (control socket $control: Permission denied)" \
    "another user can not stop it"
chmod 666 "$control"
setpriv --reuid="$user" --regid="$user" --clear-groups "$tmp/zfpm" stop -c "$tmp/zfpm.conf" >"$tmp/out" 2>"$tmp/err.txt"
is "$?" 1 "not even if it could connect"
passes "which is logged" wait_for_log "control: refused, not root but user $(id -u "$user")\$"
chmod 600 "$control"
served "and zfpm runs on"

# What is no command
cat >"$tmp/rubbish" <<-\END
	use Socket;
	for my $text ("x", "\0" x 5000, "\xff" x 280, "") {
		socket my $s, AF_UNIX, SOCK_SEQPACKET, 0 or die;
		connect $s, pack_sockaddr_un($ARGV[0]) or die "$!";
		send $s, $text, 0 if length $text;
		shutdown $s, 1;
		alarm 20;
		recv $s, my $answer, 4096, 0;
	}
END
passes "a connection that talks nonsense is closed" perl "$tmp/rubbish" "$control"
zc retire nobody
is "$status" 1 "a pool that is not there can not be retired"
like "$err" nobody "which is said"
zc status nobody
is "$status" 1 "nor shown"
zc retire a/b
like "$status $err" "^1 zfpm: 'a/b' is no name of a pool" "and what is no name is not asked for"

# Each of them
worker=$(pid_of one)
zc status
is "$status $err" '0 ' "status"
like "$out" '\bone\b' "shows a pool that lives"
like "$out" "\b$worker\b" "and its worker"
zc status one
like "$status $out" "^0 " "status of one pool"
like "$out" "\b$worker\b" "shows its worker"
zc status -f json
is "$(perl -MJSON::PP -e 'local $/; print ref decode_json(<STDIN>)' <"$tmp/out" 2>&1)" HASH "status -f json is JSON"
zc status -f openmetrics
is "$(tail -n 1 "$tmp/out")" '# EOF' "status -f openmetrics is whole"
zc status -f html
like "$out" '</html>' "and so is status -f html"

echo 'max_workers none' >>"$tmp/zfpm.conf"
zc reload
is "$status" 1 "reload of a configuration with an error fails"
like "$err" "^$tmp/zfpm.conf:[0-9]+: .*none" "and says which"
is "$(pid_of one)" "$worker" "nothing has changed"
sed -i '$d' "$tmp/zfpm.conf"
zc reload
is "$status $err" '0 ' "reload"
is "$(pid_of one)" "$worker" "keeps a worker of a pool that has not changed"
zc reopen
is "$status $err" '0 ' "reopen"
zc retire one
is "$status $err" '0 ' "retire"
passes "is done when the worker has gone" gone "$worker"
other=$(pid_of one)
isnt "$other" "$worker" "another one serves"
"$zfpm" -c "$tmp/zfpm.conf" retire two >"$tmp/out" 2>"$tmp/err.txt"
is "$? $(cat "$tmp/err.txt")" '0 ' "-c may come before the command, and the pool need not live"
is "$(pid_of one)" "$other" "another pool's worker stays"
hold_in one busy
idle=$(pid_of one)
zc retire one &
retirer=$!
passes "retire stops a worker that is idle" wait_until gone "$idle"
let_go busy
is "$status $(worker_of busy)" "0 $other" "lets one finish that is busy"
wait "$retirer"
is "$? $(cat "$tmp/err.txt")" '0 ' "and is done"
passes "when that has gone too" gone "$other"

# The end of a zfpm whose configuration is broken
hold_in one busy
printf '}\npool {\n' >>"$tmp/zfpm.conf"
zc quit &
quitter=$!
passes "quit, with a configuration that is broken" wait_for_log 'stopping when the running requests are done'
let_go busy
is "$status" 0 "lets a request finish"
wait "$quitter"
is "$? $(cat "$tmp/err.txt")" '0 ' "and succeeds"
passes "when zfpm has ended" gone "$zfpm_pid"
fails "its sockets are gone" test -e "$sock" -o -e "$control"

start_zfpm <<-END
	$(cat "$tmp/conf")
	control "$tmp/own control"
END
hold busy one hang
held busy
zc stop
is "$status $err" '0 ' "stop, at another control socket"
passes "is done when zfpm has ended" gone "$zfpm_pid"
fails "its sockets are gone" test -e "$sock" -o -e "$tmp/own control"
finish busy
is "$status" 3 "a script that runs for longer than timeout kill is not waited for"

# A web server that keeps its connection, as it was promised, is not waited for: what it writes then meets nobody.
: >"$tmp/zfpm.log"
start_zfpm <"$tmp/conf"
cat >"$tmp/keeper" <<-'END'
	use Socket;
	$SIG{PIPE} = 'IGNORE';
	sub record { pack 'CCnnCxa*', 1, $_[0], 1, length $_[1], 0, $_[1] }
	my %p = (REQUEST_METHOD => 'GET', ZFPM_POOL => 'one', QUERY_STRING => $ARGV[1]);
	socket my $s, AF_UNIX, SOCK_STREAM, 0 or die;
	connect $s, pack_sockaddr_un($ARGV[0]) or die;
	syswrite $s, record(1, pack 'nCx5', 1, 1) . record(4, join '', map { pack 'CCa*a*', length, length $p{$_}, $_, $p{$_} } keys %p) .
	    record(4, '') . record(5, '');
	$| = 1;
	while (sysread $s, my $part, 4096) { print $part }
	print syswrite($s, 'x') ? "\nit reads\n" : "\nclosed\n";
END
gate_name=kept
make_gate
perl "$tmp/keeper" "$sock" "note=$tmp/kept.gate&at=headers" >"$tmp/kept" &
keeper=$!
held kept
zc quit &
quitter=$!
wait_for_log 'stopping when the running requests are done'
release kept
wait "$keeper"
is "$(sed -n '$p' "$tmp/kept")" closed "quit closes a kept connection behind its last response"
like "$(tr -d '\0' <"$tmp/kept")" '^uid [1-9]' "which has come"
wait "$quitter"
is "$? $(cat "$tmp/err.txt")" '0 ' "and is done"

# One that is killed
: >"$tmp/zfpm.log"
start_zfpm <"$tmp/conf"
hold_in one busy
zc quit &
quitter=$!
wait_for_log 'stopping when the running requests are done'
kill -KILL "$zfpm_pid"
passes "a command ends with a zfpm that is killed" wait_until gone "$quitter"
wait "$quitter"
like "$(cat "$tmp/err.txt")" "^zfpm: zfpm ended before it had answered \(control socket $control\)\$" "and says that it had no answer"
let_go busy
nobody_left() { [ -z "$(ps -o pid= -u "$user")" ]; }
wait_until nobody_left
passes "its control socket is left behind" test -S "$control"
zc status
is "$status $err" "1 zfpm: zfpm is not running (control socket $control: Connection refused)" "where nobody is running"
start_zfpm <"$tmp/conf"
zc status
is "$status $err" '0 ' "the next zfpm takes its place"
stop_zfpm
: >"$control"
"$zfpm" -c "$tmp/zfpm.conf" >"$tmp/out" 2>"$tmp/err.txt"
like "$? $(cat "$tmp/err.txt")" "^1 .*control $control: exists and is no socket" "but not that of a file"
