# shellcheck shell=sh
# t/lib.sh: what the tests share. POSIX sh, TAP on standard output. Owns the
# temporary directory, the test's users, its ports and its processes, and takes
# them away at the end, however that comes. Never ends a process that the test
# did not start, never waits for a time where it can wait for a condition.
#
# In a test: $t this directory, $top the sources, $tmp a directory of its own
# that everybody may enter, $bin the tests' programs where every user can run
# them, $zfpm the binary, $module mod_zfpm.so, $sock zfpm's socket.
#
#   plan N                          first of all
#   ok STATUS TITLE                 passes when STATUS is 0: grep -q x f; ok $? "x is in f"
#   passes TITLE COMMAND...         passes when the command succeeds
#   fails TITLE COMMAND...          passes when it does not
#   is GOT WANT TITLE, isnt GOT UNWANTED TITLE
#   like GOT ERE TITLE, unlike GOT ERE TITLE      any line of GOT
#   diag TEXT..., skip N REASON, skip_all REASON (instead of plan)
#   make_user NAME                  $NAME: a new user with a group of its own, $NAME_home its home (0755)
#   want_user NAME...               the same, unless the test has made them already
#   make_key                        $key: a file of root's with a new key
#   root_dir                        $root_dir: a directory, mode 0755, below such that root alone can write; not in /tmp
#   free_port                       prints a port of 127.0.0.1 that nobody uses, and keeps it for this test
#   track PID                       end this process at the end of the test
#   make_conf FILE <text            zfpm.conf from text, see below
#   start_zfpm <text                run it; $zfpm_pid. An older one is stopped first
#   stop_zfpm [SIGNAL]              end it; $zfpm_status
#   in_cgroup DIRECTORY             from here on $zfpm is a program that goes into this cgroup, and then is $binary
#   router_pid                      prints the router's process id
#   workers [USER]                  prints the process ids of the workers, of all or of one user
#   request POOL [QUERY...]         one request through $sock; the response on standard output
#   example FILE [SED OPTION...]    prints examples/FILE as it is to be in this test, see below
#   example_conf FILE [SED OPTION...]   the same of a zfpm.conf, with a listen for the group of @web@ and the key
#   run_example FILE [SED OPTION...]    start_zfpm with that
#   at_once N NAME COMMAND...       N of them in the background; $i is the number of each, $tmp/NAME.$i what it prints
#   wait_all                        until all those have ended
#   wait_until COMMAND...           until it succeeds; fails after $patience seconds
#   wait_for_log ERE, log_has ERE   zfpm's log, $tmp/zfpm.log
#   gone PID                        true if there is no such process, or only its remains
#
# make_conf replaces @t@ @top@ @tmp@ @bin@ @sock@, and @NAME@ by the user that
# make_user NAME made; @user@ and @other@ are made when they are first met.
# Where the text has none of its own it adds listen, run_dir, router_user, log
# (stderr, which is $tmp/zfpm.log) and log_level (debug), and where it has a
# line fork_server, the library of this build, behind it, so that line numbers stay.
#
# The files of examples/ are tested as they are there. Only what a machine has
# once is replaced by what this test has of its own: zfpm's socket, the key, the
# user of a pool and their homes where want_user has made such a one, www-data
# (want_user web), and the port of a VirtualHost. The options for sed say more.
#
# Tests with three digits: 10x applications, 11x web servers in front of zfpm,
# 12x the network and the protocol, 13x whole sites in PHP.

