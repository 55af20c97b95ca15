#!/bin/sh
# examples/go: one process of a Go program serves 32 requests at a time through Apache and zfpm, none of which gets what is
# another's; it streams, it knows when a client has left, and a panic ends one request and not the others.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
command -v go >/dev/null || skip_all "no Go"
plan 66

want_user alice web
make_key
dir=${alice_home:?}/chat
mkdir "$dir" "$alice_home/www" "$alice_home/www/static" "$tmp/src"
echo 'a plain file' >"$alice_home/www/static/plain.txt"
cp "$top/examples/go/main.go" "$top/examples/go/serve.go" "$tmp/src"
# The example with handlers that are for this test. With an argument it does without serve.go.
cat >"$tmp/src/extra.go" <<-\END
	package main

	import (
		"fmt"
		"hash/crc32"
		"io"
		"log"
		"net/http"
		"net/http/fcgi"
		"os"
		"strconv"
		"strings"
		"sync"
		"time"
	)

	var met struct {
		sync.Mutex
		n    int
		full chan bool
	}

	func init() {
		met.full = make(chan bool)
		http.HandleFunc("/test/form", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s host %s from %s by %s\n", r.Method, r.URL.Path, r.Host, r.RemoteAddr, r.UserAgent())
			fmt.Fprintf(w, "query %q form %q\n", r.URL.Query()["a"], r.PostFormValue("b"))
			if c, err := r.Cookie("session"); err == nil {
				fmt.Fprintf(w, "cookie %s\n", c.Value)
			}
			if f, h, err := r.FormFile("file"); err == nil {
				sum := crc32.NewIEEE()
				n, _ := io.Copy(sum, f)
				fmt.Fprintf(w, "file %s %d %08x\n", h.Filename, n, sum.Sum32())
			}
			fmt.Fprintf(w, "env %q\n", fcgi.ProcessEnv(r)["SERVER_NAME"])
			for k := range fcgi.ProcessEnv(r) {
				if strings.HasPrefix(k, "ZFPM") || strings.HasPrefix(k, "SCRIPT_FILE") {
					fmt.Fprintln(w, k)
				}
			}
		})
		// As many as n are there before the first one is answered.
		http.HandleFunc("/test/meet", func(w http.ResponseWriter, r *http.Request) {
			n, _ := strconv.Atoi(r.FormValue("n"))
			met.Lock()
			met.n++
			if met.n == n {
				close(met.full)
			}
			met.Unlock()
			select {
			case <-met.full:
				fmt.Fprintln(w, os.Getpid())
			case <-r.Context().Done():
			}
		})
		// Twenty lines of a thousand times the id, in pieces.
		http.HandleFunc("/test/echo", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			for i := 0; i < 20; i++ {
				fmt.Fprintf(w, "%s %s %s\n", r.FormValue("id"), body, strings.Repeat(r.FormValue("id"), 1000))
				if i%7 == 3 {
					w.(http.Flusher).Flush()
					time.Sleep(time.Millisecond)
				}
			}
		})
		http.HandleFunc("/test/panic", func(w http.ResponseWriter, r *http.Request) {
			if r.FormValue("late") != "" {
				fmt.Fprintln(w, "begun")
				w.(http.Flusher).Flush()
			}
			var m map[string]int
			m["none"] = 1
		})
		http.HandleFunc("/test/body", func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				<-r.Context().Done()
			}
			log.Printf("body of %d bytes: %v, %v", n, err, r.Context().Err())
		})
		http.HandleFunc("/test/pid", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, os.Getpid()) })
		http.HandleFunc("/test/uid", func(w http.ResponseWriter, r *http.Request) {
			wd, _ := os.Getwd()
			fmt.Fprintln(w, os.Getuid(), wd)
		})
		if len(os.Args) > 1 {
			log.Fatal(fcgi.Serve(nil, nil))
		}
	}
