#!/bin/sh
# Two customers use phpMyAdmin, set up as examples/phpmyadmin has it, at the same time: its code is root's and shared, but each
# of them has it under the own user, with the own sessions and files, and sees the own databases alone. They log in,
# make tables, change rows, take a dump away and bring it back. One has a fork server, the other has none.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
. "${0%/*}/mariadb.sh"
need_httpd
need_mariadb
[ -e /usr/share/phpmyadmin/index.php ] || skip_all "no phpMyAdmin here"
need_php mbstring mysqli
plan 62

want_user alice bob web db
make_key
port=$(free_port)
mkdir "$tmp/r" "$tmp/r/alice" "$tmp/r/bob"
start_mariadb
for c in alice bob; do
	eval "user=\$$c home=\${${c}_home}"
	chmod 700 "$home"
	ln -s "$c" "$tmp/home/$user"	# /home/%1
	sql <<-END
		CREATE DATABASE ${c}_shop;
		CREATE DATABASE ${c}_blog;
		CREATE USER '$c'@localhost IDENTIFIED BY 'secret of $c';
		GRANT ALL ON \`${c}\\_%\`.* TO '$c'@localhost;
		CREATE USER '$user'@localhost IDENTIFIED VIA unix_socket;
	END
done

# The package's code; only where its configuration is is written in it.
pma=$tmp/pma
cp -rL /usr/share/phpmyadmin "$pma"
sed "s|/etc/phpmyadmin/config.inc.php|$tmp/config.inc.php|" /usr/share/phpmyadmin/libraries/vendor_config.php \
    >"$pma/libraries/vendor_config.php"
example phpmyadmin/config.inc.php -e "s|/run/mysqld/mysqld.sock|$db_socket|" >"$tmp/config.inc.php"

places="s|/usr/share/phpmyadmin|$pma|g"
example_conf phpmyadmin/zfpm.conf -e "$places" -e "s|/home/%1|$tmp/home/%1|" >"$tmp/example"
{
	cat "$tmp/example"
	# bob's: the same, without a fork server
	sed -n '/^app/,/^}/p' "$tmp/example" | sed '/fork_server/d;/watch/d;s/^app phpmyadmin/app direct/'
	sed -n '/^pool/,/^}/p' "$tmp/example" | sed "s/^pool \*/pool $bob/;s/app phpmyadmin/app direct/;s/%1/$bob/"
} >"$tmp/configuration"
start_zfpm <"$tmp/configuration"
{
	echo 'LoadModule macro_module @modules@/mod_macro.so'
	printf '%s\n' "<Directory $pma>" 'RemoveHandler .php' '</Directory>' '<FilesMatch "\.php$">' 'SetHandler zfpm' '</FilesMatch>'
	example phpmyadmin/apache.conf -e "$places" -e "s|^\(Use phpMyAdmin\) alice|\1 $alice|;s|^\(Use phpMyAdmin\) bob|\1 $bob|"
} >"$tmp/apache"
start_httpd <"$tmp/apache"

# ---- a customer ---------------------------------------------------------------------------

page() {
	p_path=$1
	shift
	curl -sS --max-time 120 --resolve "$host:$port:127.0.0.1" -b "$d/cookies" -c "$d/cookies" "$@" "http://$host:$port$p_path"
}
keep() {
	k_name=$1
	shift
	page "$@" -o "$d/$k_name" -w '%{http_code}' >"$d/$k_name.status"
}
# The token for what changes something
token() { sed -n 's/.*token:"\([^"]*\)".*/\1/p' "$1" | head -n 1; }
login() {
	page '/index.php?route=/' -o "$d/form"
	keep "$1" '/index.php?route=/' -d "set_session=$(hidden set_session "$d/form")" -d "token=$(hidden token "$d/form")" \
	    -d "pma_username=$c" --data-urlencode "pma_password=$2" -d server=1 -d route=/ -d lang=en
}
change() {
	c_path=$1
	shift
	page "/index.php?route=$c_path" -d "token=$token" -d server=1 -d ajax_request=true "$@"
}
statement() { change /import -d "db=${c}_shop" -d is_js_confirmed=1 -d sql_delimiter=';' --data-urlencode "sql_query=$1"; }
sum() { echo "SELECT COUNT(*) FROM $1; CHECKSUM TABLE $1" | sql 2>&1; }

customer_works() {
	c=$1 d=$tmp/r/$1 other=$2
	eval "host=\$$1.pma.example.com"
	login wrong "secret of $2"
	c=root
	login root secret
	eval "c=\$$1"
	login socket anything
	c=$1
	login right "secret of $1"
	keep main '/index.php?route=/'
	token=$(token "$d/main")
	keep databases '/index.php?route=/server/databases'

	# The form for a new table has a column for each of the two fields.
	change /table/create -d "db=${c}_shop" -d table=notes -d orig_num_fields=2 -d num_fields=2 -d do_save_data=1 \
	    -d 'field_name[0]=id' -d 'field_type[0]=INT' -d 'field_length[0]=' -d 'field_attribute[0]=' -d 'field_default_type[0]=NONE' \
	    -d 'field_default_value[0]=' -d 'field_extra[0]=AUTO_INCREMENT' -d 'field_key[0]=primary_0' \
	    -d 'field_name[1]=text' -d 'field_type[1]=TEXT' -d 'field_length[1]=' -d 'field_attribute[1]=' -d 'field_default_type[1]=NONE' \
	    -d 'field_default_value[1]=' -d 'field_collation[1]=utf8mb4_bin' \
	    --data-urlencode 'primary_indexes=[{"Key_name":"PRIMARY","Index_choice":"PRIMARY","columns":[{"col_index":"0"}]}]' \
	    -d 'indexes=[]' -d 'unique_indexes=[]' -d 'fulltext_indexes=[]' -d 'spatial_indexes=[]' -d tbl_storage_engine=InnoDB >"$d/created"
	statement "INSERT INTO notes (text) VALUES ('Written by $c: äöü € <b> \"quoted\" it''s; \\\\ done')" >"$d/inserted"
	statement "INSERT INTO notes (text) SELECT CONCAT('row ', seq, ' ', REPEAT('äöü ', 40)) FROM seq_1_to_4000" >"$d/many"
	keep browse "/index.php?route=/sql&server=1&db=${c}_shop&table=notes&pos=0"
	sum "${c}_shop.notes" >"$d/sum"

	keep dump '/index.php?route=/export' -d "token=$token" -d server=1 -d export_type=database -d "db=${c}_shop" -d export_method=quick \
	    -d quick_or_custom=quick -d what=sql -d 'table_select[]=notes' -d sql_structure_or_data=structure_and_data -d output_format=sendit -d filename_template=@DATABASE@ -d compression=none \
	    -d 'table_structure[]=notes' -d 'table_data[]=notes' -d sql_create_table=x -d sql_auto_increment=x -d sql_backquotes=x \
	    -d sql_type=INSERT -d sql_insert_syntax=both -d sql_max_query_size=50000 -d sql_utc_time=x -d sql_include_comments=x \
	    -D "$d/dump.header"
	statement 'DROP TABLE notes' >"$d/dropped"
	sum "${c}_shop.notes" >"$d/sum.dropped"
	page '/index.php?route=/import' -F "token=$token" -F server=1 -F ajax_request=true -F import_type=database -F "db=${c}_shop" \
	    -F format=sql -F charset_of_file=utf-8 -F "import_file=@$d/dump;type=application/sql;filename=dump.sql" >"$d/imported"
	sum "${c}_shop.notes" >"$d/sum.imported"

	# What is not theirs
	statement "SELECT * FROM ${other}_shop.notes" >"$d/foreign"
	statement "CREATE DATABASE ${other}_x" >"$d/foreign2"
	token=wrong statement 'DROP TABLE notes' >"$d/forged"
	sum "${c}_shop.notes" >"$d/sum.forged"
	# Their cookies, at the own host and at the other one
	for name in "$1" "$2"; do
		eval "there=\$$name.pma.example.com:$port"
		curl -sS --max-time 120 --connect-to "::127.0.0.1:$port" "http://$there/" \
		    -H "Cookie: $(awk 'NF == 7 { printf "%s=%s; ", $6, $7 }' "$d/cookies")" >"$d/cookies.at.$name" 2>&1
	done
	keep out '/index.php?route=/logout' -d "token=$token" -d server=1
	keep after '/index.php?route=/server/databases'
}
for c in alice bob; do
	[ $c = alice ] && other=bob || other=alice
	customer_works "$c" "$other" 2>"$tmp/r/$c/err" &
	eval "${c}_pid=$!"
done
wait "$alice_pid"
wait "$bob_pid"

# ---- what they have seen -------------------------------------------------------------------

for c in alice bob; do
	[ $c = alice ] && other=bob || other=alice
	eval "user=\$$c home=\${${c}_home} host=\$$c.pma.example.com"
	d=$tmp/r/$c
	is "$(of $c err)" '' "$c: every request has been answered"
	is "$(of $c wrong.status) $(grep -c 'Access denied for user' "$d/wrong")" '200 1' "$c: a wrong password is refused"
	is "$(of $c root.status) $(grep -c 'Access denied!' "$d/root")" '200 1' "$c: MariaDB's root is none who could log in"
	is "$(of $c socket.status) $(grep -c 'Access denied!' "$d/socket")" '200 1' \
	    "$c: nor is the user whom MariaDB would let in without looking at the password"
	is "$(of $c right.status)" 302 "$c: the right password lets in"
	is "$(of $c main.status) $(grep -Ec "^ *User: *$c@localhost" "$d/main")" '200 1' "$c: the main page is shown"
	is "$(grep -A 2 -E 'alert-(danger|warning)' "$d/main" | grep -v 'Javascript must be enabled' | grep -c 'class="icon ic_s')" 0 \
	    "$c: and has nothing to complain of"
	is "$(grep -Eo '(alice|bob)_(blog|shop)|performance_schema' "$d/databases" | sort -u | tr '\n' ' ')" "${c}_blog ${c}_shop " \
	    "$c: the list of databases has the own ones, and no others"
	is "$(json_of success <"$d/created")" 1 "$c: a table is made with the form"
	like "$(json_of message <"$d/inserted")" '1 row inserted' "$c: a row is added with SQL"
	like "$(json_of message <"$d/many")" '4000 rows inserted' "$c: and many more"
	is "$(of $c browse.status) $(grep -Fc "Written by $c: äöü € &lt;b&gt; &quot;quoted&quot; it&#039;s; \\ done" "$d/browse")" '200 1' \
	    "$c: the row is shown as it was written"
	like "$(of $c dump.header)" "^Content-Disposition: attachment; filename=\"${c}_shop.sql\"" "$c: a dump is taken away"
	is "$(grep -c 'REPEAT\|^([0-9]*, .row' "$d/dump") $(tail -n 1 "$d/dump" | cut -c 1-30)" '4000 /*!40101 SET COLLATION_CONNECT' \
	    "$c: with all rows, to its last line"
	like "$(of $c sum.dropped)" "doesn't exist" "$c: the table is dropped"
	is "$(json_of success <"$d/imported") $(of $c sum.imported)" "1 $(of $c sum)" "$c: the dump is brought back, and the table is what it was"
	like "$(json_of error <"$d/foreign")" '#1142' "$c: the other one's rows can not be read"
	like "$(json_of error <"$d/foreign2")" '#1044' "$c: no database be made in the other one's name"
	is "$(json_of success <"$d/forged") $(of $c sum.forged)" "0 $(of $c sum)" "$c: nothing is changed without the page's token"
	is "$(grep -c 'name="pma_password"' "$d/cookies.at.$c" "$d/cookies.at.$other" | sed 's/.*://' | tr '\n' ' ')" '0 1 ' \
	    "$c: the cookies open no session at the other one's"
	is "$(of $c out.status) $(of $c after.status) $(grep -c 'name="pma_password"' "$d/after")" '302 200 1' "$c: out is out"
	is "$(find "$home/.phpmyadmin" ! -user "$user" -o -perm /077 | wc -l) $(stat -c %s "$home/.phpmyadmin/secret")" '0 32' \
	    "$c: secret, sessions and files are there for this user alone"
	is "$(find "$home/.phpmyadmin" -name 'php*' | wc -l)" 0 "$c: nothing is left of what was uploaded"
	for f in libraries/constants.php templates/login/form.twig sql/create_tables.sql; do
		is "$(page "/$f" -o "$tmp/out" -w '%{http_code}')" 403 "$c: $f is not for visitors"
	done
	page /js/vendor/jquery/jquery.min.js >"$tmp/out"
	passes "$c: what belongs to its pages is" cmp "$tmp/out" "$pma/js/vendor/jquery/jquery.min.js"
done
isnt "$(cksum <"$alice_home/.phpmyadmin/secret")" "$(cksum <"$bob_home/.phpmyadmin/secret")" "each has a secret of the own"


# How many processes a user has that zfpm has started, and how many others
processes() { ps -o ppid= -u "$1" | awk -v zfpm="$zfpm_pid" '{ $1 == zfpm ? own++ : other++ } END { print own + 0, other + 0 }'; }
like "$(processes "$alice")" '^1 [1-4]$' "alice's workers are forked from the one that zfpm has started"
like "$(processes "$bob")" '^[1-4] 0$' "bob's are started by zfpm each"
like "$("$zfpm" status -c "$tmp/zfpm.conf" "$alice.pma.example.com")" "^$alice.pma.example.com +[1-9]" "alice's pool has come from the pattern"
passes "the error log has no more than what was refused" silent 'AH01630: client denied' || diag "$(cat "$tmp/said")"
fails "and zfpm's has nothing" log_has '(warn|error): '

kill "$db_pid"
wait_until gone "$db_pid"
c=alice d=$tmp/r/alice host=$alice.pma.example.com
login down "secret of alice"
is "$(of alice down.status) $(grep -Eo '\(HY000/2002\): No such file or directory|Connection refused' "$d/down" | head -n 1)" \
    '200 (HY000/2002): No such file or directory' "without MariaDB the page says why nobody can log in"
passes "which is nothing for the log" silent 'AH01630: client denied' || diag "$(cat "$tmp/said")"
