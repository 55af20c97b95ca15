#!/bin/sh
# zfpm -d returns when requests can come, and leaves a daemon; or it fails with status 1 and a reason.
. "${0%/*}/lib.sh"
plan 27

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
sed -i 's/^pool one/pool other/' zfpm.conf
"$zfpm" reload -c zfpm.conf >"$tmp/out" 2>"$tmp/err.txt"
is "$? $(cat "$tmp/err.txt")" '0 ' "a relative name of the configuration is good for a reload"
like "$(request other)" '^uid [1-9]' "which reads the same file"
"$zfpm" upgrade -c zfpm.conf >"$tmp/out" 2>"$tmp/err.txt"
is "$? $(cat "$tmp/err.txt")" '0 ' "and for an upgrade"
like "$(request other)" '^uid [1-9]' "after which requests are served"
is "$(cat run/zfpm.pid) $(tr '\0' ' ' <"/proc/$pid/cmdline" | sed 's/ *$//')" "$pid zfpm: master" "by the same process"
kill -TERM "$pid"
passes "SIGTERM ends it" wait_until gone "$pid"
fails "its socket is gone" test -e "$sock"

# As a shell finds it
cp "$zfpm" "$tmp/bin/zfpm"
PATH=$tmp/bin:$PATH
zfpm -d -c zfpm.conf >"$tmp/out" 2>"$tmp/err.txt"
is "$? $(cat "$tmp/out" "$tmp/err.txt")" '0 ' "started by its name alone"
pid=$(cat "$tmp/run/zfpm.pid")
track "$pid"
mv "$tmp/bin/zfpm" "$tmp/bin/zfpm.old"
zfpm=$tmp/bin/zfpm.old
"$zfpm" upgrade -c zfpm.conf >"$tmp/out" 2>"$tmp/err.txt"
is "$?" 1 "an upgrade fails where the program is not any more"
like "$(cat "$tmp/err.txt")" "$tmp/bin/zfpm: No such file" "which says where it was looked for"
like "$(request other)" '^uid [1-9]' "and the old one goes on"
cp "$zfpm" "$tmp/bin/zfpm"
"$zfpm" upgrade -c zfpm.conf >"$tmp/out" 2>"$tmp/err.txt"
is "$? $(cat "$tmp/err.txt")" '0 ' "it succeeds when there is another"
is "$(readlink "/proc/$pid/exe")" "$tmp/bin/zfpm" "which runs now"
"$zfpm" stop -c zfpm.conf >"$tmp/out" 2>"$tmp/err.txt"
is "$?" 0 "stop ends it"

sed "s|^listen .*|listen $tmp/none/zfpm.sock|" zfpm.conf >bad.conf
"$zfpm" -d -c bad.conf >"$tmp/out" 2>"$tmp/err.txt"
is "$?" 1 "what can not start is status 1"
like "$(cat "$tmp/err.txt")" "none/zfpm.sock: No such file" "with its reason"
