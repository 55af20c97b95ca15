#!/bin/sh
# nginx in front of zfpm, as examples/nginx has it: everything that a site does,
# the pool from the server block alone, kept connections that pin no worker,
# errors as designed, and scripts that outlive a reload and a restart of nginx.
. "${0%/*}/lib.sh"
. "${0%/*}/front.sh"
command -v nginx >/dev/null || skip_all "no nginx here"
plan $((n_all + 2))

front=nginx
front_log=$tmp/nginx.log
front_stop=TERM
make_sites
mkdir "$tmp/nginx" "$tmp/nginx/temp"
cp /etc/nginx/mime.types /etc/nginx/fastcgi.conf "$tmp/nginx"
set -- -e "s|/etc/zfpm/nginx.key|$tmp/nginx/key|;s|listen 80;|listen 127.0.0.1:$port;|"
example nginx/nginx.conf "$@" >"$tmp/nginx/site.conf"
example nginx/zfpm.params "$@" >"$tmp/nginx/zfpm.params"
(umask 077 && sed -n '1s/.*/fastcgi_param ZFPM_KEY "&";/p' "$key" >"$tmp/nginx/key")
cat >"$tmp/nginx/nginx.conf" <<-EOF
	user $web $web;
	worker_processes 2;
	daemon off;
	pid $tmp/nginx/pid;
	error_log $front_log info;
	events { worker_connections 100; }
	http {
		include mime.types;
		access_log off;
		client_body_temp_path $tmp/nginx/temp/body;
		fastcgi_temp_path $tmp/nginx/temp/fastcgi;
		proxy_temp_path $tmp/nginx/temp/proxy;
		uwsgi_temp_path $tmp/nginx/temp/uwsgi;
		scgi_temp_path $tmp/nginx/temp/scgi;
		include site.conf;
	}
EOF

start_front() {
	nginx -c "$tmp/nginx/nginx.conf" >"$tmp/front.out" 2>&1 &
	front_pid=$!
	front_up
}
reload_front() { renew_front HUP; }

front_zfpm
start_front
check_all "$tmp/nginx/key"

for front_user in alice bob; do
	ln -s "$tmp/home/$front_user/www/plain.txt" "$alice_home/www/to-$front_user.txt"
done
chown -h "$alice:" "$alice_home"/www/to-*
is "$(code www.example.com /to-alice.txt)" 200 "a link of alice's to her own file is followed"
is "$(code www.example.com /to-bob.txt)" 403 "one to bob's is not"
