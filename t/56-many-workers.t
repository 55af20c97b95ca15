#!/bin/sh
# A guard that takes the place of a killed one is told of every process there is, also when these are hundreds.
. "${0%/*}/lib.sh"
plan 4
patience=90	# three hundred processes, perhaps with a sanitizer in each

start_zfpm <<-'EOF'
	app app { command @bin@/app }
	max_workers 300
	pool many {
		user @user@
		app  app
		max_workers 300
		max_queue 300
		on_server_close abort
	}
EOF
of_user() { ps -o pid= -u "$user" | wc -l; }
all_there() { [ "$(of_user)" -eq 300 ]; }
nobody_left() { [ "$(of_user)" -eq 0 ]; }
guard_pid() { ps -o pid=,args= --ppid "$zfpm_pid" | sed -n 's/^ *\([0-9]*\) zfpm: guard.*/\1/p'; }
# It has a descriptor for each of them.
knows_all() {
	g=$(guard_pid) && [ -n "$g" ] && [ "$g" != "$guard" ] && [ "$(find "/proc/$g/fd" -lname '*pidfd*' | wc -l)" -eq 301 ]
}

clients=
i=0
while [ "$i" -lt 300 ]; do
	i=$((i + 1))
	"$bin/client" -s "$sock" -p many -t 300 hang >"$tmp/out" 2>&1 &
	clients="$clients $!"
	track $!
done
passes "three hundred workers serve" wait_until all_there
guard=$(guard_pid)
kill -KILL "$guard"
passes "a new guard knows them all, and the router" wait_until knows_all
kill -KILL "$zfpm_pid"
# shellcheck disable=SC2086
kill $clients
passes "when the master is killed and its web servers leave, nobody is left" wait_until nobody_left
fails "and the guard has not been killed for its speed" log_has 'guard [0-9]+: process [0-9]+; killed'
