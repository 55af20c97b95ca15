# shellcheck shell=sh
# t/mariadb.sh: a MariaDB of the test's own, sourced after t/lib.sh. Its user is
# db (want_user), its files are in $tmp/db, and it listens at $db_socket alone,
# on no port. The operating system's root is its root, without a password.
# Never touches the machine's own MariaDB or its configuration.
#
#   need_mariadb                skip_all unless it is installed
#   start_mariadb               run it; $db_pid. lib.sh ends it at the end
#   sql [OPTION...] <text       as root; the result without titles, columns parted by tabs

db_socket=$tmp/db/socket
db_pid=''

need_mariadb() {
	[ "$(id -u)" -eq 0 ] || skip_all "MariaDB is to start as root"
	for lib_p in mariadbd mariadb mariadb-install-db; do
		command -v "$lib_p" >/dev/null || skip_all "no $lib_p here"
	done
}

sql() { mariadb --no-defaults --socket="$db_socket" --batch --skip-column-names "$@"; }

mariadb_settled() { gone "$db_pid" || echo 'SELECT 1' | sql >/dev/null 2>&1; }

start_mariadb() {
	want_user db
	mkdir "$tmp/db" "$tmp/db/tmp"
	chown "${db:?}:" "$tmp/db" "$tmp/db/tmp"
	if ! mariadb-install-db --no-defaults --user="$db" --datadir="$tmp/db/data" --skip-test-db \
	    --auth-root-authentication-method=socket --auth-root-socket-user=root --skip-name-resolve \
	    --innodb-buffer-pool-size=8M --innodb-log-file-size=4M >"$tmp/mariadb.log" 2>&1; then
		diag "mariadb-install-db: $(cat "$tmp/mariadb.log")"
		exit 1
	fi
	# Small, and with nothing written for the sake of a machine that may fail: the test ends sooner than that.
	mariadbd --no-defaults --user="$db" --datadir="$tmp/db/data" --tmpdir="$tmp/db/tmp" --socket="$db_socket" \
	    --pid-file="$tmp/db/pid" --skip-networking --skip-log-bin --innodb-buffer-pool-size=24M \
	    --innodb-log-file-size=8M --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0 \
	    --key-buffer-size=2M --aria-pagecache-buffer-size=8M --performance-schema=off \
	    </dev/null >>"$tmp/mariadb.log" 2>&1 &
	db_pid=$!
	track "$db_pid"
	if ! wait_until mariadb_settled || gone "$db_pid"; then
		diag "MariaDB did not start: $(tail -n 20 "$tmp/mariadb.log")"
		exit 1
	fi
}
