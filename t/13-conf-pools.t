#!/bin/sh
# Names find their pools, quotes and templates mean what zfpm.conf(5) says, and 10,000 pools load at once.
. "${0%/*}/lib.sh"
plan 36
cd "$tmp" || exit 1
make_user user
# shellcheck disable=SC2154 # make_user has set it
head="listen $tmp/z.sock key $tmp/key
app a { command /bin/sh }"
echo 0123456789abcdef >key
chmod 600 key

# Files are named without the test's directory.
check() { "$zfpm" -t -c "${1:-zfpm.conf}" 2>&1 | sed "s|$tmp/||g"; }
conf() {
	echo "$head"
	sed "s|@user@|$user|g; s|@tmp@|$tmp|g"
} >zfpm.conf

# What zfpm has made of the configuration can not be seen from outside: a program that asks conf.c.
cat >show.c <<-\EOF
	#include <stdio.h>
	#include <string.h>
	#include "t/unit/conf-alone.h"

	static void
	show(const char *what, const char *template, const struct conf_pool *pool, const char *name)
	{
		char buf[256];

		if (template != NULL)
			printf(" %s=%s", what, conf_expand(buf, sizeof(buf), template, pool, name) == 0 ? buf : "TOO LONG");
	}

	/* show FILE NAME...: what serves each name */
	int
	main(int argc, char **argv)
	{
		struct conf *conf = conf_load(argv[1], false, stderr);
		const struct conf_pool *p;
		const struct conf_env *e;
		const struct conf_rlimit *l;
		const struct conf_cgroup *c;
		int i;

		for (i = 2; conf != NULL && i < argc; i++) {
			if ((p = conf_find(conf, argv[i])) == NULL) {
				puts("none");
				continue;
			}
			printf("%s", p->name);
			show("user", p->user, p, argv[i]);
			show("group", p->group, p, argv[i]);
			show("directory", p->directory, p, argv[i]);
			show("chroot", p->chroot, p, argv[i]);
			for (e = p->env; e != NULL; e = e->next)
				show(e->name, e->value, p, argv[i]);
			show("error_log", p->error_log, p, argv[i]);
			for (c = p->cgroups; c != NULL; c = c->next)
				show(c->key, c->value, p, argv[i]);
			for (l = p->rlimits; l != NULL; l = l->next) {
				printf(" %s=%lld", l->name, l->limit.rlim_cur == RLIM_INFINITY ? -1 : (long long)l->limit.rlim_cur);
				printf("/%lld", l->limit.rlim_max == RLIM_INFINITY ? -1 : (long long)l->limit.rlim_max);
			}
			if (argc == 3) {
				for (e = p->apps[0]->env; e != NULL; e = e->next)
					printf(" app:%s=%s", e->name, e->value);
				for (char **a = p->apps[0]->argv; *a != NULL; a++)
					printf(" [%s]", *a);
				printf(" control=%s wait=%lld kill=%lld buffers=%zu,%zu queue=%d requests=%d close=%d workers=%d-%d umask=%o nice=%d",
				    conf->control, (long long)p->timeout_ms[TIMEOUT_WAIT], (long long)p->timeout_ms[TIMEOUT_KILL], p->buffer_request,
				    p->buffer_response, p->max_queue, p->max_requests, p->on_server_close, p->min_workers, p->max_workers,
				    (unsigned)p->umask, p->nice);
			}
			putchar('\n');
		}
		if (conf == NULL)
			return 1;
		conf_free(conf);
		return 0;
	}
EOF
if ! "${CC:-cc}" -std=c11 -D_GNU_SOURCE ${SANITIZE:+-fsanitize=address,undefined} -I"$top" -o show show.c \
    "$top/conf.c" 2>show.err; then
	diag "$(cat show.err)"
	echo 'Bail out! show.c does not compile'
	exit 1
fi
show() { ./show zfpm.conf "$@" 2>&1; }

# ---- patterns

conf <<-\EOF
	pool *.users.example.com { user %1
		app a }
	pool www.* { user w-%1
		app a
		group g%1
		directory /srv/%1/%p
		chroot /jail/%1
		env A "%1 %% %p"
		env B none
		cgroup memory.max %1
		error_log /none/%1/%p.log }
	pool *.com { user last
		app a }
	pool www.exact.com { user %p
		app a
		env A "100%% of %p" }
