#!/bin/sh
# A real PHP application, DokuWiki, works through Apache, zfpm and php-cgi under its owner's user:
# view, log in, edit and save a page, upload a file, download it again, all through HTTP.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
[ -d /usr/share/dokuwiki ] || skip_all "no dokuwiki here"

plan 15
make_user wiki
make_user web
make_key
site wiki "$wiki"
root=$tmp/www/wiki conf=$tmp/wikiconf data=$tmp/wikidata

# An instance of its own: the package's code, with configuration and data elsewhere.
cp -rL /usr/share/dokuwiki/. "$root/"
cp -rL /etc/dokuwiki "$conf"
mkdir "$data"
for d in attic cache index locks log media media_attic media_meta meta pages tmp; do
	mkdir "$data/$d"
done
sed "s|'/etc/dokuwiki/'|'$conf/'|" "$root/inc/preload.php" >"$tmp/preload.php" && cp "$tmp/preload.php" "$root/inc/preload.php"
cat >"$conf/local.php" <<-EOF
	<?php
	\$conf['title'] = 'Wiki of the test';
	\$conf['savedir'] = '$data';
	\$conf['useacl'] = 1;
	\$conf['superuser'] = '@admin';
	\$conf['updatecheck'] = 0;
EOF
printf '*\t@ALL\t1\n*\t@user\t16\n' >"$conf/acl.auth.php"
password=$(printf %s secret | md5sum | cut -d ' ' -f 1)
echo "editor:$password:The Editor:editor@wiki.test:admin,user" >"$conf/users.auth.php"
chown -R "$wiki:" "$root" "$conf" "$data"
chmod 700 "$data" "$conf"

start_zfpm <<-'EOF'
	listen @sock@ group @web@ mode 0660 key @tmp@/key
	app php {
		command /usr/bin/php-cgi
		extensions .php
	}
	pool wiki.test {
		user @wiki@
		app  php
		max_workers 3
	}
EOF
start_httpd <<-'EOF'
	<VirtualHost 127.0.0.1:@port@>
		ServerName wiki.test
		DocumentRoot @tmp@/www/wiki
		DirectoryIndex doku.php
		<Directory @tmp@/www/wiki>
			AllowOverride All
		</Directory>
	</VirtualHost>
EOF

# One page as a browser with cookies would get it.
page() {
	page_path=$1
	shift
	curl -sS --max-time 60 --resolve "wiki.test:$port:127.0.0.1" -b "$tmp/cookies" -c "$tmp/cookies" -L "$@" \
	    "http://wiki.test:$port$page_path"
}
# The value of a hidden field of the last form.
field() { sed -n "s/.*name=\"$1\" value=\"\([^\"]*\)\".*/\1/p" "$tmp/form" | head -n 1; }

page / >"$tmp/start"
like "$(cat "$tmp/start")" 'Wiki of the test' "the start page is shown"
is "$(code wiki.test /doku.php)" 200 "with status 200"
is "$(code wiki.test '/lib/exe/css.php?t=dokuwiki')" 200 "the style sheet that PHP makes comes"

page '/doku.php?id=start&do=login' >"$tmp/form"
page '/doku.php?id=start' --data-urlencode "sectok=$(field sectok)" -d id=start -d do=login -d u=editor -d p=wrong >"$tmp/refused"
unlike "$(cat "$tmp/refused")" 'The Editor' "a wrong password does not log in"
page '/doku.php?id=start&do=login' >"$tmp/form"
page '/doku.php?id=start' --data-urlencode "sectok=$(field sectok)" -d id=start -d do=login -d u=editor -d p=secret >"$tmp/in"
like "$(cat "$tmp/in")" 'The Editor' "the right one does"

page '/doku.php?id=notes&do=edit' >"$tmp/form"
isnt "$(field sectok)" '' "the editor is shown"
{
	echo '====== Notes of the test ======'
	echo 'Written through Apache and zfpm: äöü € <b>'
} >"$tmp/text"
status=$(page '/doku.php' -o "$tmp/saved" -w '%{http_code} %{num_redirects}' --data-urlencode "sectok=$(field sectok)" \
    --data-urlencode "changecheck=$(field changecheck)" -d id=notes -d rev= -d date= -d prefix=. -d suffix= -d target=section \
    --data-urlencode "wikitext@$tmp/text" -d summary=test -d 'do[save]=Save')
is "$status" '200 1' "saving a page answers with a redirect to it"
like "$(page '/doku.php?id=notes')" 'Written through Apache and zfpm: äöü € &lt;b&gt;' "the page shows what was saved"
is "$(stat -c %U "$data/pages/notes.txt")" "$wiki" "the page's file belongs to the tenant"
passes "and holds the text" grep -q 'äöü €' "$data/pages/notes.txt"

# A picture, big enough to stream while it is uploaded
{
	printf '\211PNG\r\n\032\n'
	head -c 1500000 /dev/urandom
} >"$tmp/up.png"
page '/doku.php?id=notes&do=media&ns=' >"$tmp/form"
page '/lib/exe/ajax.php' -F call=mediaupload -F "sectok=$(field sectok)" -F ns= -F mediaid=up.png \
    -F "qqfile=@$tmp/up.png;type=image/png" >"$tmp/answer"
like "$(cat "$tmp/answer")" '"success":true' "a file is uploaded"
is "$(stat -c %U "$data/media/up.png")" "$wiki" "it belongs to the tenant"
page '/lib/exe/fetch.php?media=up.png' >"$tmp/down.png"
passes "it comes back as it was" cmp "$tmp/up.png" "$tmp/down.png"
is "$(page '/lib/exe/fetch.php?media=up.png' -r 1000-1999 | cksum)" "$(tail -c +1001 "$tmp/up.png" | head -c 1000 | cksum)" \
    "a range of it too"
is "$(grep -Ec 'stderr:|zfpm:error' "$tmp/error.log")" 0 "and the error log is silent"
