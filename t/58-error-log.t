#!/bin/sh
# What a pool's applications write to their standard error is in its error_log; where others than root could say what file that is, it is not used.
. "${0%/*}/lib.sh"

# Below /tmp everybody can write, which is what is refused.
root_dir
dir=$root_dir
plan 52

make_user user
make_user other
mkdir "$dir/good" "$dir/tenant" "$dir/all" "$dir/group" "$dir/real" "$dir/files" "$dir/shared" "$dir/shared/logs" "$tmp/jail"
chown "$user:" "$dir/tenant"
chmod 1777 "$dir/all"
chmod 775 "$dir/group" "$dir/shared"
mkdir "$dir/tenant/logs" "$dir/all/logs"
ln -s real "$dir/link"
ln -s ../real "$dir/shared/link"
echo keep >"$dir/keep"
ln -s "$dir/keep" "$dir/files/symlink.log"
ln "$dir/keep" "$dir/files/hardlink.log"
mkfifo "$dir/files/fifo.log"
mkdir "$dir/files/directory.log"
echo before >"$dir/good/there.log"
cc -std=c11 -D_GNU_SOURCE -static -o "$tmp/jail/app" -I"$top" "$t/app.c" "$top/fcgi.c" -pthread 2>"$tmp/cc.txt" || diag "$(cat "$tmp/cc.txt")"

pool() {
	printf 'pool %s {\n\tuser @user@\n\tapp %s\n\terror_log %s\n%s\n}\n' "$1" "$2" "$3" "${4-}"
}
{
	echo 'app app { command @bin@/app }'
	echo 'app jailed { command /app }'
	printf 'pool none {\n\tuser @user@\n\tapp app\n}\n'
	pool new app "$dir/good/new.log"
	pool grouped app "$dir/good/grouped.log" '	group @other@'
	pool there app "$dir/good/there.log"
	pool jailed jailed "$dir/good/jailed.log" '	chroot @tmp@/jail'
	pool '*.example' app "$dir/good/%1-%p.log"
	pool linked app "$dir/link/linked.log"
	pool shared app "$dir/shared/logs/shared.log"
	# Patterns, which are looked at no earlier than they are met.
	for i in tenant/logs all/logs tenant all group shared/link missing; do
		pool "x$(echo $i | tr / -)*" app "$dir/$i/x%1.log"
	done
	pool 'file.*' app "$dir/files/%1.log"
} >"$tmp/text"
start_zfpm <"$tmp/text"
says() { request "$1" log="$2" >"$tmp/a" 2>"$tmp/a.txt"; }
has() { grep -q "$2" "$1" 2>/dev/null; }
# zfpm's log has the lines of requests too, but in no line of a worker's.
in_zfpm_log() { grep -q "stderr: .*$1" "$tmp/zfpm.log"; }

# Where it goes
says new first-line
passes "a line of an application is in the pool's error_log" wait_until has "$dir/good/new.log" first-line
fails "and not in zfpm's own log" in_zfpm_log first-line
is "$(stat -c '%a %U %G' "$dir/good/new.log")" "640 root $(id -gn "$user")" \
    "the file is root's, and can be read by the pool's group"
says grouped line-of-grouped
passes "for a pool with another group" wait_until has "$dir/good/grouped.log" line-of-grouped
is "$(stat -c '%a %U %G' "$dir/good/grouped.log")" "640 root $(id -gn "$other")" "it is that group"
says new 'two%0Alines'
passes "further lines are appended" wait_until has "$dir/good/new.log" lines
passes "to the first ones" has "$dir/good/new.log" first-line
says none line-of-none
passes "a pool without it writes to zfpm's log" wait_until in_zfpm_log line-of-none
says there line-of-there
passes "a file that is there is used" wait_until has "$dir/good/there.log" line-of-there
is "$(stat -c '%a %U %G' "$dir/good/there.log") $(head -n 1 "$dir/good/there.log")" "644 root root before" "as it is"
says jailed line-of-jailed
passes "the path is not one in the chroot" wait_until has "$dir/good/jailed.log" line-of-jailed
says a.example line-of-a
says b.example line-of-b
passes "in a pattern %1 and %p are replaced" wait_until has "$dir/good/a-a.example.log" line-of-a
passes "each pool has its own" wait_until has "$dir/good/b-b.example.log" line-of-b
fails "and that alone" has "$dir/good/a-a.example.log" line-of-b
says linked line-of-linked
passes "a link to the directory, which only root can have made, is followed" wait_until has "$dir/real/linked.log" line-of-linked
says shared line-of-shared
passes "further up a group may write" wait_until has "$dir/shared/logs/shared.log" line-of-shared

# Where it does not go
bad() {
	says "$1" "line-of-$1"
	like "$(cat "$tmp/a")" '^pid [0-9]+$' "$4: the pool is served"
	passes "the log says why its error_log is not used" wait_for_log "warn: pool $1: error_log $dir/$2: $3\$"
	passes "and has the line itself" wait_until in_zfpm_log "line-of-$1"
}
others="others than root can write the directory that '.*' is in"
bad xtenant1 tenant/x1.log "$others" "a directory of the tenant's"
bad xtenant-logs1 tenant/logs/x1.log "$others" "a directory below one of the tenant's"
bad xall1 all/x1.log "$others" "a directory that everybody can write"
bad xall-logs1 all/logs/x1.log "$others" "a directory below that, sticky as it is"
bad xgroup1 group/x1.log "$others" "a directory that its group can write"
bad xshared-link1 shared/link/x1.log "link: (Not a directory|Too many levels of symbolic links)" "a link where a group can make one"
bad xmissing1 missing/x1.log "missing: No such file or directory" "a directory that does not exist"
for i in symlink hardlink fifo; do
	bad file.$i files/$i.log "is not a regular file with one name" "a $i"
done
bad file.directory files/directory.log "Is a directory" "a directory where the file should be"
is "$(cat "$dir/keep")" keep "a file that a link leads to is as it was"
is "$(find "$dir/tenant" "$dir/all" "$dir/group" -type f)$(ls "$dir/dots.log" 2>/dev/null)" "" "no file was made where none may be"

# Rotation
mv "$dir/good/there.log" "$dir/good/there.log.1"
: >"$dir/good/there.log"
kill -USR1 "$zfpm_pid"
anew() { says there after-rotation && has "$dir/good/there.log" after-rotation; }
passes "after it was moved and zfpm told to reopen, the new file has the lines" wait_until anew
