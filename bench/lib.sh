# shellcheck shell=sh
# bench/lib.sh: what reload, fairness, scale and chaos share. Sourced first; it
# sources t/lib.sh, whose functions they use and which takes everything away at
# the end: users, processes, the temporary directory. Owns $bin/load and
# $bin/worker, which it builds, and the user $user, whose only processes are workers.
#
#   need_zfpm                    zfpm becomes a copy in $tmp/sbin, with worker and load beside it
#   with_commands                or say that this zfpm has no reload, status ...
#   control COMMAND [ARGUMENT]   zfpm COMMAND -c ..., of $tmp/zfpm.conf; not longer than a minute
#   exact_pools FROM TO [LINE...]    pools p<FROM> to p<TO> of $user with the app worker and these lines
#   live [USER...]               the process ids of the workers, sorted
#   idle_descriptors PID         what descriptors a process has, one a line, without their numbers
#   now_ms                       milliseconds since 1970
#   value FILE KEY               of what load printed
#   samples FILE [PREFIX]        the texts that load printed
#   median, highest              of the numbers on standard input
#   memory PID KEY               kilobytes: Rss or Pss
#   load ARGUMENT...             in the foreground, to $sock
#   start_load FILE ARGUMENT...  in the background, output to FILE; $load_pid
#   end_load [SIGNAL]            its last requests are waited for, but not with QUIT; sets load_status

. "${0%/*}/../t/lib.sh"
here=$t
user='' load_pid='' load_status=''

die() {
	diag "$*"
	exit 1
}

# Its own copy, for upgrade puts a new one in its place.
need_zfpm() {
	[ -x "$zfpm" ] || die "no $zfpm: make"
	mkdir "$tmp/sbin"
	cp "$zfpm" "$tmp/sbin/zfpm"
	zfpm=$tmp/sbin/zfpm
	set -- -std=c11 -D_POSIX_C_SOURCE=200809L -O2 -Wall -Wextra
	"${CC:-cc}" "$@" -o "$bin/load" "$here/load.c" "$top/fcgi.c" || exit 1
	# Static: a quarter of the memory. Not every libc can do it.
	"${CC:-cc}" "$@" -static -o "$bin/worker" "$here/worker.c" "$top/fcgi.c" 2>"$tmp/static.txt" ||
	    "${CC:-cc}" "$@" -o "$bin/worker" "$here/worker.c" "$top/fcgi.c" || exit 1
	chmod 755 "$bin/load" "$bin/worker"
	make_user user
}

with_commands() {
	"$zfpm" -h 2>&1 | grep -q reload || die "this zfpm has no commands: $("$zfpm" -V 2>&1)"
}

control() {
	lib_command=$1
	shift
	timeout 60 "$zfpm" "$lib_command" -c "$tmp/zfpm.conf" "$@"
}

exact_pools() {
	lib_i=$1 lib_last=$2
	shift 2
	awk -v i="$lib_i" -v last="$lib_last" -v user="$user" 'BEGIN {
		for (n = 1; n < ARGC; n++)
			lines = lines "\t" ARGV[n] "\n"
		for (; i <= last; i++)
			printf "pool p%d {\n\tuser %s\n\tapp worker\n\tenv POOL p%d\n%s}\n", i, user, i, lines
	}' "$@"
}

live() {
	[ $# -gt 0 ] || set -- "$user"
	for lib_u in "$@"; do
		ps -o pid= -u "$lib_u"
	done | tr -d ' ' | sort -n
}

idle_descriptors() {
	for lib_fd in "/proc/$1/fd"/*; do
		readlink "$lib_fd"
	done 2>/dev/null | sed 's/:\[[0-9]*\]$//' | sort
}

now_ms() { date +%s%3N; }
value() { sed -n "s/^$2 //p" "$1"; }
samples() { sed -n "s/^sample /${2:-}/p" "$1"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
highest() { sort -n | tail -n 1; }
memory() { sed -n "s/^$2: *\([0-9]*\) kB/\1/p" "/proc/$1/smaps_rollup"; }

load() { "$bin/load" "$@" "$sock"; }

start_load() {
	lib_out=$1
	shift
	"$bin/load" "$@" "$sock" >"$lib_out" 2>"$lib_out.txt" &
	load_pid=$!
}

end_load() {
	kill "-${1:-TERM}" "$load_pid" 2>/dev/null
	load_status=0
	# shellcheck disable=SC2034 # for the scripts
	wait "$load_pid" || load_status=$?
	[ ! -s "$lib_out.txt" ] || diag "$(cat "$lib_out.txt")"
}
