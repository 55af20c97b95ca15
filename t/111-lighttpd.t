#!/bin/sh
# lighttpd in front of zfpm, as examples/lighttpd has it: everything that a site
# does, the pool from the host's configuration alone, errors as designed, and
# scripts that outlive a restart of lighttpd. It keeps no connection to zfpm.
. "${0%/*}/lib.sh"
. "${0%/*}/front.sh"
command -v lighttpd >/dev/null || skip_all "no lighttpd here"
plan $((n_site + n_tenants + n_streaming + n_kept + n_errors + n_deaths + n_restart + n_leaving))

front=lighttpd
front_log=$tmp/log/lighttpd.log
front_stop=TERM
keeps=no lost=500 down=503 reload_waits=yes
make_sites
mkdir -m 1777 "$tmp/uploads"
mkdir "$tmp/empty" "$tmp/log"
chown "$web:" "$tmp/log"
(umask 077 && sed -n '1s/.*/var.zfpm_key = "&"/p' "$key" >"$tmp/lighttpd.key")
{
	cat <<-EOF
		server.modules = ( "mod_indexfile" )
		server.document-root = "$tmp/empty"
		server.upload-dirs = ( "$tmp/uploads" )
		server.errorlog = "$front_log"
		server.pid-file = "$tmp/lighttpd.pid"
		server.username = "$web"
		server.groupname = "$web"
		server.bind = "127.0.0.1"
		server.port = $port
		index-file.names = ( "index.php", "index.html" )
		static-file.exclude-extensions = ( ".php" )
		mimetype.assign = ( ".txt" => "text/plain" )
	EOF
	example lighttpd/lighttpd.conf -e "s|/etc/zfpm/lighttpd.key|$tmp/lighttpd.key|"
} >"$tmp/lighttpd.conf"

start_front() {
	lighttpd-angel -D -f "$tmp/lighttpd.conf" >"$tmp/front.out" 2>&1 &
	front_pid=$!
	front_up
}
reload_front() {
	kill -HUP "$front_pid"
	wait_until front_log 'graceful shutdown started'
}

front_zfpm
start_front
check_site
check_tenants "$tmp/lighttpd.key"
check_streaming
check_kept
check_errors
check_deaths
check_restart
check_leaving