t=$(cd "${0%/*}" && pwd)
top=${t%/*}
zfpm=${ZFPM_BUILD:-$top}/zfpm
# shellcheck disable=SC2034 # for the tests
module=$top/mod_zfpm.so
patience=${PATIENCE:-20}
# shellcheck disable=SC2034 # for the tests
zfpm_pid='' zfpm_status='' key=''
lib_tests=0 lib_failed=0 lib_tracked='' lib_users='' lib_names='' lib_conf=''

diag() { printf '%s\n' "$*" | sed 's/^/# /' >&2; }
plan() { echo "1..$1"; }

skip_all() {
	echo "1..0 # SKIP $*"
	exit 0
}

skip() {
	lib_n=$1
	shift
	while [ "$lib_n" -gt 0 ]; do
		lib_n=$((lib_n - 1))
		lib_tests=$((lib_tests + 1))
		echo "ok $lib_tests # SKIP $*"
	done
}

ok() {
	lib_tests=$((lib_tests + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $lib_tests - $2"
		return 0
	fi
	echo "not ok $lib_tests - $2"
	lib_failed=$((lib_failed + 1))
	return 1
}

passes() {
	lib_title=$1
	shift
	if "$@"; then
		ok 0 "$lib_title"
	else
		ok 1 "$lib_title" || diag "failed: $*"
	fi
}

fails() {
	lib_title=$1
	shift
	if "$@"; then
		ok 1 "$lib_title" || diag "did not fail: $*"
	else
		ok 0 "$lib_title"
	fi
}

is() {
	if [ "$1" = "$2" ]; then
		ok 0 "$3"
	else
		ok 1 "$3" || diag "     got: $1
expected: $2"
	fi
}

isnt() {
	if [ "$1" != "$2" ]; then
		ok 0 "$3"
	else
		ok 1 "$3" || diag "not expected: $1"
	fi
}

like() {
	if printf '%s\n' "$1" | grep -Eq -e "$2"; then
		ok 0 "$3"
	else
		ok 1 "$3" || diag "           got: $1
does not match: $2"
	fi
}

unlike() {
	if printf '%s\n' "$1" | grep -Eq -e "$2"; then
		ok 1 "$3" || diag "    got: $1
matches: $2"
	else
		ok 0 "$3"
	fi
}

wait_until() {
	lib_end=$(($(date +%s) + patience))
	until "$@"; do
		[ "$(date +%s)" -lt "$lib_end" ] || return 1
		sleep 0.02
	done
}

at_once() {
	lib_count=$1 lib_name=$2
	shift 2
	lib_at_once='' i=0
	while [ $((i += 1)) -le "$lib_count" ]; do
		"$@" >"$tmp/$lib_name.$i" &
		lib_at_once="$lib_at_once $!"
	done
}

# shellcheck disable=SC2086 # words
wait_all() { wait $lib_at_once; }

gone() {
	case $(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) in
	'' | Z | X) return 0 ;;
	*) return 1 ;;
	esac
}

track() { lib_tracked="$lib_tracked $1"; }

log_has() { grep -Eq -e "$1" "$tmp/zfpm.log" 2>/dev/null; }

wait_for_log() {
	wait_until log_has "$1" && return 0
	diag "not in the log: $1"
	return 1
}

# Two tests must not change /etc/passwd at one time.
lib_locked() {
	(
		flock 9
		"$@"
	) 9>"$lib_lock/zfpm-test.lock"
}

make_user() {
	lib_i=0
	until lib_locked useradd --user-group --no-create-home --shell /bin/sh \
	    --home-dir "$tmp/home/$1" "zt$$x$lib_i$1" 2>"$tmp/useradd.err"; do
		lib_i=$((lib_i + 1))
		if [ "$lib_i" -gt 20 ]; then
			diag "useradd: $(cat "$tmp/useradd.err")"
			exit 1
		fi
	done
	lib_users="$lib_users zt$$x$lib_i$1"
	lib_names="$lib_names $1"
	mkdir -p "$tmp/home/$1"
	chown "zt$$x$lib_i$1:" "$tmp/home/$1"
	eval "$1=zt$$x$lib_i$1 ${1}_home=\$tmp/home/$1"
}

root_dir() {
	root_dir=$(mktemp -d /run/zt.XXXXXX 2>/dev/null) || root_dir=$(mktemp -d /root/zt.XXXXXX) || exit 1
	chmod 755 "$root_dir"
}

want_user() {
	for lib_want; do
		case " $lib_names " in
		*" $lib_want "*) ;;
		*) make_user "$lib_want" ;;
		esac
	done
}

make_key() {
	key=$tmp/key
	[ -e "$key" ] && return
	(umask 077 && od -An -N 24 -tx1 /dev/urandom | tr -d ' \n' >"$key" && echo >>"$key")
}

example() {
	lib_file=$top/examples/$1
	shift
	set -- -e "s|/run/zfpm/zfpm\.sock|$sock|g;s|/etc/zfpm/key|$tmp/key|g" \
	    -e 's|<VirtualHost \*:80>|<VirtualHost *:@port@>|' "$@" "$lib_file"
	for lib_name in $lib_names; do
		eval "lib_to=\$$lib_name"
		[ "$lib_name" != web ] || set -- -e "s|www-data|$lib_to|g" "$@"
		set -- -e "s|\(user  *\)$lib_name|\1$lib_to|;s|/home/$lib_name|$tmp/home/$lib_name|g" "$@"
	done
	sed "$@"
}

example_conf() {
	echo 'listen @sock@ group @web@ mode 0660 key @tmp@/key'
	example "$@"
}

run_example() {
	example_conf "$@" >"$tmp/example.conf"
	start_zfpm <"$tmp/example.conf"
}

# Below the range from which the kernel takes the ports of outgoing connections.
free_port() {
	perl -MIO::Socket::INET -e '
		for (1 .. 1000) {
			my $p = 10000 + int rand 20000;
			mkdir "$ARGV[0]/zfpm-test-port.$p" or next;
			if (IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $p, Listen => 1)) {
				open my $f, ">>", "$ARGV[1]/ports" or die;
				print $f "$p\n";
				print "$p\n";
				exit 0;
			}
			rmdir "$ARGV[0]/zfpm-test-port.$p";
		}
		die "no free port\n";' "$lib_lock" "$tmp"
}

make_conf() {
	lib_conf=$(cat)
	for lib_name in user other; do
		case $lib_conf in
		*"@$lib_name@"*) want_user "$lib_name" ;;
		esac
	done
	set -- "$1" -e "s|@t@|$t|g;s|@top@|$top|g;s|@tmp@|$tmp|g;s|@bin@|$bin|g;s|@sock@|$sock|g"
	for lib_name in $lib_names; do
		eval "set -- \"\$@\" -e \"s|@$lib_name@|\$$lib_name|g\""
	done
	lib_file=$1
	shift
	{
		printf '%s\n' "$lib_conf" | sed "$@"
		lib_has listen || echo "listen $sock"
		lib_has run_dir || echo "run_dir $tmp/run"
		lib_has router_user || echo "router_user nobody"
		lib_has log || echo 'log stderr'
		lib_has log_level || echo "log_level debug"
		! lib_has fork_server || lib_has fork_server_library || echo "fork_server_library $bin/zfpm-forkserver.so"
	} >"$lib_file"
	chmod 644 "$lib_file"
}
lib_has() { printf '%s\n' "$lib_conf" | grep -Eq "^[[:space:]]*$1[[:space:]]"; }

# One FCGI_GET_VALUES to the first socket that the file listens on. A closed
# connection is an answer too: somebody who is not allowed is shown the door.
zfpm_answers() {
	perl -MSocket -e '
		my ($addr) = grep { defined } map { /^\s*listen\s+(\S+)/ ? $1 : undef } <STDIN>;
		my ($s, $sa);
		if ($addr =~ m{^/}) {
			socket $s, AF_UNIX, SOCK_STREAM, 0;
			$sa = pack_sockaddr_un($addr);
		} else {
			my ($host, $port) = $addr =~ /^(.*):(\d+)$/;
			socket $s, $host =~ s/^\[(.*)\]$/$1/ ? AF_INET6 : AF_INET, SOCK_STREAM, 0;
			$sa = $host =~ /:/ ? pack_sockaddr_in6($port, Socket::inet_pton(AF_INET6, $host)) :
			    pack_sockaddr_in($port, inet_aton($host));
		}
		connect $s, $sa or exit 1;
		alarm 5;
		syswrite $s, pack "C8", 1, 9, 0, 0, 0, 0, 0, 0;
		sysread $s, my $answer, 8;' <"$tmp/zfpm.conf" 2>/dev/null
}

zfpm_settled() { gone "$zfpm_pid" || zfpm_answers; }

start_zfpm() {
	make_conf "$tmp/zfpm.conf"
	stop_zfpm TERM
	if ! [ -x "$zfpm" ]; then
		diag "no $zfpm: make"
		exit 1
	fi
	"$zfpm" -c "$tmp/zfpm.conf" </dev/null >>"$tmp/zfpm.out" 2>>"$tmp/zfpm.log" &
	zfpm_pid=$!
	if ! wait_until zfpm_settled || gone "$zfpm_pid"; then
		diag "zfpm did not start: $(cat "$tmp/zfpm.log")"
		exit 1
	fi
}

# A pid of 0 or none is nobody; a zfpm that does not end within its time is killed and told of.
stop_zfpm() {
	[ -n "$zfpm_pid" ] || return 0
	kill "-${1:-TERM}" "$zfpm_pid" 2>/dev/null
	if ! wait_until gone "$zfpm_pid"; then
		diag "zfpm $zfpm_pid did not end on SIG${1:-TERM}"
		lib_failed=$((lib_failed + 1))
		kill -KILL "$zfpm_pid"
	fi
	zfpm_status=0
	# shellcheck disable=SC2034
	wait "$zfpm_pid" 2>/dev/null || zfpm_status=$?
	zfpm_pid=
}

in_cgroup() {
	binary=$zfpm
	zfpm=$tmp/in-cgroup
	printf '#!/bin/sh\necho 0 >%s/cgroup.procs && exec %s "$@"\n' "$1" "$binary" >"$zfpm"
	chmod 755 "$zfpm"
}

children_of() { ps -o pid= --ppid "$1" | tr -d ' '; }

router_pid() {
	for lib_p in $(children_of "$zfpm_pid"); do
		case $(tr '\0' ' ' 2>/dev/null <"/proc/$lib_p/cmdline") in
		'zfpm: router'*) echo "$lib_p"; return 0 ;;
		esac
	done
	return 1
}

workers() {
	for lib_p in $(children_of "$zfpm_pid"); do
		case $(tr '\0' ' ' 2>/dev/null <"/proc/$lib_p/cmdline") in
		'zfpm: '* | '') continue ;;
		esac
		[ $# -eq 0 ] || [ "$(ps -o user:32= -p "$lib_p" | tr -d ' ')" = "$1" ] || continue
		echo "$lib_p"
	done
}

# All the rest of what the test has made. What the sanitizers found fails the test.
lib_cleanup() {
	lib_exit=$?
	trap - EXIT
	stop_zfpm TERM
	jobs -p >"$tmp/jobs"	# not in $(): a subshell has no jobs
	for lib_p in $lib_tracked $(cat "$tmp/jobs"); do
		kill "$lib_p" 2>/dev/null && { wait_until gone "$lib_p" || kill -KILL "$lib_p"; }
	done
	for lib_u in $lib_users; do
		# A user of this test runs nothing that this test has not caused.
		for lib_p in $(ps -o pid= -u "$lib_u"); do
			gone "$lib_p" && continue	# whoever is to wait for it has not done so yet
			diag "left behind: $(ps -o pid=,args= -p "$lib_p")"
			kill -KILL "$lib_p" 2>/dev/null
			wait_until gone "$lib_p"
		done
		lib_locked userdel -f "$lib_u" >/dev/null 2>&1
	done
	if grep -Eq 'Sanitizer|runtime error:' "$tmp"/*.err "$tmp"/*.log 2>/dev/null; then
		diag "$(grep -hE -A 30 'Sanitizer|runtime error:' "$tmp"/*.err "$tmp"/*.log 2>/dev/null)"
		lib_exit=1
	fi
	if [ "$lib_failed" -gt 0 ]; then
		lib_exit=1
		[ ! -s "$tmp/zfpm.log" ] || diag "the end of zfpm's log:
$(tail -n 30 "$tmp/zfpm.log")"
	fi
	[ ! -e "$tmp/ports" ] || while read -r lib_p; do
		rmdir "$lib_lock/zfpm-test-port.$lib_p"
	done <"$tmp/ports"
	cd /
	[ -z "${root_dir:-}" ] || rm -rf "$root_dir"
	if [ -n "${KEEP:-}" ]; then
		diag "kept: $tmp"
	else
		rm -rf "$tmp"
	fi
	exit "$lib_exit"
}

# Users, chroot and Apache need root. A test that needs none of it sets rootless=1 first.
if [ "${rootless:-0}" = 0 ] && [ "$(id -u)" != 0 ]; then
	skip_all "needs root"
fi
PATH=$PATH:/usr/sbin:/sbin
umask 022

lib_lock=/run/lock
[ -w "$lib_lock" ] || lib_lock=/tmp
tmp=$(mktemp -d "${TMPDIR:-/tmp}/zt.XXXXXX") || exit 1
trap lib_cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$tmp"
sock=$tmp/zfpm.sock

# The router and the workers are not in a state to be searched for leaks: they have changed their user.
ASAN_OPTIONS=detect_leaks=0:abort_on_error=0
UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export ASAN_OPTIONS UBSAN_OPTIONS

# A copy, for the checkout may be closed to the tests' users.
bin=$tmp/bin
mkdir "$bin"
[ ! -e "$top/zfpm-forkserver.so" ] || cp "$top/zfpm-forkserver.so" "$bin"
if [ -d "${ZFPM_BUILD:-$top}/t/bin" ]; then
	cp "${ZFPM_BUILD:-$top}"/t/bin/* "$bin"
	chmod 755 "$bin"/*
fi

request() {
	lib_pool=$1
	shift
	"$bin/client" -s "$sock" -p "$lib_pool" "$@"
}