END
GOFLAGS=-mod=mod GOCACHE=$tmp/go GOPATH=$tmp/gopath GOPROXY=off
export GOFLAGS GOCACHE GOPATH GOPROXY
if ! (cd "$tmp/src" && go vet main.go serve.go extra.go && go build -o "$dir/chat" main.go serve.go extra.go) >"$tmp/go.out" 2>&1; then
	diag "$(cat "$tmp/go.out")"
	ok 1 "the example is built"
	exit 1
fi
ok 0 "the example is built"
is "$(gofmt -l "$top/examples/go")" '' "and formatted as Go is"
chown -R "${alice:?}:" "$alice_home"

# zfpm with the example's configuration, as these expressions of sed make it
run() { run_example go/zfpm.conf "$@"; }
pid() { workers "$alice"; }
waiting() { "$zfpm" status -c "$tmp/zfpm.conf" www.example.com | grep -Eq "^queued +$1"; }
# The process serves so many requests at this moment.
busy_is() { "$zfpm" status -c "$tmp/zfpm.conf" -f json www.example.com | grep -Eq "\"busy\": ?$1, ?\"connections\": ?32"; }
# listen NAME: somebody who listens to the chat, $NAME his process, $tmp/NAME what he hears
listen() {
	get_exec www.example.com /listen -N >"$tmp/$1" 2>"$tmp/$1.curl" &
	eval "$1=$!"
}
hears() { grep -q -x -e "$2" "$tmp/$1"; }
all_hear() { [ "$(grep -l -x -e "$1" "$tmp"/ear[0-9]* | wc -l)" -eq "$2" ]; }
leave() {
	for n in "$@"; do
		eval "kill \"\$$n\" 2>/dev/null; wait \"\$$n\" 2>/dev/null"
		rm -f "$tmp/$n" "$tmp/$n.curl"
	done
}

run
example go/apache.conf >"$tmp/apache.conf"
start_httpd <"$tmp/apache.conf"

# ---- what a handler sees ------------------------------------------------------------------

is "$(code www.example.com /) $(grep -c '<title>Chat' "$tmp/code.body")" '200 1' "the page is shown"
process=$(pid)
like "$process" '^[0-9]+$' "by one process"
is "$(get www.example.com /test/uid)" "$(id -u "$alice") $dir" "of the pool's user, in the pool's directory"
is "$(get www.example.com /static/plain.txt) $(code www.example.com /static/none)" 'a plain file 404' "what is in /static is Apache's"
is "$(code www.example.com /none)" 404 "all else is the program's"
head -c 3000000 /dev/urandom >"$tmp/up"
sum=$(gzip -1 -c "$tmp/up" | tail -c 8 | od -An -N 4 -tx4 --endian=little | tr -d ' ')
get www.example.com '/test/form?a=1&a=2%20x' -A tester -H 'Cookie: x=y; session=s3cret' -F b='äöü&' -F "file=@$tmp/up;filename=up.bin" >"$tmp/form"
like "$(cat "$tmp/form")" '^POST /test/form host www.example.com from 127.0.0.1:[0-9]+ by tester$' "method, path, host, the client's address and header"
like "$(cat "$tmp/form")" '^query \["1" "2 x"\] form "äöü&"$' "the query and the form"
like "$(cat "$tmp/form")" '^cookie s3cret$' "the cookie"
like "$(cat "$tmp/form")" "^file up.bin 3000000 $sum\$" "and an upload of 3 MB are there"
like "$(cat "$tmp/form")" '^env "www.example.com"$' "the server's variables too"
unlike "$(cat "$tmp/form")" '^ZFPM|^SCRIPT' "but not zfpm's, nor a file"
like "$(get www.example.com /test/form -H 'Transfer-Encoding: chunked' -F "file=@$tmp/up;filename=c")" "^file c 3000000 $sum\$" "an upload without a Content-Length"

# ---- the chat -----------------------------------------------------------------------------

