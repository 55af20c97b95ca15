#!/bin/sh
# Between the end of a response and its end of the connection, or of its own, a worker looks idle. Once zfpm has seen that of an
# application, it gives no request to a worker in that moment; and it interrupts nothing that is still done then.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 30

# AddressSanitizer does not let another library be loaded before it.
cp "$top/t/bin/app" "$bin"
make_user user
start_zfpm <<-\END
	app app { command @bin@/app }
	app three { command @bin@/app -n 3 }
	app forked {
		command @bin@/app
		fork_server on
	}
	app forked3 {
		command @bin@/app -n 3
		fork_server on
	}
	pool closes {
		user @user@
		app app
		max_workers 1
	}
	pool stays {
		user @user@
		app app
		max_workers 1
	}
	pool three {
		user @user@
		app three
		max_workers 2
	}
	pool forked {
		user @user@
		app forked
		max_workers 2
	}
	pool forked3 {
		user @user@
		app forked3
		max_workers 2
	}
END
# The response is complete, with END_REQUEST, and the worker stands still. release lets it go on, and leave.
stand() {
	gate_name=$1 gate_pool=$2
	shift 2
	make_gate
	request "$gate_pool" -O "note=$tmp/$gate_name.gate" at=after "$@" >"$tmp/$gate_name" 2>&1
}
# Another request; when this returns a worker that is idle has got it, for the router has served somebody else since.
put() {
	enqueue "$@"
	"$bin/client" values "$sock" >"$tmp/values"
}
# lost_one NAME POOL: so it ends if the worker leaves after that, and nobody can tell whether it has read the request.
lost_one() {
	put "$1" "$2"
	release stands
	finish "$1"
	wait_until gone "$(worker_of stands)"
}
value() { sed -n "s/^$1 //p" "$tmp/out"; }

# It closes its connection, some time after the response, and lives.
stand stands closes closeafter
is "$?" 0 "a worker works on after its response, and then closes its connection"
put a closes
release stands
finish a
fails "the first request that comes in that time is lost" answered a
passes "zfpm's log says what it has learned" log_has 'pool closes: app app: closes its connection after a response'
for i in 1 2 3; do
	stand stands closes closeafter
	put a closes
	fails "a request that comes in that time later waits ($i)" answered a
	release stands
	finish a
	passes "and is served" answered a
done
old=$(worker_of a)
kill -KILL "$old"
wait_until gone "$old"
stand stands closes closeafter
put a closes
release stands
finish a
passes "so is one that another worker of this application gets" answered a
is "$(worker_of a)" "$(worker_of stands)" "by the same one, when it is back"
isnt "$(worker_of a)" "$old" "which has lost none"

# It exits after three responses. The pool is forgotten in between, for it has no other worker.
request three >"$tmp/out"
request three >"$tmp/out"
stand stands three
lost_one a three
fails "a worker exits some time after its third response: the first request in that time is lost" answered a
request three >"$tmp/out"
request three >"$tmp/out"
first=$(value pid)
stand stands three
is "$(worker_of stands)" "$first" "the next worker serves three, too"
put a three
finish a
passes "a request that comes before it exits is served" answered a
isnt "$(worker_of a)" "$first" "by another one"
release stands
passes "and it exits" wait_until gone "$first"
is "$(cat "$tmp/stands.note")" "after $first" "in its own way"

# One that exits by accident
request stays at=after exit=0 >"$tmp/out"
wait_until gone "$(value pid)"
request stays >"$tmp/out"
first=$(value pid)
request stays >"$tmp/out"
is "$(value pid)" "$first" "where one has exited by accident, the next worker serves on"
connection=$(value connection)
request stays >"$tmp/out"
is "$(value pid) $(value connection)" "$first $connection" "and keeps its connection"

# Workers of an app server end with their connection.
for i in 1 2; do
	stand stands forked closeafter
	lost_one a forked
	fails "a forked worker closes some time after its response: a request in that time is lost ($i)" answered a
done
stand stands forked closeafter
first=$(worker_of stands)
put a forked
finish a
passes "what comes in that time later is served" answered a
isnt "$(worker_of a)" "$first" "by another one"
release stands
is "$(cat "$tmp/stands.note")" "after $first" "while the first does what it has still to do"
passes "and then ends" wait_until gone "$first"

for i in 1 2; do
	request forked3 >"$tmp/out"
	request forked3 >"$tmp/out"
	stand stands forked3
	lost_one a forked3
	fails "a forked worker exits some time after its third response: a request in that time is lost ($i)" answered a
done
request forked3 >"$tmp/out"
request forked3 >"$tmp/out"
stand stands forked3
first=$(worker_of stands)
put a forked3
finish a
passes "what comes in that time later is served" answered a
release stands
is "$(cat "$tmp/stands.note")" "after $first" "while the first does what it has still to do"
