#!/bin/sh
# A pool with `cgroup` lines has a cgroup v2 of its own, with these settings; it is ended as a whole, and nothing of it is left.
. "${0%/*}/lib.sh"

tree=$(awk '/ - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
own=$(sed -n 's/^0:://p' /proc/self/cgroup)
[ -n "$tree$own" ] || skip_all "no cgroup v2 tree is mounted here"
base=$tree${own%/}/zt-$$
mkdir "$base" 2>"$tmp/mkdir.txt" || skip_all "the cgroup v2 tree can not be written: $(cat "$tmp/mkdir.txt")"

# Innermost first. What is in use is still busy for a moment after its last process has gone.
remove_cgroups() {
	find "$1" -depth -type d -exec rmdir {} \; 2>/dev/null
	! [ -d "$1" ]
}
cleanup() {
	status=$?
	stop_zfpm TERM
	wait_until remove_cgroups "$base" || diag "left behind: $base"
	(exit $status)
	lib_cleanup
}
trap cleanup EXIT
plan 54

# zfpm begins in a cgroup of ours, as in one that a service manager has given it, or where an earlier zfpm has put whoever starts it.
binary=$zfpm
zfpm=$tmp/in-cgroup
cat >"$zfpm" <<-END
	#!/bin/sh
	for dir in $base $base/zfpm-*/zfpm; do
		{ echo 0 >\$dir/cgroup.procs; } 2>/dev/null && exec $binary "\$@"
	done
END
chmod 755 "$zfpm"

make_user user
long=$(printf '%0255d' 7)
config() {
	cat <<-END
		app app { command @bin@/app -g }
		pool limited {
			user @user@
			app app
			cgroup cgroup.max.descendants $1
			cgroup cgroup.max.depth 3
			timeout idle 1s
		}
		pool free {
			user @user@
			app app
			timeout idle 1s
		}
		pool wrong {
			user @user@
			app app
			cgroup cgroup.max.descendants nonsense
		}
		pool cgroup.procs {
			user @user@
			app app
			cgroup cgroup.max.descendants 5
		}
		pool $long {
			user @user@
			app app
			cgroup cgroup.max.descendants 6
		}
		pool *.example {
			user @user@
			app app
			cgroup cgroup.max.descendants %1
		}
	END
}
config 7 >"$tmp/conf.txt"
start_zfpm <"$tmp/conf.txt"
ours=$base/zfpm-$zfpm_pid
field() { sed -n "s/^$2 //p" "$tmp/$1"; }
cgroup_of() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }
where=${own%/}/zt-$$/zfpm-$zfpm_pid	# as the kernel calls it
report() { request "$1" ${2+"$2"} >"$tmp/a" 2>"$tmp/a.txt"; }

report limited
is "$(cgroup_of "$zfpm_pid")" "$where/zfpm" "zfpm itself moves into a leaf"
is "$(cgroup_of "$(router_pid)")" "$where/zfpm" "the router is there too"
is "$(cat "$base/cgroup.procs")" "" "so that no process is where it was started"

# Membership and settings
pid=$(field a pid)
is "$(cgroup_of "$pid")" "$where/pool@limited" "a worker is in the cgroup of its pool"
is "$(cat "$ours/pool@limited/cgroup.max.descendants") $(cat "$ours/pool@limited/cgroup.max.depth")" "7 3" "its settings are the pool's"
for i in 1 2; do
	request limited sleep=2 >"$tmp/limited$i" 2>&1 &
	eval "client$i=$!"
done
two() { [ "$(grep -c . "$ours/pool@limited/cgroup.procs")" -eq 2 ]; }
passes "all workers of a pool are in one cgroup" wait_until two
wait "$client1" "$client2"
report free
is "$(cgroup_of "$(field a pid)")" "$where/zfpm" "that of a pool without such lines is with zfpm"
report 12.example
is "$(cat "$ours/pool@12.example/cgroup.max.descendants")" 12 "a pattern's value is expanded"
is "$(cgroup_of "$(field a pid)")" "$where/pool@12.example" "and each of its names has its own cgroup"
report cgroup.procs
is "$(cgroup_of "$(field a pid)")" "$where/pool@cgroup.procs" "a pool may be called like a file of the kernel's"
report "$long"
is "$(cgroup_of "$(field a pid)")" "$where/$long" "or have a name of 255 bytes"
is "$(cat "$ours/$long/cgroup.max.descendants")" 6 "with its settings"

