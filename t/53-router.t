#!/bin/sh
# The router, which alone reads what came from outside, has nothing that is worth taking.
. "${0%/*}/lib.sh"
plan 17

make_user user
make_user router
start_zfpm <<-\END
	router_user @router@
	app app { command @bin@/app }
	pool one {
		user @user@
		app app
	}
END
like "$(request one)" '^uid [1-9]' "a request is served"
pid=$(router_pid)
status() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status"; }
uid=$(id -u "$router") gid=$(id -g "$router")

is "$(status Uid | tr '\t' ' ')" "$uid $uid $uid $uid" "it runs as router_user, with no id to go back to"
is "$(status Gid | tr '\t' ' ')" "$gid $gid $gid $gid" "in the group of that"
is "$(status Groups | tr -d ' ')" "$gid" "and in no other"
for cap in CapInh CapPrm CapEff CapAmb; do
	is "$(status $cap)" 0000000000000000 "$cap is empty"
done
is "$(status NoNewPrivs)" 1 "it can gain no privileges"
is "$(readlink "/proc/$pid/root")" "$tmp/run/apps" "its root is the directory of the workers' sockets"
is "$(readlink "/proc/$pid/cwd")" "$tmp/run/apps" "where it is"
is "$(stat -c '%u %g %a' "$tmp/run/apps")" "0 $gid 710" "in which it can write nothing, and list nothing"
is "$(stat -c '%u %g %a' "$tmp/run/apps"/w*)" "$uid $gid 600" "a worker's socket is the router's alone"
files=$(for fd in "/proc/$pid/fd"/*; do readlink "$fd"; done | grep -v '^socket:\|^pipe:\|^anon_inode:')
is "$(printf '%s\n' "$files" | grep -v '^/dev/null$' | sort -u)" "$tmp/zfpm.log" "it has no file open but the log"
is "$(stat -c %a "$sock")" 660 "zfpm's socket is closed to others"

# The master has no connection of a web server, and nothing of an application's but what it must hand over.
request one 'at=start&sleep=30' >"$tmp/slow" 2>&1 &
wait_until test -n "$(workers)"
sockets() { find "/proc/$zfpm_pid/fd" -lname 'socket:*' | wc -l; }
is "$(sockets)" 4 "the master has four sockets: the listening one, the control socket, that to the router and that to the guard"

stop_zfpm TERM
is "$(find "$tmp/run/apps" -mindepth 1; ls "$sock" 2>/dev/null)" '' "after the end no socket is left"
