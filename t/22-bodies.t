#!/bin/sh
# Small bodies are complete before they take a worker, large ones stream, and one that stops short is never passed off as complete.
. "${0%/*}/lib.sh"
plan 30

start_zfpm <<-\EOF
	app app {
		command @bin@/app
		connections 1
	}
	pool p {
		user @user@
		app  app
		max_workers 1
	}
EOF
mkdir -m 777 "$tmp/notes"
sums() {
	"$bin/client" pattern "$1" | cksum | awk '{ print $2, $1 }'
}
total() {
	request p -O | sed -n 's/^total //p'
}

is "$(request p -O | grep '^stdin')" "stdin 0 4294967295" "no body"
is "$(request p -O -B 0 | grep '^stdin')" "stdin 0 4294967295" "an empty body"
is "$(request p -O -B 1 | grep '^stdin')" "stdin $(sums 1)" "a body of 1 byte"
for n in 65535 65536 65537 131072 1000000; do
	is "$(request p -O -B $n | grep '^stdin')" "stdin $(sums $n)" "a body of $n bytes"
done
is "$(request p -O -B 70000 -l none | grep '^stdin')" "stdin $(sums 70000)" "one without CONTENT_LENGTH"
is "$(request p -O -C -t 60 -B 50000000 echo)" "$(sums 50000000)" "50 MB up and down again at the same time"

# A sender that is slow with a small body holds no worker: the pool's only one goes on serving.
"$bin/client" -s "$sock" -p p -O -v -B 30000 -Y 20000 -t 60 note="$tmp/notes/slow" >"$tmp/slow" 2>"$tmp/slow.err" &
slow=$!
wait_until grep -qs '^> STDIN id=1 len=20000' "$tmp/slow.err"
before=$(total)
is "$(request p -O out=3)" 012 "while the sender of a small body is slow, the only worker serves others"
is "$(total)" $((before + 2)) "and it has not been given that request"
kill "$slow"	# a client of its own: a function would be a shell around it
wait "$slow" 2>/dev/null
fails "whose script never runs when its sender leaves" test -e "$tmp/notes/slow"
request p -O -B 30000 -S 3000 -d 20 >"$tmp/slow" &
slow=$!
request p -O -B 10 >"$tmp/out"
wait "$slow"
is "$(grep '^stdin' "$tmp/slow")" "stdin $(sums 30000)" "a slow sender's body arrives in the end"

# A body that ends before CONTENT_LENGTH.
request p -B 100 -T 99 note="$tmp/notes/short" >"$tmp/out" 2>"$tmp/err"
isnt "$(head -n 1 "$tmp/out" | tr -d '\r')" "Content-Type: text/plain" "a body with a byte too few is refused"
like "$(head -n 1 "$tmp/out")" '^Status: 400' "with status 400"
fails "and no script runs on it" test -e "$tmp/notes/short"
request p -B 100 -Y 50 -H note="$tmp/notes/half" >"$tmp/out" 2>"$tmp/err"
is "$?" 3 "a peer that half-closes in the middle of the body gets no answer"
fails "and no script runs on that body" test -e "$tmp/notes/half"

# The same with a large one, which the script is already reading. PHP would take the end of the connection for the end
# of the body and run the script on what it has: so it is killed.
"$bin/client" -s "$sock" -p p -B 1000000 -Y 500000 -t 60 note="$tmp/notes/large" at=start >"$tmp/out" 2>"$tmp/err" &
large=$!
wait_until test -s "$tmp/notes/large"
ok $? "a large body reaches the script before it is complete"
kill "$large"
wait "$large" 2>/dev/null
reader=$(sed -n 's/^start //p' "$tmp/notes/large")
wait_until gone "$reader"
ok $? "when its sender leaves, the script is killed"
request p -B 1000000 -T 999999 note="$tmp/notes/large2" at=body >"$tmp/out" 2>"$tmp/err"
like "$(cat "$tmp/err")" "^stderr: Request body is incomplete \\(999999 of 1000000 bytes\\)" "the same when the sender ends it a byte too early"
fails "neither script went on behind its body" grep -qsE '^(body|cut)' "$tmp/notes/large" "$tmp/notes/large2"
isnt "$(head -n 1 "$tmp/out" | tr -d '\r')" "Content-Type: text/plain" "and its sender is not told that all is well"

# Full duplex.
request p -B 1000000 -Y 500000 -X first early=1000 out=2000 >"$tmp/out"
is "$?" 6 "an answer that begins before the body is complete comes at once"
is "$(request p -O -C -t 60 -B 20000000 early=1000000 out=2000000)" "$(sums 2000000)" "a long answer before a long body is read"
is "$(request p -O -C -t 60 -B 20000000 noread out=1000000)" "$(sums 1000000)" "an answer to a body that is never read"
is "$(request p -O -B 10 | grep '^stdin')" "stdin $(sums 10)" "and the next request is served as ever"
is "$(request p -O -K -n 3 -B 3000000 noread out=2)" 010101 "three of those on one kept connection"
unlike "$(cat "$tmp/zfpm.log")" 'app: ' "the application has nothing to say against any of it"