EOF
is "$(show bob.users.example.com)" '*.users.example.com user=bob [/bin/sh] control=/run/zfpm/control wait=30000 kill=5000 buffers=65536,262144 queue=100 requests=0 close=0 workers=0-10 umask=22 nice=0' \
    '%1 is what * matched, and these are the defaults'
is "$(show www.x.com a.com)" 'www.* user=w-x.com group=gx.com directory=/srv/x.com/www.x.com chroot=/jail/x.com A=x.com % www.x.com B=none error_log=/none/x.com/www.x.com.log memory.max=x.com
*.com user=last' 'of two patterns that match the first is used'
is "$(show www.exact.com x)" 'www.exact.com user=www.exact.com A=100% of www.exact.com
none' 'an exact name goes before all patterns'
is "$(show a.b.com www.users.example.com)" '*.com user=last
*.users.example.com user=www' '* matches dots'
is "$(show .com www. www .users.example.com)" 'none
none
none
none' 'it does not match nothing'
is "$(show www..x ..users.example.com www...)" 'none
none
none' 'nor what begins with a dot'
is "$(show www.a/b 'www.a b' 'www.*' '*.com' '' "www.$(printf %0252d 0)")" 'none
none
none
none
none
none' 'what is not the name of a pool is not found'
is "$(show x.com "www.$(printf %0251d 0)")" "*.com user=last
www.* user=w-$(printf %0251d 0) group=g$(printf %0251d 0) directory=TOO LONG chroot=TOO LONG A=TOO LONG B=none error_log=TOO LONG memory.max=$(printf %0251d 0)" \
    'an expansion that does not fit is an error'
sed -i /cgroup/d zfpm.conf
is "$(check)" "zfpm.conf:13: pool *.com: user: 'last' is unknown
zfpm.conf:15: pool www.exact.com: user: 'www.exact.com' is unknown" \
    'zfpm -t looks up the user of an exact pool, and of a pattern if it is the same for all names'
conf <<-\EOF
	pool exact {
		user %1
		app a
		directory /home/%2
		env A 100%
		groups g%1
	}
	pool *.x {
		user %1%
		app a
	}
EOF
is "$(check)" "zfpm.conf:4: user: %1 is what '*' matched, and there is none in 'exact'
zfpm.conf:6: directory: '%' in '/home/%2' is not %1, %p or %%
zfpm.conf:7: env: '%' in '100%' is not %1, %p or %%
zfpm.conf:8: groups: %1 and %p have no meaning in 'g%1'
zfpm.conf:11: user: '%' in '%1%' is not %1, %p or %%" '%1 in an exact pool, and what % can not be'
conf <<-\EOF
	pool * { user u%1
		app a }
	pool *.com { user c%1
		app a }
	pool www* { user w%1
		app a
		max_workers 501 }
	pool some { user nobody
		app a
		max_workers 500
		min_workers 500 }
	app b { command /bin/sh }
EOF
is "$(check | grep warning)" "zfpm.conf:14: warning: app b: no pool uses it
zfpm.conf:7: warning: pool www*: max_workers 501 is more than the 500 of all pools together
zfpm.conf:5: warning: pool *.com: is never used: pool * at zfpm.conf:3 matches all its names
zfpm.conf:7: warning: pool www*: is never used: pool * at zfpm.conf:3 matches all its names
zfpm.conf: warning: min_workers of the pools leave nothing of max_workers 500: any other process is in the place of one of them" 'what is unwise is told'

# ---- words, values, defaults

conf <<-\EOF
	# a comment { with a brace
	app q { command "/bin/sh" -c "say \"a b\" \\ # {x}" c:\dir a#b ""	# the end
		env A "%1 %p"
		env B 1
		env A 2}
	pool p { user "nobody"
		app q
		timeout wait 2m
		timeout kill 250ms
		env A 1
		env B 2
		env A 3
		rlimit nofile 100 unlimited
		rlimit cpu 2m
		rlimit as 1G 2G
		rlimit core 0
		umask 077
		nice -5
		buffer_response 1M
		cgroup memory.max 1G
		cgroup cpu.max "50000"	 100000
		cgroup cgroup.max.depth 5
		cgroup hugetlb.2MB.max 100%%
		error_log /var//%p.log
		min_workers 2
		max_workers 3}
	run_dir /var/run/zfpm
	timeout wait 7
	buffer_request 8K
	buffer_response 16K
	max_queue 0
	max_requests 12
	on_server_close abort
