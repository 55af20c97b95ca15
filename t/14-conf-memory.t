#!/bin/sh
# However often a configuration is read, refused or given back, nothing of it stays; and without memory it is refused.
. "${0%/*}/lib.sh"
plan 12
cd "$tmp" || exit 1

# conf.c by itself, which it includes to count what it allocates. Small chunks, so that there are many.
sed 's/^\(#define ARENA_CHUNK\).*/\1 64/' "$top/conf.c" >conf-small.c
cat >memory.c <<-\EOF
	#include <stdio.h>
	#include <stdlib.h>
	#include <string.h>
	#include <unistd.h>

	static long live, all, left = -1;	/* allocations now and so far; how many may still succeed, -1: any */

	static void *
	count_calloc(size_t n, size_t size)
	{
		if (left == 0)
			return NULL;
		left -= left > 0;
		live++;
		all++;
		return calloc(n, size);
	}

	static void
	count_free(void *p)
	{
		live -= p != NULL;
		free(p);
	}

	#define calloc count_calloc
	#define free count_free
	#include "conf-small.c"
	#include "t/unit/conf-alone.h"

	static int
	lowest_fd(void)
	{
		int fd = dup(0);

		close(fd);
		return fd;
	}

	/* memory FILE N: read it N times, or with N = 0 with ever more memory until that is enough */
	int
	main(int argc, char **argv)
	{
		int i, fd = lowest_fd(), loaded = 0, times = argc == 3 ? atoi(argv[2]) : 1;
		char text[4096], want[4096];
		struct conf *conf;
		FILE *errors;

		snprintf(want, sizeof(want), "%s: %s\n", argv[1], strerror(ENOMEM));
		for (i = 0; times > 0 ? i < times : loaded == 0; i++) {
			memset(text, 0, sizeof(text));
			errors = fmemopen(text, sizeof(text) - 1, "w");
			left = times > 0 ? -1 : i;
			if ((conf = conf_load(argv[1], false, errors)) != NULL)
				loaded++;
			fclose(errors);
			if (conf != NULL && text[0] != '\0')
				printf("loaded, but: %s", text);
			if (conf == NULL && (times > 0 ? text[0] == '\0' : strcmp(text, want) != 0))
				printf("refused with %d allocations: %s\n", i, text);
			conf_free(conf);
			if (live != 0 || lowest_fd() != fd) {
				printf("left: %ld allocations, first free descriptor %d, before %d\n", live, lowest_fd(), fd);
				return 1;
			}
		}
		conf_free(NULL);
		printf("%d of %d loaded%s", loaded, i, all > 0 ? "\n" : ", and never an allocation\n");
		return 0;
	}
EOF
build() { "${CC:-cc}" -std=c11 -D_GNU_SOURCE -I"$top" "$@" 2>>build.err; }
if ! build -g ${SANITIZE:+-fsanitize=address,undefined} -o memory memory.c; then
	diag "$(cat build.err)"
	echo 'Bail out! memory.c does not compile'
	exit 1
fi
# read_often FILE N: what memory says, without the test's directory
read_often() { ./memory "$@" 2>&1 | sed "s|$tmp/||g"; }

echo 0123456789abcdef >key
chmod 600 key
mkdir pools.d
for i in 1 2 3 4 5 6 7 8 9; do
	printf 'pool p%s { user nobody\napp a b\ncgroup pids.max "%s %%p"\nenv A %%p\n}\n' $i $i >pools.d/$i.conf
done
ln -s 9.conf pools.d/9.link
cat >good.conf <<-EOF
	listen $tmp/a.sock allow_user nobody root key $tmp/key
	listen 127.0.0.1:9000 allow 127.0.0.1 10.0.0.0/8 key $tmp/../${tmp##*/}/key
	timeout wait 5s
	app a { command /bin/sh -c "echo \$(printf %0300d 0)"
		env A B }
	app b { command /bin/sh
		fork_server on
		watch /etc/php.ini
		watch /etc/php.d /etc/zfpm
		extensions .php .phtml }
	pool *.x { user %1
		directory /home/%1
		error_log /home/%1/%p.log
		rlimit nofile 10
		rlimit core 0
		app b }
	include pools.d/[1-8].conf
	include pools.d/9.link
EOF
is "$(read_often good.conf 1000)" '1000 of 1000 loaded' 'a good one, read and given back a thousand times'
like "$(read_often good.conf 0)" '^1 of [0-9]{2,} loaded$' 'every allocation can fail: one line says so, and nothing is left'
diag "with ever more memory: $(read_often good.conf 0)"
cp good.conf bad.conf
cat >>bad.conf <<-EOF
	include none/*.conf
	include none.conf
	include pools.d
	listen $tmp/a.sock key $tmp/pools.d/1.conf
	listen 127.0.0.1:9001 allow 127.0.0.1 key $tmp
	pool p1 { user nobody
		app c "
EOF
is "$(read_often bad.conf 1000)" '0 of 1000 loaded' 'a bad one'
for what in 'none.conf' 'pools.d' '"' "app x {" ''; do
	echo "$what" >bad.conf
	is "$(read_often bad.conf 100)" '0 of 100 loaded' "a file of this: $what"
done
rm bad.conf
is "$(read_often bad.conf 100)" '0 of 100 loaded' 'a file that is not there'
{
	cat good.conf
	head -c 200000 /dev/zero | tr '\0' '#'
} >large.conf
like "$(read_often large.conf 0)" '^1 of [0-9]{2,} loaded$' 'a large one'

# One that has been read says nothing of the next: there is nowhere to keep it.
build -fno-pie -c -o plain.o -D_FORTIFY_SOURCE=0 "$top/conf.c"
is "$(nm plain.o | grep -c ' T conf_load$')" 1 'conf.c has conf_load()'
is "$(nm plain.o | grep ' [bBcCdDsS] ')" '' 'and no variable that outlives a call'
