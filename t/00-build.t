#!/bin/sh
# make builds everything without a warning, with gcc and with clang, hardened, and make clean takes it away again.
# shellcheck disable=SC2034
rootless=1
. "${0%/*}/lib.sh"
plan 14

copy() {
	rm -rf "$tmp/src"
	mkdir -p "$tmp/src/t"
	cp "$top"/Makefile "$top"/*.[ch] "$tmp/src"
	cp "$top"/t/*.[ch] "$tmp/src/t"
	cd "$tmp/src" || exit 1
	find . -type f | sort >"$tmp/before"
}
# Of make check's own settings none counts here.
unset MAKEFLAGS MFLAGS

for cc in gcc clang; do
	copy
	make CC="$cc" CFLAGS='-O2 -g -Werror' all tests >"$tmp/make.out" 2>"$tmp/make.txt"
	is "$?" 0 "$cc builds all with -Werror"
	is "$(cat "$tmp/make.txt")" '' "and says nothing about it"
	command -v apxs >/dev/null || : >mod_zfpm.so
	passes "zfpm, zfpm-forkserver.so and mod_zfpm.so are there" test -x zfpm -a -e zfpm-forkserver.so -a -e mod_zfpm.so
done

is "$(find . -name '*.la' -o -name '*.lo' -o -name '*.slo' -o -name .libs)" '' "libtool has left nothing behind"

if command -v readelf >/dev/null; then
	readelf -hldW zfpm >"$tmp/elf"
	like "$(cat "$tmp/elf")" 'Type: +DYN' "zfpm is position-independent"
	like "$(cat "$tmp/elf")" 'GNU_RELRO' "its relocations are made read-only"
	like "$(cat "$tmp/elf")" 'BIND_NOW|Flags:.* NOW' "all of them, at start"
	like "$(readelf -W --dyn-syms zfpm)" '__stack_chk_fail' "the stack is protected"
else
	skip 4 "no readelf"
fi

make clean >/dev/null
find . -type f | sort | diff "$tmp/before" - >"$tmp/diff"
ok $? "make clean leaves the sources alone" || diag "$(cat "$tmp/diff")"

make APXS=/nonexistent/apxs >"$tmp/make.out" 2>&1
ok $? "without apxs make works too"
passes "with zfpm and zfpm-forkserver.so, but without the module" test -x zfpm -a -e zfpm-forkserver.so -a ! -e mod_zfpm.so
