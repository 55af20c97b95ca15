#!/bin/sh
# The server side speaks FastCGI 1.0: management records, roles, ids, kept connections; a broken stream is closed and nothing else suffers.
. "${0%/*}/lib.sh"
plan 46

start_zfpm <<-\EOF
	max_workers 77
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
is "$("$bin/client" values "$sock")" "$(printf 'FCGI_MAX_CONNS=77\nFCGI_MAX_REQS=77\nFCGI_MPXS_CONNS=0')" "FCGI_GET_VALUES is answered"
is "$("$bin/client" values "$sock" FCGI_MPXS_CONNS)" "FCGI_MPXS_CONNS=0" "with what was asked for"
is "$("$bin/client" values "$sock" FCGI_WHAT FCGI_MAX_REQS X)" "FCGI_MAX_REQS=77" "unknown names are left out"
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
passes "without it zfpm closes after END_REQUEST" request p -O -E -t 5 out=0
request p -O -E -K -t 0.3 out=0
is "$?" 5 "with it zfpm does not"
is "$(request p -O -n 3 -i 65535 out=1)" 000 "any id will do"
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
is "$(grep -o '^END.*' "$tmp/out" | cut -d ' ' -f 2 | tr '\n' ' ')" "id=1 id=300 id=7 " "another one for each request too"
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
script -q out=1 <<-\EOF
	begin 1 9 1
	params 1
	text STDIN 1 hello
	end STDIN 1
	wait 1
	begin 1 0 1
	wait 1
	begin 1 65535 1
	wait 1
	begin 1 authorizer 1
	params 1
	wait 1
	begin 1
	params 1
	end STDIN 1
	closed
EOF
is "$(sed -n 's/^END_REQUEST.*status=//p' "$tmp/out" | tr '\n' ' ')" "UNKNOWN_ROLE UNKNOWN_ROLE UNKNOWN_ROLE UNKNOWN_ROLE REQUEST_COMPLETE " \
    "a role that there is not too, and the connection stays"
request p -a all -r authorizer >"$tmp/out"
like "$(cat "$tmp/out")" '^Variable-ZFPM_TEST: authorized' "an authorizer's answer arrives"
like "$(cat "$tmp/out")" '^role 2$' "and it knows that it is one"
request p -a all -r filter -B 100000 -D 200000 -O >"$tmp/out"
is "$(grep '^stdin' "$tmp/out")" "stdin 100000 $("$bin/client" pattern 100000 | cksum | cut -d ' ' -f 1)" "a filter gets FCGI_STDIN"
is "$(grep '^data' "$tmp/out")" "data 200000 $("$bin/client" pattern 200000 | cksum | cut -d ' ' -f 1)" "and FCGI_DATA"
is "$(request p -a all -r filter -B 10 -D 20 -c 3 -z 9 -S 5 -O | grep -E -c '^(stdin 10|data 20) ')" 2 "in any pieces"
is "$(request p -a all -r filter -D 0 -O | grep '^data')" "data 0 4294967295" "or nothing"

# END_REQUEST is the application's.
script -q 'out=0&noheaders&status=4026531841' <<-\EOF
	begin 1
	params 1
	end STDIN 1
	closed
EOF
is "$(head -n 1 "$tmp/out")" "END_REQUEST id=1 len=8 pad=0 app=4026531841 status=REQUEST_COMPLETE" "its application status arrives"
script -q 'out=0&noheaders&pstatus=2' <<-\EOF
	begin 1
	params 1
	end STDIN 1
	closed
EOF
is "$(head -n 1 "$tmp/out")" "END_REQUEST id=1 len=8 pad=0 app=0 status=OVERLOADED" "and its protocol status"

# Broken streams
logged() { grep -Ec "warn: pool .*$1" "$tmp/zfpm.log"; }
more_logged() { [ "$(logged "$1")" -gt "$before" ]; }
broken() {	# title, log line; a script on standard input
	before=$(logged "$2")
	"$bin/client" script "$sock" -P p -t 5 >"$tmp/out" 2>&1
	like "$(cat "$tmp/out")" "^(closed|reset)$" "$1"	# what it sends meanwhile is not read
	wait_until more_logged "$2"
	ok $? "and logged"
}
broken "version 0 is closed" version <<-\EOF
	header 0 BEGIN_REQUEST 1 8 0
	closed
EOF
broken "version 2 in the middle of a request is closed" version <<-\EOF
	begin 1
	params 1
	header 2 STDIN 1 0 0
	closed
EOF
broken "what is not FastCGI is closed" version <<-\EOF
	hex 474554202f20485454502f312e300d0a0d0a
	closed
EOF
broken "a BEGIN_REQUEST of 7 bytes is closed" BEGIN_REQUEST <<-\EOF
	record BEGIN_REQUEST 1 7
	closed
EOF
broken "one of 65,535 bytes too" BEGIN_REQUEST <<-\EOF
	record BEGIN_REQUEST 1 65535
	closed
EOF
broken "an empty one too" BEGIN_REQUEST <<-\EOF
	end BEGIN_REQUEST 1
	closed
EOF
broken "one with the id 0 too" BEGIN_REQUEST <<-\EOF
	begin 0
	closed
EOF
broken "one for a request that is active too" BEGIN_REQUEST <<-\EOF
	begin 1
	begin 1
	closed
EOF
broken "one whose script runs too" BEGIN_REQUEST <<-\EOF
	begin 1
	param 1 QUERY_STRING=sleep=1
	params 1
	end STDIN 1
	begin 1
	closed
EOF
is "$(request p -O out=3)" 012 "and nothing else suffers"
