#!/bin/sh
# The specification of FastCGI 1.0, point by point: what zfpm is to a web server, and what it is to an application.
# The number of a title is that of the point in this list:
#  1-5 the process's state, 6-12 records, 13-18 ids, 19-22 streams, 23-29 name-value pairs, 30-34 management records,
#  35-41 BEGIN_REQUEST and END_REQUEST, 42-44 ABORT_REQUEST, 45-50 roles, 51-60 what a relay meets besides.
. "${0%/*}/lib.sh"
plan 109

cat >"$tmp/state.pl" <<-\END
	#!/usr/bin/perl
	# How the program finds itself before it takes a request.
	use strict;
	use warnings;
	use FCGI;
	use Socket;
	my $peer = getpeername STDIN;
	my $errno = defined $peer ? 'connected' : $!{ENOTCONN} ? 'ENOTCONN' : "$!";
	my $listens = unpack 'i', getsockopt(STDIN, SOL_SOCKET, SO_ACCEPTCONN);
	my $addrs = exists $ENV{FCGI_WEB_SERVER_ADDRS} ? 'set' : 'not set';
	my $request = FCGI::Request();
	while ($request->Accept >= 0) {
		print "Content-Type: text/plain\r\n\r\ngetpeername $errno\nlistens $listens\naddrs $addrs\nfastcgi ", $request->IsFastCGI, "\n";
	}
END
chmod 755 "$tmp/state.pl"

start_zfpm <<-\EOF
	max_workers 33
	app app {
		command @bin@/app -c 1 word
	}
	app roles {
		command @bin@/app
		roles responder authorizer filter
	}
	app state {
		command /usr/bin/perl @tmp@/state.pl
	}
	app stubborn {
		command @bin@/app -I
	}
	pool p {
		user @user@
		app app roles
	}
	pool state {
		user @user@
		app state
	}
	pool stubborn {
		user @user@
		app stubborn
		timeout kill 300ms
		max_requests 1
	}
	pool full {
		user @user@
		app app
		max_workers 1
		max_queue 0
	}
