#!/bin/sh
# Behind TLS bodies arrive whole too, and a client that leaves is noticed.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
if [ ! -e "$lib_modules/mod_ssl.so" ] || ! command -v openssl >/dev/null; then
	skip_all "no mod_ssl or openssl"
fi
plan 8

tenants
touch "$tmp/www/a.test/x.app"
cat >"$tmp/www/a.test/post.php" <<-\EOF
	<?php
	$in = fopen('php://input', 'r');
	$sum = hash_init('md5');
	for ($n = 0; !feof($in); $n += strlen($piece)) {
		$piece = fread($in, 65536);
		hash_update($sum, $piece);
	}
	echo $n, ' ', hash_final($sum), ' ', $_SERVER['CONTENT_LENGTH'] ?? 'none', ' ', $_SERVER['HTTPS'] ?? 'off', "\n";
EOF
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$tmp/tls.key" -out "$tmp/tls.pem" -days 2 -subj /CN=a.test 2>"$tmp/openssl.err"
tls_port=$(free_port)
start_httpd event <<-EOF
	LoadModule socache_shmcb_module @modules@/mod_socache_shmcb.so
	LoadModule ssl_module @modules@/mod_ssl.so
	LoadModule http2_module @modules@/mod_http2.so
	AddHandler zfpm:app .app
	Listen 127.0.0.1:$tls_port
	Protocols h2 http/1.1
	$(vhost a.test "SSLEngine on" "SSLCertificateFile $tmp/tls.pem" "SSLCertificateKeyFile $tmp/tls.key" | sed "s/\*/*:$tls_port/")
EOF
tls_exec() {
	lib_path=$1
	shift
	exec curl -sS -k --max-time 60 -H 'Host: a.test' -H 'Content-Type: application/octet-stream' "$@" "https://127.0.0.1:$tls_port$lib_path"
}
tls() { (tls_exec "$@"); }

head -c 30000000 /dev/urandom >"$tmp/big"
sum=$(md5sum <"$tmp/big" | cut -d ' ' -f 1)
for v in http1.1 http2; do
	is "$(tls /post.php "--$v" -X POST -T "$tmp/big")" "30000000 $sum 30000000 on" "$v: 30 MB up"
	is "$(tls '/x.app?echo' "--$v" -X POST -T "$tmp/big" | md5sum | cut -d ' ' -f 1)" "$sum" "$v: 30 MB both ways at once"
	is "$(tls '/post.php' "--$v" -X POST -T - <"$tmp/big")" "30000000 $sum 30000000 on" "$v: 30 MB without a length"
done

aborted() { log_has "aborted by the web server.*silent"; }
mkdir -m 1777 "$tmp/notes"
tls_exec "/x.app?at=start&note=$tmp/notes/silent&hang" --http1.1 >"$tmp/out" 2>&1 &
client=$!
passes "a request runs" wait_until test -s "$tmp/notes/silent"
kill "$client"
passes "zfpm learns that its client has left" wait_until aborted
