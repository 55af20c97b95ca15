#!/bin/sh
# zfpm -t tells of every app with `fork_server on` that could not have one, and why.
. "${0%/*}/lib.sh"
plan 34
cd "$tmp" || exit 1
make_user user
make_user other
echo 0123456789abcdef >key
chmod 600 key

# Files are named without the test's directory.
check() { "$zfpm" -t -c zfpm.conf 2>&1 | sed "s|$tmp/||g"; }
conf() {
	cat
	echo "listen $tmp/z.sock key $tmp/key"
} >zfpm.conf

# elf CLASS ORDER MACHINE TYPE HEADER...: an ELF file that has all its numbers and no contents; ORDER: < or >
elf() {
	perl -e '
		my ($class, $o, $machine, $type, @headers) = @ARGV;
		my ($word, $head, $size) = $class == 64 ? ("Q$o", 64, 56) : ("L$o", 52, 32);
		print "\x7fELF", pack("C4x8", $class / 32, $o eq "<" ? 1 : 2, 1, 0),
		    pack("S${o}2L$o${word}3L${o}S${o}6", $type, $machine, 1, 0, $head, 0, 0, $head, $size, scalar @headers, 0, 0, 0),
		    map { pack("L${o}x" . ($size - 4), $_) } @headers' "$@"
}
exec=2 dyn=3		# types
load=1 dynamic=2 interp=3	# program headers

# ---- a real one

echo 'int zfpm_fork_server;' >library.c
echo 'int main(void) { return 0; }' >program.c
"${CC:-cc}" -shared -fPIC -o library.so library.c && "${CC:-cc}" -o program program.c || exit 1
"${CC:-cc}" -static -o static program.c 2>static.err || : >static
cp program setuid
cp program setgid
chmod 4755 setuid
chmod 2755 setgid
printf '#!/bin/sh\n' >script
chmod 755 script
conf <<-EOF
	fork_server_library $tmp/library.so
	app plain { command /bin/sh }
	app server { command $tmp/program
		fork_server on }
	app script { command $tmp/script
		fork_server on }
	pool x { user $user
		app server script plain }
	pool y { user $other
		app server }
EOF
is "$(check)" 'zfpm.conf: ok: 2 pools, 3 apps (2 with a fork server), 1 listen
listen z.sock: mode 0660, key
control /run/zfpm/control
app plain: /bin/sh, 1 pool
app server: program, fork server, 2 pools
app script: script, fork server, 1 pool' 'a program and a script that can have one'
conf <<-EOF
	fork_server_library $tmp/library.so
	app static { command $tmp/static
		fork_server on }
	app setuid { command $tmp/setuid
		fork_server on }
	app setgid { command $tmp/setgid
		fork_server on }
	app gone { command $tmp/gone
		fork_server on }
	pool x { user $user
		app setuid setgid gone static }
	pool y { user $other
		app setuid setgid gone }
EOF
check >out
if [ -s static ]; then
	is "$(grep 'app static' out)" "zfpm.conf:2: app static: command: static: is linked statically: it ignores the fork server's library; needs 'fork_server off'" \
	    'a program that is linked statically'
else
	skip 1 "no program can be linked statically here"
fi
is "$(grep -v 'app static' out)" "zfpm.conf:4: app setuid: command: setuid: is setuid: it ignores the fork server's library; needs 'fork_server off'
zfpm.conf:6: app setgid: command: setgid: is setgid: it ignores the fork server's library; needs 'fork_server off'
zfpm.conf:8: app gone: command: gone: No such file or directory" 'setuid, setgid, and one that is not there, told of once each'
sed -i 's/fork_server on/fork_server off/; /app gone/,/fork_server/d; s/setgid gone/setgid/' zfpm.conf
[ -s static ] || sed -i '/app static/,/fork_server/d; s/setgid static/setgid/' zfpm.conf
like "$(check)" '^zfpm.conf: ok: 2 pools, [23] apps, 1 listen$' "with 'fork_server off' all are right"

# ---- programs of all kinds

elf 64 '<' 62 $dyn $load $dynamic >library.elf
one() {
	cat >one
	chmod 755 one
	conf <<-EOF
		fork_server_library $tmp/library.elf
		app a { command $tmp/one
			fork_server on }
		pool x { user $user
			app a }
	EOF
	check | sed -n 1p
}
ok='zfpm.conf: ok: 1 pool, 1 app (1 with a fork server), 1 listen'
static="zfpm.conf:2: app a: command: one: is linked statically: it ignores the fork server's library; needs 'fork_server off'"
foreign="zfpm.conf:2: app a: command: one: is for another processor than library.elf: needs 'fork_server off'"
is "$(elf 64 '<' 62 $dyn $load $interp $dynamic | one)" "$ok" 'one that ld.so loads, wherever it stands'
is "$(elf 64 '<' 62 $exec $interp | one)" "$ok" 'or at a place of its own'
is "$(elf 64 '<' 62 $exec $load | one)" "$static" 'a static one'
is "$(elf 64 '<' 62 $dyn $load $dynamic | one)" "$static" 'a static one that goes to any place'
is "$(elf 64 '<' 183 $dyn $interp | one)" "$foreign" 'another processor'
is "$(elf 32 '<' 62 $dyn $interp | one)" "$foreign" '32 bits beside 64'
is "$(elf 64 '>' 62 $dyn $interp | one)" "$foreign" 'the other byte order'
elf 32 '>' 20 $dyn $load >library.elf
is "$(elf 32 '>' 20 $exec $load $load $interp | one)" "$ok" 'a machine that is 32 bits wide and puts the first byte last'
is "$(elf 32 '>' 20 $exec $load | one)" "$static" 'and a static program of it'
is "$(printf '' | one)" "$ok" 'an empty file is no ELF file: its start will tell'
is "$(elf 64 '<' 62 $exec $load | head -c 40 | one)" "$ok" 'nor is one that ends in its header'
is "$(elf 64 '<' 62 $exec | one)" "$ok" 'or has no program headers'
# shellcheck disable=SC2046 # 300 words
is "$(elf 64 '<' 62 $exec $(yes $load | head -n 300) | one)" "$ok" 'or hundreds of them'
# As root, this one is seen to be static; the user can not look, and could still execute it.
elf 32 '>' 20 $exec $load | one >/dev/null
chmod 711 one
is "$(check | sed -n 1p)" "$ok" 'a program is read with the rights of its user'

