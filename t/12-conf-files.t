#!/bin/sh
# Included files name themselves in their errors, and a file that others than root could write is refused.
. "${0%/*}/lib.sh"
plan 51
cd "$tmp" || exit 1
mkdir pools.d deep owned
chmod 755 pools.d deep owned
printf 'listen %s/z.sock key %s/key\napp a { command /bin/sh }\n' "$tmp" "$tmp" >base
printf '0123456789abcdef\n' >key
chmod 600 key

# Files are named without the test's directory.
check() { "$zfpm" -t -c "${1:-zfpm.conf}" 2>&1 | sed "s|$tmp/||g"; }

# conf LINE...: base, then these lines, so that the first of them is line 3
conf() {
	{
		cat base
		printf '%s\n' "$@"
	} >zfpm.conf
}
pool() { printf 'pool %s { user nobody\napp a }\n' "$1"; }

accepted() { like "$(check)" '^zfpm\.conf: ok: ' "$1"; }

# ---- include

pool one >pools.d/b.conf
pool two >pools.d/a.conf
echo nonsense >pools.d/a.conf~
conf 'include pools.d/*.conf'
is "$(check)" "zfpm.conf: ok: 2 pools, 1 app, 1 listen
listen z.sock: mode 0660, key
control /run/zfpm/control
app a: /bin/sh, 2 pools" 'a pattern includes the files that match'
echo 'nice x' >>pools.d/a.conf
echo 'usr x' >>pools.d/b.conf
conf 'include pools.d/*.conf' 'max_workers 0'
is "$(check)" "pools.d/a.conf:3: unknown directive 'nice' outside of app and pool
pools.d/b.conf:3: unknown directive 'usr' outside of app and pool
zfpm.conf:4: max_workers: 0 is not between 1 and 100000" 'errors name the included file, in the order of the names'
is "$(cd / && check "$tmp/zfpm.conf" | head -n 1)" \
    "pools.d/a.conf:3: unknown directive 'nice' outside of app and pool" \
    'a relative path begins at the directory of the including file'
pool one >pools.d/a.conf
pool one >pools.d/b.conf
conf 'include pools.d/*.conf'
is "$(check)" 'pools.d/b.conf:1: pool one: is defined at pools.d/a.conf:1 already' 'one pool in two files'
echo 'log stderr' >pools.d/a.conf
echo 'log syslog' >pools.d/b.conf
is "$(check)" 'pools.d/b.conf:1: log: is set at pools.d/a.conf:1 already' 'one directive in two files'
echo 'run_dir /run/elsewhere' >pools.d/a.conf
: >pools.d/b.conf
is "$(check)" 'pools.d/a.conf:1: run_dir: belongs into zfpm.conf itself' 'what the commands look for is in the file that they read'
conf 'include none.d/*.conf' 'include pools.d/*.none'
accepted 'a pattern that nothing matches is no error'
conf 'include none.conf'
is "$(check)" "zfpm.conf:3: include: none.conf: No such file or directory" 'a file that is not there is one'
conf 'include pools.d'
is "$(check)" "zfpm.conf:3: include: pools.d: is not a regular file" 'so is a directory'
mkfifo fifo
conf 'include fifo'
is "$(check)" "zfpm.conf:3: include: fifo: is not a regular file" 'and a FIFO, which is not waited for'
conf 'include zfpm.conf'
is "$(check)" 'zfpm.conf:3: include: zfpm.conf: is included already' 'a file that includes itself'
echo 'include "pools.d/*.conf"' >pools.d/a.conf
echo 'include *.conf' >pools.d/b.conf
ln -s ../pools.d/a.conf deep/link.conf
conf 'include pools.d/*.conf' 'include deep/link.conf'
is "$(check)" "pools.d/b.conf:1: include: pools.d/a.conf: is included already
pools.d/b.conf:1: include: pools.d/b.conf: is included already
zfpm.conf:4: include: deep/link.conf: is included already" 'files that include each other, and one by another name'
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do echo "include $((i + 1)).conf" >"deep/$i.conf"; done
conf 'include deep/1.conf'
is "$(check)" 'deep/15.conf:1: include: deep/16.conf: more than 16 files deep' 'too many files deep'
printf 'pool x {\n\tuser nobody\n' >pools.d/a.conf
printf '\tapp a\n}\n' >pools.d/b.conf
conf 'include pools.d/*.conf'
is "$(check)" "pools.d/a.conf:1: pool x: '}' is missing
pools.d/a.conf:1: pool x: 'app' is missing
pools.d/b.conf:1: app: '{' is missing
pools.d/b.conf:2: '}' without '{'" 'a block does not reach into the next file'
rm -r pools.d deep
mkdir pools.d deep

# ---- who can write it

pool x >pools.d/x.conf
conf 'include pools.d/*.conf'
accepted 'all is root'"'"'s'
refused() { is "$(check)" "$1" "$2"; }
chown nobody zfpm.conf
refused "zfpm.conf: is owned by uid $(id -u nobody), not by root" 'the file is not root'"'"'s'
chown 0:1 zfpm.conf
chmod 664 zfpm.conf
refused "zfpm.conf: can be written by group 1" 'a group can write it'
chgrp 0 zfpm.conf
accepted "root's own group can"
chmod 646 zfpm.conf
refused "zfpm.conf: can be written by everybody" 'everybody can write it'
chmod 644 zfpm.conf
chmod 666 pools.d/x.conf
refused "zfpm.conf:3: include: pools.d/x.conf: can be written by everybody" 'an included file'
chmod 644 pools.d/x.conf
chown 0:1 pools.d
chmod 775 pools.d
pool y >pools.d/y.conf
refused "zfpm.conf:3: include: pools.d: can be written by group 1" 'a directory, which is told of once'
chmod 1777 pools.d
accepted 'a sticky directory of root'"'"'s is accepted'
chown nobody pools.d/y.conf
refused "zfpm.conf:3: include: pools.d/y.conf: is owned by uid $(id -u nobody), not by root" \
    'but not the file of another in it'
