#!/bin/sh
# However the bytes of a request or of a response are split and padded, the other end gets the same.
. "${0%/*}/lib.sh"
plan 34

start_zfpm <<-\EOF
	app app {
		command @bin@/app
	}
	pool p {
		user @user@
		app  app
		max_workers 3
	}
EOF

# The report of a request with parameters of many lengths and a body, less what may differ.
for n in 1 127 128 300 5000 40000; do
	"$bin/client" pattern "$n" | tr '\n' '~' >"$tmp/v$n"
done
same() {
	request p -O -p EMPTY= -p "V1=@$tmp/v1" -p "V127=@$tmp/v127" -p "V128=@$tmp/v128" -p "V300=@$tmp/v300" \
	    -p "V5000=@$tmp/v5000" -p "V40000=@$tmp/v40000" -p "$(printf '%0200d' 7)=long name" -p LAST=1 \
	    -B 20000 -t 30 "$@" | grep -E '^(param|stdin|role)'
}
same >"$tmp/whole"
is "$(grep -c '^param V' "$tmp/whole")" 6 "a request arrives"
like "$(cat "$tmp/whole")" "^stdin 20000 $("$bin/client" pattern 20000 | cksum | cut -d ' ' -f 1)\$" "with its body"

arrives() {
	title=$1
	shift
	same "$@" >"$tmp/other"
	passes "$title" cmp -s "$tmp/whole" "$tmp/other"
}
arrives "sent byte by byte" -S 1
arrives "sent in pieces of 7" -S 7
arrives "sent in pieces of 4,099" -S 4099
arrives "sent with pauses" -S 9000 -d 2
arrives "in records of 1 byte" -c 1
arrives "in records of 2 bytes" -c 2
arrives "in records of 3 bytes" -c 3
arrives "in records of 1,000 bytes: pairs that straddle them arrive whole" -c 1000
arrives "in records of 65,535 bytes" -c 65535
arrives "with 1 byte of padding, behind empty records too" -z 1
arrives "with 255 bytes of padding" -z 255
arrives "in padded records of 3 bytes, sent in pieces of 5" -c 3 -z 255 -S 5
arrives "with padded records of 65,535 bytes" -c 65535 -z 255
arrives "with all lengths in 4 bytes" -4 -c 11
arrives "under the id 65535" -i 65535
arrives "under the id 256" -i 256
unlike "$(cat "$tmp/zfpm.log")" 'app: ' "the application has nothing to say against any of it"

sums() {
	"$bin/client" pattern "$1" | cksum | awk '{ print $2, $1 }'
}
response() {
	title=$1 n=$2
	shift 2
	is "$(request p -O -C out="$n" "$@")" "$(sums "$n")" "$title"
}
response "a response written byte by byte comes back" 5000 split
response "one in records of 1 byte" 3000 record=1
response "one in records of 65,535 bytes" 1000000 big
response "one in records of 65,535 bytes, written in pieces of 1,000" 300000 big split=1000
response "one with padding" 20000 pad=3 record=10
response "one with padding of 255, behind the empty record too" 20000 pad=255 pad-empty emptystdout
response "one that ends with the empty record" 10 emptystdout
response "an empty one" 0 emptystdout
is "$(request p -O -C -B 300000 -c 65535 echo big)" "$(sums 300000)" "65,535 bytes a record both ways at once"

request p out=10 stderr=first+line stderr-n=3 >"$tmp/out" 2>"$tmp/err"
is "$(cat "$tmp/err")" "$(printf 'stderr: first line\nstderr: first line\nstderr: first line')" "FCGI_STDERR comes as what it is"
is "$(request p -O out=5 wrongid unknown at=headers)" 01234 "records of another id or an unknown type are left out"
is "$(request p -v noheaders out=0 2>&1 | grep '^<' | cut -d ' ' -f 2)" END_REQUEST "an END_REQUEST alone is a response"
is "$(request p -O out=10 at=record | wc -c | tr -d ' ')" 1010 "a record that comes in two halves is whole"

# Nothing is held back.
request p -t 2 -X first at=headers sleep=4 >"$tmp/out"
is "$?" 6 "what the application sends comes at once"
request p -t 2 -X first at=record sleep=4 out=0 noheaders >"$tmp/out"
is "$? $(wc -c <"$tmp/out" | tr -d ' ')" "6 10" "so does the beginning of a record"
