#!/bin/sh
# Reload, retire and upgrade with app servers: those of unchanged pools go on with their workers, by the same routers' rules as
# directly started ones; what has changed gets a new app server, and the old one ends with its last worker. No request is lost.
# shellcheck disable=SC2016 # the expressions are perl's
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
. "${0%/*}/generations.sh"
plan 100

# AddressSanitizer does not let another library be loaded before it.
cp "$top/t/bin/app" "$top/t/bin/badserver" "$bin"
make_user user
make_user other
make_user third
mkdir "$tmp/prog" "$tmp/prog/conf.d"
cp "$bin/app" "$tmp/prog/app"
echo 1 >"$tmp/prog/php.ini"
conf='
	timeout idle 10m
	timeout kill 2s
	app app {
		command @bin@/app
		fork_server on
	}
	app watched {
		command @tmp@/prog/app
		fork_server on
		watch @tmp@/prog/php.ini @tmp@/prog/conf.d
	}
	app slow {
		command @bin@/app -s 2000
		fork_server on
	}
	pool one {
		user @user@
		app app
		max_workers 1
	}
	pool two {
		user @other@
		app app
	}
	pool watched {
		user @third@
		app watched
	}
	pool slow {
		user @third@
		app slow
		max_workers 4
	}'
server_of() { request "$@" | sed -n 's/^ppid //p'; }
both() { request "$@" | sed -n 's/^p*pid //p' | tr '\n' ' '; }
# What an app server has forked.
forks_of() { children_of "$1" | grep -c .; }
forks_are() { [ "$(forks_of "$1")" -eq "$2" ]; }

start_zfpm <<-END
	$conf
END
cp "$tmp/zfpm.conf" "$tmp/good"

# Nothing has changed
one=$(both one)
two=$(server_of two)
hold_in two r1
router=$(router_pid)
reload
is "$status $err" '0 ' "reload, with a worker idle and one busy"
like "$out" 'reload: done: 4 pools, 3 apps, 2 workers go on$' "app servers are no workers"
is "$(both one)" "$one" "the idle worker of the same app server serves"
fails "the old router has a request still" gone "$router"
is "$(server_of two)" "$two" "the next router has workers forked by the same app server"
is "$(forks_of "$two")" 2 "one more, for the first is busy"
is "$(json '@{$pool{two}{workers}}{qw(total finishing)}')" 2,1 "both are counted"
let_go r1
is "$status" 0 "the running request ends as it should"
passes "then the old router leaves" wait_until one_router
passes "and its worker is the next one's" wait_until json_is '$pool{two}{workers}{idle}' 2
is "$(server_of two) $(forks_of "$two")" "$two 2" "which has them both"
kill -KILL "$(worker_of r1)"
passes "it hears of the end of one that it has not had forked" wait_until json_is '$pool{two}{workers}{total}' 1

# Waiting
hold_in one r1
enqueue r2 one log=r2
enqueue r3 one log=r3
reload
enqueue r4 one log=r4
is "$(json '$pool{one}{queue}{length}')" 3 "those that wait go to the next router"
release r1
finish r1 r2 r3 r4
is "$(worker_of r1) $(worker_of r2) $(worker_of r3) $(worker_of r4)" "${one%% *} ${one%% *} ${one%% *} ${one%% *}" "and all have the same worker"
wait_for_log 'stderr: r4'
is "$(sed -n 's/.*: stderr: \(r[0-9]\)$/\1/p' "$tmp/zfpm.log" | tr '\n' ' ')" 'r2 r3 r4 ' "in the order in which they came"
passes "the old router leaves" wait_until one_router

# changed SED TITLE: a request runs while the pool two changes. Six tests.
changed() {
	old=$(server_of two)
	hold_in two r1
	reload "$1"
	is "$status" 0 "$2"
	isnt "$(server_of two)" "$old" "the next request has a new app server"
	fails "the old one is there as long as a request runs" gone "$old"
	let_go r1
	is "$status" 0 "which ends as it should"
	passes "with its worker the old app server ends" wait_until gone "$old"
	passes "and the old router" wait_until one_router
}
changed '/pool two {/a env NAME value' "the environment changes"
like "$(request two)" '^env NAME=value$' "the new one has it"
changed '/pool two {/a umask 0077' "the umask changes"
changed "/pool two {/,/}/s/user .*/user $third/" "the user changes"
like "$(request two)" "^uid $(id -u "$third")\$" "the new one has it"
cp "$tmp/good" "$tmp/zfpm.conf"
reload
old=$(server_of two)
reload '/app app {/,/}/s,command .*,& again,'
isnt "$(server_of two)" "$old" "a command that changes has a new app server"
passes "and the idle old one ends at once" wait_until gone "$old"

