#!/bin/sh
# make demo shows what it promises and leaves nothing behind.
. "${0%/*}/lib.sh"
if ! [ -e "$module" ]; then
	skip_all "no mod_zfpm.so"
fi
plan 15

made_by_demo() {
	getent passwd | grep -E -e '-demo[0-9]*:' | cut -d : -f 1
	find /run /usr/local/lib -maxdepth 1 -name 'zfpm-demo.*'
}
made_by_demo | sort >"$tmp/before"

port=$(free_port)
DEMO_ONCE=1 PORT=$port "$top/dist/demo" >"$tmp/out" 2>"$tmp/demo.txt" </dev/null
is "$?" 0 "the demo runs" || diag "$(cat "$tmp/out" "$tmp/demo.txt")"
out=$(cat "$tmp/out")
like "$out" 'alice.localhost: process [0-9]+ is uid=[0-9]+\(alice-demo' "the script of alice's site is alice"
like "$out" 'bob.localhost: process [0-9]+ is uid=[0-9]+\(bob-demo' "that of bob's site is bob"
like "$out" "alice's secret: the password of alice's database" "each reads its own file"
like "$out" "bob's secret: the password of bob's database" "each of them"
is "$(grep -c 'secret: .*Permission denied' "$tmp/out")" 2 "and not the other's"
is "$(sed -n 's/^ *[0-9:]* \(slow.php begins\|all of Apache is killed\|Apache answers again\|slow.php has completed its work\).*/\1/p' "$tmp/out")" \
    'slow.php begins
all of Apache is killed
Apache answers again
slow.php has completed its work' "a script goes on while Apache is restarted"
is "$(sed -n 's/.*slow.php .*, \(process [0-9]*\)$/\1/p' "$tmp/out" | sort -u | grep -c .)" 1 "it is one process that does"
like "$out" 'root +[0-9]+ .*zfpm: master' "the master is root"
like "$out" 'zfpm-demo[0-9]* +[0-9]+ .*zfpm: router' "the router is not"
like "$out" 'alice-demo[0-9]* +[0-9]+ .*php-cgi' "alice's worker is alice"
is "$(awk '$4 == "zfpm:" && $5 == "master" { master = $2 } /php-cgi/ && $2 ~ /^[0-9]+$/ { user[$2] = $1; parent[$2] = $3 }
    END { for (p in parent) if (user[parent[p]] == user[p] && parent[parent[p]] == master) print user[p] }' "$tmp/out" | sort -u | sed 's/-.*//')" 'alice
bob' "and a child of alice's app server, as bob's is of his"
is "$(cat "$tmp/demo.txt")" '' "nothing on standard error"
made_by_demo | sort | diff "$tmp/before" - >"$tmp/diff"
ok $? "its users and files are gone" || diag "$(cat "$tmp/diff")"
fails "nobody listens on its port any more" curl -s -o "$tmp/page" "http://127.0.0.1:$port/"