EOF
# A script of records; what comes back is in $tmp/out, a record a line.
script() { "$bin/client" script "$sock" -P p -t 20 "$@" >"$tmp/out" 2>"$tmp/err"; }
types() { cut -d ' ' -f 1,2 <"$tmp/out" | tr '\n' ','; }
ends() { sed -n 's/^END_REQUEST \(id=[0-9]*\).*status=/\1 /p' "$tmp/out" | tr '\n' ','; }
out() { sed -n 's/^STDOUT .* "\(.*\)"$/\1/p' "$tmp/out" | grep -v '^Content-Type' | tr -d '\n'; }
# The bytes themselves, hexadecimal digits on standard input and output; until zfpm closes, or as many as $1 says.
raw() {
	perl -MIO::Socket::UNIX -e '
		my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die;
		alarm 20;
		local $/;
		(my $hex = <STDIN>) =~ tr/0-9a-fA-F//cd;
		$s->syswrite(pack "H*", $hex);
		my $all = "";
		while (!$ARGV[1] || length $all < $ARGV[1]) {
			sysread $s, my $b, 65536 or last;
			$all .= $b;
		}
		print unpack("H*", $all), "\n";' "$sock" "${1:-0}"
}
hex() { printf %s "$*" | od -An -v -tx1 | tr -d ' \n'; }
pair() { printf '%02x%02x%s%s' "${#1}" "${#2}" "$(hex "$1")" "$(hex "$2")"; }
# record TYPE ID HEX [PADDING]: type and id in decimal, the padding in hex
record() { printf '01%02x%04x%04x%02x00%s%s' "$1" "$2" $((${#3} / 2)) $((${#4} / 2)) "$3" "$4"; }
pool=$(pair ZFPM_POOL p)
# A connection that is to be closed, and the reason that is to be logged.
logged() { grep -Ec "warn: pool .*$1" "$tmp/zfpm.log"; }
more_logged() { [ "$(logged "$1")" -gt "$before" ]; }
closes() {	# TITLE REASON, a script on standard input
	before=$(logged "$2")
	"$bin/client" script "$sock" -P p -t 20 >"$tmp/out" 2>&1
	like "$(cat "$tmp/out")" '^(closed|reset)$' "$1: the connection is closed"
	passes "$1: and the reason logged" wait_until more_logged "$2"
}
pattern() { "$bin/client" pattern "$1" | cksum | cut -d ' ' -f 1; }

# ---- the process's state: section 2 ----------------------------------------------------------

request p fds >"$tmp/out"
is "$(grep '^fd ' "$tmp/out")" 'fd 0 listening socket
fd 1 pipe
fd 2 pipe' "1: descriptor 0 is the listening socket, 1 and 2 are pipes to the log, and nothing else is open"
is "$(grep '^arg ' "$tmp/out" | tr '\n' ,)" "arg 0 $bin/app,arg 1 -c,arg 2 1,arg 3 word," "1: the arguments are those of command, its path as the first"
request state -O >"$tmp/out"
is "$(sed -n 's/^getpeername //p' "$tmp/out")" ENOTCONN "2: getpeername() of descriptor 0 says ENOTCONN"
is "$(sed -n 's/^fastcgi //p' "$tmp/out")" 1 "2: so that a library takes it for FastCGI"
is "$(sed -n 's/^listens //p' "$tmp/out")" 1 "2: and it listens"
is "$(sed -n 's/^addrs //p' "$tmp/out")" 'not set' "3: FCGI_WEB_SERVER_ADDRS is not set: the socket is Unix's, and its mode says who may connect"
pid=$(request p -O | sed -n 's/^pid //p')
request p at=after exit=0 >"$tmp/out"
passes "4: an application that exits with 0 has done so on purpose" wait_for_log "pool p: worker $pid: exited (with status 0|after [0-9]+ requests)"
pid=$(request p -O | sed -n 's/^pid //p')
request p at=after exit=3 >"$tmp/out"
passes "4: one that exits with another status has not, and that is logged" wait_for_log "warn: pool p: worker $pid: exited with status 3"
pid=$(request stubborn -O | sed -n 's/^pid //p')
passes "5: an application that does not end on SIGTERM gets SIGKILL" wait_for_log "pool stubborn: worker $pid: exited on signal 9"

# ---- records: 3.3 ------------------------------------------------------------------------------

body="$(record 1 258 0001000000000000)$(record 4 258 "$pool$(pair QUERY_STRING 'out=2')")$(record 4 258 '')$(record 5 258 '')"
is "$(echo "$body" | raw)" "$(record 6 258 "$(hex 'Content-Type: text/plain')0d0a0d0a")$(record 6 258 30)$(record 6 258 31)$(record 3 258 0000000000000000)" \
    "6: a header is version, type, id, content length, padding length and a reserved byte, big-endian"
closes "7: a version that is not 1" version <<-\EOF
	header 2 BEGIN_REQUEST 1 8 0
	closed
EOF
closes "7: one that is 0" version <<-\EOF
	header 0 BEGIN_REQUEST 1 8 0
	closed
EOF
closes "7: one that is 2 in the midst of a request" version <<-\EOF
	begin 1
	params 1
	header 2 STDIN 1 0 0
	closed
EOF
is "$(request p -O -B 200000 -c 65535 -z 255 | grep '^stdin')" "stdin 200000 $(pattern 200000)" "8: content of 65,535 bytes and padding of 255 are read like any other"
is "$(request p -O -B 3000 -S 1 | grep '^stdin')" "stdin 3000 $(pattern 3000)" "9: headers and content come through byte by byte"
is "$(request p -O out=100000 record=999 split=1 -C)" "100000 $(pattern 100000)" "9: those of the application too"
is "$(printf %s "$body" | sed 's/^\(.\{14\}\)00/\1ff/' | raw)" "$(echo "$body" | raw)" "10: the reserved byte may hold anything, and is 0 in what zfpm writes"
request p -v -O -B 7 out=5 >"$tmp/out" 2>"$tmp/err"
is "$(sed -n 's/^< STDOUT id=1 \(len=[12]\) .*pad=\([0-9]*\).*/\1 \2/p' "$tmp/err" | sort -u | tr '\n' ,)" 'len=2 0,' "11: records need not be aligned, in neither direction" || diag "$(cat "$tmp/err")"
{ record 1 1 0001010000000000 deadbeef
  record 4 1 "$pool" 0102030405060708
  record 4 1 '' ffffffff
  record 5 1 '' ffffff; } >"$tmp/hex"
unlike "$(raw 64 <"$tmp/hex")" 'deadbeef|01020304|ffffff' "12: nothing of what was padding comes back"
is "$({ record 9 0 ''; record 77 0 00; } | raw 24)" "$(record 10 0 '')$(record 11 0 4d00000000000000)" "12: reserved bytes and padding of zfpm's own records are 0"

# ---- ids ----------------------------------------------------------------------------------------

script -q out=1 <<-\EOF
	end GET_VALUES 0
	wait 1
	begin 1
	params 1
	end STDIN 1
	closed
EOF
is "$(sed -n 's/ id=0 .*//p' "$tmp/out" | tr '\n' ,)" 'GET_VALUES_RESULT,' "13: the id 0 is that of management records, and of nothing else"
script -q out=1 <<-\EOF
	begin 5 responder 1
	params 5
	end STDIN 5
	wait 3
	text STDIN 5 late
	end ABORT_REQUEST 5
	begin 5
	params 5
	end STDIN 5
	closed
EOF
is "$(ends)" 'id=5 REQUEST_COMPLETE,id=5 REQUEST_COMPLETE,' "14: an id is active until END_REQUEST, and can be used again"
script -q out=1 <<-\EOF
	text STDIN 9 hello
	end PARAMS 2
	begin 1
	text PARAMS 7 hello
	params 1
	text STDIN 9 hello
	end DATA 4
	end STDIN 1
	closed
EOF
is "$(ends)$(out)" 'id=1 REQUEST_COMPLETE,0' "15: records of ids that are not active are ignored"
is "$(request p -O -n 3 -i 65535 out=1)" 000 "16: the id 65535 works, again and again"
closes "17: BEGIN_REQUEST for an id that is active" 'BEGIN_REQUEST for a request that is active' <<-\EOF
	begin 1
	begin 1
	closed
EOF
closes "17: for one whose script runs" 'BEGIN_REQUEST for a request that is active' <<-\EOF
	begin 1
	param 1 QUERY_STRING=sleep=1
	params 1
	end STDIN 1
	begin 1
	closed
EOF
closes "18: a BEGIN_REQUEST of 7 bytes" 'BEGIN_REQUEST of a wrong length' <<-\EOF
	record BEGIN_REQUEST 1 7
	closed
EOF
closes "18: one of 9" 'BEGIN_REQUEST of a wrong length' <<-\EOF
	record BEGIN_REQUEST 1 9
	closed
EOF
closes "18: one of 65,535" 'BEGIN_REQUEST of a wrong length' <<-\EOF
	record BEGIN_REQUEST 1 65535
	closed
EOF
closes "18: an empty one" 'BEGIN_REQUEST of a wrong length' <<-\EOF
	end BEGIN_REQUEST 1
	closed
EOF
closes "18: one with the id 0" 'BEGIN_REQUEST with id 0' <<-\EOF
	begin 0
	closed
EOF

# ---- streams ---------------------------------------------------------------------------------------

script -p CONTENT_LENGTH=10 -q 'echo' <<-\EOF
	begin 1
	params 1
	text STDIN 1 hello
	text STDIN 1 world
	end STDIN 1
	closed
EOF
is "$(out)" helloworld "19: a stream is its records one after the other, until an empty one"
is "$(request p -O -c 1 show=HTTP_X -p HTTP_X=straddles)" straddles "20: a name-value pair may straddle records that zfpm reads"
is "$(request p -O -c 3 -z 5 show=HTTP_X -p HTTP_X="$(head -c 60000 /dev/zero | tr '\0' x)" -C)" "60000 $(head -c 60000 /dev/zero | tr '\0' x | cksum | cut -d ' ' -f 1)" \
    "20: and none that it writes (the application would close the connection)"
request p -v out=1 >"$tmp/out" 2>"$tmp/err"
is "$? $(grep -c '^< STDERR' "$tmp/err")" '0 0' "21: an application may leave the end of STDERR out, and that of STDOUT"
request p -v out=1 emptystdout >"$tmp/out" 2>"$tmp/err"
is "$? $(grep -c '^< STDOUT id=1 len=0' "$tmp/err")" '0 1' "21: or send it"
script -q 'echo' -p CONTENT_LENGTH=5 <<-\EOF
	begin 1
	params 1
	text PARAMS 1 more
	text STDIN 1 hello
	end STDIN 1
	text STDIN 1 more
	end STDIN 1
	closed
EOF
is "$(ends)$(out)" 'id=1 REQUEST_COMPLETE,hello' "22: what comes behind the end of a stream is ignored"

# ---- name-value pairs: 3.4 ---------------------------------------------------------------------------

long=$(head -c 200 /dev/zero | tr '\0' n)
for n in 127 128 200; do
	value=$(head -c $n /dev/zero | tr '\0' v)
	is "$(request p -O show=HTTP_X -p HTTP_X="$value")" "$value" "23: a value of $n bytes, in $([ $n -lt 128 ] && echo one || echo four) bytes of length"
done
is "$(request p -O "show=HTTP_$long" -p "HTTP_$long=v") $(request p -O "show=HTTP_$long" -p "HTTP_$long=$long")" "v $long" "24: long names with short and with long values"
is "$(request p -O -4 show=HTTP_X -p HTTP_X=v)" v "24: four bytes for a length that one could hold"
is "$(request p -O show=HTTP_X -p HTTP_X=)" '' "25: a value may be empty"
request p -O -p HTTP_X= >"$tmp/out"
is "$(grep -c '^param HTTP_X=$' "$tmp/out")" 1 "25: and is there all the same"
{ record 1 1 0001000000000000
  record 4 1 "0000$(pair '' x)$pool$(pair QUERY_STRING 'out=3')"
  record 4 1 ''
  record 5 1 ''; } >"$tmp/hex"
like "$(raw <"$tmp/hex")" '0103000100080000(00){8}$' "25: an empty name does no harm"
is "$(request p -O show=HTTP_X -p HTTP_X=abc | od -An -tx1 | tr -d ' \n')" 616263 "26: no NUL is added"
closes "27: lengths of 2^31 - 1" 'length in PARAMS overflows' <<-\EOF
	begin 1
	hex 01 04 00 01 00 08 00 00 ff ff ff ff ff ff ff ff
	closed
EOF
script -q out=1 <<-\EOF
	begin 1
	param 1 ZFPM_POOL=nobody
	params 1
	end STDIN 1
	closed
EOF
is "$(ends)$(out)" 'id=1 REQUEST_COMPLETE,0' "28: of a name that comes twice the last one counts for zfpm"
{ record 1 1 0001000000000000
  record 4 1 "$pool$(pair HTTP_X first)$(pair HTTP_X second)"
  record 4 1 ''
  record 5 1 ''; } >"$tmp/hex"
like "$(raw <"$tmp/hex" | perl -ne 'print pack "H*", $_' | tr -d '\0' | grep -a -o 'HTTP_X=[a-z]*' | tr '\n' ' ')" '^HTTP_X=first HTTP_X=second $' \
    "28: and both go to the application, in their order"
closes "29: a pair that its stream does not complete" 'PARAMS end in the middle of a pair' <<-\EOF
	begin 1
	hex 01 04 00 01 00 03 00 00 05 05 41
	end PARAMS 1
	closed
EOF

# ---- management records: 4 ----------------------------------------------------------------------------

is "$("$bin/client" values "$sock" FCGI_MAX_CONNS FCGI_MAX_REQS FCGI_MPXS_CONNS | tr '\n' ' ')" 'FCGI_MAX_CONNS=33 FCGI_MAX_REQS=33 FCGI_MPXS_CONNS=0 ' \
    "30: FCGI_GET_VALUES is answered: max_workers twice, and no multiplexing"
asked=$(pair FCGI_MPXS_CONNS '')
is "$(record 9 0 "$asked" | raw 26)" "$(record 10 0 "$(pair FCGI_MPXS_CONNS 0)")" "30: with the id 0, in decimal text"
is "$("$bin/client" values "$sock" FCGI_WHAT FCGI_MAX_REQS X)" 'FCGI_MAX_REQS=33' "31: names that zfpm does not know are left out"
is "$(record 9 0 '' | raw 8)" "$(record 10 0 '')" "31: nothing asked, nothing answered"
is "$({ record 12 0 ''; record 255 0 0102; } | raw 32)" "$(record 11 0 0c00000000000000)$(record 11 0 ff00000000000000)" \
    "32: a management record of another type gets FCGI_UNKNOWN_TYPE, with the type, and the connection stays"
script -q 'sleep=0.3&out=1' <<-\EOF
	end GET_VALUES 0
	wait 1
	begin 1 responder 1
	end GET_VALUES 0
	wait 1
	params 1
	end STDIN 1
	record 100 0 5
	wait 1
	wait 3
	end GET_VALUES 0
	wait 1
EOF
is "$(cut -d ' ' -f 1 <"$tmp/out" | grep -v STDOUT | tr '\n' ' ')" 'GET_VALUES_RESULT GET_VALUES_RESULT UNKNOWN_TYPE END_REQUEST GET_VALUES_RESULT ' \
    "33: all of them at any time: before, in and between requests" || diag "$(cat "$tmp/out" "$tmp/err")"
script -q out=1 <<-\EOF
	text STDIN 0 hello
	end PARAMS 0
	text DATA 0 hello
	end ABORT_REQUEST 0
	begin 1
	text STDOUT 0 hello
	params 1
	text STDIN 0 hello
	end STDIN 1
	closed
EOF
is "$(types)$(out)" 'STDOUT id=1,STDOUT id=1,END_REQUEST id=1,closed,0' "34: a request's record with the id 0 is ignored"

# ---- BEGIN_REQUEST and END_REQUEST: 5 ----------------------------------------------------------------------

script -a roles -q out=1 <<-\EOF
	begin 1 9 1
	params 1
	text STDIN 1 hello
	end STDIN 1
	wait 1
	begin 1 4 1
	wait 1
	begin 1 0 1
	wait 1
	begin 1 65535 1
	wait 1
	begin 2
	params 2
	end STDIN 2
	closed
EOF
is "$(ends)" 'id=1 UNKNOWN_ROLE,id=1 UNKNOWN_ROLE,id=1 UNKNOWN_ROLE,id=1 UNKNOWN_ROLE,id=2 REQUEST_COMPLETE,' "35: roles are 1 to 3: others end with FCGI_UNKNOWN_ROLE, and the connection stays"
script -a app -q out=1 <<-\EOF
	begin 1 authorizer 1
	params 1
	wait 1
	begin 1 filter 1
	params 1
	wait 1
	begin 1
	params 1
	end STDIN 1
	closed
EOF
is "$(ends)" 'id=1 UNKNOWN_ROLE,id=1 UNKNOWN_ROLE,id=1 REQUEST_COMPLETE,' "35: so does one that the app does not serve"
passes "36: without FCGI_KEEP_CONN zfpm closes the connection behind END_REQUEST" request p -O -E out=0
request p -O -E -K -t 0.5 out=0
is "$?" 5 "36: with it zfpm leaves that to the web server"
script -q out=1 <<-\EOF
	begin 1 responder 255
	params 1
	end STDIN 1
	wait 3
	begin 1 responder 254
	params 1
	end STDIN 1
	closed
EOF
is "$(ends)" 'id=1 REQUEST_COMPLETE,id=1 REQUEST_COMPLETE,' "37: the other bits of the flags mean nothing"
body="$(record 1 1 0001000000000000)$(record 4 1 "$pool$(pair QUERY_STRING 'noheaders&out=0&status=4043440900&pstatus=2')")$(record 4 1 '')$(record 5 1 '')"
is "$(echo "$body" | raw)" "$(record 3 1 f102030402000000)" "38: END_REQUEST is the application's: four bytes of its status, one of the protocol's, three reserved"
script -q sleep=0.3 <<-\EOF
	begin 1 responder 0
	params 1
	end STDIN 1
	begin 2 responder 1
	closed
EOF
is "$(ends)" 'id=2 CANT_MPX_CONN,id=1 REQUEST_COMPLETE,' "39: a second request at a time on a connection ends with FCGI_CANT_MPX_CONN, the first is not harmed"
mkdir -m 1777 "$tmp/notes"
"$bin/client" "$sock" -P full -t 60 note="$tmp/notes/busy" hang >"$tmp/held" 2>&1 &
held=$!
passes "40: (a worker is busy)" wait_until grep -qs . "$tmp/notes/busy"
script -P full <<-\EOF
	begin 1 responder 1
	params 1
	end STDIN 1
	wait 4
	end GET_VALUES 0
	wait 1
EOF
is "$(ends)$(sed -n 's/.*Status: \([0-9]*\).*Retry-After: \([0-9]*\).*/\1 \2/p' "$tmp/out")" 'id=1 OVERLOADED,503 5' \
    "40: a request that finds the queue full ends with FCGI_OVERLOADED, and a response that says so too"
kill "$held"
wait "$held" 2>"$tmp/wait.txt"
script -q out=1 <<-\EOF
	begin 1 responder 1
	params 1
	end STDIN 1
	wait 3
	text STDIN 1 more
	text PARAMS 1 more
	end GET_VALUES 0
	wait 1
EOF
is "$(types)" 'STDOUT id=1,STDOUT id=1,END_REQUEST id=1,GET_VALUES_RESULT id=0,' "41: END_REQUEST ends all streams of its id: nothing comes behind it, and what comes in is ignored"

# ---- ABORT_REQUEST: 5.4 -----------------------------------------------------------------------------------------

script -q 'sleep=30' <<-\EOF
	begin 1 responder 1
	params 1
	end STDIN 1
	sleep 100
	end ABORT_REQUEST 1
	wait 1
EOF
is "$(ends)" 'id=1 REQUEST_COMPLETE,' "42: ABORT_REQUEST ends the request soon"
script -q out=1 <<-\EOF
	end ABORT_REQUEST 3
	begin 1 responder 1
	end ABORT_REQUEST 2
	params 1
	end STDIN 1
	wait 3
EOF
is "$(ends)$(out)" 'id=1 REQUEST_COMPLETE,0' "43: that of an unknown id is ignored"
script -q out=1 <<-\EOF
	begin 1 responder 1
	params 1
	end STDIN 1
	wait 3
	end ABORT_REQUEST 1
	begin 1 responder 1
	params 1
	end STDIN 1
	wait 3
EOF
is "$(ends)" 'id=1 REQUEST_COMPLETE,id=1 REQUEST_COMPLETE,' "44: one that has crossed END_REQUEST on its way too"

# ---- roles: 6 -----------------------------------------------------------------------------------------------------

script -q 'out=3&early=3' -p CONTENT_LENGTH=100000 <<-\EOF
	begin 1 responder 0
	params 1
	record STDIN 1 65535
	wait 2
	record STDIN 1 34465
	end STDIN 1
	closed
EOF
like "$(types)" '^STDOUT id=1,STDOUT id=1,.*END_REQUEST' "45: a response may begin before the end of STDIN, though not before that of PARAMS"
request p -B 1000 -T 500 -O note="$tmp/notes/46" >"$tmp/out" 2>"$tmp/err"
is "$(sed -n 's/^stderr: //p' "$tmp/err")" 'Request body is incomplete (500 of 1000 bytes)' "46: fewer bytes than CONTENT_LENGTH are an error"
fails "46: that no application takes for a request" test -e "$tmp/notes/46"
request p -a roles -r authorizer -B 5 -O >"$tmp/out"
is "$(grep '^role' "$tmp/out")" 'role 2' "47: an AUTHORIZER is told that it is one"
is "$(grep -E '^(records|stdin)' "$tmp/out" | tr '\n' ,)" 'records 1 0 0,stdin 0 4294967295,' "47: gets no STDIN, though some be sent"
unlike "$(cat "$tmp/out")" 'CONTENT_LENGTH' "47: and no CONTENT_LENGTH that would have it wait for some"
request p -a roles -r filter -B 1000 -D 70000 -p FCGI_DATA_LAST_MOD=1234567890 -p FCGI_DATA_LENGTH=70000 -O >"$tmp/out"
is "$(grep -E '^(stdin|data|role) |^param FCGI_' "$tmp/out" | sort | tr '\n' ,)" "data 70000 $(pattern 70000),param FCGI_DATA_LAST_MOD=1234567890,param FCGI_DATA_LENGTH=70000,role 3,stdin 1000 $(pattern 1000)," \
    "48: a FILTER gets STDIN and then DATA, with its length and date"
script -a roles -p FCGI_DATA_LENGTH=100 <<-\EOF
	begin 1 filter
	params 1
	end STDIN 1
	text DATA 1 short
	end DATA 1
	closed
EOF
like "$(cat "$tmp/out")" 'Request body is incomplete \(5 of 100 bytes\)' "48: fewer bytes than FCGI_DATA_LENGTH are an error"
request p code=404 header=Location:%20/x out=1 >"$tmp/out"
is "$(tr -d '\r' <"$tmp/out" | sort | tr '\n' ,)" ',0,Content-Type: text/plain,Location: /x,Status: 404,' "49: Status and Location go to the web server as they are" || diag "$(cat "$tmp/out")"
for end in '' '&stderr-end'; do
	request p -v "stderr=one&out=10&record=5$end" >"$tmp/out" 2>"$tmp/err"
	sed -n 's/^< \(STD[A-Z]*\) .*/\1/p' "$tmp/err" | uniq
done >"$tmp/order"
is "$(tr '\n' ' ' <"$tmp/order")" 'STDERR STDOUT STDOUT STDERR ' "50: STDOUT and STDERR come in the order in which the application wrote them" || diag "$(cat "$tmp/err")"

# ---- what a relay meets besides ---------------------------------------------------------------------------------------

is "$(request p -O -H -B 1000 out=3 sleep=0.2)" 012 "51: a web server that has closed its sending side gets its response"
is "$(request p -O -S 1 -d 1 out=3)" 012 "52: one that sends byte by byte too"
is "$(request p -O -B 1000000 -c 65535 echo big -C)" "1000000 $(pattern 1000000)" "53: records of 65,535 bytes each way"
is "$(request p -O -B 5000 -c 1 echo record=1 -C)" "5000 $(pattern 5000)" "54: records of one byte each way"
is "$(request p -O -B 3000000 early=3000000 out=3000000 -C)" "3000000 $(pattern 3000000)" "55: a response of 3 MB before the first byte of a body of 3 MB is read"
for at in start headers record; do
	request p -K at=$at signal=9 out=1000 >"$tmp/out" 2>"$tmp/err"
	is "$? $(grep -c 'FCGI process [0-9]* exited on signal 9 (SIGKILL)' "$tmp/err")" '3 1' \
	    "56: an application that dies ($at): the reason, and the connection is closed without END_REQUEST"
done
script -q 'noheaders&out=0' <<-\EOF
	begin 1
	params 1
	end STDIN 1
	closed
EOF
is "$(types)" 'END_REQUEST id=1,closed,' "57: END_REQUEST without STDOUT goes on as it is"
script -q 'noheaders&out=0&stderr=words' <<-\EOF
	begin 1
	params 1
	end STDIN 1
	closed
EOF
is "$(types)" 'STDERR id=1,END_REQUEST id=1,closed,' "58: so does STDERR alone"
is "$(request p -O -K -n 3 out=3 closeafter)" 012012012 "59: an application that closes behind END_REQUEST has served its request"
request p -K rubbish at=start >"$tmp/out" 2>"$tmp/err"
is "$? $(head -n 1 "$tmp/out" | tr -d '\r')" '0 Status: 500 Internal Server Error' "60: garbage from an application instead of a response is a 500"
request p -K rubbish at=headers >"$tmp/out" 2>"$tmp/err"
is "$?" 3 "60: in the midst of one it cuts that off"
like "$(cat "$tmp/err")" 'FCGI process [0-9]+ sent a record that is not FastCGI' "60: and the web server is told"
closes "60: garbage from a web server" version <<-\EOF
	hex 474554202f20485454502f312e310d0a0d0a
	closed
EOF
is "$(request p -O out=3)" 012 "60: and nothing else suffers"
