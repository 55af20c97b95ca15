#!/bin/sh
# Without the key of a socket no request is served, whatever its other parameters are; and a socket serves only the peers that it allows.
. "${0%/*}/lib.sh"
plan 29

key=correct-horse-battery-staple
echo "$key" >"$tmp/key"
echo "a second line is not the key" >>"$tmp/key"
chmod 600 "$tmp/key"
near=$(free_port) far=$(free_port) locked=$(free_port)
start_zfpm <<-EOF
	listen @sock@ key @tmp@/key
	listen @tmp@/open.sock
	listen @tmp@/user.sock mode 0666 allow_user @user@
	listen 127.0.0.1:$near allow 127.0.0.0/8
	listen 127.0.0.1:$far allow 192.0.2.0/24 2001:db8::/32
	listen 127.0.0.1:$locked allow 127.0.0.1/32 key @tmp@/key
	app app {
		command @bin@/app
	}
	pool p {
		user @user@
		app  app
	}
EOF
make_user other
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

# The peer's user
as() {
	setpriv --reuid "$1" --regid "$1" --clear-groups "$bin/client" "$tmp/user.sock" -p p -O out=3 2>&1
}
is "$(as "$user")" 012 "a user that allow_user names is served"
as "$other" >"$tmp/out"
is "$? $(cat "$tmp/out")" "3 " "another one's connection is closed"
log_has "warn: listen .*user.sock: .*uid $(id -u "$other")"
ok $? "and logged"

# The peer's address
is "$("$bin/client" "127.0.0.1:$near" -p p -O -B 200000 echo -C)" "200000 $("$bin/client" pattern 200000 | cksum | cut -d ' ' -f 1)" \
    "a TCP peer in an allowed network is served"
"$bin/client" "127.0.0.1:$far" -p p >"$tmp/out" 2>"$tmp/err"
is "$? $(cat "$tmp/out")" "3 " "the connection of another one is closed"
is "$("$bin/client" "127.0.0.1:$locked" -p p 2>"$tmp/err" | head -n 1 | tr -d '\r')" "Status: 403 Forbidden" "an address alone does not do where there is a key"
is "$("$bin/client" "127.0.0.1:$locked" -p p -k "$key" -O out=3)" 012 "address and key do"
