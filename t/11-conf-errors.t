#!/bin/sh
# Whatever is wrong in a configuration is reported as FILE:LINE: what is wrong, all of it in one run.
. "${0%/*}/lib.sh"
plan 125
cd "$tmp" || exit 1
head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n' >key
chmod 600 key

# refused TITLE: on standard input a configuration, "--", and the errors that zfpm -t has for it.
# A listen is added behind it unless it has one. Files are named without their directory.
refused() {
	cat >case
	sed "s|@tmp@|$tmp|g; /^--\$/,\$d" case >zfpm.conf
	sed '1,/^--$/d' case >want
	grep -q '^listen' zfpm.conf || echo "listen $tmp/z.sock" >>zfpm.conf
	refused_status=0
	"$zfpm" -t -c zfpm.conf >out 2>got || refused_status=$?
	is "status $refused_status, $(cat out got | sed "s|$tmp/||g")" "status 1, $(cat want)" "$1"
}

# The same for one line that stands outside of all blocks.
refused_line() {
	refused "$1" <<-EOF
		$1
		--
		zfpm.conf:1: $2
	EOF
}

# And for a line in a pool.
refused_in_pool() {
	refused "$1" <<-EOF
		app a { command /bin/sh }
		pool x {
		user nobody
		$1
		app a
		}
		--
		zfpm.conf:4: $2
	EOF
}

# ---- the block structure

refused 'a file that is not there' <<-\EOF
	include @tmp@/none.conf
	--
	zfpm.conf:1: include: none.conf: No such file or directory
EOF
refused_line 'fork_server on' "unknown directive 'fork_server' outside of app and pool"
refused_line 'user nobody' "unknown directive 'user' outside of app and pool"
refused 'unknown directives in blocks, and directives of another block' <<-\EOF
	app a {
		command /bin/sh
		forkserver on
		user nobody
		timeout wait 1s
	}
	pool x {
		user nobody
		app a
		fork_server off
		connections 3
		include x
		run_dir /x
	}
	--
	zfpm.conf:3: unknown directive 'forkserver' in app
	zfpm.conf:4: unknown directive 'user' in app
	zfpm.conf:5: unknown directive 'timeout' in app
	zfpm.conf:10: unknown directive 'fork_server' in pool
	zfpm.conf:11: unknown directive 'connections' in pool
	zfpm.conf:12: unknown directive 'include' in pool
	zfpm.conf:13: unknown directive 'run_dir' in pool
EOF
refused 'an unknown block is skipped to its end' <<-\EOF
	vhost x {
		user nobody
		inner { a b }
	}
	max_workers 0
	--
	zfpm.conf:1: unknown directive 'vhost' outside of app and pool
	zfpm.conf:5: max_workers: 0 is not between 1 and 100000
EOF
refused 'an app without a command, a pool without a user or an app' <<-\EOF
	app a {
	}
	pool x {
		app a
	}
	pool y { user nobody }
	--
	zfpm.conf:1: app a: 'command' is missing
	zfpm.conf:3: pool x: 'user' is missing
	zfpm.conf:6: pool y: 'app' is missing
EOF
refused 'a block that is never closed' <<-\EOF
	listen @tmp@/z.sock

	app a {
		command /bin/sh
	--
	zfpm.conf:3: app a: '}' is missing
EOF
refused 'a block that is not closed before the next' <<-\EOF
	app a { command /bin/sh }
	pool x {
		user nobody
		app a
	pool y {
		user nobody
		app b
	}
	--
	zfpm.conf:2: pool x: '}' is missing before line 5
	zfpm.conf:7: pool y: unknown app 'b'
EOF
refused 'a brace that closes nothing' <<-\EOF
	app a { command /bin/sh }
	}
	log stderr }
	--
	zfpm.conf:2: '}' without '{'
	zfpm.conf:3: '}' without '{'
EOF
refused 'a brace on the next line' <<-\EOF
	app a
	{
		command sh
	}
	--
	zfpm.conf:1: app: '{' must stand on the same line
	zfpm.conf:3: command: 'sh' is not an absolute path
EOF
refused 'a block without a brace, a brace without a block' <<-\EOF
	app a
	log stderr {
		x
	}
	{
		y
	}
	--
	zfpm.conf:1: app: '{' is missing
	zfpm.conf:2: log: unexpected '{'
	zfpm.conf:5: '{' without a directive
