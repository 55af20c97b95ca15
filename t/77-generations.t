#!/bin/sh
# Two generations of routers at a time: patterns, users, keys and limits that change, workers that are not free, and
# whatever else comes in the midst of a reload.
# shellcheck disable=SC2016 # the expressions are perl's
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
. "${0%/*}/generations.sh"
plan 82

make_user user
make_user other
mkdir "$tmp/prog"
cp "$zfpm" "$tmp/prog/zfpm" && chmod 755 "$tmp/prog/zfpm"
control=$zfpm zfpm=$tmp/prog/zfpm
echo the-first-key-of-two >"$tmp/key"
chmod 600 "$tmp/key"
mkfifo -m 666 "$tmp/start.gate"
conf='
	timeout idle 10m
	app app { command @bin@/app -g }
	app own { command @bin@/app -g }
	app slow { command @bin@/app -g -o @tmp@/start.gate }
	app four {
		command @bin@/app -g -c 4
		connections 4
	}
	pool one {
		user @user@
		app app
		max_workers 1
	}
	pool two {
		user @user@
		app app
	}
	pool own {
		user @user@
		app own
	}
	pool slow {
		user @user@
		app slow
		max_workers 1
	}
	pool four {
		user @user@
		app four
		max_workers 1
	}
	pool *.a.example {
		user @user@
		app app
		env POOL first
		timeout idle 500ms
	}
	pool *.example {
		user @user@
		app app
		env POOL second
	}'
run() {
	start_zfpm <<-END
		$conf
		listen $tmp/keyed.sock key $tmp/key
		listen $sock
	END
	cp "$tmp/zfpm.conf" "$tmp/good"
}
back() {
	cp "$tmp/good" "$tmp/zfpm.conf"
	reload
	wait_until one_router
}
# A page that a frozen router has been asked for does not come.
generation() { [ "$(timeout 2 "$control" status -f json -c "$tmp/zfpm.conf" 2>&1 </dev/null | perl "$t/unit/json.pl" '$j->{generation}' 2>&1)" = "$1" ]; }
value() { sed -n "s/^$2 //p" "$tmp/$1"; }
run

# Patterns
request x.a.example >"$tmp/x"
request y.example >"$tmp/y"
request z.example >"$tmp/z"
is "$(grep -c '^env POOL=first$' "$tmp/x") $(grep -c '^env POOL=second$' "$tmp/y")" '1 1' \
    "of two patterns the first one that matches wins"
comes 'exists $pool{"x.a.example"} || 0' 0 "a pattern's pool is forgotten with its last worker"
y=$(worker_of y) z=$(worker_of z)
reload "\$ a pool y.example {
\$ a user $user
\$ a app app
\$ a env POOL second
\$ a }
\$ a pool z.example {
\$ a user $user
\$ a app app
\$ a env POOL exact
\$ a }"
is "$(pid_of y.example)" "$y" "an exact name with the pattern's settings has come: the worker stays"
request z.example >"$tmp/r"
is "$(grep -c '^env POOL=exact$' "$tmp/r")" 1 "with other settings the exact name wins"
passes "and the pattern's worker goes" wait_until gone "$z"
comes "$(cause z.example reload)" 1 "because of the reload"
z=$(worker_of r)
back
is "$(pid_of y.example)" "$y" "the exact name has gone: the worker is the pattern's again"
request z.example >"$tmp/r"
is "$(grep -c '^env POOL=second$' "$tmp/r")" 1 "and other settings are the pattern's again"
passes "with another worker" wait_until gone "$z"

# Keys
keep with_old "$tmp/keyed.sock"
keep with_new "$tmp/keyed.sock"
like "$(tell with_old whole one - ZFPM_KEY=the-first-key-of-two)" '^pid' "a kept connection, with the key"
like "$(tell with_new whole one - ZFPM_KEY=the-first-key-of-two)" '^pid' "and another one"
tell with_new params one - ZFPM_KEY=the-first-key-of-two >/dev/null
like "$(tell with_new rest)" '^pid' "and in two parts"
tell with_old params one - ZFPM_KEY=the-first-key-of-two >"$tmp/r"
echo the-second-key-of-two >"$tmp/key"
reload
like "$(tell with_new whole one - ZFPM_KEY=the-second-key-of-two)" '^pid' "after a reload the new key opens a connection that was there before"
like "$(tell with_old rest)" '^pid' "a request that had begun is served with the old one"
like "$(tell with_old whole one - ZFPM_KEY=the-first-key-of-two)" '^Access denied' "but that is of no use any more for the next one"
echo the-first-key-of-two >"$tmp/key"
reload

