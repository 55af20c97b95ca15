#!/bin/sh
# An upgrade goes on in the installed program, with the same process, and interrupts nothing; a program or a
# configuration that will not do is told of, and nothing has changed.
# shellcheck disable=SC2016 # the expressions are perl's
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
. "${0%/*}/generations.sh"
plan 62

# A binary of this test's own, to be replaced by another of another version.
mkdir "$tmp/prog" "$tmp/next"
built=$zfpm
(cd "$top" && cp ./*.c ./*.h Makefile "$tmp/next")
sed -i 's/^#define ZFPM_VERSION.*/#define ZFPM_VERSION "0.1-next"/' "$tmp/next/zfpm.h"
make -s -C "$tmp/next" CFLAGS=-O0 zfpm >"$tmp/make.out" 2>&1 || skip_all "can not build a second zfpm"
put() { cp "$1" "$tmp/prog/new" && chmod 755 "$tmp/prog/new" && mv "$tmp/prog/new" "$tmp/prog/zfpm"; }
put "$built"
zfpm=$tmp/prog/zfpm control=$built
make_user user
conf='
	timeout idle 10m
	app app { command @bin@/app -g }
	pool one {
		user @user@
		app app
		max_workers 1
	}
	pool two {
		user @user@
		app app
	}'
guard() {
	for p in $(children_of "$zfpm_pid"); do
		case $(tr '\0' ' ' 2>/dev/null <"/proc/$p/cmdline") in
		'zfpm: guard'*) echo "$p" ;;
		esac
	done
}
start_zfpm <<-END
	$conf
END
cp "$tmp/zfpm.conf" "$tmp/good"
two=$(pid_of two)
router=$(router_pid)
inode=$(stat -L -c %i "/proc/$zfpm_pid/exe")
same() { is "$(pid_of two) $(router_pid) $(stat -L -c %i "/proc/$zfpm_pid/exe")" "$two $router $inode" "$1"; }

# What will not do
cat >"$tmp/says-no" <<-\END
	#!/bin/sh
	echo "this one says no" >&2
	exit 1
END
put "$tmp/says-no"
upgrade
like "$status $err" '^1 this one says no$' "a program whose -t fails is not executed"
printf '#!/bin/sh\nexit 0\n' >"$tmp/says-nothing"
put "$tmp/says-nothing"
upgrade
like "$status $err" "^1 .*zfpm -t does not say 'upgrade: ok'" "nor is one that says nothing"
printf '#!/bin/sh\necho "this is not upgrade: ok, or is it"\n' >"$tmp/says-else"
put "$tmp/says-else"
upgrade
like "$status $err" "^1 .*zfpm -t does not say 'upgrade: ok'" "or something else"
echo 'no program' >"$tmp/text"
put "$tmp/text"
upgrade
like "$status $err" '^1 .*Exec format error' "nor is a text"
chmod 644 "$tmp/prog/zfpm"
upgrade
is "$status" 1 "nor one that can not be executed"
put "$built"
chown "$user" "$tmp/prog/zfpm"
upgrade
is "$status" 1 "nor one that is not root's"
rm "$tmp/prog/zfpm"
upgrade
is "$status" 1 "nor one that is not there"
put "$built"
echo nonsense >>"$tmp/zfpm.conf"
upgrade
like "$status $err" '^1 .*nonsense' "a configuration with an error is refused"
passes "which the log has" log_has 'upgrade: failed; nothing has changed'
cp "$tmp/good" "$tmp/zfpm.conf"
same "nothing has changed"

# The next one
hold_in one r1
enqueue r2 one log=r2
enqueue r3 one log=r3
old_guard=$(guard)
put "$tmp/next/zfpm"
upgrade
is "$status $err" '0 ' "upgrade, while a request runs and two wait"
like "$out" '^upgrade: done: 2 pools, 1 apps, 2 workers go on$' "the next program answers"
is "$(stat -L -c %i "/proc/$zfpm_pid/exe")" "$(stat -c %i "$tmp/prog/zfpm")" "which runs as the same process"
is "$(json '$j->{version}')" 0.1-next "and says its version"
is "$(json '$j->{generation}')" 2 "its router is the next one"
is "$(pid_of two)" "$two" "an idle worker stays"
isnt "$(guard)" "$old_guard" "the guard is the next program's"
passes "the old one has gone" gone "$old_guard"
is "$(cat "$tmp/run/zfpm.pid")" "$zfpm_pid" "the pid file is true"
"$built" -c "$tmp/zfpm.conf" >"$tmp/second" 2>&1
like "$? $(cat "$tmp/second")" '^1 .*running already' "and still locked"
enqueue r4 one log=r4
timeout 60 "$built" reload -c "$tmp/zfpm.conf" >/dev/null
release r1
finish r1 r2 r3 r4
is "$status $(worker_of r2) $(worker_of r3) $(worker_of r4)" "0 $(worker_of r1) $(worker_of r1) $(worker_of r1)" \
    "all are served by the worker that was there, a reload later too"
