#!/bin/sh
# Twenty seconds in which workers, routers and Apache are killed and restarted while zfpm is reloaded and upgraded: every
# request succeeds or fails for a cause that was there, and at the end zfpm is as it was at the beginning. bench/chaos
# does it and says what it saw; each of its checks is a test here.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd

sh "$top/bench/chaos" "${CHAOS_SECONDS:-20}" >"$tmp/out" 2>"$tmp/chaos.txt"
status=$?
sed -n 's/^check //p' "$tmp/out" >"$tmp/checks"
while read -r how title; do
	[ "$how" = ok ]
	ok $? "$title"
done <"$tmp/checks"
is "$status" 0 "and no more is wrong"
[ "$status" -eq 0 ] || diag "$(cat "$tmp/out" "$tmp/chaos.txt")"
is "$(wc -l <"$tmp/checks")" 15 "all that was to be checked has been"
plan "$lib_tests"
