#!/bin/sh
# zfpm's options do what zfpm(8) says, and what is wrong with a start is said on standard error, with a status
# that is not 0.
. "${0%/*}/lib.sh"
plan 45

make_user user
run() {		# COMMAND...: $status, $out, $err
	"$@" >"$tmp/out" 2>"$tmp/err.txt" </dev/null
	status=$?
	out=$(cat "$tmp/out") err=$(cat "$tmp/err.txt")
}
good() {
	make_conf "$tmp/good.conf" <<-\END
		app app { command @bin@/app }
		pool one {
			user @user@
			app app
		}
	END
}
good

run "$zfpm" -V
is "$status" 0 "-V"
like "$out" '^zfpm [0-9]+\.[0-9]+' "prints the version"
run "$zfpm" -h
is "$status" 0 "-h"
like "$out" '-c' "prints the options"
run "$zfpm" -x
is "$status" 2 "an unknown option"
like "$err" '^usage: zfpm' "brings the usage"
run "$zfpm" -t -c "$tmp/good.conf" more
is "$status" 2 "an operand too many"
like "$err" '^usage: zfpm' "brings it too"
for words in frobnicate 'stop now' 'retire' 'retire one two' 'reload -f json' 'status -f yaml' 'status -t' 'stop -d' \
    '-f json' '-t -d'; do
	# shellcheck disable=SC2086
	run "$zfpm" $words -c "$tmp/good.conf"
	like "$status $err" '^2 usage: zfpm' "zfpm $words is no command"
done
run "$zfpm" stop -c "$tmp/none.conf"
is "$status $err" "1 zfpm: $tmp/none.conf: No such file or directory" "a command needs a configuration"
run "$zfpm" stop -c "$tmp/good.conf"
like "$status $err" "^1 zfpm: zfpm is not running \\(control socket $tmp/run/control: " "where it finds the control socket"
run "$zfpm" -t -c "$tmp/none.conf"
is "$status" 1 "a configuration that is not there"
like "$err" "$tmp/none.conf: No such file" "is named"

run "$zfpm" -t -c "$tmp/good.conf"
is "$status" 0 "-t with a good configuration"
like "$out" "^$tmp/good.conf: ok: 1 pool, 1 app, 1 listen" "says what it holds"
like "$err" "no key: whoever can connect can name any pool" "and warns of a socket without a key"
fails "it starts nothing" test -e "$tmp/run"
run env ZFPM_UPGRADE=999999 "$zfpm" -t -c "$tmp/good.conf"
is "$status" 1 "-t asked by a zfpm of another version"
like "$err" '^zfpm [0-9.]+ can not take over from a running zfpm of handover version 999999, its own is [0-9]+: ' "says that an upgrade is not possible"
make_conf "$tmp/bad.conf" <<-\END
	app app { command @bin@/app }
	pool one {
		user @user@
		app none
		max_workers 0
	}
END
run "$zfpm" -t -c "$tmp/bad.conf"
is "$status" 1 "-t with a bad one"
like "$err" "^$tmp/bad.conf:4: .*none" "names file and line"
like "$err" "^$tmp/bad.conf:5: .*max_workers" "of all errors"
run "$zfpm" -c "$tmp/bad.conf"
is "$status" 1 "zfpm does not start with it"
like "$err" "^$tmp/bad.conf:4: " "and says the same"
fails "it has made nothing" test -e "$tmp/run" -o -e "$sock"

chmod 666 "$tmp/good.conf"
run "$zfpm" -t -c "$tmp/good.conf"
like "$status $err" "^1 $tmp/good.conf: can be written by everybody" "a configuration that everybody can write is refused"
mkdir -m 777 "$tmp/open"
cp "$tmp/good.conf" "$tmp/open/z.conf"
chmod 644 "$tmp/open/z.conf"
run "$zfpm" -t -c "$tmp/open/z.conf"
like "$status $err" "^1 .*$tmp/open: can be written by everybody" "and one in a directory that everybody can write"
good

cp "$zfpm" "$tmp/zfpm"
chmod 755 "$tmp/zfpm"
run setpriv --reuid=65534 --regid=65534 --clear-groups "$tmp/zfpm" -c "$tmp/good.conf"
like "$status $err" '^1 .*must be started by root' "somebody else than root can not start it"
{ cat "$tmp/good.conf"; echo 'router_user nobody-of-this-name'; } | sed '/^router_user nobody$/d' >"$tmp/router.conf"
run "$zfpm" -c "$tmp/router.conf"
like "$status $err" "^1 .*router_user 'nobody-of-this-name' is unknown" "router_user must exist"
sed 's/^router_user .*/router_user root/' "$tmp/good.conf" >"$tmp/router.conf"
run "$zfpm" -c "$tmp/router.conf"
like "$status $err" "^1 .*router_user 'root' must not be root" "and not be root"
: >"$sock"
run "$zfpm" -c "$tmp/good.conf"
like "$status $err" "^1 .*$sock: exists and is no socket" "a file where the socket belongs is not removed"
passes "it is still there" test -f "$sock"
rm -rf "$sock" "$tmp/run"
mkdir -m 777 "$tmp/run"
run "$zfpm" -c "$tmp/good.conf"
like "$status $err" "^1 .*$tmp/run: run_dir must be" "a run_dir that others can write is refused"
rm -rf "$tmp/run"

start_zfpm <"$tmp/good.conf"
run "$zfpm" -c "$tmp/zfpm.conf"
like "$status $err" "^1 .*zfpm is running already, process $zfpm_pid" "a second zfpm does not start in the same run_dir"
sed "s|^run_dir .*|run_dir $tmp/run2|" "$tmp/zfpm.conf" >"$tmp/second.conf"
run "$zfpm" -c "$tmp/second.conf"
like "$status $err" "^1 .*$sock: another process listens there" "nor on the same socket"
like "$(request one)" '^uid [1-9]' "the first is not disturbed"
