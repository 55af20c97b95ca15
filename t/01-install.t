#!/bin/sh
# make install puts every file into its place, leaves what is there of the administrator's, and make uninstall takes
# away what make install has brought.
# shellcheck disable=SC2034
rootless=1
. "${0%/*}/lib.sh"
plan 22
unset MAKEFLAGS MFLAGS

# A copy as it has been built: nothing is compiled again, and not in the sources where other tests run.
mkdir "$tmp/src"
cp -Rp "$top"/Makefile "$top"/*.[cho] "$top/zfpm" "$top/zfpm.conf.example" "$top/man" "$top/dist" "$top/examples" "$tmp/src"
cp -p "$top/zfpm-forkserver.so" "$tmp/src"
cp -p "$top/mod_zfpm.so" "$tmp/src" 2>/dev/null
cd "$tmp/src" || exit 1
d=$tmp/root
files() { (cd "$d" && find . -type f | sort); }
modules=''
if command -v apxs >/dev/null; then
	modules=$(apxs -q LIBEXECDIR)
else
	printf '#!/bin/sh\n' >apxs
fi

make install DESTDIR="$d" PREFIX=/opt/z sysconfdir=/opt/etc >"$tmp/make.txt" 2>&1
ok $? "make install" || diag "$(cat "$tmp/make.txt")"
is "$(files | grep -v /examples/)" "$(for f in ${modules:+"$modules/mod_zfpm.so"} /opt/etc/zfpm/key /opt/etc/zfpm/zfpm.conf \
    /opt/etc/logrotate.d/zfpm /opt/z/lib/zfpm/zfpm-forkserver.so /opt/z/lib/systemd/system/zfpm.service /opt/z/lib/systemd/system/zfpm.socket \
    /opt/z/sbin/zfpm /opt/z/share/man/man5/zfpm.conf.5 /opt/z/share/man/man5/zfpm-status.5 /opt/z/share/man/man7/zfpm-examples.7 /opt/z/share/man/man8/mod_zfpm.8 \
    /opt/z/share/man/man8/zfpm.8; do echo ".$f"; done | sort)" "brings these files"
is "$(cd "$d/opt/z/share/doc/zfpm" && find examples -type f -perm /111 | sort) $(files | grep -c /examples/)" \
    "$(cd "$top" && find examples -type f -perm /111 | sort) $(find "$top/examples" -type f | grep -c .)" "and the examples, of which the programs can be run"
passes "the binary can be run" test -x "$d/opt/z/sbin/zfpm"
is "$(stat -c %a "$d/opt/z/lib/zfpm/zfpm-forkserver.so")" 755 "the library can be loaded by everybody"
passes "pools.d is a directory" test -d "$d/opt/etc/zfpm/pools.d"
like "$(cat "$d/opt/etc/zfpm/key")" '^[0-9a-f]{64}$' "the key is long"
is "$(stat -c %a "$d/opt/etc/zfpm/key")" 600 "and its owner's alone"
like "$(cat "$d/opt/z/lib/systemd/system/zfpm.service")" '^ExecStart=/opt/z/sbin/zfpm -c /opt/etc/zfpm/zfpm.conf$' \
    "the unit starts this binary with this file"
like "$(cat "$d/opt/z/lib/systemd/system/zfpm.service")" '^ExecReload=/opt/z/sbin/zfpm reload -c /opt/etc/zfpm/zfpm.conf$' \
    "and reloads the same"
like "$(cat "$d/opt/etc/logrotate.d/zfpm")" '/opt/z/sbin/zfpm reopen -c /opt/etc/zfpm/zfpm.conf' "as logrotate reopens its logs"
unlike "$(grep -v '^#' "$d/opt/etc/zfpm/zfpm.conf")" ' /etc/zfpm' "the configuration names its own directory"
like "$(grep -v '^#' "$d/opt/etc/zfpm/zfpm.conf")" 'key /opt/etc/zfpm/key' "and its own key"

cp "$d/opt/etc/zfpm/key" "$tmp/key"
touch -d @1 "$d/opt/z/lib/systemd/system/zfpm.service" "$d/opt/z/lib/systemd/system/zfpm.socket"
make install DESTDIR="$d" PREFIX=/opt/z sysconfdir=/opt/etc >/dev/null 2>&1
passes "a second make install keeps the key" cmp -s "$tmp/key" "$d/opt/etc/zfpm/key"
is "$(stat -c %Y "$d/opt/z/lib/systemd/system/zfpm.service" "$d/opt/z/lib/systemd/system/zfpm.socket" | tr '\n' ' ')" '1 1 ' \
    "and does not write units that are the same, for which systemd would want a daemon-reload"

make uninstall DESTDIR="$d" PREFIX=/opt/z sysconfdir=/opt/etc >"$tmp/make.txt" 2>&1
ok $? "make uninstall" || diag "$(cat "$tmp/make.txt")"
is "$(find "$d" -mindepth 1 2>/dev/null)" '' "leaves nothing"

make install DESTDIR="$d" >/dev/null 2>&1
echo '# mine' >>"$d/etc/zfpm/zfpm.conf"
echo '# mine' >"$d/etc/zfpm/pools.d/blog.conf"
echo '# mine' >>"$d/etc/logrotate.d/zfpm"
make install DESTDIR="$d" >/dev/null 2>&1
is "$(tail -q -n 1 "$d/etc/zfpm/zfpm.conf" "$d/etc/logrotate.d/zfpm" | uniq)" '# mine' "a changed configuration stays as it is"
passes "the unit goes where systemd looks" test -e "$d/usr/local/lib/systemd/system/zfpm.service"
make uninstall DESTDIR="$d" >"$tmp/make.txt" 2>&1
is "$(files)" './etc/logrotate.d/zfpm
./etc/zfpm/key
./etc/zfpm/pools.d/blog.conf
./etc/zfpm/zfpm.conf' "make uninstall leaves a changed configuration"
like "$(cat "$tmp/make.txt")" 'stays' "and says so"
make uninstall DESTDIR="$d" >/dev/null 2>&1
ok $? "make uninstall once more has nothing to do"