wait_for_log 'stderr: r4'
is "$(sed -n 's/.*: stderr: \(r[0-9]\)$/\1/p' "$tmp/zfpm.log" | tr '\n' ' ')" 'r2 r3 r4 ' "in the order in which they came"
is "$(json '$pool{one}{counters}{requests}')" 4 "and counted"
twice() { [ "$(in_log 'upgrade: done: ')" -eq 2 ]; }
kill -USR2 "$zfpm_pid"
kill -HUP "$zfpm_pid"
passes "SIGUSR2 does it too, and a SIGHUP at the same time is no harm" wait_until twice
is "$(pid_of two)" "$two" "the worker stays"

# A configuration that can not be carried out is no reason to end
refused() { # TITLE ERE
	hold_in one r1
	executed=$(in_log 'upgrade: executing')
	upgrade
	like "$status $err $(in_log 'upgrade: executing')" "^1 .*$2.* $executed\$" "$1: refused before the program is executed"
	let_go r1
	is "$status $(gone "$zfpm_pid" && echo gone)" '0 ' "zfpm and what runs go on"
	cp "$tmp/good" "$tmp/zfpm.conf"
	gone "$zfpm_pid" || return 0
	start_zfpm <<-END
		$conf
	END
}
echo "listen $tmp/none/zfpm.sock" >>"$tmp/zfpm.conf"
refused "a socket that can not be made" 'No such file'
sed -i "s|^log .*|log $tmp/none/log|" "$tmp/zfpm.conf"
refused "a log that can not be written" 'No such file'
sed -i "s|^run_dir .*|run_dir $tmp/else|; \$ a control $tmp/run/control" "$tmp/zfpm.conf"
refused "another run_dir" run_dir
sed -i "s|^router_user .*|router_user daemon|" "$tmp/zfpm.conf"
refused "another router_user" router_user
two=$(pid_of two)
upgrade
is "$status $(pid_of two)" "0 $two" "after all that an upgrade goes well"

# Nor one that somebody writes to just then: it was right a moment ago, and so it can be again
cat >"$tmp/meanwhile" <<-END
	#!/bin/sh
	[ "\$1" != -t ] || exec $built "\$@"
	cp $tmp/broken $tmp/zfpm.conf
	cp $built $tmp/prog/new && mv $tmp/prog/new $tmp/prog/zfpm
	exec $tmp/prog/zfpm "\$@"
END
for line in nonsense "listen $tmp/none/zfpm.sock"; do
	{ cat "$tmp/good"; echo "$line"; } >"$tmp/broken"
	put "$tmp/meanwhile"
	hold_in one r1
	seen=$(in_log "unknown directive 'nonsense'|$tmp/none/zfpm.sock: No such file")
	again() { [ "$(in_log "unknown directive 'nonsense'|$tmp/none/zfpm.sock: No such file")" -gt "$seen" ]; }
	"$control" upgrade -c "$tmp/zfpm.conf" >"$tmp/out" 2>"$tmp/err" &
	upgrading=$!
	passes "a configuration that has become wrong since it was looked at ('${line%% *}') is told of" wait_until again
	let_go r1
	is "$status" 0 "what runs goes on"
	cp "$tmp/good" "$tmp/zfpm.conf"
	wait "$upgrading"
	is "$? $(pid_of two)" "0 $two" "and when it is right again so does zfpm"
done