rm pools.d/y.conf
ln -s "$tmp/base" pools.d/y.conf
chown -h nobody pools.d/y.conf
refused "zfpm.conf:3: include: pools.d/y.conf: is owned by uid $(id -u nobody), not by root" \
    'nor the link of another'
rm pools.d/y.conf
chmod 755 pools.d
mkdir -p owned/sub
chown nobody owned
mv pools.d/x.conf owned/sub
conf 'include owned/sub/x.conf'
refused "zfpm.conf:3: include: owned: is owned by uid $(id -u nobody), not by root" 'a directory further up'
ln -s "$tmp/owned/sub/x.conf" pools.d/x.conf
conf 'include pools.d/*.conf'
refused "zfpm.conf:3: include: owned: is owned by uid $(id -u nobody), not by root" 'the directory that a link leads to'
mv owned/sub/x.conf pools.d/real
rm pools.d/x.conf
ln -s ../../pools.d/real owned/sub/x.conf
conf 'include owned/sub/x.conf'
refused "zfpm.conf:3: include: owned: is owned by uid $(id -u nobody), not by root" \
    'the directory of a link that leads to a good file'
chown root owned
accepted 'links and .. in a path'
ln -s loop deep/loop
conf 'include deep/loop'
refused "zfpm.conf:3: include: deep/loop: Too many levels of symbolic links" 'a link to itself'
ln -s ../deep/dir deep/dir
conf 'include deep/dir/x'
refused "zfpm.conf:3: include: deep/dir: Too many levels of symbolic links" 'a directory that is a link to itself'

# ---- the key

conf ''
chmod 640 key
refused "zfpm.conf:1: listen: key: key: has mode 0640: root alone may read it" 'a key that a group can read'
chmod 600 key
chown nobody key
refused "zfpm.conf:1: listen: key: key: is owned by uid $(id -u nobody), not by root" 'a key that is not root'"'"'s'
chown root key
echo 0123456789abcde >key
refused "zfpm.conf:1: listen: key: key: the first line has 15 characters, not 16 to 1024" 'a short key'
printf '\n0123456789abcdef\n' >key
refused "zfpm.conf:1: listen: key: key: the first line has 0 characters, not 16 to 1024" 'the first line counts'
printf '%01025d\n' 0 >key
refused "zfpm.conf:1: listen: key: key: the first line has 1025 characters, not 16 to 1024" 'a long key'
printf '0123456789abcdef \n' >key
refused "zfpm.conf:1: listen: key: key: the first line has a character that is not printable ASCII, or a space" \
    'a space in a key'
printf 0123456789abcdef >key
accepted 'a key without an end of line'
rm key
refused "zfpm.conf:1: listen: key: key: No such file or directory" 'a key that is not there'
echo 'listen /z key key' >zfpm.conf
refused "zfpm.conf:1: listen: key: 'key' is not an absolute path" 'a key with a relative path'

# ---- the error_log of a pool

printf 'listen %s/z.sock\napp a { command /bin/sh }\n' "$tmp" >base
# log PATH [NAME]
log() { conf "pool ${2:-x} { user nobody" 'app a' "error_log $1 }"; }
# Not below /tmp, which everybody can write.
root_dir
logs=$root_dir
log_refused() { is "$(check | sed "s|$logs|LOGS|g")" "zfpm.conf:5: error_log: $1" "$2"; }
mkdir "$logs/sub"
log "$logs/%p.log"
chmod 755 "$logs"
accepted 'an error_log need not be there'
log "$logs/none/x"
log_refused 'LOGS/none/x: none: No such file or directory' 'but its directory must'
log "$logs/none/%p" '*.x'
accepted 'which is not looked at for a pattern'
mkfifo "$logs/x.log"
log "$logs/x.log"
log_refused 'LOGS/x.log: is not a regular file with one name' 'nothing else may be in its place'
rm "$logs/x.log"
ln -s /dev/null "$logs/x.log"
log_refused 'LOGS/x.log: is not a regular file with one name' 'not even a link'
rm "$logs/x.log"
log "$logs/sub"
log_refused 'LOGS/sub: is not a regular file with one name' 'or a directory'
true >"$logs/sub/x"
log "$logs/sub/x/y"
log_refused 'LOGS/sub/x/y: x: Not a directory' 'a file that is no directory'
log "$logs/sub/x"
accepted 'one that is there'
chown nobody "$logs"
log_refused "LOGS/sub/x: others than root can write the directory that 'sub' is in" 'the directory of another'
chown 0:1 "$logs"
chmod 1777 "$logs"
log_refused "LOGS/sub/x: others than root can write the directory that 'sub' is in" 'one that everybody can write, sticky or not'
chmod 775 "$logs"
accepted 'further up a group may write'
log "$logs/x"
log_refused "LOGS/x: others than root can write the directory that 'x' is in" 'but not in the directory itself'
