#!/bin/sh
# Each process keeps at most ZfpmIdleConnections to zfpm, uses them again, and shares them between virtual hosts.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
[ -r /proc/net/unix ] || skip_all "no /proc/net/unix to count in"
plan 10

tenants
touch "$tmp/www/a.test/x.app" "$tmp/www/b.test/x.app"

# Accepted connections of zfpm's socket.
connections() { awk -v s="$sock" '$8 == s && $6 == "03"' /proc/net/unix | wc -l; }
connections_are() { [ "$(connections)" -eq "$1" ]; }

# $1 requests at the same time, all of which wait for one another.
together() {
	rm -f "$tmp/www/a.test/go"
	pids=
	i=0
	while [ $i -lt "$1" ]; do
		get_exec a.test "/x.app?at=start&sleep=0.5&out=10" >"$tmp/out.$i" &
		pids="$pids $!"
		i=$((i + 1))
	done
	# shellcheck disable=SC2086
	wait $pids
}

mpm() {
	start_httpd worker <<-EOF
		StartServers 1
		ServerLimit 1
		ThreadsPerChild 8
		MaxRequestWorkers 8
		MinSpareThreads 1
		MaxSpareThreads 8
		$*
		AddHandler zfpm:app .app
		$(vhost a.test)
		$(vhost b.test)
	EOF
}

mpm 'ZfpmIdleConnections 2'
i=0
while [ $i -lt 10 ]; do
	code a.test '/x.app?out=10'
	code b.test '/x.app?out=10'
	i=$((i + 1))
done >"$tmp/codes"
is "$(cat "$tmp/codes")" "$(printf '200%.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20)" "requests one after another, to two virtual hosts"
is "$(connections)" 1 "take one connection"
together 8
is "$(cat "$tmp"/out.? | wc -c)" 80 "eight at a time"
passes "leave two" wait_until connections_are 2
get a.test '/x.app?out=1000000&noend' --max-time 1 >"$tmp/out" 2>&1
passes "a connection on which a response has not ended is not kept" wait_until connections_are 1
code a.test '/x.app?noread&out=10' -X POST --data-binary "@$zfpm" -H Expect: >"$tmp/out"
is "$(code a.test '/x.app?out=10')" 200 "nor one on which a body has not been sent to its end"

mpm ''
together 8
passes "without the directive there are as many as threads" wait_until connections_are 8
stop_httpd
passes "and none when Apache has ended" wait_until connections_are 0

mpm 'ZfpmIdleConnections 0'
together 3
is "$(cat "$tmp"/out.[012] | wc -c)" 30 "with ZfpmIdleConnections 0 requests are served"
passes "and no connection is kept" wait_until connections_are 0