# Users and commands
hold r1 two
hold r2 own
held r1 r2
reload "/^	pool two/,/^	}/s/user $user/user $other/
s|^\(	app own {.*\) -g|\1 -g changed|"
request two >"$tmp/r3"
request own >"$tmp/r4"
is "$(value r3 uid)" "$(id -u "$other")" "a pool whose user has changed has a worker of that user"
like "$(cat "$tmp/r4")" ' changed$' "an app whose command has changed is the new program"
is "$(json '$pool{two}{workers}{finishing}, $pool{own}{workers}{finishing}')" 1,1 "those that serve go on"
release r1 r2
finish r1
is "$status $(value r1 uid)" "0 $(id -u "$user")" "what ran ends as whom it began"
finish r2
is "$status" 0 "and in the program that it began in"
passes "then these go" wait_until gone "$(worker_of r1)"
passes "both" wait_until gone "$(worker_of r2)"
back

# A script that goes on without its web server
one=$(pid_of one)
mkfifo -m 666 "$tmp/alone.gate"
alone() { request one -A first out=3000 record=1000 pause=100 at=end "note=$tmp/alone.gate" ignore-abort >"$tmp/alone" 2>&1; }
let_alone() { timeout "$patience" cat "$tmp/alone.gate" >"$tmp/alone.note"; }
alone
reload
is "$status" 0 "reload, while a script runs whose web server has left"
enqueue r1 one
fails "its worker serves nobody meanwhile" answered r1
is "$(json '@{$pool{one}{workers}}{qw(total)}, $pool{one}{queue}{length}')" 1,1 "and counts"
let_alone
finish r1
is "$status $(worker_of r1)" "0 $one" "when the script has ended the next request has it"
passes "and the old router leaves" wait_until one_router
alone
reload '/^	pool one/a env COLOUR green'
enqueue r1 one
fails "with settings that have changed nobody is started beside it" answered r1
let_alone
finish r1
isnt "$(worker_of r1)" "$one" "when the script has ended the worker is replaced"
passes "for good" gone "$one"
back

# Several requests at a time on one worker
for i in 1 2; do
	hold f$i four
	held f$i
done
reload
for i in 3 4 5; do
	enqueue_held f$i four
done
fails "a worker with some places busy stays with the old router" answered f3
let_go f1
is "$status" 0 "one of its requests ends"
let_go f2
is "$status" 0 "the other too"
passes "then it serves those that have waited" wait_until answered f3
passes "all at a time" wait_until answered f5
let_go f3 f4 f5
is "$(worker_of f3) $(worker_of f4) $(worker_of f5)" "$(worker_of f1) $(worker_of f1) $(worker_of f2)" "it is the same one"
wait_until one_router

# A program that takes its time before it accepts
start s1 slow
wait_for_log 'master.* pool slow: worker [0-9]+: started'
reload
is "$status" 0 "reload, while a worker has not yet come to accept"
enqueue s2 slow
timeout "$patience" cat "$tmp/start.gate" >"$tmp/start.note"
finish s1 s2
is "start $(worker_of s1) $(worker_of s2)" "$(cat "$tmp/start.note") $(value s1 pid)" "the requests are served by that one"
passes "and the old router leaves" wait_until one_router

# An app in two generations
hold_in one r1
one=$(json '$pool{one}{workers}{list}[0]{pid}')
reload '/^	pool one/a env COLOUR green'
enqueue r2 one
is "$(json '$pool{one}{workers}{total}, $pool{one}{queue}{length}')" 1,1 "with max_workers 1 no second worker is started beside the old generation's"
release r1
finish r1 r2
is "$status $(worker_of r1)" "0 $one" "when that is through the request is served"
isnt "$(worker_of r2)" "$one" "by a new one"
back

# Retire
hold_in one r1
begin retire retire one
wait_for_log 'pool one: replacing its workers'
enqueue r2 one
reload
is "$status" 0 "reload, while zfpm retire waits for a worker that is busy"
fails "that goes on waiting" test -s "$tmp/retire.out"
release r1
finish r1 r2
ended retire
is "$status $out" "0 pool one: all workers have been replaced" "when its request has ended the worker is replaced"
isnt "$(worker_of r1)" "$(worker_of r2)" "by another process"
wait_until one_router
hold_in one r1
reload
begin retire retire one
enqueue r2 one
release r1
finish r1 r2
ended retire
is "$status" 0 "a worker of an earlier generation is replaced too"
isnt "$(worker_of r1)" "$(worker_of r2)" "by another process"
wait_until one_router

# The limit of all pools together
run
pid_of one >/dev/null
hold_in two r1 r2
let_go r1 r2
comes '$j->{workers}{idle}' 3 "three workers are idle"
reload '$ a max_workers 1'
comes '$j->{workers}{total}' 1 "with a lower max_workers for all those that are too many end"
is "$(json '$pool{one}{counters}{restarts}{reload} + $pool{two}{counters}{restarts}{reload}')" 2 "because of the reload"
hold_in one r1
enqueue r2 two
release r1
finish r1 r2
is "$status" 0 "and the place that is left goes from pool to pool"
comes "$(cause one evicted)" 1 "of which the other one's worker is evicted"
back

# Several commands at a time
begin a reload
begin b reload
ended a
is "$status $err" '0 ' "two reloads at a time: the first"
ended b
is "$status $err" '0 ' "and the second"
one=$(pid_of one)
hold_in two r1
begin a reload
begin b upgrade
begin c retire one
begin d reload
for i in a b c d; do
	ended $i
	is "$status $err" '0 ' "reload, upgrade, retire and reload at a time ($i)"
done
isnt "$(pid_of one)" "$one" "the worker was replaced"
let_go r1
is "$status" 0 "a request that ran is not touched"
passes "one router is left" wait_until one_router

# Those who die in the midst
mv "$tmp/run/apps" "$tmp/run/away"
reload
mv "$tmp/run/away" "$tmp/run/apps"
like "$status $err" '^1 the new router could not begin' "a router that can not begin: the reload fails"
one=$(pid_of one)
like "$one" '^[0-9]+$' "and the old one serves"
reload
is "$status $(pid_of one)" "0 $one" "the next reload goes well"
wait_until one_router

hold_in two r1
old=$(routers) n=$(json '$j->{generation}')
freeze "$old"
begin a reload
passes "an old router that does not answer: the new one is there" wait_until generation $((n + 1))
new=$(other_router "$old")
start r2 two
kill -KILL "$new"
passes "is killed" wait_for_log "router $new: exited on signal 9"
thaw "$old"
ended a
finish r2
is "$status" 0 "and the request that came meanwhile is served by a third one"
let_go r1
is "$status" 0 "what ran in the old one too"
passes "one router is left" wait_until one_router

hold_in one r1
old=$(routers) n=$(json '$j->{generation}')
freeze "$old"
begin a reload
wait_until generation $((n + 1))
start r2 two
kill -KILL "$old"
ended a
is "$status" 0 "an old one is killed before it has answered: the reload is done"
finish r2
is "$status" 0 "the new one serves"
finish r1
is "$status" 3 "what ran in the old one is cut"
like "$(pid_of one)" '^[0-9]+$' "and all is served"

# The end in the midst of it
hold_in one r1
old=$(routers) n=$(json '$j->{generation}')
freeze "$old"
begin a reload
wait_until generation $((n + 1))
begin b quit
ended a
like "$status $err" '^1 zfpm is stopping' "quit in the midst of a reload: the reload says so"
thaw "$old"
let_go r1
is "$status" 0 "what runs is done"
ended b
is "$status $out" '0 stopped' "then zfpm has ended"
passes "all of it" wait_until gone "$zfpm_pid"
run
hold_in one r1
old=$(routers)
freeze "$old"
begin a reload
wait_until generation 2
begin b stop
ended a
like "$status $err" '^1 zfpm is stopping' "stop in the midst of a reload"
ended b
is "$status $out" '0 stopped' "does not wait for a router that does not answer"
is "$(worker_sockets)" 0 "no socket is left"
is "$(find "$tmp" -maxdepth 1 -type s)" '' "of any kind"