get www.example.com /say -i -d 'name=Zo%C3%AB+%26&text=first+words' >"$tmp/said"
like "$(cat "$tmp/said")" '^HTTP/1.1 303 ' "what is said is answered with a redirect"
like "$(cat "$tmp/said")" '^Set-Cookie: name=Zo%C3%AB\+%26; HttpOnly; SameSite=Lax' "and a cookie"
like "$(get www.example.com / -H 'Cookie: name=Zo%C3%AB+%26')" 'name=name value="Zoë &amp;"' "which the page has read"
is "$(code www.example.com /say -d name=x)" 400 "nothing is said without a text"
listen one
passes "who listens hears what was said before" wait_until hears one 'data: Zoë &: first words'
get www.example.com /say -d 'name=Ann&text=hello' >"$tmp/said"
passes "and at once what is said now" wait_until hears one 'data: Ann: hello'
fails "his request goes on" gone "${one:?}"
leave one
passes "when he leaves the program is told" wait_for_log 'stderr: 127.0.0.1:[0-9]+ has left'

# ---- 32 at a time -------------------------------------------------------------------------

at_once 31 meet get_exec www.example.com '/test/meet?n=32'
passes "31 requests that wait for each other run" wait_until busy_is 31
is "$(get www.example.com '/test/meet?n=32')" "$process" "with the last one they are served"
wait_all
is "$(sort "$tmp"/meet.* | uniq -c | tr -s ' ')" " 31 $process" "all of them by that one process"

i=0
while [ $((i += 1)) -le 31 ]; do listen "ear$i"; done
passes "31 listen" wait_until all_hear ': welcome' 31
get www.example.com /say -d 'name=Ann&text=to+all' >"$tmp/said"
passes "the 32nd says something, and each of them hears it" wait_until all_hear 'data: Ann: to all' 31
listen ear32
passes "a 32nd listens" wait_until all_hear ': welcome' 32
get_exec www.example.com /test/pid >"$tmp/33" &
get33=$!
passes "request number 33 waits" wait_until waiting 1
fails "and is not answered" test -s "$tmp/33"
is "$(pid)" "$process" "no other process is started for it"
leave ear7
wait "$get33"
is "$(cat "$tmp/33")" "$process" "one leaves, and it is served"

# A panic, while the others listen
is "$(code www.example.com /test/panic)" 500 "a panic is a 500"
passes "zfpm's log has it" wait_for_log "worker $process: stderr: panic: assignment to entry in nil map \\(GET /test/panic\\)"
passes "and where it was" wait_for_log "worker $process: stderr: .*extra.go:"
get www.example.com /say -d 'name=Ann&text=still+there' >"$tmp/said"
passes "the others go on" wait_until all_hear 'data: Ann: still there' 31
is "$(get www.example.com /test/pid)" "$process" "the process too"
i=0
while [ $((i += 1)) -le 32 ]; do leave "ear$i"; done
passes "they leave" wait_until busy_is 0

# A client that leaves while it uploads
curl -s --max-time 60 --limit-rate 200k -H 'Host: www.example.com' -H Expect: --data-binary "@$tmp/up" -o "$tmp/out" "http://127.0.0.1:$port/test/body" &
up=$!
passes "an upload begins" wait_until busy_is 1
kill "$up"
wait "$up" 2>"$tmp/wait"
passes "its client leaves: the handler gets an error, and no end of the body" \
    wait_for_log 'stderr: body of [0-9]+ bytes: fcgi: connection to web server closed, context canceled'
is "$(get www.example.com /test/pid)" "$process" "and nothing else happens"

# ---- load ------------------------------------------------------------------------------------

# 32 clients with 20 requests each, on kept connections all the way
cat >"$tmp/load.pl" <<-\END
	# load.pl CLIENT: what its requests are to be answered with
	for my $n (1 .. 20) {
		my $id = "<$ARGV[0].$n>";
		print "$id body$ARGV[0] ", $id x 1000, "\n" for 1 .. 20;
	}
END
load() { get_exec www.example.com "/test/echo?id=%3C$i.[1-20]%3E" --max-time 120 -d "body$i"; }
at_once 32 load load
wait_all
right=0
i=0
while [ $((i += 1)) -le 32 ]; do
	perl "$tmp/load.pl" $i | cmp -s - "$tmp/load.$i" && right=$((right + 1))
