#!/bin/sh
# What moves is not cut: a timeout begins anew with every byte, and runs only for the one who is waited for.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 24

make_user user
{
	cat <<-\END
		app app { command @bin@/app }
		buffer_request 4K
		buffer_response 4K
	END
	# NAME APP SERVER
	while read -r p app server; do
		printf 'pool %s {\nuser @user@\napp app\ntimeout app %s\ntimeout server %s\n}\n' "$p" "$app" "$server"
	done <<-END
		output 2s 60s
		upload 2s 60s
		pauses 1s 4s
		small 60s 1s
		reader 60s 1s
		silent 60s 1s
		waiting 1s 60s
		fine-reader 60s 2s
		early 60s 1s
	END
} >"$tmp/text"
start_zfpm <"$tmp/text"
seconds() { date +%s; }
began=$(seconds)

# The application writes every 500 ms, for 4 s
start output output out=8000 record=1000 pause=500 -O -C
# The web server sends 16 K every 250 ms: 5 s in all
start upload upload -B 320000 -S 16384 -d 250
# It sends a piece every 1.5 s: then the application has to be silent for longer than timeout app
start pauses pauses -B 240000 -S 80000 -d 1500
# Less than buffer_request, a piece every 500 ms
start small small -B 3000 -S 500 -d 500
# The web server reads 100 K every 300 ms
start reader reader out=1500000 -w 300:100000 -O -C
# The application takes 3 s to answer, and the web server has nothing to say meanwhile
start silent silent sleep=3 show=QUERY_STRING -O
# The web server takes no byte for 3 s, and the application can not go on
start waiting waiting out=3000000 -W 3000 -O -C
# So little at a time that the system's own buffers hide it
start fine_reader fine-reader out=900000 -w 500:16384 -O -C
# The answer is complete before the body is read, and that takes longer than timeout server
start early early early=1000 out=1000 -B 400000 slowread=300 read=65536 -O -C

# moved NAME TITLE: two tests
moved() {
	finish "$1"
	is "$status" 0 "$2"
	is "$(cat "$tmp/$1.txt")" "" "without a message"
}
pattern() { printf '%s %s' "$1" "$("$bin/client" pattern "$1" | cksum | cut -d ' ' -f 1)"; }
moved output "output every 500 ms is not cut by timeout app 2s"
moved small "a small body in pieces is not cut by timeout server 1s"
moved silent "an application that thinks for 3 s is not cut by timeout server 1s"
is "$(cat "$tmp/silent")" "sleep=3&show=QUERY_STRING" "and its answer comes"
moved waiting "one that waits for a slow reader is not cut by timeout app 1s"
is "$(cat "$tmp/waiting")" "$(pattern 3000000)" "and its answer comes"
moved early "a body that is read after the answer is not cut"
moved reader "a slow reader is not cut by timeout server 1s"
is "$(cat "$tmp/reader")" "$(pattern 1500000)" "and gets it all"
moved upload "an upload of 5 s is not cut by timeout app 2s"
is "$(sed -n 's/^stdin //p' "$tmp/upload")" "$(pattern 320000)" "and arrives"
moved pauses "nor one that pauses for longer than timeout app 1s"
passes "all that has taken its time" test $(($(seconds) - began)) -ge 3
moved fine_reader "a reader of 16 K every 500 ms is not cut by timeout server 2s"
is "$(in_log 'Timeout')" 0 "the log has no timeout" || diag "$(grep Timeout "$tmp/zfpm.log")"
