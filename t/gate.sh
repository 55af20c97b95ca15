# shellcheck shell=sh
# t/gate.sh: requests whose progress the test decides, for the tests of pools,
# queues and timeouts. Sourced after t/lib.sh. Owns the files $tmp/NAME (what
# comes back), NAME.txt (standard error), .gate and .note of each request NAME. Never waits for a time.
#
#   start NAME POOL [ARGUMENT...]   a request in the background
#   hold NAME POOL [ARGUMENT...]    begin a request; with its headers sent it stands still in its worker
#   held NAME...                    until they do stand there
#   hold_in POOL NAME...            both: begin them in this pool, until they stand there
#   release NAME...                 and let them go on; what they answer (default: the report) is in $tmp/NAME
#   enqueue NAME POOL [QUERY...]    a request that zfpm has read completely when this returns; in $tmp/NAME its
#                                   records come a line each
#   enqueue_held NAME POOL [QUERY...]   such a one that stands still when it is served: then it is answered
#   answered NAME                   has STDOUT of that come?
#   finish NAME...                  wait for the client; $status is the last one's
#   let_go NAME...                  release and finish
#   leave NAME                      end its client
#   worker_of NAME                  the process that has served it, from its report
#   sorted_workers [USER]           workers, in one line
#   count_workers N [USER]          are there N?
#   in_log ERE                      how many lines
#   sockets_of PID                  how many sockets a process has open

# Not request: $! has to be the client itself.
start() {
	gate_name=$1 gate_pool=$2
	shift 2
	rm -f "$tmp/$gate_name"
	"$bin/client" -s "$sock" -p "$gate_pool" -t 60 "$@" >"$tmp/$gate_name" 2>"$tmp/$gate_name.txt" &
	eval "gate_$gate_name=$!"
}

make_gate() {
	rm -f "$tmp/$gate_name.gate" "$tmp/$gate_name"
	mkfifo -m 666 "$tmp/$gate_name.gate"
}

hold() {
	gate_name=$1 gate_pool=$2
	shift 2
	make_gate
	start "$gate_name" "$gate_pool" "note=$tmp/$gate_name.gate" at=headers "$@"
}

held() {
	for gate_name in "$@"; do
		wait_until test -s "$tmp/$gate_name" || { diag "$gate_name is not served"; return 1; }
	done
}

hold_in() {
	gate_in=$1
	shift
	for gate_held in "$@"; do
		hold "$gate_held" "$gate_in"
	done
	held "$@"
}

release() {
	for gate_name in "$@"; do
		timeout "$patience" cat "$tmp/$gate_name.gate" >"$tmp/$gate_name.note" || diag "$gate_name does not stand at its gate"
	done
}

# The answer to FCGI_GET_VALUES says that all that came before it has been read; so does the end of the request.
enqueue() {
	gate_name=$1 gate_pool=$2
	shift 2
	gate_query=$(printf '%s&' "$@")
	printf 'begin 1\nparams 1\nend STDIN 1\nrecord GET_VALUES 0 0\nwait 1\nclosed\n' |
	    "$bin/client" script "$sock" -P "$gate_pool" -t 60 -q "${gate_query%&}" >"$tmp/$gate_name" 2>"$tmp/$gate_name.txt" &
	eval "gate_$gate_name=$!"
	wait_until grep -Eq '^(GET_VALUES_RESULT|END_REQUEST)' "$tmp/$gate_name" || diag "$gate_name is not read"
}

enqueue_held() {
	gate_name=$1
	make_gate
	enqueue "$@" "note=$tmp/$1.gate" at=headers
}

answered() { grep -q '^STDOUT' "$tmp/$1"; }

finish() {
	for gate_name in "$@"; do
		eval "gate_pid=\$gate_$gate_name"
		status=0
		# shellcheck disable=SC2034 # for the tests
		wait "$gate_pid" || status=$?
	done
}

let_go() {
	release "$@"
	finish "$@"
}

leave() {
	eval "gate_pid=\$gate_$1"
	kill "$gate_pid"
	wait "$gate_pid" 2>/dev/null
}

worker_of() { sed -n -e 's/^pid //p' -e 's/^STDOUT.*"pid \([0-9]*\)\\n.*/\1/p' "$tmp/$1"; }
count_workers() { [ "$(workers ${2+"$2"} | grep -c .)" -eq "$1" ]; }
sorted_workers() { workers "$@" | sort | tr '\n' ' '; }
in_log() { grep -Ec -e "$1" "$tmp/zfpm.log"; }

sockets_of() {
	for gate_fd in "/proc/$1/fd"/*; do
		readlink "$gate_fd"
	done | grep -c '^socket:'
}