# Failures
reason="cgroup: cgroup\.max\.descendants 'nonsense': Invalid argument"
report wrong
like "$(cat "$tmp/a")" "^Status: 500" "where a setting fails nothing is started"
like "$(cat "$tmp/a.txt")" "^stderr: Cannot start FCGI process: $reason\$" "with a reason that names the key"
passes "which is in the log" log_has "pool wrong: cannot start FCGI process: $reason\$"

# The end of a pool
report limited 'fork=600'
left=$(field a fork)
report free 'fork=600'
free_left=$(field a fork)
is "$(cgroup_of "$left")" "$where/pool@limited" "what a worker starts is in the pool's cgroup"
passes "when its last worker has gone it is ended" wait_until gone "$left"
removed() { ! [ -d "$1" ]; }
passes "and the cgroup is removed" wait_until removed "$ours/pool@limited"
fails "elsewhere what a script has left in the background lives on" gone "$free_left"
kill -KILL "$free_left"
report limited
is "$(cgroup_of "$(field a pid)")" "$where/pool@limited" "the pool's next worker has a new cgroup"
is "$(cat "$ours/pool@limited/cgroup.max.descendants")" 7 "with its settings"
i=0 good=0
while [ $i -lt 20 ]; do
	i=$((i + 1))
	request limited signal=9 at=end fork=600 >"$tmp/a" 2>"$tmp/a.txt"
	report limited && good=$((good + 1))
done
is "$good" 20 "workers that die in turn do not keep the next ones from starting"

# Two in one cgroup
mkdir "$tmp/second"
first=$zfpm_pid
make_conf "$tmp/second/zfpm.conf" <<-END
	listen $tmp/second/sock
	run_dir $tmp/second/run
	app app { command @bin@/app -g }
	pool limited {
		user @user@
		app app
		cgroup cgroup.max.descendants 9
	}
END
"$zfpm" -c "$tmp/second/zfpm.conf" >"$tmp/second.log" 2>&1 &
second=$!
track "$second"
second_serves() { "$bin/client" "$tmp/second/sock" -P limited >"$tmp/b" 2>&1; }
passes "a second zfpm can be started in the same cgroup" wait_until second_serves
report limited
is "$(cgroup_of "$(field a pid)") $(cgroup_of "$(field b pid)")" "$where/pool@limited ${where%-*}-$second/pool@limited" \
    "pools of one name have a cgroup with each of the two"
is "$(cat "$ours/pool@limited/cgroup.max.descendants") $(cat "$base/zfpm-$second/pool@limited/cgroup.max.descendants")" "7 9" \
    "each with its own settings"
kill -TERM "$second"
wait "$second"
is "$?" 0 "the second one stops"
passes "and removes its pools' cgroups" removed "$base/zfpm-$second/pool@limited"
report limited
is "$(cgroup_of "$(field a pid)")" "$where/pool@limited" "not the first one's"

# Reload
report limited
pid=$(field a pid)
config 8 | make_conf "$tmp/zfpm.conf"
kill -HUP "$zfpm_pid"
changed() { report limited && [ "$(cat "$ours/pool@limited/cgroup.max.descendants")" = 8 ]; }
passes "a reload brings a changed setting" wait_until changed
isnt "$(field a pid)" "$pid" "with a new worker"
is "$(cgroup_of "$(field a pid)")" "$where/pool@limited" "in the same cgroup"

# Upgrade: another program in the same process
"$binary" upgrade -c "$tmp/zfpm.conf" >"$tmp/up" 2>&1
is "$?" 0 "an upgrade succeeds" || diag "$(cat "$tmp/up")"
is "$(cgroup_of "$zfpm_pid")" "$where/zfpm" "zfpm is where it was"
report limited
pid=$(field a pid)
is "$(cgroup_of "$pid")" "$where/pool@limited" "and so are its pools"
passes "which it still removes" wait_until removed "$ours/pool@limited"
report limited
is "$(cgroup_of "$(field a pid)")" "$where/pool@limited" "and makes anew"

