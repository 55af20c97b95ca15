#!/bin/sh
# A worker is its user and nobody else for good: groups, descriptors, environment, limits, directory are the pool's.
. "${0%/*}/lib.sh"
plan 40

make_user user
make_user other
mkdir "$tmp/dir" "$tmp/jail" "$tmp/jail/inside"
# In the jail there are no libraries.
cc -std=c11 -D_GNU_SOURCE -static -o "$tmp/jail/app" "$t/app.c" "$top/fcgi.c" -pthread 2>"$tmp/cc.txt" || diag "$(cat "$tmp/cc.txt")"

SECRET=from-outside
export SECRET
PHP_FCGI_CHILDREN=7 start_zfpm <<-\END
	app app {
		command @bin@/app
		env FROM_APP app
		env BOTH app
	}
	app jailed { command /app }
	pool plain {
		user @user@
		app app
	}
	pool set {
		user @user@
		group @other@
		groups audio video
		app app
		directory @tmp@/dir
		umask 0077
		nice 7
		rlimit nofile 99 100
		rlimit core 0
		rlimit nproc 5000
		env FROM_POOL "two words"
		env BOTH pool
		env PHP_FCGI_MAX_REQUESTS 5
	}
	pool jailed {
		user @user@
		app jailed
		chroot @tmp@/jail
		directory /inside
	}
	pool *.example {
		user @user@
		app app
		directory @tmp@/%1
		env NAME "%p of %1"
	}
END

uid=$(id -u "$user") gid=$(id -g "$user") other_gid=$(id -g "$other")
fields() { printf '%s\n' "$report" | sed -n "s/^$1 //p"; }
group_id() { getent group "$1" | cut -d : -f 3; }

report=$(request plain fds)
is "$(fields uid)/$(fields euid)" "$uid/$uid" "a worker runs under the user's id"
is "$(fields gid)/$(fields egid)" "$gid/$gid" "and under the id of the user's group"
is "$(fields groups)" "$gid" "it is in no other group"
pid=$(fields pid)
is "$(fields sid)/$(fields pgrp)" "$pid/$pid" "it has a session and a process group of its own"
is "$(fields ppid)" "$zfpm_pid" "the master is its parent"
is "$(fields cwd)" / "its directory is the root where none is set"
is "$(fields umask)" "0022" "its umask is 022 where none is set"
is "$(fields nice)" "$(ps -o ni= -p "$zfpm_pid" | tr -d ' ')" "its priority is zfpm's where none is set"
is "$(fields fd | sort)" '0 listening socket
1 pipe
2 pipe' "it has three descriptors"
is "$(fields env | sort)" "$(sort <<-END
	BOTH=app
	FROM_APP=app
	HOME=$user_home
	LOGNAME=$user
	PATH=/usr/local/bin:/usr/bin:/bin
	PHP_FCGI_CHILDREN=0
	PHP_FCGI_MAX_REQUESTS=0
	USER=$user
	END
)" "its environment is made from nothing"
is "$(sed -n 's/^Cap[IPEA][a-z]*:[[:space:]]*//p' "/proc/$pid/status" | sort -u)" 0000000000000000 "it has no capability"
is "$(fields rlimit | sed -n 's/^nofile //p')" "$(awk '/^Max open files/ { print $4, $5 }' /proc/self/limits)" \
    "its limit of open files is the one that zfpm was started with"

report=$(request plain 'setuid=0')
like "$report" '^setuid 0: Operation not permitted$' "it can not become root"
report=$(request plain "open=/proc/$zfpm_pid/mem")
like "$report" ': (Permission denied|Operation not permitted)$' "it can not read the master's memory"
router=$(router_pid)
report=$(request plain "open=/proc/$router/mem")
like "$report" ': (Permission denied|Operation not permitted)$' "nor the router's"
report=$(request plain "kill=$router")
like "$report" "^kill $router: Operation not permitted$" "it can not signal the router"
report=$(request plain "kill=$zfpm_pid")
like "$report" "^kill $zfpm_pid: Operation not permitted$" "nor the master"
report=$(request plain "connect=$sock")
like "$report" "^connect $sock: Permission denied$" "it can not connect to zfpm's socket"

report=$(request set fds)
is "$(fields uid)/$(fields gid)" "$uid/$other_gid" "group sets the group"
is "$(fields groups | tr ' ' '\n' | sort -n | tr '\n' ' ')" \
    "$(printf '%s\n' "$other_gid" "$(group_id audio)" "$(group_id video)" | sort -n | tr '\n' ' ')" "groups adds groups"
is "$(fields cwd)" "$tmp/dir" "directory sets the directory"
is "$(fields umask)" "0077" "umask the umask"
is "$(fields nice)" "$(($(ps -o ni= -p "$zfpm_pid") + 7))" "nice the priority, from zfpm's own"
is "$(fields rlimit | grep -E '^(nofile|core|nproc) ' | sort)" 'core 0 0
nofile 99 100
nproc 5000 5000' "rlimit the limits"
like "$(fields env)" '^FROM_POOL=two words$' "env adds to the environment"
like "$(fields env)" '^FROM_APP=app$' "beside the app's"
like "$(fields env)" '^BOTH=pool$' "and the pool's wins"
like "$(fields env)" '^PHP_FCGI_MAX_REQUESTS=5$' "over what zfpm sets too"
is "$(fields fd | sort | wc -l)" 3 "there are three descriptors with all that too"

set_pid=$(fields pid)
report=$(request plain "kill=$set_pid")
like "$report" "^kill $set_pid: ok$" "pools of one user are not apart: signals reach"
apps=$tmp/run/apps
for s in "$apps"/w*; do
	:
done
report=$(request plain "connect=$s")
like "$report" "^connect $s: Permission denied$" "but no worker can connect to a worker's socket"
report=$(request plain "open=$apps")
like "$report" "^open $apps: Permission denied$" "or see which there are"

report=$(request jailed 'open=/app&fds')
like "$report" '^open /app: ok$' "in a chroot the command is the one in there"
is "$(fields cwd)" /inside "and the directory too"
# Asked here since this program is never built with a sanitizer, which catches signals.
is "$(printf '%s\n' "$report" | grep '^signals')" 'signals' "no signal is ignored or blocked"
is "$(fields uid)" "$uid" "under the pool's user"
is "$(readlink "/proc/$(fields pid)/root")" "$tmp/jail" "the root is the chroot"
is "$(fields fd | sort | wc -l)" 3 "with no way out by a descriptor"

report=$(request dir.example fds)
is "$(fields cwd)" "$tmp/dir" "%1 is what the pattern's star stands for"
like "$(fields env)" '^NAME=dir.example of dir$' "%p the pool's name"
