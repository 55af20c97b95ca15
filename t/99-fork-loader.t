#!/bin/sh
# A program that ld.so starts has a fork server as others have, and the library asks for no C library that is younger than
# it needs: a program with an older one, of another system in a tree of its own, can load it.
. "${0%/*}/lib.sh"
# AddressSanitizer does not let another library be loaded before it.
cp "$top/t/bin/app" "$bin"
loader=$(ldd "$bin/app" | sed -n 's|^[[:space:]]*\(/[^ ]*/ld[^ ]*\) .*|\1|p')
[ -x "$loader" ] || skip_all "no ld.so known here"
plan 8

start_zfpm <<-END
	app direct { command $loader $bin/app
		fork_server off }
	app forked { command $loader $bin/app
		fork_server on }
	app nothing { command $loader $bin/nothing
		fork_server on }
	pool direct {
		user @user@
		app direct
	}
	pool forked {
		user @user@
		app forked
	}
	pool nothing {
		user @user@
		app nothing
	}
END
body() { request "$1" >"$tmp/out" 2>"$tmp/err"; sed -n "s/^$2 //p" "$tmp/out"; }

is "$("$zfpm" -t -c "$tmp/zfpm.conf" 2>&1 | grep -c -e "app forked.*warning" -e "warning.*app" -e statically)" 0 "zfpm -t has nothing against ld.so as a command"
is "$(body direct uid)" "$(id -u "$user")" "it serves without a fork server"
is "$(body forked uid)" "$(id -u "$user")" "and with one"
passes "which is one" wait_for_log 'pool forked: app server [0-9]+: ready'
server=$(sed -n 's/.*pool forked: app server \([0-9]*\): ready.*/\1/p' "$tmp/zfpm.log")
is "$(body forked ppid)" "${server:-none}" "and the worker is its child"
request nothing >"$tmp/out" 2>"$tmp/err"
like "$(cat "$tmp/out")" '^Status: 500' "a program that is not there is an error"
passes "which ld.so explains in the log" wait_for_log 'pool nothing: app server [0-9]+: stderr: .*nothing: cannot open shared object file'

# The versions of glibc's symbols; another C library has none.
case $(uname -m) in
x86_64 | aarch64)
	is "$(grep -ao 'GLIBC_[0-9.]*' "$bin/zfpm-forkserver.so" | sort -u |
	    awk -F '[_.]' '$2 > 2 || $3 > 28' | tr '\n' ' ')" '' "the library needs nothing younger than glibc 2.28"
	;;
*) skip 1 "not known for this processor" ;;
esac
