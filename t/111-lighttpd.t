#!/bin/sh
# lighttpd in front of zfpm, as examples/lighttpd has it: everything that a site
# does, the pool from the host's configuration alone, errors as designed, and
# scripts that outlive a restart of lighttpd. It keeps no connection to zfpm.
. "${0%/*}/lib.sh"
. "${0%/*}/front.sh"
command -v lighttpd >/dev/null || skip_all "no lighttpd here"
plan "$n_all"

front=lighttpd
front_log=$tmp/log/lighttpd.log
front_stop=TERM
keeps=no lost=500 down=503 reload_waits=yes
make_sites
(umask 077 && sed -n '1s/.*/var.zfpm_key = "&"/p' "$key" >"$tmp/lighttpd.key")
example lighttpd/lighttpd.conf -e "s|/etc/zfpm/lighttpd.key|$tmp/lighttpd.key|" >"$tmp/example"
lighttpd_conf <"$tmp/example"
start_front() { start_lighttpd; }
reload_front() { reload_lighttpd; }

front_zfpm
start_front
check_all "$tmp/lighttpd.key"
