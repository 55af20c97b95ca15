#!/bin/sh
# A pool's limits hold in the living worker, and where one, or a user or program that vanished, keeps a worker from starting,
# requests and log get the reason, and all is well again when the cause is gone.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
cleanup() {
	status=$?
	stop_zfpm TERM
	[ -z "${cgroup-}" ] || ! [ -d "$cgroup" ] || wait_until rmdir "$cgroup" 2>/dev/null || diag "left behind: $cgroup"
	(exit $status)
	lib_cleanup
}
trap cleanup EXIT
plan 46

make_user user
make_user other
make_user third
mkdir "$tmp/dir" "$tmp/jail" "$tmp/jail/inside" "$tmp/gone"
# In the jail there are no libraries, and no sanitizer, which needs more memory than there is room for here.
cc -std=c11 -D_GNU_SOURCE -static -o "$tmp/jail/app" -I"$top" "$t/app.c" "$top/fcgi.c" -pthread 2>"$tmp/cc.txt" || diag "$(cat "$tmp/cc.txt")"
cp "$bin/app" "$tmp/gone/app"

start_zfpm <<-\END
	timeout wait 10s
	app app { command @bin@/app }
	app plain { command @tmp@/jail/app }
	app jailed { command /app }
	app gone { command @tmp@/gone/app }
	pool all {
		user @user@
		group @other@
		groups audio
		app jailed
		chroot @tmp@/jail
		directory /inside
		umask 0027
		nice 5
		rlimit nofile 64 128
		rlimit nproc 700 800
		rlimit as 300M 400M
		rlimit fsize 1M
		rlimit cpu 100s
	}
	pool small {
		user @user@
		app plain
		rlimit as 200M
		rlimit nofile 6
	}
	pool plain {
		user @user@
		app app
	}
	pool full {
		user @third@
		app app
		rlimit nproc 2
	}
	pool vanished {
		user @other@
		app app
		max_workers 2
	}
	pool gone {
		user @user@
		app gone
	}
	pool no-chroot {
		user @user@
		app jailed
		chroot @tmp@/later
	}
	pool no-directory {
		user @user@
		app app
		directory @tmp@/later/inside
	}
	pool too-much {
		user @user@
		app app
		rlimit nofile 2147483647
	}
END
says() { request "$@" >"$tmp/a" 2>"$tmp/a.txt"; }
field() { sed -n "s/^$2 //p" "$tmp/$1"; }
limit() { sed -n "s/^$2  *\([^ ]*\)  *\([^ ]*\).*/\1 \2/p" "/proc/$1/limits"; }
status_of() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }

# A living worker, as the kernel sees it
says all
pid=$(field a pid)
is "$(limit "$pid" 'Max open files')" "64 128" "rlimit nofile: open files, soft and hard"
is "$(limit "$pid" 'Max processes')" "700 800" "rlimit nproc: processes"
is "$(limit "$pid" 'Max address space')" "314572800 419430400" "rlimit as: memory"
is "$(limit "$pid" 'Max file size')" "1048576 1048576" "rlimit fsize: one value is both"
is "$(limit "$pid" 'Max cpu time')" "100 100" "rlimit cpu: seconds"
is "$(ps -o ni= -p "$pid" | tr -d ' ')" "$(($(ps -o ni= -p "$zfpm_pid" | tr -d ' ') + 5))" "nice"
is "$(status_of "$pid" Umask)" 0027 "umask"
is "$(status_of "$pid" Uid | tr '\t' ' ')" "$(id -u "$user" | sed 's/.*/& & & &/')" "user: all four ids"
is "$(status_of "$pid" Gid | tr '\t' ' ')" "$(id -g "$other" | sed 's/.*/& & & &/')" "group"
is "$(status_of "$pid" Groups | tr ' ' '\n' | grep . | sort -n | tr '\n' ' ')" \
    "$({ id -g "$other"; getent group audio | cut -d : -f 3; } | sort -n | tr '\n' ' ')" "groups"
is "$(readlink "/proc/$pid/root")" "$tmp/jail" "chroot"
is "$(readlink "/proc/$pid/cwd")" "$tmp/jail/inside" "directory"
says plain
pid=$(field a pid)
for i in 'Max open files' 'Max processes' 'Max address space'; do
	is "$(limit "$pid" "$i")" "$(limit $$ "$i")" "$i: what zfpm was started with, where none is set"
done