# Without it, and with it again
cp "$tmp/good" "$tmp/zfpm.conf"
reload
old=$(server_of two)
hold_in two r1
reload '/app app {/,/}/s/fork_server on/fork_server off/'
is "$(server_of two)" "$zfpm_pid" "fork_server off: the next worker is the master's"
let_go r1
is "$status" 0 "the running request ends as it should"
passes "and so does the app server" wait_until gone "$old"
direct=$(pid_of two)
hold_in two r1
reload '/app app {/,/}/s/fork_server off/fork_server on/'
old=$(server_of two)
isnt "$old" "$zfpm_pid" "fork_server on: the next one has an app server"
let_go r1
is "$status $(worker_of r1)" "0 $direct" "the running request ends as it should"
passes "and so does its worker" wait_until gone "$direct"
passes "the old router leaves" wait_until one_router

# Away with it
hold_in two r1
reload '/pool two {/,/}/d'
is "$status $(request two 2>&1 | grep -c 'Unknown pool')" "0 1" "a pool is removed while a request runs"
let_go r1
is "$status" 0 "the request ends as it should"
passes "and so does the app server" wait_until gone "$old"
cp "$tmp/good" "$tmp/zfpm.conf"
sed -i '/pool two {/,/}/s/app app/app app watched/' "$tmp/zfpm.conf"
reload
old=$(server_of two -a watched)
hold r1 two -a watched
held r1
reload '/pool two {/,/}/s/app app watched/app app/'
is "$status $(request two -a watched 2>&1 | grep -c 'Unknown application')" "0 1" "an app of a pool is removed while a request runs"
let_go r1
is "$status" 0 "the request ends as it should"
passes "and so does the app server" wait_until gone "$old"
passes "the old router leaves" wait_until one_router

# The files that it was made from
old=$(server_of watched)
hold_in watched r1
cp "$bin/app" "$tmp/prog/new"
mv "$tmp/prog/new" "$tmp/prog/app"
sleep 1.1	# so often, at most, files are looked at
new=$(server_of watched)
isnt "$new" "$old" "the program is replaced: the next worker has a new app server"
fails "the old one is there as long as a request runs" gone "$old"
let_go r1
is "$status" 0 "which ends as it should"
reload
passes "a reload ends it with its idle workers" wait_until gone "$old"
is "$(server_of watched)" "$new" "and not the new one"
echo 2 >"$tmp/prog/php.ini"
reload
passes "a file that is watched has changed: with a reload the app server ends" wait_until gone "$new"
passes "which the log says" log_has "pool watched: app server $new: its program or a file that it has read has changed; replacing it"
new=$(server_of watched)
echo 3 >"$tmp/prog/conf.d/more.ini"
reload
passes "so it does when a file is new in a directory" wait_until gone "$new"
new=$(both watched)
reload
is "$(both watched)" "$new" "and without a change it stays"

# Retired
old=$(both two)
hold_in two r1
begin retire retire two
wait_for_log 'pool two: replacing its workers'
isnt "$(server_of two)" "${old#* }" "zfpm retire: the next worker has a new app server"
let_go r1
is "$status" 0 "the running request ends as it should"
ended retire
is "$status" 0 "then retire is through"
passes "and the old app server ends" wait_until gone "$(echo "$old" | cut -d ' ' -f 2)"

# An app server that starts slowly
request slow -t 60 >"$tmp/s1" 2>&1 &
s1=$!
wait_for_log 'app server [0-9]+: started slow'
reload
is "$status" 0 "reload while an app server starts"
request slow -t 60 >"$tmp/s2" 2>&1 &
s2=$!
wait "$s1"
wait "$s2"
is "$(worker_of s1 | grep -c .) $(worker_of s2 | grep -c .)" "1 1" "who waits for it is served"
is "$(in_log 'app server [0-9]+: started slow')" 1 "there was no other"
passes "the old router leaves" wait_until one_router
slow=$(server_of slow)
freeze "$slow"
hold r1 slow
hold r2 slow
hold r3 slow
asked() { json_is '$pool{slow}{workers}{starting} + $pool{slow}{workers}{busy}' 3; }
wait_until asked
begin reload reload
sleep 0.3
thaw "$slow"
ended reload
is "$status" 0 "reload while workers are forked"
held r1 r2 r3
let_go r1 r2 r3
is "$(worker_of r1 | grep -c .)$(worker_of r2 | grep -c .)$(worker_of r3 | grep -c .)" 111 "all are served"
passes "by no more workers than there may be" test "$(forks_of "$slow")" -le 4
passes "the old router leaves" wait_until one_router

