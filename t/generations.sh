# shellcheck shell=sh
# t/generations.sh: reloads and upgrades, and what status says of them, for the tests of the routers' generations.
# Sourced after t/gate.sh. The commands are given with the program $control, $zfpm unless that is set. Owns the files
# $tmp/NAME.out and NAME.err of each command NAME. Never waits for a time.
#
#   begin NAME COMMAND...           zfpm COMMAND... in the background
#   ended NAME...                   wait for it; $status, $out, $err are the last one's
#   reload [SED-ARGUMENT...]        zfpm reload, with that done to zfpm.conf before; $status, $out, $err
#   upgrade                         the same with zfpm upgrade
#   json EXPRESSION...              what t/unit/json.pl makes of a new status page
#   json_is EXPRESSION VALUE        is it that?
#   comes EXPRESSION VALUE TITLE    it is that before long
#   pid_of POOL [QUERY...]          which process serves a request
#   cause POOL CAUSE                an expression: how many workers have ended so
#   routers                         the process ids of the routers
#   one_router                      is there no other one?
#   other_router PID...             the router that is none of these
#   freeze PID, thaw PID            a process of the test's zfpm does nothing from here to there
#   fds_of PID                      how many descriptors it has open
#   worker_sockets                  how many sockets of workers there are
#   keep NAME [SOCKET]              a kept connection of a web server's: t/unit/kept.pl
#   tell NAME WORD...               say so to it, and print its answer

begin() {
	gen_name=$1
	shift
	timeout 60 "${control:-$zfpm}" "$@" -c "$tmp/zfpm.conf" >"$tmp/$gen_name.out" 2>"$tmp/$gen_name.err" </dev/null &
	eval "gen_$gen_name=$!"
}

ended() {
	for gen_name in "$@"; do
		eval "gen_pid=\$gen_$gen_name"
		status=0
		# shellcheck disable=SC2034 # for the tests
		wait "$gen_pid" || status=$?
		# shellcheck disable=SC2034
		out=$(cat "$tmp/$gen_name.out") err=$(cat "$tmp/$gen_name.err")
	done
}

reload() {
	[ $# -eq 0 ] || sed -i "$@" "$tmp/zfpm.conf"
	begin reload reload
	ended reload
}

upgrade() {
	begin upgrade upgrade
	ended upgrade
}

json() {
	timeout 60 "${control:-$zfpm}" status -f json -c "$tmp/zfpm.conf" 2>"$tmp/json.err" </dev/null |
	    perl "$t/unit/json.pl" "$@" 2>&1
}
json_is() {
	json_is=$(json "$1")
	[ "$json_is" = "$2" ]
}
# What was seen then counts: it may be something else in the next moment.
comes() {
	wait_until json_is "$1" "$2"
	is "$json_is" "$2" "$3"
}
cause() { echo "\$pool{'$1'}{counters}{restarts}{$2}"; }
pid_of() { request "$@" | sed -n 's/^pid //p'; }

# Those that have been asked to end, and have, are no routers any more though nobody has waited for them.
routers() {
	for gen_pid in $(children_of "$zfpm_pid"); do
		case $(tr '\0' ' ' 2>/dev/null <"/proc/$gen_pid/cmdline") in
		'zfpm: router'*) gone "$gen_pid" || echo "$gen_pid" ;;
		esac
	done
}
one_router() { [ "$(routers | grep -c .)" -eq 1 ]; }
other_router() {
	for gen_pid in $(routers); do
		case " $* " in
		*" $gen_pid "*) ;;
		*) echo "$gen_pid" ;;
		esac
	done
}

frozen() { grep -q '^State:[[:space:]]*T' "/proc/$1/status"; }
freeze() {
	kill -STOP "$1"
	wait_until frozen "$1"
}
thaw() { kill -CONT "$1"; }

fds_of() { find "/proc/$1/fd" -mindepth 1 | grep -c .; }
worker_sockets() { find "$tmp/run/apps" -type s | grep -c .; }

# Its standard input never ends: it has the other end of the pipe as well.
keep() {
	mkfifo "$tmp/$1.say"
	perl "$t/unit/kept.pl" "${2:-$sock}" <>"$tmp/$1.say" >"$tmp/$1" 2>&1 &
	track $!
}
said() { [ "$(grep -c . "$tmp/$1")" -gt "$2" ]; }
tell() {
	gen_name=$1
	shift
	gen_said=$(grep -c . "$tmp/$gen_name")
	echo "$@" >"$tmp/$gen_name.say"
	wait_until said "$gen_name" "$gen_said"
	sed -n "$((gen_said + 1))p" "$tmp/$gen_name"
}