EOF
is "$(show p)" 'p user=nobody A=3 B=2 error_log=/var//p.log memory.max=1G cpu.max=50000 100000 cgroup.max.depth=5 hugetlb.2MB.max=100% nofile=100/-1 cpu=120/120 as=1073741824/2147483648 core=0/0 app:A=2 app:B=1 [/bin/sh] [-c] [say "a b" \ # {x}] [c:\dir] [a#b] [] control=/var/run/zfpm/control wait=120000 kill=250 buffers=8192,1048576 queue=0 requests=12 close=1 workers=2-3 umask=77 nice=-5' \
    'quotes, comments, units, and defaults that stand behind the pool'
sed -i '/cgroup/d' zfpm.conf
is "$(check)" "zfpm.conf: ok: 1 pool, 2 apps, 1 listen
listen z.sock: mode 0660, key
control /var/run/zfpm/control
min_workers: 2 of max_workers 500 are started ahead
app a: /bin/sh, 0 pools
app q: /bin/sh, 1 pool
zfpm.conf:2: warning: app a: no pool uses it" 'which zfpm -t says is well'
printf 'listen /z key @tmp@/key\napp a { command /bin/sh }' | sed "s|@tmp@|$tmp|" >zfpm.conf
is "$(check | sed -n '1p;5,$p')" 'zfpm.conf: ok: 0 pools, 1 app, 1 listen
zfpm.conf:2: warning: app a: no pool uses it
zfpm.conf: warning: there is no pool' 'the last line needs no end'

# ---- listen

cat >zfpm.conf <<-EOF
	listen $tmp/a group nogroup owner nobody mode 0666 key $tmp/key
	listen $tmp/b
	listen $tmp/c mode 0666 allow_user root nobody
	listen 127.0.0.1:9000 allow 127.0.0.0/8 ::1 key $tmp/key
	listen [::1]:9000 allow 0.0.0.0/0
	control $tmp/control
	app a { command /bin/sh }
	pool x { user nobody
		app a }
EOF
is "$(check)" "zfpm.conf: ok: 1 pool, 1 app, 5 listens
listen a: owner nobody, group nogroup, mode 0666, key
listen b: mode 0660, no key
listen c: mode 0666, allow_user 0 $(id -u nobody), no key
listen 127.0.0.1:9000: allow 127.0.0.0/8 ::1/128, key
listen [::1]:9000: allow 0.0.0.0/0, no key
control control
app a: /bin/sh, 1 pool
zfpm.conf:1: warning: listen a: mode 0666 lets everybody on this machine connect
zfpm.conf:2: warning: listen b: no key: whoever can connect can name any pool
zfpm.conf:3: warning: listen c: no key: whoever can connect can name any pool
zfpm.conf:5: warning: listen [::1]:9000: no key: whoever can connect can name any pool
zfpm.conf:5: warning: listen [::1]:9000: allow 0.0.0.0/0 lets everybody connect" 'all forms of listen, and a warning of each without a key'

# ---- zfpm -t looks up users and programs

mkdir -p bin jail/bin
cp /bin/true bin/mine
cp /bin/true bin/open
cp /bin/true jail/bin/in-jail
chown "$user" bin/mine
chmod 775 bin/open
conf <<-\EOF
	min_uid 900
	app mine { command @tmp@/bin/mine }
	app open { command @tmp@/bin/open }
	app gone { command @tmp@/bin/gone }
	app jail { command /bin/in-jail }
	pool owner { user @user@
		app mine a }
	pool unknown { user zfpm-none
		app a }
	pool group { user @user@
		group zfpm-none
		app a }
	pool groups { user @user@
		groups zfpm-none root
		app a }
	pool root { user root
		app a }
	pool daemon { user daemon
		app a }
	pool open { user @user@
		app open }
	pool gone { user @user@
		app gone }
	pool gone2 { user @user@
		app gone }
	pool jail { user @user@
		app jail a
		chroot @tmp@/jail }
	pool *.x { user zfpm-none
		app a }
	pool *.y { user %1
		app a }
EOF
check >out
while read -r line; do
	passes "$line" grep -Fqx "$line" out