EOF
refused 'text behind the end of a block' <<-\EOF
	app a { command /bin/sh } app b { command /bin/sh }
	--
	zfpm.conf:1: unexpected text behind '}'
EOF
refused 'the names of blocks' <<-\EOF
	app .a { command /bin/sh }
	app a/b { command /bin/sh }
	app { command /bin/sh }
	app a b { command /bin/sh }
	app a { command /bin/sh }
	app a { command /bin/sh }
	pool x* { user %1
		app a }
	pool x* { user u%1
		app a }
	pool y { user nobody
		app a }
	pool y { user nobody
		app a }
	pool *a* { user %1
		app a }
	pool .* { user %1
		app a }
	--
	zfpm.conf:1: app: '.a' is not a name: 1 to 255 of A-Z a-z 0-9 . _ -, no dot first
	zfpm.conf:2: app: 'a/b' is not a name: 1 to 255 of A-Z a-z 0-9 . _ -, no dot first
	zfpm.conf:3: app: takes 1 value, not 0
	zfpm.conf:4: app: takes 1 value, not 2
	zfpm.conf:6: app a: is defined at zfpm.conf:5 already
	zfpm.conf:15: pool: '*a*' has more than one '*'
	zfpm.conf:17: pool: '.*' is not a name: 1 to 255 of A-Z a-z 0-9 . _ -, no dot first
	zfpm.conf:9: pool x*: is defined at zfpm.conf:7 already
	zfpm.conf:13: pool y: is defined at zfpm.conf:11 already
EOF
refused 'directives that are there twice' <<-\EOF
	log stderr
	log syslog
	timeout wait 1s
	timeout app 1s
	timeout wait 1s
	app a { command /bin/sh }
	pool x {
		user nobody
		user nobody
		app a
		timeout wait 1s
		rlimit nofile 10
		timeout wait 1s
		rlimit nofile 10
		rlimit core 10
	}
	--
	zfpm.conf:2: log: is set at zfpm.conf:1 already
	zfpm.conf:5: timeout wait: is set at zfpm.conf:3 already
	zfpm.conf:9: user: is set at zfpm.conf:8 already
	zfpm.conf:13: timeout wait: is set at zfpm.conf:11 already
	zfpm.conf:14: rlimit nofile: is set at zfpm.conf:12 already
EOF
printf 'app a { command /bin/sh }\n' >zfpm.conf
is "$("$zfpm" -t -c zfpm.conf 2>&1 | sed "s|$tmp/||")" "zfpm.conf: 'listen' is missing" 'a configuration without a listen'
is "$("$zfpm" -t -c missing.conf 2>&1)" "missing.conf: No such file or directory" \
    'a configuration that is not there'

# ---- words

refused 'quotes' <<-\EOF
	log "stderr
	run_dir "/a\b"
	router_user "nobody"x
	min_uid 10"00"
	log_level ""
	--
	zfpm.conf:1: quoted word without its second '"'
	zfpm.conf:2: '\b' in a quoted word: only \" and \\ are known
	zfpm.conf:3: no space behind the quoted word "nobody"
	zfpm.conf:4: '"' inside of a word: quote all of it
	zfpm.conf:5: log_level: '' is not one of error, warn, info, debug
EOF
refused 'control characters' <<-EOF
	log a$(printf '\033[31m')
	--
	zfpm.conf:1: control character 0x1b
EOF
refused 'lines may end as on Windows' <<-EOF
	log stderr$(printf '\r')
	log_level	loud$(printf '\r')
	--
	zfpm.conf:2: log_level: 'loud' is not one of error, warn, info, debug
EOF
refused 'very many words' <<-EOF
	app a { command /bin/sh $(printf %0300d 0 | sed 's/0/x /g') }
	--
	zfpm.conf:1: more than 256 words
EOF

# ---- global directives

