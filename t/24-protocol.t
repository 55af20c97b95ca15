#!/bin/sh
# The server side speaks FastCGI 1.0, beyond the points of t/122-checklist.t: management records, roles, ids, kept connections.
. "${0%/*}/lib.sh"
plan 17

start_zfpm <<-\EOF
	app app {
		command @bin@/app
		roles responder
	}
	app all {
		command @bin@/app
		roles responder authorizer filter
	}
	pool p {
		user @user@
		app  app all
	}
EOF
script() { "$bin/client" script "$sock" -P p -t 5 "$@" >"$tmp/out" 2>"$tmp/err"; }
types() { cut -d ' ' -f 1,2 <"$tmp/out" | tr '\n' ',' ; }

# Management
script <<-\EOF
	end GET_VALUES 0
	wait 1
	record 12 0 65535 255
	wait 1
	record 255 0 0
	wait 1
	begin 1
	params 1
	end STDIN 1
	wait 2
	closed
EOF
is "$(types)" "GET_VALUES_RESULT id=0,UNKNOWN_TYPE id=0,UNKNOWN_TYPE id=0,STDOUT id=1,STDOUT id=1,STDOUT id=1,END_REQUEST id=1,closed," \
    "unknown management records get UNKNOWN_TYPE, and the connection stays"
is "$(sed -n 's/^UNKNOWN_TYPE.* type=//p' "$tmp/out" | tr '\n' ' ')" "12 255 " "that names the type"
is "$(request p -O -g out=3 2>"$tmp/err")" 012 "management records before and in a request do it no harm"
is "$(sed -n 's/^record: \([A-Z_]*\) .*/\1/p' "$tmp/err" | tr '\n' ' ')" "GET_VALUES_RESULT UNKNOWN_TYPE " "and are answered"

# A connection carries one request at a time, and one after the other.
is "$(request p -O -2 sleep=0.5 out=3 2>"$tmp/err")" 012 "a second BEGIN_REQUEST does the first request no harm"
is "$(cat "$tmp/err")" "record: END_REQUEST id=2 len=8 pad=0 app=0 status=CANT_MPX_CONN" "and is refused with FCGI_CANT_MPX_CONN"
is "$(request p -O -n 5 out=3)" 012012012012012 "with FCGI_KEEP_CONN the connection serves request after request"
script -q out=1 <<-\EOF
	begin 1 responder 1
	params 1
	end STDIN 1
	wait 3
	begin 300 responder 1
	params 300
	end STDIN 300
	wait 3
	begin 7
	params 7
	end STDIN 7
	closed
EOF
is "$(grep -o '^END.*' "$tmp/out" | cut -d ' ' -f 2 | tr '\n' ' ')" "id=1 id=300 id=7 " "another id for each request too"
script -q sleep=1 <<-\EOF
	begin 1 responder 1
	params 1
	end STDIN 1
	begin 2 responder 1
	begin 3 responder 1
	params 3
	text STDIN 2 hello
	wait 2
	wait 1
	close
EOF
is "$(head -n 2 "$tmp/out" | cut -d ' ' -f 1,2,6)" "$(printf 'END_REQUEST id=2 status=CANT_MPX_CONN\nEND_REQUEST id=3 status=CANT_MPX_CONN')" \
    "every BEGIN_REQUEST too many is refused at once"

# Records that belong to nothing
script -q out=1 <<-\EOF
	text STDIN 9 hello
	end PARAMS 1
	end ABORT_REQUEST 4
	text DATA 0 x
	text STDOUT 1 x
	begin 5
	params 5
	text STDIN 6 hello
	text PARAMS 1 hello
	end ABORT_REQUEST 1
	text STDOUT 5 x
	text PARAMS 5 late
	end STDIN 5
	text STDIN 5 late
	closed
EOF
is "$(types)" "STDOUT id=5,STDOUT id=5,END_REQUEST id=5,closed," "records of ids that are not active are ignored"

# Roles
request p -r authorizer >"$tmp/out" 2>"$tmp/err"
is "$? $(cat "$tmp/out")" "4 " "a role that the app does not serve ends without a response"
request p -r filter -v >"$tmp/out" 2>"$tmp/err"
is "$? $(grep -c 'status=UNKNOWN_ROLE' "$tmp/err")" "4 1" "but FCGI_UNKNOWN_ROLE"
request p -a all -r authorizer >"$tmp/out"
like "$(cat "$tmp/out")" '^Variable-ZFPM_TEST: authorized' "an authorizer's answer arrives"
request p -a all -r filter -B 100000 -D 200000 -O >"$tmp/out"
is "$(grep '^stdin' "$tmp/out")" "stdin 100000 $("$bin/client" pattern 100000 | cksum | cut -d ' ' -f 1)" "a filter gets FCGI_STDIN"
is "$(grep '^data' "$tmp/out")" "data 200000 $("$bin/client" pattern 200000 | cksum | cut -d ' ' -f 1)" "and FCGI_DATA"
is "$(request p -a all -r filter -B 10 -D 20 -c 3 -z 9 -S 5 -O | grep -E -c '^(stdin 10|data 20) ')" 2 "in any pieces"
is "$(request p -a all -r filter -D 0 -O | grep '^data')" "data 0 4294967295" "or nothing"