# Several generations
wait_until one_router
hold r1 one
hold r2 two
held r1 r2
enqueue r3 one log=r3
reload
hold_in two r4
is "$status $(routers | grep -c .)" '0 2' "an earlier generation has something to finish"
upgrade
is "$status $err $(routers | grep -c .)" '0  3' "at an upgrade it goes on, beside the one that is replaced"
is "$(json '$pool{two}{workers}{finishing}, $pool{one}{workers}{finishing}, $pool{one}{queue}{length}')" 2,1,1 "and the next one knows of all"
enqueue r5 one log=r5
upgrade
is "$status $err $(routers | grep -c .)" '0  3' "one more upgrade"
release r1 r2 r4
finish r1 r2 r3 r4 r5
is "$status $(worker_of r3) $(worker_of r5)" "0 $(worker_of r1) $(worker_of r1)" "all of them are served, by the same workers"
passes "and the old routers leave" wait_until one_router
is "$(json '$pool{two}{workers}{idle}, $pool{one}{workers}{idle}')" 2,1 "whose workers have come over"

# The end in the midst of it
cat >"$tmp/hangs" <<-END
	#!/bin/sh
	echo \$\$ >$tmp/asked.new
	mv $tmp/asked.new $tmp/asked
	exec cat $tmp/gate
END
mkfifo "$tmp/gate"
put "$tmp/hangs"
hold_in one r1
begin up upgrade
passes "the next program takes its time to answer" wait_until test -s "$tmp/asked"
like "$(request two)" '^pid' "meanwhile all is served"
n=$(sockets_of "$zfpm_pid")
connected() { [ "$(sockets_of "$zfpm_pid")" -eq $((n + 2)) ]; }
begin again upgrade
begin re reload
wait_until connected
begin stop stop
ended stop
is "$status $out" '0 stopped' "zfpm stop does not wait for it"
ended up
like "$status $err" '^1 zfpm is stopping' "the upgrade is told"
ended again
like "$status $err" '^1 zfpm (is stopping|has stopped)' "so is one that came later"
ended re
like "$status $err" '^1 zfpm (is stopping|has stopped)' "and a reload"
finish r1
passes "nothing of it is left" wait_until gone "$(cat "$tmp/asked")"
put "$built"

# A disk that is full, for what one program leaves to the next
unmounted() {
	gen_exit=$?
	umount -l "$tmp/full" 2>/dev/null
	(exit "$gen_exit")
	lib_cleanup
}
mkdir "$tmp/full"
if mount -t tmpfs -o size=64k,mode=755 zfpm-test "$tmp/full" 2>/dev/null; then
	trap unmounted EXIT
	start_zfpm <<-END
		$conf
		run_dir $tmp/full
	END
	two=$(pid_of two)
	router=$(router_pid)
	dd if=/dev/zero of="$tmp/full/fill" bs=4096 2>/dev/null
	upgrade
	like "$status $err" '^1 state: No space left on device' "what has to be kept can not be written: the upgrade is refused"
	is "$(pid_of two) $(router_pid)" "$two $router" "nothing has changed"
	rm "$tmp/full/fill"
	upgrade
	is "$status $err $(pid_of two)" "0  $two" "with room it goes well"
	stop_zfpm
	umount "$tmp/full"
	trap lib_cleanup EXIT
else
	skip 3 "no tmpfs can be mounted"
fi

# A socket that the service manager has passed
make_conf "$tmp/zfpm.conf" <<-END
	$conf
END
perl -MSocket -e '
	$^F = 100;
	socket my $s, AF_UNIX, SOCK_STREAM, 0 or die;
	unlink $ARGV[0];
	bind $s, pack_sockaddr_un(shift) or die;
	listen $s, 20 or die;
	die unless fileno $s == 3;
	@ENV{qw(LISTEN_PID LISTEN_FDS)} = ($$, 1);
	exec @ARGV;' "$sock" "$zfpm" -c "$tmp/zfpm.conf" </dev/null >>"$tmp/zfpm.out" 2>>"$tmp/zfpm.log" &
zfpm_pid=$!
wait_until zfpm_settled
two=$(pid_of two)
inode=$(stat -c %i "$sock")
for i in 1 2; do
	upgrade
	is "$status $err $(pid_of two)" "0  $two" "an upgrade of a zfpm with a socket that was passed ($i)"
done
is "$(stat -c %i "$sock")" "$inode" "it is the same one"
stop_zfpm
is "$(find "$tmp/run/apps" -type s | grep -c .)" 0 "with no socket left"
is "$(stat -c %i "$sock")" "$inode" "but the one that is not zfpm's own"