done <<-EOF
	zfpm.conf:10: pool unknown: user: 'zfpm-none' is unknown
	zfpm.conf:12: pool group: group: 'zfpm-none' is unknown
	zfpm.conf:15: pool groups: groups: 'zfpm-none' is unknown
	zfpm.conf:15: pool groups: groups: 'root' has gid 0
	zfpm.conf:18: pool root: user: 'root' has uid 0: root never runs an application
	zfpm.conf:20: pool daemon: user: 'daemon' has uid $(id -u daemon), below min_uid 900
	zfpm.conf:5: app open: command: bin/open: is writable by group or others
	zfpm.conf:6: app gone: command: bin/gone: No such file or directory
	zfpm.conf:28: pool jail: app a: command: jail/bin/sh: No such file or directory
	zfpm.conf:31: pool *.x: user: 'zfpm-none' is unknown
EOF
is "$(wc -l <out)" 10 'and no other error: a program of the user is right for the user, and one in the chroot'
sed -i "s|user $user|user nobody|" zfpm.conf
like "$(check)" "^zfpm\.conf:4: app mine: command: bin/mine: is owned by uid $(id -u "$user"), not by root" \
    'and wrong for another'

# ---- the example

sed "s|/etc/zfpm|$tmp|; s|alice|$user|; s|www-data|nogroup|; s|/usr/bin/php-cgi|/bin/sh|" "$top/zfpm.conf.example" >zfpm.conf
echo "fork_server_library $bin/zfpm-forkserver.so" >>zfpm.conf
mkdir pools.d
is "$(check)" "zfpm.conf: ok: 1 pool, 1 app (1 with a fork server), 1 listen
listen /run/zfpm/zfpm.sock: group nogroup, mode 0660, key
control /run/zfpm/control
app php: /bin/sh, fork server, 1 pool" 'zfpm.conf.example works once the names are in it'
# Not every machine has its cgroups, and a directory for logs.
sed -E -i '/cgroup/d; s|/var/log/zfpm|/run|
    s/^# *(listen|control|router_user|log|log_level|max_workers|min_uid|timeout|max_queue|pool|user|app|env|\}) ?/\1 /
    s/^(	)# /\1/; s/^#	/	/; s|/usr/local/bin/fcgi_wsgi.py|/bin/sh|' zfpm.conf
is "$(check | sed -n 1p)" 'zfpm.conf: ok: 2 pools (1 pattern), 2 apps (1 with a fork server), 2 listens' 'and so does all that is a comment in it'

# ---- very many

{
	echo "$head"
	# awk, for a loop of sh takes longer than all the rest
	awk -v user="$user" 'BEGIN {
		for (i = 0; i < 10000; i++)
			printf "pool www%d.example.com {\n\tuser nobody\n\tapp a\n\tdirectory /srv/www%d\n\tmax_workers 12\n\tenv TMPDIR /srv/www%d/tmp\n}\n", i, i, i
	}'
} >big.conf
mkdir many
awk '/^pool/ { close(file); file = "many/" $2 ".conf" } file { print > file }' big.conf
{
	echo "$head"
	echo 'include many/*.conf'
} >many.conf
# run COMMAND...: prints the processor time that it took, in milliseconds
run() { perl -e 'system(@ARGV) == 0 or exit 1; my (undef, undef, $u, $s) = times; printf "%d\n", 1000 * ($u + $s)' "$@"; }
for file in big many; do
	is "$(check $file.conf | sed -n 1p)" "$file.conf: ok: 10000 pools, 1 app, 1 listen" "10,000 pools ($file.conf)"
	ms=$(run ./show $file.conf www9999.example.com 2>&1 | tail -n 1)
	diag "$file.conf: $ms ms"
	[ "${ms:-9999}" -lt 1000 ]
	ok $? "10,000 pools are read in less than a second ($file.conf)"
	if [ -n "${SANITIZE:-}" ]; then
		skip 1 'the sanitizer needs more memory'
	else
		passes "10,000 pools fit into 15 MB and the C library ($file.conf)" \
		    sh -c "ulimit -v 20480; exec ./show $file.conf www9999.example.com >/dev/null"
	fi
done
like "$(./show big.conf www9999.example.com www0.example.com)" '^www0\.example\.com user=nobody directory=/srv/www0 TMPDIR=/srv/www0/tmp$' \
    'and each is found'
