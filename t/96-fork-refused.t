#!/bin/sh
# What can have no fork server is refused with a clear error, to the request and in the log, and never hangs: programs with
# threads, those that never wait for a request, that end before, that ignore the library; a library that can not be loaded.
. "${0%/*}/lib.sh"
. "${0%/*}/generations.sh"
plan 77

# AddressSanitizer does not let another library be loaded before it.
cp "$top/t/bin/app" "$top/t/bin/badserver" "$bin"
make_user user
make_user other
field() { sed -n "s/^$2 //p" "$tmp/$1"; }

# Programs
"${CC:-cc}" -static -D_GNU_SOURCE -std=c11 -I"$top" -o "$tmp/static" "$t/app.c" "$top/fcgi.c" -pthread 2>"$tmp/static.txt" || rm -f "$tmp/static"
cp "$bin/app" "$tmp/setuid"
cp "$bin/app" "$tmp/setgid"
chmod 4755 "$tmp/setuid"
chmod 2755 "$tmp/setgid"
printf '#!/bin/sh\nexec %s/app "$@"\n' "$bin" >"$tmp/wrapper"
printf '#!/bin/sh\nexport LD_PRELOAD=%s/zfpm-forkserver.so\nexec %s/app "$@"\n' "$bin" "$bin" >"$tmp/knowing"
php=$(command -v php-cgi)
printf '#!/bin/sh\nexec %s\n' "$php" >"$tmp/php-wrapper"
cat >"$tmp/script" <<-\END
	#!/usr/bin/perl
	use Socket;
	open my $l, '<&=', 0 or die;
	while (accept my $c, $l) {
		sysread $c, my $request, 65536;
		my $text = "\r\npid $$\nppid " . getppid . "\npreload " . ($ENV{LD_PRELOAD} // 'none') . "\n";
		syswrite $c, pack('C2n2C2', 1, 6, 1, length $text, 0, 0) . $text . pack('C2n2C2x8', 1, 3, 1, 8, 0, 0);
		close $c;
	}
END
chmod 755 "$tmp/wrapper" "$tmp/php-wrapper" "$tmp/knowing" "$tmp/script"

# A chroot with what a program needs, and one without the library
jail() {
	mkdir "$tmp/$1"
	ldd "$bin/app" "$bin/zfpm-forkserver.so" | grep -o '/[^ :]*' | sort -u | while read -r file; do
		mkdir -p "$tmp/$1${file%/*}"
		[ "$file" = "$bin/zfpm-forkserver.so" ] || cp "$file" "$tmp/$1$file"
	done
	cp "$bin/app" "$tmp/$1/app"
}
jail jail
jail bare
mkdir -p "$tmp/jail$bin"
cp "$bin/zfpm-forkserver.so" "$tmp/jail$bin"

{
	echo 'timeout start 1s'
	echo "fork_server_library $bin/zfpm-forkserver.so"
	while read -r name command; do
		echo "
			app $name {
				command $command
				fork_server on
			}
			pool $name {
				user @user@
				app $name
			}"
	done <<-END
		app $bin/app
		threads $bin/badserver threads
		forks $bin/badserver forks
		never $bin/app --no-accept
		late $bin/app -s 60000
		fails $bin/app --start-fail 3
		succeeds $bin/app --start-fail 0
		static $tmp/static
		setuid $tmp/setuid
		setgid $tmp/setgid
		wrapper $tmp/wrapper
		php $tmp/php-wrapper
		knowing $tmp/knowing
		script $tmp/script
		bare $bin/badserver bare
		true /bin/true
		cat /bin/cat
	END
	for name in jail bare; do
		echo "
			app in-$name {
				command /app
				fork_server on
			}
			pool in-$name {
				user @user@
				app in-$name
				chroot @tmp@/$name
			}"
	done
} >"$tmp/conf.txt"
start_zfpm <"$tmp/conf.txt"
router=$(router_pid)

# refused POOL MESSAGE TITLE: three tests. MESSAGE is an ERE.
refused() {
	start=$(date +%s)
	request "$1" -t 30 >"$tmp/out" 2>"$tmp/err"
	like "$(cat "$tmp/err")" "^stderr: $2\$" "$3: the request is told"
	is "$(head -n 1 "$tmp/out" | tr -d '\r') $(($(date +%s) - start < 8))" "Status: 500 Internal Server Error 1" "with a 500, soon"
	passes "and so is the log" wait_for_log "pool $1: .*${2#Cannot start FCGI process: }"
}
cannot='Cannot start FCGI process:'
off="'fork_server off'"
nobody_of() { [ -z "$(ps -o pid=,stat= -u "$1" | awk '$2 !~ /^Z/')" ]; }

refused threads "$cannot start: the program has threads when it first waits for a request: it needs $off" "threads"
refused forks "$cannot start: the program has forked before it waits for a request: it needs $off" "a fork"
refused never "Timeout \(1s\) exceeded while starting FCGI process" "a program that never waits for a request"
refused late "Timeout \(1s\) exceeded while starting FCGI process" "one that starts for too long"
refused fails "$cannot start: its app server exited with status 3" "one that exits"
refused succeeds "$cannot start: its app server exited with status 0" "one that exits with status 0"
refused true "$cannot start: its app server exited with status 0" "one that knows nothing of FastCGI"
if [ -e "$tmp/static" ]; then
	refused static "$cannot command: $tmp/static: is linked statically: it ignores the fork server's library; needs $off" "a static one"
else
	skip 3 "no static C library here"
fi
refused setuid "$cannot command: $tmp/setuid: is setuid: it ignores the fork server's library; needs $off" "a setuid one"
refused setgid "$cannot command: $tmp/setgid: is setgid: it ignores the fork server's library; needs $off" "a setgid one"
there="$cannot start: its fork server is not there: it was not loaded \(needs $off\), or has failed"
refused wrapper "$there" "one behind a shell script, which takes the connection itself"
if [ -n "$php" ]; then
	refused php "$there" "php-cgi behind one"
else
	skip 3 "no php-cgi here"
fi
refused bare "$there" "one that has got rid of the library"
passes "nobody of them is left" wait_until nobody_of "$user"
is "$(router_pid)" "$router" "and the router has not noticed"

# Refused once, and not asked again at every request
n=$(grep -c 'pool never: app server [0-9]*: started' "$tmp/zfpm.log")
ask() { request never -t 30 2>"$tmp/err$i"; }
at_once 5 never ask
wait_all
passes "requests that come meanwhile do not start it each" test "$(grep -c 'pool never: app server [0-9]*: started' "$tmp/zfpm.log")" -le $((n + 2))
is "$(cat "$tmp"/err? | sort -u)" 'stderr: Timeout (1s) exceeded while starting FCGI process' "and get the same answer"

# What can have one
for name in app knowing script; do
	request $name >"$tmp/a" 2>"$tmp/err"
	isnt "$(field a ppid)" "$zfpm_pid" "$name: its workers are forked" || diag "$(cat "$tmp/err")"
	like "$(field a pid)" '^[0-9]+$' "and answer"
done
is "$(field a preload)" none "the library is not in the environment of a script"

# A chroot
request in-jail >"$tmp/a" 2>"$tmp/err"
isnt "$(field a ppid)" "$zfpm_pid" "in a chroot that has the library workers are forked" || diag "$(cat "$tmp/err")"
is "$(readlink "/proc/$(field a pid)/root")" "$tmp/jail" "which live there"
refused in-bare "$cannot fork_server: $bin/zfpm-forkserver.so: No such file or directory: put it there, or $off" "a chroot without it"

# The library
lib=$tmp/lib.so
cp "$bin/zfpm-forkserver.so" "$lib"
cp "$tmp/zfpm.conf" "$tmp/good"
reload "s|^fork_server_library .*|fork_server_library $lib|"
request app >"$tmp/a" 2>"$tmp/err"
like "$(field a pid)" '^[0-9]+$' "with another library of the same the next workers are forked"
# with MESSAGE TITLE COMMAND...: the command makes it unfit to be used. Three tests.
served() { [ -n "$(pid_of app 2>/dev/null)" ]; }
fit() {
	cp "$bin/zfpm-forkserver.so" "$tmp/new.so"
	chmod 644 "$tmp/new.so"
	mv "$tmp/new.so" "$lib"
	wait_until served
}
with() {
	message=$1 title=$2
	shift 2
	fit
	"$@"
	timeout 60 "$zfpm" retire -c "$tmp/zfpm.conf" app >"$tmp/retire" 2>&1
	refused app "$cannot fork_server: $lib: $message" "$title"
}
with "can not be read by the pool's user" "a library that the user can not read" chmod 600 "$lib"
with "is writable by group or others" "one that others can write" chmod 664 "$lib"
with "is owned by uid $(id -u "$other"), not by root or the pool's user" "one of another user" chown "$other" "$lib"
with "No such file or directory: put it there, or $off" "one that is not there" rm "$lib"
with "is not a shared library" "one that is none" cp "$tmp/script" "$lib"
with "is not a regular file" "one that is a directory" sh -c "rm '$lib'; mkdir '$lib'"
rmdir "$lib"
passes "when it is fit again requests are served" fit
stop_zfpm
is "$zfpm_status" 0 "zfpm ends"
passes "and nobody is left" wait_until nobody_of "$user"
