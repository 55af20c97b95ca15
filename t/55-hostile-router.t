#!/bin/sh
# Whatever a router that has been taken over says, the master starts nothing but what the configuration names, and ends it.
. "${0%/*}/lib.sh"

make_user user
make_user other
cat >"$tmp/conf" <<-\END
	app app { command @bin@/app }
	app second { command @bin@/app }
	pool first {
		user @user@
		app app
		max_workers 3
	}
	pool second {
		user @other@
		app app second
	}
	pool *.pattern {
		user %1
		app app
	}
END
start_zfpm <"$tmp/conf"
"$bin/hostile" "$(router_pid)" type=1 2>"$tmp/err.txt"
if [ $? -eq 3 ]; then
	skip_all "no pidfd_getfd here: $(cat "$tmp/err.txt")"
fi
plan 51

new_router() { r=$(router_pid) && [ "$r" != "$router" ]; }
spawn='type=2 worker=1'

# caught WHY TITLE WORD...: two tests
caught() {
	why=$1 title=$2
	shift 2
	: >"$tmp/zfpm.log"
	start_zfpm <"$tmp/conf"
	router=$(router_pid)
	"$bin/hostile" "$router" "$@"
	passes "$title: the router is killed" wait_for_log "router $router: $why; killed"
	wait_until new_router
	like "$(request first)" "^uid $(id -u "$user")\$" "and another serves"
}
wrong='asked for a worker that it can not have'
# shellcheck disable=SC2086 # two words
{
	caught 'sent an unknown message' "a type that does not exist" type=99
	caught 'sent an unknown message' "type 0" type=0
	caught 'sent an unknown message' "a message of the master's" type=8 worker=1
	caught 'let go of everything' "the answer to a handover that nobody asked for" type=4
	caught 'gave a worker away' "a worker for a next router that is not there" type=5 worker=1
	caught 'sent a message of a wrong size' "a message that is too short" type=1 size=283
	caught 'sent a message of a wrong size' "a message that is too long" type=1 size=285
	caught 'sent a descriptor' "a descriptor" type=1 descriptor
	caught "$wrong" "a pool that does not exist" $spawn pool=99 text=first
	caught "$wrong" "a pool under another's name" $spawn pool=0 text=second
	caught "$wrong" "a name that no pool has" $spawn pool=0 text=third
	caught "$wrong" "an app that the pool does not have" $spawn pool=0 app=1 text=first
	caught "$wrong" "an app beyond all" $spawn pool=1 app=4294967295 text=second
	caught "$wrong" "a name without an end" $spawn pool=0 full
	caught "$wrong" "no name" $spawn pool=0
	caught "$wrong" "a name that is a path" $spawn pool=2 text=../../x.pattern
	caught "$wrong" "a number that is none" type=2 worker=0 pool=0 text=first
	caught "$wrong" "a number that leaves others out" type=2 worker=4294967295 pool=0 text=first
	caught "$wrong" "more workers than the pool may have" $spawn pool=0 text=first times=4
}
is "$(grep -c 'started app' "$tmp/zfpm.log")" 4 "of those it had its three, and the next router one"

# A user that a pattern would name is looked at like any other.
start_zfpm <"$tmp/conf"
router=$(router_pid)
# shellcheck disable=SC2086
"$bin/hostile" "$router" $spawn pool=2 text=root.pattern
passes "root is not named by a pattern" wait_for_log "pool root.pattern: cannot start FCGI process: user: 'root' has uid 0: "
is "$(workers)" '' "and nothing runs"

# What may have crossed an exit on its way is no offence.
start_zfpm <"$tmp/conf"
router=$(router_pid)
first=$(request first | sed -n 's/^pid //p')
"$bin/hostile" "$router" type=3 worker=4000000000
"$bin/hostile" "$router" type=1
"$bin/hostile" "$router" type=3 worker=1
passes "it may end a worker of its own" wait_until gone "$first"
like "$(request first)" "^uid $(id -u "$user")\$" "and requests are served"
is "$(router_pid)" "$router" "by the same router"

# One that has no end of wishes: the limit of all pools holds too.
{ cat "$tmp/conf"; echo 'max_workers 2'; } >"$tmp/conf2"
: >"$tmp/zfpm.log"
start_zfpm <"$tmp/conf2"
router=$(router_pid)
# shellcheck disable=SC2086
"$bin/hostile" "$router" $spawn pool=1 text=second times=20 2>"$tmp/err.txt"
passes "more workers than all pools may have: the router is killed" wait_for_log "router $router: $wrong; killed"
wait_until new_router
like "$(request first)" "^uid $(id -u "$user")\$" "and another serves"
started=$(grep -c "worker .*: started app" "$tmp/zfpm.log")
[ "$started" -le 3 ]
ok $? "it had two at most, and the next router one" || diag "$started"

# One that does nothing any more, as in an endless loop.
router=$(router_pid)
kill -STOP "$router"
patience=50
passes "a router that gives no sign of life is replaced" wait_for_log "router $router: has given no sign of life for 30s; killed"
wait_until new_router
like "$(request first -t 30)" "^uid $(id -u "$user")\$" "and another serves"
is "$(sed -n 's/^NoNewPrivs:[[:space:]]*//p' "/proc/$(router_pid)/status")" 1 "the last router is as tame as the first"
kill -0 "$zfpm_pid"
ok $? "and the master is the same all along"
