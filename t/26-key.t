#!/bin/sh
# Without the key of the socket no request is served, whatever its other parameters are.
. "${0%/*}/lib.sh"
plan 22

key=correct-horse-battery-staple
echo "$key" >"$tmp/key"
echo "a second line is not the key" >>"$tmp/key"
chmod 600 "$tmp/key"
start_zfpm <<-\EOF
	listen @sock@ key @tmp@/key
	listen @tmp@/open.sock
	app app {
		command @bin@/app
	}
	pool p {
		user @user@
		app  app
	}
EOF
refused() {
	title=$1
	shift
	request p "$@" >"$tmp/out" 2>"$tmp/err"
	is "$? $(head -n 1 "$tmp/out" | tr -d '\r')" "0 Status: 403 Forbidden" "$title"
}
refused "no key"
refused "another key" -k correct-horse-battery-stapler
refused "an empty key" -k ''
refused "the beginning of the key" -k correct-horse-battery-stapl
refused "its first character" -k c
refused "the key twice" -k "$key$key"
refused "the key with a newline" -p "ZFPM_KEY=@$tmp/key"
refused "the key in capitals" -k CORRECT-HORSE-BATTERY-STAPLE
refused "the key in another parameter" -p HTTP_ZFPM_KEY="$key" -p ZFPM_KEYS="$key" -p zfpm_key="$key"
refused "no key with an unknown pool" -P nobody
refused "no key with an unknown app" -a nothing
refused "no key and a body" -B 200000
head -c 200000 /dev/zero | tr '\0' c >"$tmp/long"
refused "a key of 200,000 bytes" -p "ZFPM_KEY=@$tmp/long"
is "$(workers | wc -l | tr -d ' ')" 0 "nothing was started for any of them"
log_has 'warn: pool p: .*ZFPM_KEY.* \(GET /'
ok $? "but each was logged"
"$bin/client" script "$sock" -P p >"$tmp/out" <<-EOF
	begin 1 responder 1
	param 1 ZFPM_KEY=$key
	param 1 QUERY_STRING=out=1
	params 1
	end STDIN 1
	wait 3
	begin 1 responder 1
	params 1
	end STDIN 1
	wait 4
EOF
is "$(grep -c 'Status: 403' "$tmp/out")" 1 "a kept connection does not carry the key from one request to the next"
is "$(grep -c 'END_REQUEST' "$tmp/out")" 2 "though the first of them was served"

is "$(request p -k "$key" -O out=3)" 012 "with the key the request is served"
is "$(request p -k "@$tmp/key" -O -c 2 out=3)" 012 "in small pieces too"
is "$(request p -k "$key" -O | grep -c "$key")" 0 "and the application never sees it"
unlike "$(cat "$tmp/zfpm.log")" "$key" "nor does the log"
is "$("$bin/client" "$tmp/open.sock" -p p -O out=3)" 012 "a socket without a key asks for none"
