#!/bin/sh
# Caddy in front of zfpm, as examples/caddy has it: everything that a site does, the
# pool from the site block alone, errors as designed, and scripts that outlive a
# restart of Caddy. It keeps no connection to zfpm. It never runs as root.
. "${0%/*}/lib.sh"
. "${0%/*}/front.sh"
command -v caddy >/dev/null || skip_all "no caddy here"
plan $((n_all + 1))

front=caddy
front_log=$tmp/front.out
keeps=no
front_stop=KILL	# as systemd does 5 s after SIGTERM: Caddy waits for what runs
case $(caddy version) in
2.6.*)	logs=no ;;	# it takes capture_stderr, and logs nothing
esac
# One that breaks off is seen to do so by its length alone.
cut_query='&length=40000'
chunked_title="Caddy tells no length, and zfpm refuses"
make_sites
chunked=
mkdir "$tmp/caddy"
(umask 027 && sed -n '1s/.*/env ZFPM_KEY "&"/p' "$key" >"$tmp/caddy.key")
chgrp "$web" "$tmp/caddy.key"
chown "$web:" "$tmp/caddy"
example caddy/Caddyfile -e "s|/etc/zfpm/caddy.key|$tmp/caddy.key|;s|/var/lib/caddy|$tmp/caddy|" \
    -e "s|^http://[a-z.]*|&:$port|" >"$tmp/Caddyfile"

# What systemd does for it
as_caddy() { exec setpriv --reuid "$web" --regid "$web" --init-groups env -i PATH="$PATH" HOME="$tmp/caddy" caddy "$@"; }

start_front() {
	(as_caddy run --config "$tmp/Caddyfile") >>"$front_log" 2>&1 &
	front_pid=$!
	front_up
}
reload_front() { (as_caddy reload --config "$tmp/Caddyfile" --force) >"$tmp/reload.txt" 2>&1; }

front_zfpm
start_front
is "$(cd "$tmp/caddy" && setpriv --reuid "$alice" --regid "$alice" --init-groups curl -sS --unix-socket admin.sock http://x/config/ 2>&1 |
    grep -c 'connect')" 1 "Caddy's own interface does not tell a tenant the key"
check_all "$tmp/caddy.key" "$tmp/caddy/admin.sock" "$tmp/caddy/.config/caddy/autosave.json"