# They are felt
says small mem=400
like "$(cat "$tmp/a")" '^mem 400: Cannot allocate memory$' "more memory than rlimit as there is none"
says plain mem=400
like "$(cat "$tmp/a")" '^mem 400: ok$' "for a pool without it there is"

# One after the other fails and comes right: POOL REASON, then mended by what the test does
refused() {
	says "$1"
	like "$(cat "$tmp/a")" '^Status: 500' "$3: no worker"
	like "$(cat "$tmp/a.txt")" "^stderr: Cannot start FCGI process: $2\$" "the web server gets the reason"
	passes "and the log has it" log_has "warn: pool $1: cannot start FCGI process: $2\$"
}
works() { says "$1" && grep -q '^pid ' "$tmp/a"; }

says too-much
like "$(cat "$tmp/a.txt")" '^stderr: Cannot start FCGI process: rlimit: nofile: Operation not permitted$' \
    "a limit that the system does not grant: the web server gets the reason"
passes "and the log has it" log_has 'pool too-much: cannot start FCGI process: rlimit: nofile: Operation not permitted$'

mv "$tmp/gone/app" "$tmp/gone/away"
refused gone "command: $tmp/gone/app: No such file or directory" "a deleted program"
mv "$tmp/gone/away" "$tmp/gone/app"
passes "when it is back the pool is served" wait_until works gone

refused no-chroot "chroot: $tmp/later: No such file or directory" "a chroot that is missing"
refused no-directory "directory: $tmp/later/inside: No such file or directory" "a directory that is missing"
cp -r "$tmp/jail" "$tmp/later"
passes "when the chroot is there the pool is served" wait_until works no-chroot
passes "and when the directory is" wait_until works no-directory

# The worker that is there goes on, and a new one can not be started.
hold_in vanished one
old_uid=$(id -u "$other")
old_gid=$(id -g "$other")
lib_locked userdel -f "$other" >/dev/null 2>&1
request vanished >"$tmp/two" 2>&1 &
two=$!
passes "a user that vanished: the log has the reason" wait_for_log "warn: pool vanished: cannot start FCGI process: user: '$other' is unknown\$"
let_go one
is "$(field one uid)" "$old_uid" "a worker that ran under it ends its request"
wait "$two"
is "$(field two pid)" "$(field one pid)" "and takes the one that waits"
kill -KILL "$(field one pid)"
ended() { log_has "worker $(field one pid): exited on signal 9"; }
wait_until ended
refused vanished "user: '$other' is unknown" "when it has gone"
lib_locked groupadd -g "$old_gid" "$other"
lib_locked useradd -u "$old_uid" -g "$other" --no-create-home --home-dir "$other_home" "$other"
passes "when the user is back the pool is served" wait_until works vanished

# All processes of the user count, whatever started them.
others=
for i in 1 2 3 4; do
	setpriv --reuid="$third" --regid="$third" --clear-groups sleep 600 &
	others="$others $!"
done
four() { [ "$(ps -o args= -u "$third" | sort | uniq -c | tr -d ' ')" = 4sleep600 ]; }
wait_until four
refused full "exec: $bin/app: the user has more processes than rlimit nproc allows" "as many processes as rlimit nproc allows"
for pid in $others; do
	kill "$pid"
	wait "$pid" 2>/dev/null
done
passes "when there is room again the pool is served" wait_until works full
stop_zfpm TERM

# fork() itself fails: in a cgroup that is full. Of version 1 or 2, whichever has the pids here.
v1=$(awk '/ - cgroup [^ ]* .*pids/ { print $5; exit }' /proc/self/mountinfo)
v2=$(awk '/ - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
if [ -n "$v1" ]; then
	cgroup=$v1$(sed -n 's/^[0-9]*:[^:]*pids[^:]*://p' /proc/self/cgroup)/zt-$$
else
	cgroup=$v2$(sed -n 's/^0:://p' /proc/self/cgroup)/zt-$$
fi
if ! mkdir "$cgroup" 2>/dev/null; then
	skip 4 "no cgroup to be written here"
elif ! [ -e "$cgroup/pids.max" ]; then
	skip 4 "no pids controller to be had here"
else
	in_cgroup "$cgroup"
	start_zfpm <<-\END
		app app { command @bin@/app }
		pool forked {
			user @user@
			app app
		}
	END
	cat "$cgroup/pids.current" >"$cgroup/pids.max"
	refused forked "fork: Resource temporarily unavailable" "no more processes for zfpm itself"
	echo max >"$cgroup/pids.max"
	passes "when there is room again the pool is served" wait_until works forked
	stop_zfpm TERM
fi
