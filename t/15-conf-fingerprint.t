#!/bin/sh
# What a worker was made from has a number of its own, so that a reload replaces those whose settings have changed, and no other.
. "${0%/*}/lib.sh"
plan 73
cd "$tmp" || exit 1

cat >number.c <<-\EOF
	#include <inttypes.h>
	#include <stdio.h>
	#include <stdlib.h>
	#include "t/unit/conf-alone.h"

	/* number FILE NAME APP: of the worker of this pool and of its app with this index */
	int
	main(int argc, char **argv)
	{
		struct conf *conf = argc == 4 ? conf_load(argv[1], false, stderr) : NULL;
		const struct conf_pool *p = conf == NULL ? NULL : conf_find(conf, argv[2]);

		if (p == NULL)
			return 1;
		printf("%016" PRIx64 "\n", conf_fingerprint(p, p->apps[atoi(argv[3])], argv[2]));
		conf_free(conf);
		return 0;
	}
EOF
if ! "${CC:-cc}" -std=c11 -D_GNU_SOURCE ${SANITIZE:+-fsanitize=address,undefined} -I"$top" -o number number.c "$top/conf.c" \
    2>number.err; then
	diag "$(cat number.err)"
	echo 'Bail out! number.c does not compile'
	exit 1
fi

# number FILE [NAME] [APP], or what is wrong
number() { ./number "$1" "${2:-blog}" "${3:-0}" 2>&1; }

cat >base.conf <<-EOF
	listen $tmp/z.sock
	app a {
		command /bin/sh -c x
		env A 1
		env B 2
		connections 2
	}
	app b {
		command /bin/sh -c x
		env A 1
		env B 2
		connections 2
	}
	app other { command /bin/true }
	pool blog {
		user alice
		group web
		groups g h
		app a b other
		directory /srv/blog
		chroot /jail/blog
		umask 027
		nice 5
		rlimit nofile 100 200
		rlimit core 0
		env C 3
		env D 4
		cgroup memory.max 1G
		cgroup cpu.weight 50
		error_log /var/blog.log
	}
	pool * {
		user bob
		app a
	}
EOF
before=$(number base.conf)
like "$before" '^[0-9a-f]{16}$' 'a worker has a number'
is "$(number base.conf)" "$before" 'which is the same the next time'

# The same file with a sed script carried out on it.
changed() {
	sed "$1" base.conf >changed.conf
	! cmp -s base.conf changed.conf || echo 'nothing is changed'
	number changed.conf
}
title() { printf '%s\n' "$2" | sed "s/\\\\n/; /g; s/^/$1: /"; }
replaced() {
	after=$(changed "$1")
	[ "$after" != "$before" ] && expr "$after" : '[0-9a-f]\{16\}$' >/dev/null
	ok $? "$(title replaced "$1")" || diag "$after"
}
kept() { is "$(changed "$1")" "$before" "$(title kept "$1")"; }

# ---- what a process is made from

while IFS= read -r script; do
	replaced "$script"
done <<-\EOF
	s/user alice/user carol/
	s/group web/group www/
	/group web/d
	s/groups g h/groups g/
	s/groups g h/groups gh/
	s/groups g h/groups h g/
	/groups/d
	s|directory .*|directory /srv|
	/directory/d
	s|chroot .*|chroot /jail|
	/chroot/d
	s|directory|x|; s|chroot|directory|; s|x|chroot|
	s/umask 027/umask 022/
	/umask/d
	s/nice 5/nice -5/
	/nice/d
	s/nofile 100 200/nofile 100 201/
	s/nofile 100 200/nofile 99 200/
	s/nofile 100 200/nproc 100 200/
	s/nofile 100 200/nofile 100 unlimited/
	/rlimit core/d
	/rlimit/d
	s/env C 3/env C 4/
	s/env C 3/env C3 ""/
	s/env C 3/env X 3/
	/env D/d
	s/env D 4/env A 4/
	s/env D 4/env D ""/
	s/memory.max 1G/memory.max 2G/
	s/memory.max/memory.high/
	/cpu.weight/d
	/cgroup/d
	s/blog.log/other.log/
	/error_log/d
	3s/-c x/-c y/
	3s/-c x/-cx/
	3s/-c x/"-c x"/
	3s/-c x/-c x ""/
	3s|/bin/sh|/bin/dash|
	4s/1/2/
	4d
	6s/2/3/
	6d
	4s/A/a/
