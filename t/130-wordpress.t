#!/bin/sh
# Two customers' WordPress sites, set up as examples/wordpress has them, work at the same time through Apache, zfpm,
# php-cgi and MariaDB: installation, permalinks, posts, REST, uploads with thumbnails, WP-Cron, comments, feeds. All of it is
# done by the customer's own user, and neither customer can reach what the other one has. One pool has a fork server, the
# other has none.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
. "${0%/*}/mariadb.sh"
need_httpd
need_mariadb
[ -e /usr/share/wordpress/wp-settings.php ] || skip_all "no WordPress here"
need_php gd mysqli
plan 115

want_user alice bob web db
make_key
port=$(free_port)
# What WordPress requests from itself has to get here without a name server: the hosts are addresses.
alice_host=127.0.0.1:$port bob_host=127.0.0.2:$port
mkdir -m 1777 "$tmp/mail"
mkdir "$tmp/r" "$tmp/r/alice" "$tmp/r/bob"
start_mariadb

# ---- what the customers have -----------------------------------------------------------------

# Mail goes to a file of whom it comes from.
cat >"$bin/sendmail" <<-END
	#!/bin/sh
	cat >>"$tmp/mail/\$(id -un)"
END
chmod 755 "$bin/sendmail"

# Debian's package without Debian's configuration, a theme of one file for each kind of page, a wp-config.php.
customer() {
	eval "user=\$$1 home=\$${1}_home"
	chmod 711 "$home"
	mkdir -m 700 "$home/tmp"
	cp -rL /usr/share/wordpress "$home/www"
	rm -f "$home/www/wp-config.php" "$home/www/.htaccess"
	theme=$home/www/wp-content/themes/plain
	mkdir -p "$theme" "$home/www/wp-content/uploads"
	echo '/* Theme Name: Plain */' >"$theme/style.css"
	cat >"$theme/index.php" <<-'END'
		<title><?php bloginfo('name') ?></title><?php wp_head() ?>
		<?php while (have_posts()) { the_post(); ?>
		<h2><?php the_title() ?></h2><?php the_content(); comments_template(); } ?>
	END
	echo '<h1>Nothing here</h1>' >"$theme/404.php"
	cat >"$theme/comments.php" <<-'END'
		<?php foreach ($comments as $c) { ?>
		<p class=comment><?php echo esc_html($c->comment_content) ?></p>
		<?php } comment_form() ?>
	END
	sed -e "s|database_name_here|$1|;s|username_here|$2|;s|password_here|$3|;s|'localhost'|'localhost:$db_socket'|" \
	    -e "s|put your unique phrase here|$1$(od -An -N 16 -tx1 /dev/urandom | tr -d ' \n')|" \
	    -e "/That's all/i define('WP_ENVIRONMENT_TYPE', 'local');\\
		define('WP_HTTP_BLOCK_EXTERNAL', true);\\
		define('AUTOMATIC_UPDATER_DISABLED', true);\\
		define('WP_CRON_LOCK_TIMEOUT', 3);\\
		define('WP_DEFAULT_THEME', 'plain');" \
	    /usr/share/wordpress/wp-config-sample.php >"$home/www/wp-config.php"
	chown -R "$user:" "$home"
	chown "$user:$web" "$home/www"
	chmod 750 "$home/www"
	chmod 600 "$home/www/wp-config.php"
}
customer alice "$alice" "secret of alice"
customer bob "$bob" ""

# alice has a password, bob is known to MariaDB by his user id and has none.
sql <<-END
	CREATE DATABASE alice;
	CREATE DATABASE bob;
	CREATE USER '$alice'@localhost IDENTIFIED BY 'secret of alice';
	CREATE USER '$bob'@localhost IDENTIFIED VIA unix_socket;
	GRANT ALL ON alice.* TO '$alice'@localhost;
	GRANT ALL ON bob.* TO '$bob'@localhost;
END

# Files that nobody should get at through the web, and what an attacker leaves behind
cat >"$tmp/shell.php" <<-'END'
	<?php echo 'it is run by ', get_current_user(), "\n";