# Load
for i in 1 2 3 4; do
	perl -e '
		my ($end, $n) = (0, 0);
		$SIG{TERM} = sub { $end = 1 };
		until ($end) {
			my $answer = `"$ARGV[0]" -s "$ARGV[1]" -p two -t 30 -O show=REQUEST_METHOD 2>&1`;
			print "wrong: $answer\n" unless $answer eq "GET";
			$n++;
		}
		print "$n\n";' "$bin/client" "$sock" >"$tmp/load$i" &
	eval "load$i=$!"
done
two=$(server_of two)
i=0
failed=0
while [ $((i += 1)) -le 20 ]; do
	reload
	[ "$status" -eq 0 ] || failed=$((failed + 1))
done
kill "$load1" "$load2" "$load3" "$load4"
wait "$load1"
wait "$load2"
wait "$load3"
wait "$load4"
is "$failed" 0 "20 reloads under load"
unlike "$(cat "$tmp"/load?)" wrong "no request failed"
is "$(server_of two)" "$two" "all that with one app server"
passes "one router is left" wait_until one_router
forked_all() { [ "$(forks_of "$two")" -eq "$(json '$pool{two}{workers}{total}')" ]; }
passes "which knows all workers that there are" wait_until forked_all

# Routers that die
hold_in two r1
old=$(router_pid)
reload
new=$(other_router "$old")
kill -KILL "$old"
finish r1
is "$status" 3 "the old router, which still serves, is killed"
is "$(server_of two)" "$two" "the next request is served by the same app server"
passes "the worker of the other is gone" wait_until forked_all
hold_in two r1
old=$(router_pid)
reload
new=$(other_router "$old")
kill -KILL "$new"
again() { r=$(other_router "$old" "$new") && [ -n "$r" ]; }
passes "the new router is killed while the old one serves" wait_until again
served() { [ -n "$(pid_of two 2>/dev/null)" ]; }
passes "the next request is served" wait_until served
let_go r1
is "$status" 0 "and the running one ends as it should"
passes "one router is left" wait_until one_router
passes "which knows all workers that there are" wait_until forked_all
timeout 60 "$zfpm" retire -c "$tmp/zfpm.conf" slow >"$tmp/retire" 2>&1
passes "an app server without workers is retired" wait_until gone "$slow"
request slow -t 60 >"$tmp/s1" 2>&1 &
s1=$!
second() { [ "$(in_log 'app server [0-9]+: started slow')" -eq 2 ]; }
wait_until second
old=$(router_pid)
kill -KILL "$old"
wait "$s1"
is "$?" 3 "the router is killed while an app server starts"
more() { slow=$(server_of slow 2>/dev/null) && [ -n "$slow" ]; }
passes "the next request is served" wait_until more
is "$(in_log 'app server [0-9]+: started slow')" 2 "by that app server"

# The next program
stop_zfpm
mkdir "$tmp/bin2"
cp "$zfpm" "$tmp/bin2/zfpm"
control=$zfpm
zfpm=$tmp/bin2/zfpm
start_zfpm <"$tmp/good"
one=$(both one)
two=$(server_of two)
hold_in two r1
cp "$control" "$tmp/bin2/new"
mv "$tmp/bin2/new" "$tmp/bin2/zfpm"
upgrade
is "$status $err" '0 ' "upgrade, with a worker idle and one busy"
is "$(both one)" "$one" "the idle worker stays, and its app server"
is "$(server_of two) $(forks_of "$two")" "$two 2" "the other one forks for the next program"
let_go r1
is "$status" 0 "the running request ends as it should"
passes "the old router leaves" wait_until one_router
passes "all workers are known" wait_until forked_all
kill -KILL "$two"
passes "a death of the app server is noticed" wait_for_log "app server $two: exited on signal 9"
another() { s=$(server_of two 2>/dev/null) && [ -n "$s" ] && [ "$s" != "$two" ]; }
passes "there is another" wait_until another
two=$s
stop_zfpm
is "$zfpm_status" 0 "zfpm ends"
passes "and nobody is left" gone "$two"