EOF

# ---- what concerns requests only

while IFS= read -r script; do
	kept "$script"
done <<-\EOF
	s/umask 027/&\nmax_workers 3\nmin_workers 2\nmax_queue 5\nmax_requests 100/
	s/umask 027/&\ntimeout wait 1s\ntimeout idle 1s\ntimeout kill 1s\nslow 1s/
	s/umask 027/&\ntimeout start 1s\ntimeout app_server 1s/
	1s/$/\ntimeout start 1s\ntimeout app_server 1s/
	1s|$|\nfork_server_library /none.so|
	s|connections 2|&\nfork_server off\nwatch /etc|
	s/umask 027/&\nbuffer_request 4K\nbuffer_response 4K\non_server_close abort/
	s/connections 2/&\nextensions .php\nroles responder authorizer/
	1s/$/\nmax_workers 7\nlog_level debug\ntimeout app 9s/
	s/app a b other/app a/
	s/^app other/# comment\n&/
	s/env C 3/env C 7\nenv C 3/
	s/blog[.]log/%p.log/
EOF

# ---- a fork server

sed '/connections/d' base.conf >direct.conf
sed 's/connections 2/fork_server on/' base.conf >server.conf
direct=$(number direct.conf)
server=$(number server.conf)
like "$server" '^[0-9a-f]{16}$' 'a worker of a fork server has a number'
isnt "$server" "$direct" 'which is another one than without'
is "$(sed 's/fork_server on/fork_server off/' server.conf >s2.conf && number s2.conf)" "$direct" "'fork_server off' is the default"
is "$(number server.conf blog 1)" "$server" 'an app of another name with the same process'
isnt "$(sed '1s|$|\nfork_server_library /none.so|' server.conf >s3.conf && number s3.conf)" "$server" 'another library'
is "$(sed '$s|$|\nfork_server_library /none.so|' server.conf >s4.conf && number s4.conf)" "$(number s3.conf)" \
    'wherever it stands'
is "$(sed 's|fork_server on|&\nwatch /etc/php.ini /etc/php.d|; s/umask 027/&\ntimeout start 1s\ntimeout app_server 1s/' server.conf >s5.conf &&
    number s5.conf)" "$server" 'what is watched, and how long an app server is waited for and kept, have no part in it'

# ---- which app, which name

is "$(number base.conf blog 1)" "$before" 'an app of another name with the same process'
isnt "$(number base.conf blog 2)" "$before" 'another app'
is "$(number base.conf x)" "$(number base.conf y)" 'two names of a pattern that does not use them'
cat >pattern.conf <<-EOF
	listen $tmp/z.sock
	app a { command /bin/sh }
	pool *.net { user %1
		app a
		env X "%% %p"
		error_log /var/%1.log
		cgroup memory.max %1 }
	pool alice.org { user alice
		app a
		env X "% alice.net"
		error_log /var/alice.log
		cgroup memory.max alice }
EOF
sed -i 's/"% alice/"%% alice/' pattern.conf
is "$(number pattern.conf alice.net)" "$(number pattern.conf alice.org)" 'templates count with what they stand for'
isnt "$(number pattern.conf alice.net)" "$(number pattern.conf bob.net)" 'so another name has another number'
is "$(sed 's/user %1/user alice/' pattern.conf >p2.conf && number p2.conf alice.net)" "$(number pattern.conf alice.net)" \
    'and another template for the same the same'
# The program that finds a worker after an upgrade is not the one that has started it. Whoever changes what is
# counted, or how, changes this number here, and lets that upgrade replace all workers.
printf 'listen %s/z.sock\napp a { command /bin/sh }\npool x { user alice\napp a }\n' "$tmp" >fixed.conf
is "$(number fixed.conf x)" 985c468966112180 'the number is the same on every machine'
