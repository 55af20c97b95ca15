# shellcheck shell=sh disable=SC2154
# t/php-versions.sh: PHP 7.4, 8.2 and 8.4, sourced after t/lib.sh. $tmp/php.sed makes a zfpm.conf run the ones that are
# not this machine's own. Skips the test where one of them can not be had.

# The machine's own program, or that of a tree with another Debian, in a copy which every user can reach. A copy of hard
# links will not do: each other one that comes or goes changes the files' times, and zfpm watches them.
php() {
	[ "$1" = 7.4 ] || [ ! -x "/usr/bin/php-cgi$1" ] || return 0
	sh "$t/php-root" "$2" "$1" "$top/build/php-$1" 2>"$tmp/php-root.err" ||
	    skip_all "no PHP $1: $(tail -n 1 "$tmp/php-root.err")"
	cp -a "$top/build/php-$1" "$tmp/php-$1"
	sh "$t/php-root" -s "$1" "$tmp/php-$1" >>"$tmp/php.sed"
}
: >"$tmp/php.sed"
php 7.4 bullseye
php 8.2 bookworm
php 8.4 trixie
