#!/bin/sh
# `slow` logs a request that took long, with its wait, its run time and what it moved; no other one.
. "${0%/*}/lib.sh"
plan 6

start_zfpm <<-'EOF'
	app app { command @bin@/app }
	slow 500ms
	pool slow {
		user @user@
		app  app
		max_workers 1
	}
	pool patient {
		user @user@
		app  app
		slow 1h
	}
EOF
count() { grep -Ec "$1" "$tmp/zfpm.log" || :; }

request slow out=10 >"$tmp/out"
is "$(count ': slow: ')" 0 "a quick request is not logged"
request slow -B 2000 'sleep=0.6&out=1000' -O >"$tmp/out"
is "$(wc -c <"$tmp/out")" 1000 "a slow one is answered"
line='warn: pool slow: worker [0-9]+: slow: waited [0-9.]+s, ran [0-9.]+s \(POST /, script /app, 2000 bytes in, [0-9]{4} bytes out\)$'
passes "and logged with pool, worker, times, method, URI, script and bytes" wait_for_log "$line"

# One that waited for long and ran for a moment
request slow sleep=3 >"$tmp/first" &
first=$!
wait_until test -n "$(workers)"
"$bin/client" values "$sock" >"$tmp/values"
request slow out=10 >"$tmp/second"
wait "$first"
is "$(count ': slow: ')" 3 "two more are logged"
passes "one for its wait alone" wait_for_log ': slow: waited ([1-9]|0\.[5-9])[0-9.]*s, ran 0\.[0-4]'

request patient sleep=0.6 >"$tmp/out"
is "$(count 'pool patient.*: slow: ')" 0 "another pool has a time of its own"
