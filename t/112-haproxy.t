#!/bin/sh
# HAProxy in front of zfpm, as examples/haproxy has it: from inside its chroot, with
# everything that scripts do (files it has none), the pool from the backend alone,
# kept connections that pin no worker, or none, and scripts that outlive HAProxy.
. "${0%/*}/lib.sh"
. "${0%/*}/front.sh"
command -v haproxy >/dev/null || skip_all "no haproxy here"
plan $((n_all + n_kept * 2 + 1))

front=haproxy
front_log=$tmp/front.out
static=no down=503
reload_query='&once'	# what is still streaming when it reloads is cut off
make_sites
chunked='<html><body><h1>400 Bad request</h1>
Your browser sent an invalid request.
</body></html>' chunked_title="HAProxy refuses it"
front_sed="s|/var/lib/haproxy|$tmp/haproxy|;s|group haproxy|group $web|"
mkdir "$tmp/haproxy"
(umask 077 && { echo global; sed -n '1s/^/	setenv ZFPM_KEY /p' "$key"; } >"$tmp/haproxy.key")
cat >"$tmp/haproxy.cfg" <<-EOF
	global
		log stdout format raw local0
		chroot $tmp/haproxy
		user $web
		group $web
		nbthread 2
	defaults
		log global
		option httplog
		timeout connect 5s
		timeout client 50s
		timeout server 50s
EOF
example haproxy/haproxy.cfg -e "s|bind :80|bind 127.0.0.1:$port|" >"$tmp/zfpm.cfg"

start_front() {
	haproxy -W -db -f "$tmp/haproxy.cfg" -f "$tmp/haproxy.key" -f "$tmp/zfpm.cfg" >>"$front_log" 2>&1 &
	front_pid=$!
	front_up
}
reload_front() { renew_front USR2; }

front_zfpm
start_front
front_first=$front_pid
check_site
check_tenants "$tmp/haproxy.key"
check_streaming
check_kept
sed -i 's/option keep-conn/option get-values\n&/' "$tmp/zfpm.cfg"
reload_front
check_kept
sed -i 's/option keep-conn/no &/' "$tmp/zfpm.cfg"
reload_front
keeps=no check_kept
check_errors
check_deaths
passes "HAProxy has survived all that" test "$front_pid" = "$front_first" -a -z "$(grep -a ALERT "$front_log")"
check_restart
check_leaving
