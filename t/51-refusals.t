#!/bin/sh
# What must not run is refused when it would start, each with its own message, and the other pools go on.
. "${0%/*}/lib.sh"
plan 37

make_user user
make_user other
make_user rooted
lib_locked usermod -aG root "$rooted"
mkdir "$tmp/bad"
for f in other group others plain; do
	cp "$bin/app" "$tmp/bad/$f"
done
chown "$other" "$tmp/bad/other"
chmod 775 "$tmp/bad/group"
chmod 757 "$tmp/bad/others"
chmod 644 "$tmp/bad/plain"
printf 'no program' >"$tmp/bad/format"
chmod 755 "$tmp/bad/format"
cp "$bin/app" "$tmp/own"
chown "$user" "$tmp/own"

# Each pool is wrong in one way: name, app, user, and what else is in its block.
: >"$tmp/text"
pool() {
	printf 'pool %s {\n\tapp %s\n\tuser %s\n' "$1" "$2" "$3"
	shift 3
	[ $# -eq 0 ] || printf '\t%s\n' "$@"
	echo '}'
}
{
	cat <<-\END
		timeout wait 5s
		app good { command @bin@/app }
		app own { command @tmp@/own }
		app missing { command @tmp@/bad/missing }
		app directory { command @tmp@/bad }
		app other { command @tmp@/bad/other }
		app group { command @tmp@/bad/group }
		app others { command @tmp@/bad/others }
		app plain { command @tmp@/bad/plain }
		app format { command @tmp@/bad/format }
	END
	pool good good @user@
	pool own own @user@
	pool unknown-user good nobody-of-this-name
	pool unknown-group good @user@ 'group none-of-this-name'
	pool unknown-groups good @user@ 'groups none-of-this-name'
	pool root good root
	pool root-group good @user@ 'group root'
	pool root-groups good @user@ 'groups root'
	pool root-member good @rooted@
	pool low-uid good daemon
	pool low-gid good @user@ 'group daemon'
	pool missing missing @user@
	pool directory directory @user@
	pool other other @user@
	pool group group @user@
	pool others others @user@
	pool plain plain @user@
	pool format format @user@
	pool no-chroot good @user@ 'chroot @tmp@/nowhere'
	pool no-directory good @user@ 'directory @tmp@/nowhere'
} >"$tmp/text"
start_zfpm <"$tmp/text"

like "$(request good)" '^uid [1-9]' "a good pool is served"

# refused POOL ERE TITLE: two tests
refused() {
	like "$(request "$1" 2>"$tmp/stderr")" "^Status: 500" "$3"
	like "$(grep -F "pool $1: " "$tmp/zfpm.log")" "pool $1: cannot start FCGI process: $2\$" "and the log says why"
}
refused unknown-user "user: 'nobody-of-this-name' is unknown" "a user that does not exist"
refused unknown-group "group: 'none-of-this-name' is unknown" "a group that does not exist"
refused unknown-groups "groups: 'none-of-this-name' is unknown" "a further group that does not exist"
refused root "user: 'root' has uid 0: .*" "root"
refused root-group "group: 'root' has gid 0: .*" "root's group"
refused root-groups "groups: .*group 0: .*" "root's group among the further ones"
refused root-member "groups: '$rooted' is in group 0: .*" "a user who is in root's group"
refused low-uid "user: 'daemon' has uid 1, below min_uid 1000" "a system user"
refused low-gid "group: 'daemon' has gid 1, below min_gid 100" "a system group"
refused missing "command: $tmp/bad/missing: No such file or directory" "a command that does not exist"
refused directory "command: $tmp/bad: is not a regular file" "a command that is a directory"
refused other "command: $tmp/bad/other: is owned by uid [0-9]+, not by root or the pool's user" "a command of another user's"
refused group "command: $tmp/bad/group: is writable by group or others" "a command that its group can write"
refused others "command: $tmp/bad/others: is writable by group or others" "a command that everybody can write"
refused plain "command: $tmp/bad/plain: is not executable" "a command that is not executable"
refused format "exec: $tmp/bad/format: Exec format error" "a command that is no program"
refused no-chroot "chroot: $tmp/nowhere: No such file or directory" "a chroot that does not exist"
refused no-directory "directory: $tmp/nowhere: No such file or directory" "a directory that does not exist"