refused_line 'log' 'log: takes 1 value, not 0'
refused_line 'log stderr syslog' 'log: takes 1 value, not 2'
refused_line 'log zfpm.log' "log: 'zfpm.log' is not stderr, syslog or an absolute path"
refused_line 'run_dir run' "run_dir: 'run' is not an absolute path"
refused_line "run_dir /$(printf %064d 0)" 'run_dir: is longer than 64 characters'
refused_line 'control zfpm.control' "control: 'zfpm.control' is not an absolute path"
refused_line "control /$(printf %0107d 0)" 'control: is longer than 107 characters'
refused_line 'router_user ""' 'router_user: is empty'
refused_line 'max_workers 0' 'max_workers: 0 is not between 1 and 100000'
refused_line 'max_workers 100001' 'max_workers: 100001 is not between 1 and 100000'
refused_line 'max_workers 99999999999999999999' 'max_workers: 99999999999999999999 is not between 1 and 100000'
refused_line 'max_workers -1' 'max_workers: -1 is not between 1 and 100000'
refused_line 'max_workers 5s' "max_workers: '5s' is not a number"
refused_line 'max_workers many' "max_workers: 'many' is not a number"
refused_line 'min_uid 0' 'min_uid: 0 is not between 1 and 4294967294'
refused_line 'min_gid 4294967295' 'min_gid: 4294967295 is not between 1 and 4294967294'
refused_line 'max_params 1k' "max_params: '1k' is not a size such as 64K, 8M or 1G"
refused_line 'max_params 1K' 'max_params: 1K is not between 4K and 64M'
refused_line 'timeout' "timeout: '' is not one of wait, app, server, request, idle, kill, start, app_server"
refused_line 'timeout stop 5s' "timeout: 'stop' is not one of wait, app, server, request, idle, kill, start, app_server"
refused_line 'timeout wait' 'timeout wait: takes 1 value, not 0'
refused_line 'timeout wait 5x' "timeout wait: '5x' is not a time such as 30s, 15m, 24h or 1d"
refused_line 'timeout wait 0' 'timeout wait: 0 is not between 1s and 365d'
refused_line 'timeout wait 500ms' 'timeout wait: 500ms is not between 1s and 365d'
refused_line 'timeout wait 1500ms' 'timeout wait: 1500ms is not a whole number of seconds'
refused_line 'timeout request 366d' 'timeout request: 366d is not between 1s and 365d'
refused_line 'timeout kill 2h' 'timeout kill: 2h is not between 100ms and 1h'
refused_line 'timeout start 0' 'timeout start: 0 is not between 1s and 365d'
refused_line 'timeout start 1500ms' 'timeout start: 1500ms is not a whole number of seconds'
refused_line 'timeout app_server 99ms' 'timeout app_server: 99ms is not between 100ms and 365d'
refused_line 'timeout app_server 366d' 'timeout app_server: 366d is not between 100ms and 365d'
refused_line 'timeout idle 99ms' 'timeout idle: 99ms is not between 100ms and 365d'
refused_line 'buffer_request 1G' 'buffer_request: 1G is not between 4K and 64M'
refused_line 'slow 0' 'slow: 0 is not between 1ms and 1d'
refused_line 'on_server_close wait' "on_server_close: 'wait' is not one of finish, abort"
refused_line 'fork_server_library x.so' "fork_server_library: 'x.so' is not an absolute path"
refused_line 'fork_server_library /a:b.so' "fork_server_library: '/a:b.so' has a ':', a '$' or a blank in it"
refused_line 'fork_server_library "/a b.so"' "fork_server_library: '/a b.so' has a ':', a '$' or a blank in it"
refused_line "fork_server_library /$(printf %0512d 0)" 'fork_server_library: is longer than 512 characters'
refused_line 'fork_server_library' 'fork_server_library: takes 1 value, not 0'

# ---- listen

refused_line 'listen' 'listen: takes at least 1 value'
refused_line 'listen z.sock' "listen: 'z.sock' is not a path, ADDRESS:PORT or [ADDRESS]:PORT in numbers"
refused_line 'listen localhost:9000 allow 127.0.0.1' \
    "listen: 'localhost:9000' is not a path, ADDRESS:PORT or [ADDRESS]:PORT in numbers"
refused_line 'listen ::1:9000 allow ::1' "listen: '::1:9000' is not a path, ADDRESS:PORT or [ADDRESS]:PORT in numbers"
refused_line 'listen 127.0.0.1:65536 allow ::1' 'listen: port: 65536 is not between 1 and 65535'
refused_line 'listen [::1]:9000' "listen: a TCP socket needs 'allow'"
refused_line 'listen 127.0.0.1:9000 allow 10.0.0.1/24' \
    'listen: allow: 10.0.0.1/24: the address has bits that are not in the network'
