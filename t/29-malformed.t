#!/bin/sh
# A thousand malformed streams, and good requests run beside them without one failing; the router stays the same process.
. "${0%/*}/lib.sh"
plan 11

start_zfpm <<-\EOF
	timeout server 5s
	app app {
		command @bin@/app
		roles responder authorizer filter
	}
	pool good {
		user @user@
		app  app
		max_workers 2
	}
	pool bad {
		user @other@
		app  app
		max_workers 4
	}
EOF
router=$(router_pid)
descriptors() { find "/proc/$router/fd" -type l | wc -l; }
high_water() { sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$router/status"; }
request good -O out=1 >"$tmp/out"
request bad -O out=1 >"$tmp/out"
before_fds=$(descriptors)
before=$(high_water)

# Bounded and the same each time: the seed is all that the streams depend on.
head -c 3000 /dev/zero | tr '\0' v >"$tmp/v"
set --
for seed in 1 2 3 4; do
	"$bin/client" fuzz "$sock" "$seed" 250 -P bad -q out=1000 -p "LONG=@$tmp/v" -p SHORT=1 >"$tmp/fuzz$seed" 2>"$tmp/fuzz$seed.err" &
	set -- "$@" $!
	track $!
done
want=$("$bin/client" pattern 20000 | cksum | awk '{ print $2, $1 }')
count=0
: >"$tmp/failed"
running() {
	for pid in "$@"; do
		kill -0 "$pid" 2>/dev/null && return
	done
	return 1
}
while running "$@"; do
	count=$((count + 1))
	case $((count % 3)) in
	0) got=$(request good -O -C out=20000 2>&1) ;;
	1) got=$(request good -O -C -B 20000 echo 2>&1) ;;
	2) got=$(request good -O -C -c 9 -S 500 -p "LONG=@$tmp/v" out=20000 2>&1) ;;
	esac
	[ "$got" = "$want" ] || echo "request $count: $got" >>"$tmp/failed"
done
echo "# $count good requests"
for pid in "$@"; do
	wait "$pid" || echo "fuzz: $?" >>"$tmp/fuzz-failed"
done
sed 's/^/# /' "$tmp"/fuzz[1-4]
is "$(cat "$tmp"/fuzz[1-4] | grep -c '^250 streams:')" 4 "a thousand malformed streams were sent"
is "$(cat "$tmp/fuzz-failed" "$tmp"/fuzz*.err 2>/dev/null)" "" "every connection was accepted, every answer was FastCGI"
passes "there were good requests meanwhile" test "$count" -ge 10
is "$(cat "$tmp/failed")" "" "not one of them failed"
is "$(router_pid)" "$router" "the router is the process that it was"
passes "it has logged what it refused" log_has 'warn: pool .*(version|PARAMS|BEGIN_REQUEST)'
no_more_fds() { [ "$(descriptors)" -le $((before_fds + 8)) ]; }
wait_until no_more_fds
ok $? "it has no descriptors left over"
grown=$(($(high_water) - before))
echo "# its memory has grown by $grown kB"
allowed=20000
[ -z "${SANITIZE:-}" ] || allowed=300000	# the sanitizers' own memory
passes "nor much memory" test "$grown" -le "$allowed"
unlike "$(cat "$tmp/zfpm.log")" 'a pair straddles|empty record of type' "what reached the application was well-formed"
is "$(request bad -O out=3)" 012 "the pool that was attacked serves"
is "$(request good -O out=3)" 012 "and so does the other"