END
cat >"$tmp/due.php" <<-'END'
	<?php
	define('DISABLE_WP_CRON', true);
	require 'wp-load.php';
	// Not while WP-Cron is at work: the list of events is one value, which the last one to write it has right.
	while ($wpdb->get_var("SELECT option_value FROM $wpdb->options WHERE option_name = '_transient_doing_cron'") + WP_CRON_LOCK_TIMEOUT > microtime(true))
		usleep(20000);
	wp_cache_delete('alloptions', 'options');
	wp_clear_scheduled_hook('publish_future_post', [(int)$_GET['id']]);
	$date = gmdate('Y-m-d H:i:s', time() - 1);
	$wpdb->update($wpdb->posts, ['post_date' => $date, 'post_date_gmt' => $date], ['ID' => $_GET['id']]);
	var_dump(wp_schedule_single_event(time(), 'publish_future_post', [(int)$_GET['id']]));
END
for c in alice bob; do
	eval "www=\${${c}_home}/www user=\$$c"
	echo '<?php echo posix_geteuid(), " ", posix_getegid(), " ", implode(" ", posix_getgroups());' >"$www/who.php"
	cp "$tmp/due.php" "$www"
	for f in wp-content/uploads/shell.php wp-content/uploads/shell.PHP wp-content/uploads/shell.php.jpg; do
		cp "$tmp/shell.php" "$www/$f"
	done
	printf 'AddHandler zfpm .jpg\nSetHandler zfpm\n' >"$www/wp-content/uploads/.htaccess"
	mkdir "$www/evil"
	cp "$tmp/shell.php" "$www/evil/cat.jpg"
	printf '<FilesMatch "\\.jpg$">\nSetHandler zfpm\n</FilesMatch>\n' >"$www/evil/.htaccess"
	cp "$www/wp-config.php" "$www/wp-config.php.save"
done
ln -s "$alice_home/www/license.txt" "$bob_home/www/alice.txt"
echo 'for visitors of alice' >"$alice_home/www/license.txt"
cat >"$bob_home/www/spy.php" <<-END
	<?php
	error_reporting(0);
	echo 'config ', var_export(file_get_contents('$alice_home/www/wp-config.php'), true), "\n";
	echo 'index ', var_export(file_get_contents('$alice_home/www/index.php'), true), "\n";
	echo 'uploads ', var_export(scandir('$alice_home/www/wp-content/uploads'), true), "\n";
	echo 'tmp ', var_export(scandir('$alice_home/tmp'), true), "\n";
	echo 'write ', var_export(file_put_contents('$alice_home/www/x.php', 'x'), true), "\n";
	foreach (['$alice' => '', '$bob' => '', 'root' => ''] as \$user => \$password) {
		try {
			\$db = new mysqli('localhost', \$user, \$password, null, null, '$db_socket');
			echo \$user, ' ', join(',', array_column(\$db->query('SHOW DATABASES')->fetch_all(), 0)), "\n";
			\$db->select_db('alice');
		} catch (Exception \$e) {
			echo \$user, ' ', \$e->getCode(), "\n";
		}
	}
	foreach (explode(' ', \$_GET['pids'] ?? '') as \$pid)
		echo 'kill ', var_export(posix_kill(\$pid, 0), true), ' ', posix_strerror(posix_get_last_error()), "\n";
END
for c in alice bob; do
	eval "chown -hR \"\$$c:\" \"\${${c}_home}/www\" && chown \":$web\" \"\${${c}_home}/www\""
done

# ---- the servers --------------------------------------------------------------------------