refused_line 'listen 127.0.0.1:9000 allow 10.0.0.0/33' 'listen: allow: prefix length: 33 is not between 0 and 32'
refused_line 'listen 127.0.0.1:9000 allow net' "listen: allow: 'net' is not an address or ADDRESS/BITS in numbers"
refused_line 'listen /z allow ::1' "listen: 'allow' has no meaning for a Unix socket"
refused_line 'listen 127.0.0.1:9000 allow ::1 mode 0600' "listen: 'mode' has no meaning for a TCP socket"
refused_line 'listen /z owner' "listen: no value behind 'owner'"
refused_line 'listen /z owner zfpm-none' "listen: owner: unknown user 'zfpm-none'"
refused_line 'listen /z group zfpm-none' "listen: group: unknown group 'zfpm-none'"
refused_line 'listen /z allow_user root zfpm-none' "listen: allow_user: unknown user 'zfpm-none'"
refused_line 'listen /z mode 888' "listen: mode: '888' is not an octal number between 0 and 0777"
refused_line 'listen /z mode 1777' "listen: mode: '1777' is not an octal number between 0 and 0777"
refused_line 'listen /z mode 0600 0660' "listen: unknown option '0660'"
refused_line 'listen /z mode 0600 mode 0660' "listen: 'mode' is given twice"
refused_line "listen /$(printf %0120d 0)" "listen: /$(printf %0120d 0): is longer than 107 characters"
refused 'two that listen on one address' <<-\EOF
	listen 127.0.0.1:9000 allow 127.0.0.1
	listen /z
	listen 127.0.0.1:9000 allow ::1
	listen /z
	--
	zfpm.conf:3: listen: 127.0.0.1:9000 is used at zfpm.conf:1 already
	zfpm.conf:4: listen: /z is used at zfpm.conf:2 already
EOF
refused 'one that listens where the control socket is' <<-\EOF
	run_dir @tmp@/run
	listen @tmp@/run/control
	--
	zfpm.conf:2: listen: run/control is the control socket
EOF
refused 'and where another one is' <<-\EOF
	listen @tmp@/control
	control @tmp@/control
	--
	zfpm.conf:1: listen: control is the control socket
EOF

# ---- app and pool

refused 'wrong values in an app' <<-\EOF
	app a {
		command sh
		env 1A b
		env A
		env A=B c
		connections 1001
		extensions .php php .
		roles responder waiter
	}
	--
	zfpm.conf:2: command: 'sh' is not an absolute path
	zfpm.conf:3: env: '1A' is not the name of a variable
	zfpm.conf:4: env: takes 2 values, not 1
	zfpm.conf:5: env: 'A=B' is not the name of a variable
	zfpm.conf:6: connections: 1001 is not between 1 and 1000
	zfpm.conf:7: extensions: 'php' is not an extension such as .php
	zfpm.conf:7: extensions: '.' is not an extension such as .php
	zfpm.conf:8: roles: 'waiter' is not one of responder, authorizer, filter
EOF
refused 'wrong values for a fork server' <<-\EOF
	app a {
		command /bin/sh
		fork_server yes
		watch
		watch /etc/php.ini php.ini
		fork_server on
	}
	--
	zfpm.conf:3: fork_server: 'yes' is not one of off, on
	zfpm.conf:4: watch: takes at least 1 value
	zfpm.conf:5: watch: 'php.ini' is not an absolute path
	zfpm.conf:6: fork_server: is set at zfpm.conf:3 already
EOF
refused 'a fork server whose workers serve several requests at a time, in either order' <<-\EOF
	app a {
		command none
		connections 8
		fork_server on
	}
	app b {
		fork_server on
		connections 2
	}
	app c {
		command /bin/sh
		fork_server off
		connections 2
	}
	--
	zfpm.conf:2: command: 'none' is not an absolute path
	zfpm.conf:3: connections: 8 can not be with 'fork_server on' at zfpm.conf:4: a worker of a fork server serves one request at a time
	zfpm.conf:6: app b: 'command' is missing
	zfpm.conf:8: connections: 2 can not be with 'fork_server on' at zfpm.conf:7: a worker of a fork server serves one request at a time
EOF
refused 'connections that are out of range are just that' <<-\EOF
	app a {
		command none
		fork_server on
		connections 1001
	}
	--
	zfpm.conf:2: command: 'none' is not an absolute path
	zfpm.conf:4: connections: 1001 is not between 1 and 1000
