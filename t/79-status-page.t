#!/bin/sh
# A web server gets the status page with the parameter ZFPM_STATUS, and only with the key.
. "${0%/*}/lib.sh"
plan 17

printf 'a-key-that-is-long-enough\n' >"$tmp/key"
chmod 600 "$tmp/key"
{
	cat <<-END
		listen @sock@ key @tmp@/key
		app app { command @bin@/app }
	END
	n=0
	while [ "$n" -lt 3000 ]; do
		printf 'pool p%d {\n\tuser @user@\n\tapp app\n}\n' "$n"
		n=$((n + 1))
	done
} >"$tmp/conf"
start_zfpm <"$tmp/conf"
page() {
	status_format=$1
	shift
	"$bin/client" -s "$sock" -u ZFPM_POOL -p ZFPM_KEY=a-key-that-is-long-enough -p "ZFPM_STATUS=$status_format" "$@"
}
request p7 -p ZFPM_KEY=a-key-that-is-long-enough >"$tmp/served"

page html >"$tmp/html"
is "$(head -n 1 "$tmp/html" | tr -d '\r')" "Content-Type: text/html; charset=utf-8" "a page for people"
like "$(tail -n 3 "$tmp/html")" '</html>' "whole"
page text >"$tmp/text"
like "$(cat "$tmp/text")" '^p7 +1 ' "a page for terminals has the living pool"
page openmetrics >"$tmp/metrics"
is "$(tail -n 1 "$tmp/metrics")" "# EOF" "a page for monitoring, to its end"
page json >"$tmp/json"
is "$(head -n 1 "$tmp/json" | tr -d '\r')" "Content-Type: application/json" "a page for programs"
is "$(perl -MJSON::PP -e 'local $/; $_ = <STDIN>; s/^.*?\r\n\r\n//s; print scalar @{decode_json($_)->{pools}}' <"$tmp/json")" 3000 \
    "with all pools, though it is longer than a record"
page json -u ZFPM_POOL -p p7 >"$tmp/one"
is "$(perl -MJSON::PP -e 'local $/; $_ = <STDIN>; s/^.*?\r\n\r\n//s; print $_->{name} for @{decode_json($_)->{pools}}' <"$tmp/one")" p7 \
    "with ZFPM_POOL it is of that pool"
like "$(page json -u ZFPM_POOL -p none 2>&1)" 'Status: 404' "of a pool that is none it is not found"
like "$(page wrong 2>&1)" 'Status: 404' "nor in a format that is none"
passes "which is logged" wait_for_log "Unknown format 'wrong' of a status page"
answer=$("$bin/client" -s "$sock" -u ZFPM_POOL -p ZFPM_STATUS=text 2>&1)
like "$answer" 'Status: 403' "without the key it is refused"
unlike "$answer" 'p7' "and says nothing"

# A reader that is slow gets it whole, and nobody else waits for that.
mkfifo "$tmp/fifo"
page json >"$tmp/fifo" &
reader=$!
exec 9<"$tmp/fifo"
like "$(request p7 -p ZFPM_KEY=a-key-that-is-long-enough)" '^pid ' "a request is served while a page is not read"
cat <&9 >"$tmp/late"
exec 9<&-
passes "the page comes" wait_until gone "$reader"
is "$(perl -MJSON::PP -e 'local $/; $_ = <STDIN>; s/^.*?\r\n\r\n//s; print scalar @{decode_json($_)->{pools}}' <"$tmp/late")" 3000 "and is whole"

# One that leaves in the middle leaves nothing behind.
fds() { find "/proc/$(router_pid)/fd" -mindepth 1 | wc -l; }
before=$(fds)
page json | head -c 1000 >"$tmp/head"
same_fds() { [ "$(fds)" -le "$before" ]; }
passes "a reader that leaves takes its connection along" wait_until same_fds
like "$(page text)" '^zfpm +[0-9]' "the next one gets its page"
