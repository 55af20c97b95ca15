#!/bin/sh
# Records and name-value pairs come through any split, padding and length, and what is not FastCGI is refused.
# With SANITIZE=1 the same runs under -fsanitize=address,undefined.
here=${0%/*}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/fcgi-framing.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

set --
if [ -n "${SANITIZE-}" ]; then
	set -- -g -fsanitize=address,undefined -fno-sanitize-recover=all
fi
if ! "${CC:-cc}" -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -Wall -Wextra -Werror "$@" \
    -o "$tmp/fcgi-unit" "$here/fcgi-unit.c" "$here/../fcgi.c" 2>"$tmp/errors"; then
	sed 's/^/# /' "$tmp/errors"
	echo 'Bail out! fcgi-unit.c does not compile'
	exit 1
fi
"$tmp/fcgi-unit"
