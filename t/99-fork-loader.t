#!/bin/sh
# The fork server's library asks for no C library that is younger than it needs: a program with an older one, of another
# system in a tree of its own, can load it.
. "${0%/*}/lib.sh"
plan 1

# The versions of glibc's symbols; another C library has none.
case $(uname -m) in
x86_64 | aarch64)
	is "$(grep -ao 'GLIBC_[0-9.]*' "$bin/zfpm-forkserver.so" | sort -u |
	    awk -F '[_.]' '$2 > 2 || $3 > 28' | tr '\n' ' ')" '' "the library needs nothing younger than glibc 2.28"
	;;
*) skip 1 "not known for this processor" ;;
esac
