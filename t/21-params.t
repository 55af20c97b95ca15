#!/bin/sh
# Parameters arrive, whatever their size; what is meant for zfpm alone and HTTP_PROXY never do.
. "${0%/*}/lib.sh"
plan 42

mkdir "$tmp/jail" && chmod 755 "$tmp/jail"
"${CC:-cc}" -std=c11 -D_GNU_SOURCE -static -o "$tmp/jail/app" "$t/app.c" "$top/fcgi.c" -pthread 2>"$tmp/cc" || diag "$(cat "$tmp/cc")"

start_zfpm <<-\EOF
	app jailed {
		command /app
	}
	app app {
		command @bin@/app
	}
	app second {
		command @bin@/app second
	}
	pool p {
		user @user@
		app  app second
	}
	pool jailed {
		user @user@
		app  jailed
		chroot @tmp@/jail
	}
	pool q {
		user @other@
		app  app
	}
EOF

# The names of zfpm's own, small, large and in between others.
"$bin/client" pattern 100000 | tr '\n' '~' >"$tmp/100000"
head -c 60000 "$tmp/100000" >"$tmp/60000"
private() {
	request p -O -k a-key-that-nobody-asks-for -a app -p ZFPM_=1 -p ZFPM_X=1 -p "ZFPM_BIG=@$tmp/60000" \
	    -p "ZFPM_HUGE=@$tmp/100000" -p HTTP_PROXY=http://evil.example/ -p ZFPM=1 -p ZFPMX=2 -p HTTP_PROXY_=3 -p XHTTP_PROXY=4 \
	    -p http_proxy=5 -p LAST=6 "$@" | sed -n 's/^param //p' | grep -Ev '^(GATEWAY|SERVER|REQUEST|SCRIPT|QUERY|REMOTE)_'
}
want=$(printf 'ZFPM=1\nZFPMX=2\nHTTP_PROXY_=3\nXHTTP_PROXY=4\nhttp_proxy=5\nLAST=6')
is "$(private)" "$want" "ZFPM_ parameters and HTTP_PROXY do not arrive, their neighbours do"
is "$(private -c 1)" "$want" "nor in records of 1 byte"
is "$(private -c 37 -z 9)" "$want" "nor in padded records of 37 bytes"
is "$(private -S 11)" "$want" "nor in pieces of 11 bytes"
is "$(private -4)" "$want" "nor with lengths of 4 bytes"
is "$(private -p REDIRECT_ZFPM_KEY=1 -p REDIRECT_REDIRECT_REDIRECT_ZFPM_POOL=2 -p "REDIRECT_ZFPM_BIG=@$tmp/100000")" "$want" \
    "nor do they arrive as what Apache calls them in an internal redirect"
is "$(private -p REDIRECT_ZFPM=7 -p REDIRECT_=8 -p REDIRECT_XZFPM_=9)" "$(printf '%s\nREDIRECT_ZFPM=7\nREDIRECT_=8\nREDIRECT_XZFPM_=9' "$want")" \
    "while their neighbours do"

is "$(request p -O -p "BIG=@$tmp/60000" show=BIG | cmp - "$tmp/60000" && echo same)" same "a variable of 60,000 bytes arrives"
is "$(request p -O -p "BIG=@$tmp/100000" show=BIG | cmp - "$tmp/100000" && echo same)" same "one of 100,000 bytes too"
is "$(request p -O -p A=1 -p "BIG=@$tmp/100000" -p B=2 show=B)" 2 "and the one behind it"
is "$(request p -O -p "BIG=@$tmp/100000" -p "BIG2=@$tmp/100000" -p B=2 -c 500 show=BIG2 | cmp - "$tmp/100000" && echo same)" same \
    "two of them in small records"
for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
	set -- "$@" -p "V$n=@$tmp/60000"
done
is "$(request p -O "$@" show=V15 | cmp - "$tmp/60000" && echo same)" same "900 KB of parameters arrive"
printf 'a\tb\nc\001\377' >"$tmp/binary"
is "$(request p -O -p "BIN=@$tmp/binary" show=BIN | cmp - "$tmp/binary" && echo same)" same "a value may hold any byte"
is "$(request p -O -p EMPTY= | grep -c '^param EMPTY=$')" 1 "an empty value arrives"

# Script mode, for what web servers do not send.
script() { "$bin/client" script "$sock" -P p "$@"; }
script <<-\EOF >"$tmp/out"
	begin 1
	param 1 ZFPM_POOL=p
	param 1 TWICE=first
	param 1 =no name
	param 1 TWICE=last
	param 1 QUERY_STRING=show=TWICE
	end PARAMS 1
	end STDIN 1
	wait 3
EOF
like "$(cat "$tmp/out")" '"first"' "a name may come twice, and one may be empty"
script <<-\EOF >"$tmp/out"
	begin 1
	end PARAMS 1
	closed
EOF
like "$(cat "$tmp/out")" "Unknown pool ''" "a request without any parameters is told of its pool"

