#!/bin/sh
# zfpm -d returns when requests can come, and leaves a daemon; or it fails with status 1 and a reason.
. "${0%/*}/lib.sh"
plan 15

make_user user
make_conf "$tmp/zfpm.conf" <<-\END
	log @tmp@/daemon.log
	app app { command @bin@/app }
	pool one {
		user @user@
		app app
	}
END
cd "$tmp" || exit 1
# Its output goes through pipes: a daemon that kept them open would keep their readers waiting.
"$zfpm" -d -c zfpm.conf </dev/null 2>"$tmp/err.txt" | cat >"$tmp/out"
is "$(cat "$tmp/out" "$tmp/err.txt")" '' "it says nothing"
pid=$(cat "$tmp/run/zfpm.pid")
like "$pid" '^[0-9]+$' "its process id is in the file"
track "$pid"
like "$(request one)" '^uid [1-9]' "requests are served at once"
is "$(tr '\0' ' ' <"/proc/$pid/cmdline" | sed 's/ *$//')" 'zfpm: master' "it is the master"
isnt "$(ps -o sid= -p "$pid" | tr -d ' ')" "$(ps -o sid= -p $$ | tr -d ' ')" "it has left our session"
is "$(ps -o tty= -p "$pid" | tr -d ' ')" '?' "and no terminal"
is "$(readlink "/proc/$pid/cwd")" / "it keeps no directory in use"
for fd in 0 1 2; do
	is "$(readlink "/proc/$pid/fd/$fd")" /dev/null "descriptor $fd leads nowhere"
done
like "$(cat "$tmp/daemon.log")" 'master\[[0-9]+\] info: version' "it logs into its file"
kill -TERM "$pid"
passes "SIGTERM ends it" wait_until gone "$pid"
fails "its socket is gone" test -e "$sock"

sed "s|^listen .*|listen $tmp/none/zfpm.sock|" zfpm.conf >bad.conf
"$zfpm" -d -c bad.conf >"$tmp/out" 2>"$tmp/err.txt"
is "$?" 1 "what can not start is status 1"
like "$(cat "$tmp/err.txt")" "none/zfpm.sock: No such file" "with its reason"