hosts="s|www\.example\.com|127.0.0.1|;s|www\.example\.org|127.0.0.2|"
# Bob's pool has an app without a fork server besides; max_workers is as given.
configuration() {
	example_conf wordpress/zfpm.conf -e "$hosts" \
	    -e "s|^\(	command .*\)|\1 -d \"sendmail_path=$bin/sendmail -t -i\" -d disable_functions=$3|" \
	    -e "/^pool 127.0.0.1/,/^}/s|\(max_workers\).*|\1 $1|" -e "/^pool 127.0.0.2/,/^}/s|\(max_workers\).*|\1 $2|" \
	    -e '/^pool 127.0.0.2/,/^}/s|app .*|app direct|' >"$tmp/example"
	cat "$tmp/example"
	sed -n '/^app wordpress/,/^}/p' "$tmp/example" | sed '/fork_server/d;/watch/d;s/wordpress/direct/'
}
configuration 6 6 '' >"$tmp/configuration"
start_zfpm <"$tmp/configuration"
{
	echo "Listen 127.0.0.2:$port"
	printf '%s\n' '<FilesMatch "\.php$">' 'SetHandler zfpm' '</FilesMatch>'
	echo 'LogFormat "%v %h \"%r\" %>s %D %X %{User-Agent}i" seen'
	echo "CustomLog $tmp/access.log seen"
	# which httpd.sh has besides
	printf '%s\n' "<Directory $tmp/home>" 'RemoveHandler .php' '</Directory>'
	example wordpress/apache.conf -e "$hosts" -e "s|/home/\*|$tmp/home/*|"
} >"$tmp/apache"
start_httpd <"$tmp/apache"

# ---- a customer and a visitor ---------------------------------------------------------------

# What they see is kept by a name, for the titles below.
visitor() {
	v_path=$1
	shift
	curl -sS --max-time 120 "$@" "http://$host$v_path"
}
admin() { visitor "$@" -b "$d/cookies" -c "$d/cookies"; }
# The status to NAME.status, the body to NAME
keep() {
	k_name=$1
	shift
	"$@" -o "$d/$k_name" -w '%{http_code} %{redirect_url}' >"$d/$k_name.status"
}
rest() {
	r_path=$1
	shift
	admin "/wp-json$r_path" -H "X-WP-Nonce: $nonce" -H 'Content-Type: application/json' "$@"
}
login() {
	admin /wp-login.php -o "$d/form"
	keep "$1" admin /wp-login.php -d log=boss --data-urlencode "pwd=$2" -d wp-submit=x -d testcookie=1
}
published() { visitor "/wp-json/wp/v2/posts/$1" | json_of status | grep -qx publish; }
# A visitor's page starts WP-Cron, a request of WordPress to itself, which publishes what is due.
visited_and_published() {
	visitor / -o "$d/visit"
	published "$1"
}
# WordPress publishes at once what is due within a minute, and nobody here can wait for longer. So a script moves to this
# moment what is due in an hour, its date and its event.
schedule() {
	keep scheduled rest /wp/v2/posts -d "{\"title\":\"Later\",\"content\":\"x\",\"status\":\"future\",
		\"date_gmt\":\"$(date -u -d '+ 1 hour' +%Y-%m-%dT%H:%M:%S)\"}"
	id=$(json_of id <"$d/scheduled")
	json_of status <"$d/scheduled" >"$d/scheduled.as"
	visitor "/due.php?id=$id" >"$d/due"
}