# Choice of the pool and the application.
request p -O >"$tmp/out"
is "$(grep '^uid' "$tmp/out")" "uid $(id -u "$user")" "the pool's user serves the pool's request"
is "$(request q -O | grep '^uid')" "uid $(id -u "$other")" "and another's user the other's"
is "$(grep -c '^arg' "$tmp/out")" 1 "the first app of the pool is the default"
is "$(request p -O -a second | grep '^arg 1')" "arg 1 second" "ZFPM_APP chooses another"
request q -a second >"$tmp/out" 2>"$tmp/err"
is "$?" 0 "an app that the pool does not have is an ordinary response"
is "$(cat "$tmp/err")" "stderr: Unknown application 'second' in pool 'q'" "that says so"
is "$(head -n 1 "$tmp/out" | tr -d '\r')" "Status: 500 Internal Server Error" "with status 500"
request nobody >"$tmp/out" 2>"$tmp/err"
is "$? $(cat "$tmp/err")" "0 stderr: Unknown pool 'nobody'" "the same for an unknown pool"
is "$(head -n 1 "$tmp/out" | tr -d '\r')" "Status: 500 Internal Server Error" "with status 500"
wait_for_log "pool nobody: Unknown pool 'nobody' \(GET /"
ok $? "and a line in the log"

# In a pool with a chroot its path is taken off the front of what names files, and nothing else is touched.
paths() {
	request jailed -O -p SCRIPT_FILENAME="$tmp/jail/www/a.php" -p DOCUMENT_ROOT="$tmp/jail" -p PATH_TRANSLATED="$tmp/jail/" \
	    -p CONTEXT_DOCUMENT_ROOT="$tmp/jail/www" -p CONTEXT_PREFIX="$tmp/jail/x" -p HTTP_X="$tmp/jail/y" "$@" |
	    sed -n "s|^param ||; s|=$tmp/jail|=JAIL|; /^\(SCRIPT_F\|DOC\|PATH_T\|CONT\|HTTP_X\)/p"
}
want=$(printf 'SCRIPT_FILENAME=/www/a.php\nDOCUMENT_ROOT=/\nPATH_TRANSLATED=/\nCONTEXT_DOCUMENT_ROOT=/www\nCONTEXT_PREFIX=JAIL/x\nHTTP_X=JAIL/y')
is "$(paths)" "$want" "in a chroot the names of files begin at its root"
is "$(paths -c 3)" "$want" "in small records too"
is "$(paths -p "BIG=@$tmp/60000" -p "BIG2=@$tmp/60000")" "$want" "beside others that fill records"
is "$(request jailed -O -p SCRIPT_FILENAME="$tmp/jailbreak/a.php" show=SCRIPT_FILENAME)" "$tmp/jailbreak/a.php" "a directory whose name only begins so is another one"
long=$tmp/jail/$(printf %0200d 1)
is "$(request jailed -O -p SCRIPT_FILENAME="$long" show=SCRIPT_FILENAME)" "${long#"$tmp/jail"}" "a long name gets shorter"
# A value that has to be continued in another record, and looks there like pairs: empty ones, then one with the name of a file.
for n in 70000 70001; do
	perl -e 'my ($n, $v) = ("SCRIPT_FILENAME", "$ARGV[1]/jail/evil");
		print "\0" x $ARGV[0], pack("CC", length $n, length $v), $n, $v, "\0" x 1000' "$n" "$tmp" >"$tmp/looks"
	request jailed -O -p "LOOKS=@$tmp/looks" -p AFTER=1 show=LOOKS | cmp - "$tmp/looks"
	request jailed -O -p "LOOKS=@$tmp/looks" -p AFTER=1 show=AFTER
done >"$tmp/out" 2>&1
is "$(cat "$tmp/out")" 11 "what only looks like one, in a value of more than a record, is left alone"

# Over max_params (1 MB unless set) the connection is closed.
for n in 16 17 18; do
	set -- "$@" -p "V$n=@$tmp/60000"
done
request p -K "$@" >"$tmp/out" 2>"$tmp/err"
is "$?" 3 "PARAMS over max_params: closed without an answer"
is "$(wc -c <"$tmp/out" | tr -d ' ')" 0 "of any kind"
wait_for_log 'max_params'
ok $? "and logged"

# Lengths that fit nowhere are refused when they come, not when they have been waited for.
broken() {
	title=$1
	"$bin/client" script "$sock" -t 5 >"$tmp/out" 2>&1
	is "$(cat "$tmp/out")" closed "$title"
}
broken "lengths of 0x7fffffff and 0x7fffffff close the connection" <<-\EOF
	begin 1
	header 1 PARAMS 1 8 0
	hex ff ff ff ff ff ff ff ff
	closed
EOF
broken "a name of 2 GB does" <<-\EOF
	begin 1
	header 1 PARAMS 1 5 0
	hex ff ff ff ff 01
	closed
EOF
broken "a value of 2 GB does" <<-\EOF
	begin 1
	header 1 PARAMS 1 6 0
	hex 01 ff ff ff ff 41
	closed
EOF
broken "so does a pair that the stream ends in" <<-\EOF
	begin 1
	header 1 PARAMS 1 4 0
	hex 02 05 41 42
	end PARAMS 1
	closed
EOF
is "$(request p -O out=3)" 012 "and all is well with the next request"
is "$(request p -O | grep -c '^env .*\(QUERY\|REQUEST\|HTTP\|ZFPM\)_')" 0 "no parameter is in the process environment"
unlike "$(cat "$tmp/zfpm.log")" 'app: ' "the application has nothing to say against any of it"