done
is "$right" 32 "32 clients with 20 requests each: all of it comes to whom it is for"
is "$(pid)" "$process" "from the same process"
sockets=$(find "/proc/$process/fd" -lname 'socket:*' | wc -l)
passes "zfpm has no more than 32 connections to it" test "$sockets" -le 34 || diag "$sockets"

# ---- its ends ------------------------------------------------------------------------------------

listen ear1
passes "one listens" wait_until hears ear1 ': welcome'
"$zfpm" retire -c "$tmp/zfpm.conf" www.example.com >"$tmp/retire.log" 2>&1 &
retire=$!
retiring() { "$zfpm" status -c "$tmp/zfpm.conf" www.example.com | grep -q retiring; }
passes "zfpm retire: the process is to go" wait_until retiring
get_exec www.example.com /test/pid >"$tmp/new" &
new=$!
passes "a new request waits for another one" wait_until waiting 1
fails "which waits for the old one" gone "$process"
leave ear1
wait "$new" "$retire"
passes "when that is done it goes" wait_until gone "$process"
is "$(cat "$tmp/new")" "$(pid)" "and the new one serves"
process=$(pid)
is "$(get www.example.com /listen --max-time 2 -N -o "$tmp/out" -w '%{http_code}' 2>"$tmp/err") $(head -n 1 "$tmp/out")" '200 : welcome' "it has a chat of its own"

get www.example.com '/test/panic?late=1' >"$tmp/late" 2>"$tmp/late.err"
is "$? $(cat "$tmp/late")" '18 begun' "a panic in the middle of a response: it is visibly cut"
is "$(get www.example.com /test/pid)" "$process" "and the process goes on"
kill -KILL "$process"
wait_until gone "$process"
is "$(code www.example.com /test/pid)" 200 "one that is killed has another in its place with the next request"

# Without serve.go, as net/http/fcgi is by itself: one panic is everybody's.
run -e 's|/chat/chat$|/chat/chat plain|'
process=$(get www.example.com /test/pid)
get_exec www.example.com '/test/meet?n=2' -o "$tmp/out" -w '%{http_code}' >"$tmp/other" &
other=$!
passes "without serve.go: one waits" wait_until busy_is 1
is "$(code www.example.com /test/panic)" 500 "another one panics"
wait "$other"
is "$(cat "$tmp/other")" 500 "both are a 500"
passes "for that was the process's end" wait_for_log "worker $process: FCGI process $process exited with status 2 \\(GET /test/meet"
is "$(code www.example.com /test/pid)" 200 "the next one has another"

# The fork server
run -e 's/fork_server off/fork_server on/;s/connections 32//'
is "$(code www.example.com /)" 500 "fork_server on: there is none"
passes "and zfpm says what to do" wait_for_log "Cannot start FCGI process: start: its fork server is not there: it was not loaded \\(needs 'fork_server off'\\)"
echo 'package main; func main() {}' >"$tmp/src/static.go"
(cd "$tmp/src" && CGO_ENABLED=0 go build -o "$dir/static" static.go) && chown "$alice:" "$dir/static"
run -e 's/fork_server off/fork_server on/;s/connections 32//;s|/chat/chat$|/chat/static|'
is "$(code www.example.com /)" 500 "nor for a program that is linked statically"
passes "which zfpm sees before it starts it" wait_for_log "Cannot start FCGI process: command: .*/static: is linked statically: .* needs 'fork_server off'"
passes "and the web server's log too" errors "stderr: Cannot start FCGI process: command: .* needs 'fork_server off'"
example_conf go/zfpm.conf -e 's/fork_server off/fork_server on/' | make_conf "$tmp/wrong.conf"
like "$("$zfpm" -t -c "$tmp/wrong.conf" 2>&1)" "connections: 32 can not be with 'fork_server on'" "with connections zfpm -t refuses it"

stop_zfpm TERM
is "$zfpm_status $(ps -o pid= -u "$alice" | wc -l)" '0 0' "zfpm ends, and nothing is left"