# Stop
stop_zfpm TERM
is "$zfpm_status" 0 "zfpm stops"
is "$(find "$base" -depth -type d -name 'pool@*' | sort)" "" "and no pool's cgroup is left"
fails "nor that with the long name" test -d "$ours/$long"
passes "nor that of zfpm itself" removed "$ours"
is "$(cat "$base/cgroup.subtree_control")" "" "and where it was started everything can be started again"

# A crash
config 7 >"$tmp/conf.txt"
start_zfpm <"$tmp/conf.txt"
crashed=$zfpm_pid
report limited
pid=$(field a pid)
kill -KILL "$zfpm_pid"
wait "$zfpm_pid" 2>/dev/null
zfpm_pid=
empty() { grep -q '^populated 0' "$1/cgroup.events"; }
wait_until empty "$base/zfpm-$crashed" || diag "not empty: $(find "$base/zfpm-$crashed" -name cgroup.procs -exec grep . {} +)"
passes "a master that was killed leaves its cgroups behind" test -d "$base/zfpm-$crashed/pool@limited"
config 7 >"$tmp/conf.txt"
start_zfpm <"$tmp/conf.txt"
ours=$base/zfpm-$zfpm_pid
report limited
passes "the next one removes them" removed "$base/zfpm-$crashed"
passes "those of the first one, which stopped, too" removed "$base/zfpm-$first"
is "$(cat "$ours/pool@limited/cgroup.max.descendants")" 7 "and serves"

# Controllers
has() { grep -qw "$1" "$ours/cgroup.subtree_control"; }
controllers=$(cat "$base/cgroup.controllers")
is "$(cat "$ours/cgroup.subtree_control")" "$controllers" "the pools get all the controllers that there are" 
cat >"$tmp/more" <<-END
	app app { command @bin@/app -g }
	pool pids {
		user @user@
		app app
		cgroup pids.max 2
	}
	pool memory {
		user @user@
		app app
		cgroup memory.max 40M
	}
END
start_zfpm <"$tmp/more"
for key in pids.max memory.max; do
	name=${key%.*}
	report "$name"
	if ! grep -qw "$name" "$base/cgroup.controllers"; then
		like "$(cat "$tmp/a.txt")" "^stderr: Cannot start FCGI process: cgroup: $key: No such file or directory" \
		    "without a controller $name a pool that wants it is not started"
	elif [ "$name" = pids ]; then
		report pids 'fork=600'
		report pids 'fork=600'
		is "$(field a fork)" -1 "with pids.max a pool has no more processes"
	else
		request memory mem=400 >"$tmp/a" 2>"$tmp/a.txt"
		like "$(cat "$tmp/a.txt")" 'exited on signal 9 \(SIGKILL\)$' "with memory.max a pool has no more memory"
	fi
done

# zfpm -t
cat >"$tmp/none.conf" <<-END
	listen $tmp/none.sock
	run_dir $tmp/none
	router_user nobody
	app app { command $bin/app }
	pool none {
		user $user
		app app
		cgroup NoneSuch.max 1
	}
END
chmod 644 "$tmp/none.conf"
"$binary" -t -c "$tmp/none.conf" >"$tmp/t" 2>&1
is "$?" 1 "zfpm -t does not accept what needs a controller that is not there"
like "$(cat "$tmp/t")" "cgroup NoneSuch\.max: the cgroup v2 tree at $tree has no controller 'NoneSuch'" "and names key, place and controller"
if ! unshare -m true 2>/dev/null; then
	skip 4 "no mount namespaces here"
else
	sed 's/NoneSuch.max/cgroup.max.depth/' "$tmp/none.conf" >"$tmp/some.conf"
	"$binary" -t -c "$tmp/some.conf" >"$tmp/t" 2>&1
	is "$?" 0 "it accepts what there is"
	unshare -m sh -c "mount -o remount,bind,ro '$tree' && '$binary' -t -c '$tmp/some.conf'" >"$tmp/t" 2>&1
	is "$?" 1 "but not with a tree that can not be written"
	like "$(cat "$tmp/t")" "the cgroup v2 tree is mounted read-only at $tree" "and says so"
	unshare -m sh -c "umount -l '$tree' && '$binary' -t -c '$tmp/some.conf'" >"$tmp/t" 2>&1
	like "$(cat "$tmp/t")" 'no cgroup v2 tree \(file system cgroup2\) is mounted' "nor without any"
fi