# ---- the library

conf <<-EOF
	fork_server_library $tmp/lib/library.so
	app a { command $tmp/program
		fork_server on }
	pool x { user $user
		app a }
	pool y { user $other
		app a }
EOF
library() { is "$(check | sed -n 1p)" "zfpm.conf:2: app a: fork_server: lib/library.so: $1" "$2"; }
library "No such file or directory: put it there, or 'fork_server off'" 'a library that is not there'
mkdir lib lib/library.so
library 'is not a regular file' 'that is a directory'
rmdir lib/library.so
cp script lib/library.so
library 'is not a shared library' 'that is something else'
cp program lib/library.so
library 'is not a shared library' 'that is a program'
cp library.so lib/library.so
is "$(check | sed -n 1p)" 'zfpm.conf: ok: 2 pools, 1 app (1 with a fork server), 1 listen' 'that is one'
chmod 664 lib/library.so
library 'is writable by group or others' 'that a group can write'
chmod 600 lib/library.so
library "can not be read by the pool's user" 'that root alone can read'
chmod 644 lib/library.so
chmod 700 lib
library "can not be read by the pool's user: Permission denied" 'in a directory that root alone can enter'
chmod 755 lib
chown "$user" lib/library.so
library "is owned by uid $(id -u "$user"), not by root or the pool's user" 'that belongs to one of two users'
conf <<-EOF
	fork_server_library $tmp/lib/library.so
	app a { command $tmp/program
		fork_server on }
	pool x { user $user
		app a }
EOF
is "$(check | sed -n 1p)" "$ok" 'which is right for that one alone'

# ---- a chroot

mkdir -p jail/lib other-jail/lib
cp program jail/lib
cp program other-jail/lib
conf <<-EOF
	fork_server_library /lib/zfpm.so
	app a { command /lib/program
		fork_server on }
	pool x { user $user
		app a
		chroot $tmp/jail }
	pool y { user $other
		app a
		chroot $tmp/other-jail }
	pool *.x { user %1
		app a
		chroot $tmp/%1 }
EOF
is "$(check)" "zfpm.conf:4: pool x: app a: fork_server: jail/lib/zfpm.so: No such file or directory: put it there, or 'fork_server off'
zfpm.conf:7: pool y: app a: fork_server: other-jail/lib/zfpm.so: No such file or directory: put it there, or 'fork_server off'" \
    'a chroot has to have its own'
cp library.so jail/lib/zfpm.so
cp library.so other-jail/lib/zfpm.so
chmod 4755 other-jail/lib/program
is "$(check)" "zfpm.conf:7: pool y: app a: command: other-jail/lib/program: is setuid: it ignores the fork server's library; needs 'fork_server off'" \
    'and a program that can have it'
chmod 755 other-jail/lib/program
is "$(check | sed -n 1p)" 'zfpm.conf: ok: 3 pools (1 pattern), 1 app (1 with a fork server), 1 listen' 'then it is right'

# ---- what is watched

conf <<-EOF
	app b { command /bin/sh
		fork_server off
		watch /etc }
	pool z { user $user
		app b }
EOF
is "$(check | grep warning)" "zfpm.conf:1: warning: app b: watch: has no meaning without 'fork_server on'" 'what is watched for nobody'
conf <<-EOF
	fork_server_library $tmp/library.so
	app a { command $tmp/program
		fork_server on
		env PHP_FCGI_CHILDREN 4
		watch $tmp/library.c $tmp/jail }
	app b { command $tmp/program
		fork_server on
		env PHP_FCGI_CHILDREN 0
		watch $tmp/none }
	pool x { user $user
		app a b }
	pool y { user $user
		app a b }
EOF
is "$(check | grep warning)" "zfpm.conf:2: warning: app a: env: PHP_FCGI_CHILDREN: with 'fork_server on' zfpm has the workers forked, not PHP
zfpm.conf:6: warning: app b: watch: none: No such file or directory" \
    'workers that PHP would fork by itself; a path that is not there'
sed -i '/PHP_FCGI/d; s|/none|/key|' zfpm.conf
is "$(check | grep warning)" '' 'and nothing of what is there'