EOF
refused_in_pool 'directory www' "directory: 'www' is not an absolute path"
refused_in_pool 'umask 999' "umask: '999' is not an octal number between 0 and 0777"
refused_in_pool 'nice -21' 'nice: -21 is not between -20 and 19'
refused_in_pool 'rlimit files 10' \
    "rlimit: 'files' is not one of as, core, cpu, data, fsize, locks, memlock, msgqueue, nofile, nproc, rss, sigpending, stack"
refused_in_pool 'rlimit nofile' 'rlimit: takes 2 to 3 values, not 1'
refused_in_pool 'rlimit nofile 1K' "rlimit nofile: '1K' is not a number"
refused_in_pool 'rlimit nofile 20 10' 'rlimit nofile: the soft limit 20 is above the hard limit 10'
refused_in_pool 'rlimit as unlimited 1G' 'rlimit as: the soft limit unlimited is above the hard limit 1G'
refused_in_pool 'rlimit cpu 1500ms' 'rlimit cpu: 1500ms is not a whole number of seconds'
refused 'the apps of a pool' <<-\EOF
	pool x {
		user nobody
		app a b a
	}
	app a { command /bin/sh }
	--
	zfpm.conf:3: app: 'a' is named twice
	zfpm.conf:3: pool x: unknown app 'b'
EOF
refused_in_pool 'min_workers 100001' 'min_workers: 100001 is not between 0 and 100000'
refused_in_pool 'min_workers 11' "min_workers: 11 is more than the pool's max_workers 10"
refused 'more workers started ahead than may be' <<-\EOF
	pool x {
		min_workers 4
		user nobody
		app a
		max_workers 3
	}
	pool *.x {
		user nobody
		app a
		min_workers 0
	}
	pool y { user nobody
		app a
		min_workers 3 }
	pool z { user nobody
		app a
		min_workers 2 }
	pool z2 { user nobody
		app a
		min_workers 10 }
	app a { command /bin/sh }
	max_workers 8
	--
	zfpm.conf:10: min_workers: a pattern has no workers before its first request
	zfpm.conf:2: min_workers: 4 is more than the pool's max_workers 3
	zfpm.conf:17: min_workers: with this pool they are 9, more than the max_workers 8 of all pools together
EOF
refused_in_pool 'cgroup memory.max' 'cgroup: takes at least 2 values'
refused_in_pool 'cgroup memory.max ""' 'cgroup memory.max: is empty'
refused_in_pool 'cgroup memory.max %1' "cgroup: %1 is what '*' matched, and there is none in 'x'"
for key in memory memory. .max ../memory.max memory/x.max 'memory max' mem-ory.max ''; do
	refused_in_pool "cgroup \"$key\" 1" "cgroup: '$key' is not a key such as memory.max"
done
for key in cgroup.procs cgroup.subtree_control cgroup.type cgroup.max. cgroup.max.depths; do
	refused_in_pool "cgroup $key 1" "cgroup: '$key' is for zfpm alone"
done
cat >zfpm.conf <<-EOF
	listen $tmp/z.sock
	app a { command /bin/sh }
	pool x {
		user nobody
		app a
		cgroup memory.max ""
		cgroup zfpmtest.max 1
		cgroup zfpmtest.min 1
		cgroup zfpmtest.max 2
	}
	pool y {
		user nobody
		app a
		cgroup zfpmtest.max 1
	}
EOF
# Is it the tree that is not there, or the controller?
is "$("$zfpm" -t -c zfpm.conf 2>&1 | sed 's|cgroup: .*cgroup.*|cgroup: REASON|')" \
    "zfpm.conf:6: cgroup memory.max: is empty
zfpm.conf:9: cgroup zfpmtest.max: is set at zfpm.conf:7 already
zfpm.conf:7: cgroup: REASON" 'a key that is there twice, and one that no machine has'
refused_in_pool 'error_log app.log' "error_log: 'app.log' is not an absolute path"
refused_in_pool 'error_log /%1.log' "error_log: %1 is what '*' matched, and there is none in 'x'"
for path in / /tmp/ /tmp/. /tmp/.. /tmp/../x /./x; do
	refused_in_pool "error_log $path" "error_log: '$path' does not name a file without '.' and '..'"
done