customer_works() {
	c=$1 d=$tmp/r/$1
	eval "host=\$${c}_host"

	keep form0 admin /wp-admin/install.php
	keep installed admin '/wp-admin/install.php?step=2' --data-urlencode "weblog_title=Site of $c" -d user_name=boss \
	    --data-urlencode "admin_password=right $c" --data-urlencode "admin_password2=right $c" -d pw_weak=on \
	    --data-urlencode "admin_email=$c@example.com" -d blog_public=1 -d language=
	eval "stat -c %U \"\${${c}_home}/www/.htaccess\"" >"$d/htaccess"
	keep again admin /wp-admin/install.php
	login wrong "wrong $c"
	login right "right $c"
	keep dashboard admin /wp-admin/index.php

	admin /wp-admin/options-permalink.php -o "$d/form"
	keep permalinks admin /wp-admin/options-permalink.php -d "_wpnonce=$(hidden _wpnonce "$d/form")" -d selection=custom \
	    --data-urlencode 'permalink_structure=/%year%/%postname%/' -d category_base= -d tag_base= -d submit=x
	admin '/wp-admin/options-permalink.php?settings-updated=true' -o "$d/form"
	nonce=$(admin '/wp-admin/admin-ajax.php?action=rest-nonce')

	# The editor's way: a draft, an autosave, published
	keep draft rest /wp/v2/posts -d '{"title":"Notes äöü €","content":"<p>First try</p>","status":"draft"}'
	id=$(json_of id <"$d/draft")
	keep autosave rest "/wp/v2/posts/$id/autosaves" -d '{"content":"<p>Saved by itself</p>"}'
	keep heartbeat admin /wp-admin/admin-ajax.php -d action=heartbeat -d interval=60 -d screen_id=post \
	    --data-urlencode "_nonce=$(sed -n 's/.*heartbeatSettings = {"nonce":"\([^"]*\)".*/\1/p' "$d/dashboard")" \
	    -d "data[wp-refresh-post-lock][post_id]=$id" -d 'data[x]=y'
	keep post rest "/wp/v2/posts/$id" -X PUT --data-binary \
	    "{\"content\":\"<p>Written by $c through Apache and zfpm: äöü € &lt;b&gt;</p>\",\"status\":\"publish\",\"slug\":\"notes\"}"
	keep nobody visitor /wp-json/wp/v2/posts -H 'Content-Type: application/json' -d '{"title":"x","status":"publish"}'
	year=$(json_of date <"$d/post" | cut -c 1-4)
	echo "$year" >"$d/year"

	# Media
	admin /wp-admin/media-new.php -o "$d/form"
	media=$(hidden _wpnonce "$d/form")
	keep image admin /wp-admin/async-upload.php -F action=upload-attachment -F "_wpnonce=$media" -F name=photo.jpg \
	    -F "async-upload=@$tmp/photo.jpg;type=image/jpeg"
	keep script admin /wp-admin/async-upload.php -F action=upload-attachment -F "_wpnonce=$media" -F name=shell2.php \
	    -F "async-upload=@$tmp/shell.php;type=image/jpeg;filename=shell2.php"
	keep disguised admin /wp-admin/async-upload.php -F action=upload-attachment -F "_wpnonce=$media" -F name=shell2.jpg \
	    -F "async-upload=@$tmp/shell.php;type=image/jpeg;filename=shell2.jpg"

	# A program with a password of its own
	keep password rest /wp/v2/users/me/application-passwords -d '{"name":"program"}'
	word=$(json_of password <"$d/password")
	keep program visitor /wp-json/wp/v2/posts -u "boss:$word" -H 'Content-Type: application/json' \
	    -d '{"title":"By a program","content":"x","status":"publish"}'
	keep program.wrong visitor /wp-json/wp/v2/users/me -u "boss:wrong"
	keep xmlrpc visitor /xmlrpc.php -H 'Content-Type: text/xml' -d "<?xml version='1.0'?><methodCall><methodName>wp.getUsersBlogs</methodName>
		<params><param><value>boss</value></param><param><value>right $c</value></param></params></methodCall>"

	# Visitors
	keep front visitor /
	keep page visitor "/$year/notes/"
	keep comment visitor /wp-comments-post.php -d "comment_post_ID=$id" --data-urlencode "comment=I like it äöü, $c" \
	    -d author=Visitor -d email=visitor@example.net -d submit=x
	keep commented rest '/wp/v2/comments?status=hold'
	keep approved rest "/wp/v2/comments/$(json_of 0.id <"$d/commented")" -d '{"status":"approved"}'
	keep page2 visitor "/$year/notes/"
	keep feed visitor /feed/ -D "$d/feed.header"
	keep missing visitor /no/such/page/
	keep head visitor "/$year/notes/" -I

	# WP-Cron
	schedule
	wait_until visited_and_published "$id"
	visitor "/wp-json/wp/v2/posts/$id" | json_of title.rendered >"$d/published"

	keep out admin "$(admin /wp-admin/index.php | sed -n 's|.*href="http://[^/]*\(/wp-login.php?action=logout[^"]*\)".*|\1|p' | head -n 1 | sed 's/&#038;/\&/g')"
	keep after admin /wp-admin/index.php
}

cat >"$tmp/photo.php" <<-'END'
	<?php
	$i = imagecreatetruecolor(1600, 1200);
	for ($n = 0; $n < 200; $n++)
		imagefilledellipse($i, rand(0, 1600), rand(0, 1200), rand(10, 300), rand(10, 300), rand(0, 0xffffff));
	imagejpeg($i, $argv[1] ?? getenv('TO'), 90);
END
TO="$tmp/photo.jpg" php-cgi -q "$tmp/photo.php"

for c in alice bob; do
	customer_works "$c" 2>"$tmp/r/$c/err" &
	eval "${c}_pid=$!"
done
wait "$alice_pid"
wait "$bob_pid"

# The sizes of a picture, by GD
size() { FILE=$1 php-cgi -q "$tmp/size.php"; }
echo '<?php echo implode("x", array_slice(getimagesize(getenv("FILE")), 0, 2));' >"$tmp/size.php"
# True if the visitor gets this file at this path
served() { visitor "$1" | cmp - "$2"; }

for c in alice bob; do
	eval "user=\$$c host=\${${c}_host} www=\${${c}_home}/www"
	d=$tmp/r/$c
	is "$(of $c err)" '' "$c: every request has been answered"
	like "$(of $c form0)" 'name="weblog_title"' "$c: the installation asks for the site's name"
	like "$(of $c installed)" 'Success!' "$c: and installs"
	is "$(of $c htaccess)" "$user" "$c: it has requested a page from itself, and writes a .htaccess as the customer's user"
	like "$(of $c again)" 'already installed' "$c: it can not be run twice"
	is "$(of $c wrong.status) $(grep -c 'is incorrect' "$d/wrong")" '200  1' "$c: a wrong password is refused"
	is "$(of $c right.status)" "302 http://$host/wp-admin/" "$c: the right one lets in"
	like "$(of $c dashboard.status)$(of $c dashboard)" "Dashboard &lsaquo; Site of $c" "$c: the dashboard is shown"
	is "$(of $c permalinks.status)" "302 http://$host/wp-admin/options-permalink.php?settings-updated=true" "$c: permalinks are set"
	is "$(of $c draft.status)$(of $c autosave.status)$(of $c autosave | perl -0pe 's/.*(Saved by itself).*/$1/s')" '201 200 Saved by itself' \
	    "$c: the editor saves a draft"
	like "$(of $c heartbeat)" '"new_lock"' "$c: and holds the post by admin-ajax.php"
	is "$(of $c post.status)$(json_of link <"$d/post")" "200 http://$host/$(of $c year)/notes/" "$c: the post is published"
	like "$(of $c page.status)$(of $c page)" "Written by $c through Apache and zfpm: äöü € &lt;b&gt;" "$c: everybody reads it at its permalink"
	is "$(echo "SELECT post_content FROM wp_posts WHERE ID = $(json_of id <"$d/post")" | sql --default-character-set=utf8mb4 $c)" \
	    "<p>Written by $c through Apache and zfpm: äöü € &lt;b&gt;</p>" "$c: it is in the customer's database"
	is "$(of $c nobody.status)$(json_of code <"$d/nobody")" '401 rest_cannot_create' "$c: nobody else can write one"
	is "$(of $c image.status)$(json_of success <"$d/image")" '200 1' "$c: a picture is uploaded"
	photo=$www/wp-content/uploads/$(date -u +%Y/%m)/photo
	[ -e "$photo.jpg" ] || photo=$(find "$www/wp-content/uploads" -name photo.jpg | sed 's/\.jpg$//')
	is "$(size "$photo-150x150.jpg") $(size "$photo-1024x768.jpg")" '150x150 1024x768' "$c: smaller ones are made of it"
	is "$(stat -c '%U %a' "$photo.jpg" "$photo-150x150.jpg" | sort -u)" "$user 644" "$c: they are the customer's"
	passes "$c: it comes back as it was" served "${photo#"$www"}.jpg" "$tmp/photo.jpg"
	passes "$c: so does a smaller one" served "${photo#"$www"}-150x150.jpg" "$photo-150x150.jpg"
	is "$(json_of success <"$d/script") $(json_of data.message <"$d/script")" "0 Sorry, you are not allowed to upload this file type." \
	    "$c: a script is not taken for an upload"
	is "$(json_of success <"$d/disguised")" 0 "$c: nor under the name of a picture"
	is "$(of $c program.status)$(json_of title.rendered <"$d/program")" '201 By a program' "$c: an application password is good for REST"
	is "$(of $c program.wrong.status)" '401 ' "$c: a wrong one is not"
	like "$(of $c xmlrpc)" "<name>blogName</name><value><string>Site of $c</string>" "$c: XML-RPC answers"
	like "$(of $c front.status)$(of $c front)" "^200 <title>Site of $c" "$c: the front page is shown"
	is "$(of $c comment.status | sed 's/unapproved.*//')" "302 http://$host/$(of $c year)/notes/?" "$c: a visitor writes a comment"
	is "$(json_of 0.author_name <"$d/commented") $(of $c approved.status)$(grep -c "<p class=comment>I like it äöü, $c</p>" "$d/page2")" \
	    'Visitor 200 1' "$c: approved, it stands on the page"
	is "$(of $c feed.status)$(grep -ic '^content-type: application/rss+xml' "$d/feed.header") $(grep -c '<title>Notes äöü €</title>' "$d/feed")" \
	    '200 1 1' "$c: the feed has the post"
	is "$(of $c missing.status)$(of $c missing)" '404 <h1>Nothing here</h1>' "$c: what is not there is WordPress's own 404"
	is "$(of $c head.status)" '200 ' "$c: HEAD is answered"
	is "$(of $c scheduled.as) $(of $c published)" 'future Later' "$c: a post is published at its time"
	passes "$c: by a request of WordPress to itself" grep -Eq "^${host%:*} .*POST /wp-cron.php.* 200 .*WordPress/" "$tmp/access.log"
	is "$(of $c out.status | cut -d '?' -f 1) $(of $c after.status | cut -d '?' -f 1)" \
	    "302 http://$host/wp-login.php 302 http://$host/wp-login.php" "$c: out is out"
	is "$(stat -c %U "$tmp/mail/$user") $(grep -c "^Subject: New WordPress Site" "$tmp/mail/$user")" "$user 1" \
	    "$c: mail is sent as the customer's user"
	is "$(find "$www" ! -user "$user" | wc -l)" 0 "$c: no file of the site is anybody else's"
	is "$(visitor /who.php)" "$(id -u "$user") $(id -g "$user") $(id -g "$user")" "$c: all of it ran as the customer's user"
done
unlike "$(of bob front)$(of bob page)$(of bob dashboard)$(of bob feed)" 'of alice|by alice' "nothing of alice's is on bob's site"
unlike "$(of alice front)$(of alice page)$(of alice dashboard)$(of alice feed)" 'of bob|by bob' "nor the other way round"

# Debian's own part of install.php warns of two variables.
warnings='Undefined variable .upload_(url_)?path in .*/wp-admin/install.php'
passes "the error log is silent" silent "$warnings" || diag "$(cat "$tmp/said")"
log_has '(warn|error): '
is "$?" 1 "and so is zfpm's"

# ---- more visitors than workers, at both sites at once ------------------------------------

# The most processes that each user has had. The fork server of alice is one of them.
within() { [ "$1" -gt 2 ] && [ "$1" -le "$2" ]; }
count() { ps -o stat= -u "$1" | sed '/^Z/d' | wc -l >>"$tmp/r/$2/count"; }
while ! [ -e "$tmp/enough" ]; do
	count "$alice" alice
	count "$bob" bob
	sleep 0.02
done &
counting=$!
for c in alice bob; do
	eval "host=\${${c}_host}"
	curl -sS -Z --parallel-immediate --parallel-max 30 --max-time 120 -o /dev/null -w '%{http_code}\n' "http://$host/?n=[1-60]" \
	    >"$tmp/r/$c/burst" 2>"$tmp/r/$c/burst.err" &
	eval "${c}_pid=$!"
done
wait "$alice_pid"
wait "$bob_pid"
touch "$tmp/enough"
wait "$counting"
for c in alice bob; do
	is "$(sort "$tmp/r/$c/burst" | uniq -c | tr -s ' ')" ' 60 200' "$c: thirty visitors at a time are all served"
	most=$(sort -n "$tmp/r/$c/count" | tail -n 1)
	limit=6
	[ $c = bob ] || limit=7
	passes "$c: by more than one process, and no more than max_workers ($most)" within "$most" $limit
done
parents() { ps -o ppid= -u "$1" | sed -n "/^ *$zfpm_pid\$/p" | wc -l; }
is "$(parents "$alice")" 1 "alice's are forked from the one that zfpm has started"
is "$(parents "$bob")" "$(ps -o pid= -u "$bob" | wc -l)" "bob's are each started by zfpm"

# ---- what must not go ---------------------------------------------------------------------

for c in alice bob; do
	eval "host=\${${c}_host}"
	for f in shell.php shell.PHP; do
		is "$(visitor /wp-content/uploads/$f -o "$tmp/out" -w '%{http_code}')" 403 "$c: uploads/$f is not run"
	done
	passes "$c: shell.php.jpg is a picture, whatever a .htaccess beside it says" \
	    served /wp-content/uploads/shell.php.jpg "$tmp/shell.php"
	is "$(visitor /evil/cat.jpg -o "$tmp/out" -w '%{http_code}')" 403 "$c: where one counts zfpm runs no .jpg"
	for f in wp-config.php wp-config.php.save; do
		is "$(visitor /$f -o "$tmp/out" -w '%{http_code}')" 403 "$c: $f is not for visitors"
	done
done
host=$bob_host
is "$(visitor /alice.txt -o "$tmp/out" -w '%{http_code}') $(host=$alice_host visitor /license.txt)" '403 for visitors of alice' \
    "bob can not have Apache read alice's files by a link"
visitor "/spy.php?pids=$(ps -o pid= -u "$alice" | tr -s ' \n' '++' | sed 's/^+//;s/+$//')" >"$tmp/spy"
is "$(grep -Ec '^(config|index|uploads|tmp|write) false$' "$tmp/spy")" 5 "bob's scripts can not read alice's wp-config.php, code, uploads and TMPDIR" ||
    diag "$(cat "$tmp/spy")"
like "$(cat "$tmp/spy")" "^$alice 1045$" "nor log in to her database"
like "$(cat "$tmp/spy")" "^root (1045|1698)$" "nor as MariaDB's root"
like "$(cat "$tmp/spy")" "^$bob bob,information_schema$" "with their own user, and no password, they see their own database"
like "$(cat "$tmp/spy")" "^$bob 1044$" "and hers is refused"
is "$(grep -c '^kill' "$tmp/spy") $(grep -c '^kill false Operation not permitted' "$tmp/spy")" \
    "$(ps -o pid= -u "$alice" | wc -l) $(ps -o pid= -u "$alice" | wc -l)" "nor signal her workers"

# ---- requests of WordPress to itself --------------------------------------------------------

reload() {
	configuration "$@" >"$tmp/configuration"
	make_conf "$tmp/zfpm.conf" <"$tmp/configuration"
	"$zfpm" reload -c "$tmp/zfpm.conf" >"$tmp/reload" 2>&1
}
enter() {
	d=$tmp/r/$1
	eval "host=\${${1}_host}"
	login right "right $1"
	nonce=$(admin '/wp-admin/admin-ajax.php?action=rest-nonce')
}
health() {
	enter "$1"
	rest /wp-site-health/v1/tests/loopback-requests -o "$d/health"
	touch "$d/healthy"
}

# Site Health waits 10 s for an answer, which comes from the second worker.
passes "alice gets one worker, bob two" reload 1 2 ''
health alice &
alice_pid=$!
health bob &
wait $!
is "$(json_of status <"$tmp/r/bob/health")" good "with two workers WordPress reaches itself"
fails "while with one it waits for itself" test -e "$tmp/r/alice/healthy"
wait "$alice_pid"
is "$(json_of status <"$tmp/r/alice/health")" critical "until it gives up"
like "$(json_of description <"$tmp/r/alice/health")" 'timed out' "and tells the administrator"
host=$alice_host
is "$(visitor / -o "$tmp/out" -w '%{http_code}')" 200 "nothing stays behind: her one worker serves again"

# Without PHP's curl WordPress closes the connection as soon as it has sent the request for WP-Cron.
passes "they get six again, and PHP no curl" reload 6 6 curl_init
for c in alice bob; do
	enter $c
	schedule
	is "$(of $c scheduled.as)" future "$c: another post is to be published later"
	passes "$c: WP-Cron does it, though nobody waits for its answer" wait_until visited_and_published "$id"
done
passes "the error log has no more than what was refused" \
    silent "$warnings|AH00037: Symbolic link not allowed|AH01630: client denied|Access denied: .*has no extension" || diag "$(cat "$tmp/said")"
