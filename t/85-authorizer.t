#!/bin/sh
# An app in the AUTHORIZER role decides who gets in, beside Require: its yes brings variables, its no is the response.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
plan 44

make_user alice
want_user web
make_key
site a.test "${alice:?}"
start_zfpm <<-'EOF'
	listen @sock@ group @web@ mode 0660 key @tmp@/key
	app php {
		command /usr/bin/php-cgi
		extensions .php
		roles responder authorizer
	}
	app judge {
		command @bin@/app
		roles authorizer
	}
	app app {
		command @bin@/app
	}
	pool a.test {
		user @alice@
		app php judge app
	}
EOF
mkdir "$tmp/www/a.test/in" "$tmp/www/a.test/in/sub" "$tmp/www/a.test/php" "$tmp/www/a.test/none"
echo 'the secret' | tee "$tmp/www/a.test/in/page.txt" "$tmp/www/a.test/php/page.txt" "$tmp/www/a.test/none/page.txt" >"$tmp/out"
cat >"$tmp/www/a.test/in/env.php" <<-\EOF
	<?php
	foreach ($_SERVER as $name => $value)
		if (is_string($value))
			echo "$name=$value\n";
	echo 'body=', file_get_contents('php://input'), "\n";
EOF
cp "$tmp/www/a.test/in/env.php" "$tmp/www/a.test/php/index.php"
echo 'not for you' >"$tmp/www/a.test/refused.txt"
# An authorizer in PHP: joe may come in.
cat >"$tmp/judge.php" <<-\EOF
	<?php
	if (($_SERVER['PHP_AUTH_USER'] ?? '') === 'joe') {
		header('Variable-LEVEL: 7');
		exit;
	}
	http_response_code(401);
	header('WWW-Authenticate: Basic realm="judge"');
	if (isset($_GET['page']))
		echo 'who are you?';
EOF
printf 'good:%s\n' "$(printf good | openssl passwd -apr1 -stdin)" >"$tmp/users"
cat >"$tmp/www/a.test/index.shtml" <<-\EOF
	[<!--#include virtual="/in/page.txt?code=200" -->][<!--#include virtual="/in/page.txt?code=403" -->][<!--#include virtual="/in/page.txt?code=204" -->]
EOF

start_httpd event <<-EOF
	LogLevel zfpm:trace7
	LoadModule include_module @modules@/mod_include.so
	LoadModule authn_file_module @modules@/mod_authn_file.so
	LoadModule authz_user_module @modules@/mod_authz_user.so
	LoadModule authz_host_module @modules@/mod_authz_host.so
	LoadModule auth_basic_module @modules@/mod_auth_basic.so
	LoadModule autoindex_module @modules@/mod_autoindex.so
	LoadModule http2_module @modules@/mod_http2.so
	Protocols h2c http/1.1
	AddHandler zfpm:app .app
	<Directory $tmp/www>
	Options +Includes +Indexes
	AddOutputFilter INCLUDES .shtml
	AllowOverride All
	AllowOverrideList ZfpmAuthorizer
	</Directory>
	$(vhost a.test '<Location /in>' 'ZfpmAuthorizer judge' 'SetEnv FROM_CONF here' 'ErrorDocument 403 /refused.txt' \
	    'Header always set X-Refused-By judge' '</Location>' \
	    '<Location /php>' "ZfpmAuthorizer php $tmp/judge.php" '</Location>' \
	    '<Location /in/sub>' 'ZfpmAuthorizer none' '</Location>' \
	    '<Location /none>' 'ZfpmAuthorizer app' '</Location>' \
	    '<Location /both>' 'AuthType Basic' 'AuthName both' "AuthUserFile $tmp/users" 'Require valid-user' 'ZfpmAuthorizer judge' \
	    '</Location>' "Alias /both $tmp/www/a.test/in" \
	    '<Location /no>' 'Require all denied' 'ZfpmAuthorizer judge' '</Location>' "Alias /no $tmp/www/a.test/in" \
	    'RewriteEngine on' 'RewriteRule ^/outside$ /in/page.txt [PT,QSA]')
EOF
mkdir -m 1777 "$tmp/notes"

# Yes
is "$(get a.test '/in/page.txt?code=200')" 'the secret' "a 200 lets the request through, to a plain file too"
is "$(get a.test '/in/page.txt')" 'the secret' "so does a response without a Status"
unlike "$(get a.test '/in/page.txt?header=X-Mine:%20x' -i)" 'X-Mine|param' "nothing of the authorizer's response goes to the client"
env=$(get a.test '/in/env.php?header=Variable-LEVEL:%207')
like "$env" '^LEVEL=7$' "Variable-NAME becomes a variable of the request"
like "$(get a.test '/in/env.php?header=variable-lower_case:%20x')" '^lower_case=x$' "however it is spelled"
unlike "$env$(get a.test '/in/env.php?header=Variable-HTTP_PROXY:%20x')" '^ZFPM_|^Variable|^HTTP_PROXY' "none of them is zfpm's own"
is "$(get a.test '/in/env.php?header=Status:%20200%20OK&header=Variable-A:%20b' -d 'a body' | sed -n 's/^body=//p')" 'a body' \
    "the body is there for the script"
report=$(get a.test "/in/page.txt/no?code=403" -d 'a body')
like "$report" '^role 2$' "the role is AUTHORIZER"
like "$report" '^param REQUEST_METHOD=POST$' "it is told the method"
like "$report" '^param REQUEST_URI=/in/page.txt/no\?' "and the URI"
like "$report" '^param FROM_CONF=here$' "and what SetEnv says"
unlike "$report" '^param (CONTENT_LENGTH|PATH_INFO|PATH_TRANSLATED|SCRIPT_NAME|SCRIPT_FILENAME)=' "but not what the specification excludes"
unlike "$report" '^param ZFPM_' "nor the key"
is "$(get a.test "/in/page.txt?code=403&echo" -d 'a body' | grep -c 'a body')" 0 "it gets no body"

# No
is "$(code a.test '/in/page.txt?code=403&out=10')" 403 "another status goes to the client"
is "$(get a.test '/in/page.txt?code=403&out=300000' | wc -c)" 300000 "with its body"
is "$(get a.test '/in/page.txt?code=403&out=300000' --http2-prior-knowledge | wc -c)" 300000 "over HTTP/2 too"
like "$(get a.test '/in/page.txt?code=401&out=1&header=WWW-Authenticate:%20Basic' -i)" '^WWW-Authenticate: Basic' "and its headers"
like "$(get a.test '/in/page.txt?code=401&out=1' -i)" '^X-Refused-By: judge' "and those that are always added"
unlike "$(get a.test '/in/page.txt?code=403&out=9&header=Variable-A:%20b' -i)" 'Variable|the secret' "without variables, and without the file"
is "$(get a.test '/in/page.txt?code=403&out=0')" 'not for you' "an empty one becomes the ErrorDocument"
is "$(code a.test '/in/page.txt?code=403&out=9' -I) $(get a.test /refused.txt)" '403 not for you' "HEAD is refused, and the connection goes on"
like "$(get a.test '/in/page.txt?code=302&out=0&header=Location:%20/login' -i)" '^HTTP/1.1 302' "a Location sends the client there"
like "$(get a.test '/in/page.txt?code=302&out=0&header=Location:%20/login' -i)" '^Location: /login' "as it is"
is "$(code a.test '/in/page.txt?noheaders')" 500 "no header at all is no yes"
is "$(code a.test '/in/page.txt?signal=9')" 500 "nor is a death"
is "$(code a.test '/in/page.txt?at=end&signal=9')" 500 "not even behind a yes"
is "$(code a.test '/in/page.txt?code=2000')$(code a.test '/in/page.txt?header=Status:%20403')" 500403 "nor a status that only begins like one; of two the no counts"
is "$(code a.test '/in/page.txt?pstatus=2')" 500 "nor a yes that comes with an error"
is "$(code a.test '/none/page.txt')" 500 "an app that is no authorizer is an error"
passes "which the log names" errors 'unknown role\) \(pool a.test, app app, URI /none/page.txt\)'

# Ways round it
is "$(get a.test '/outside?code=403&out=3' | wc -c)" 3 "a rewritten URL is asked for"
is "$(get a.test '/index.shtml' | tr -d '\n')" '[the secret][[an error occurred while processing this directive]][[an error occurred while processing this directive]]' \
    "what a page includes too"
is "$(code a.test '/in/?code=403&out=1')" 403 "so is a directory"
printf 'ZfpmAuthorizer none\n' >"$tmp/www/a.test/in/.htaccess"
is "$(code a.test '/in/page.txt')" 500 "ZfpmAuthorizer in .htaccess is an error, whatever AllowOverrideList says"
rm "$tmp/www/a.test/in/.htaccess"
cp "$tmp/www/a.test/in/page.txt" "$tmp/www/a.test/in/sub/"
is "$(get a.test '/in/sub/page.txt?code=403&out=3')" 'the secret' "none takes it back for a part"

# Beside Require
is "$(code a.test "/both/page.txt?note=$tmp/notes/both")" 401 "without a password Require refuses"
fails "and the authorizer is not asked" test -e "$tmp/notes/both"
is "$(get a.test '/both/page.txt' -u good:good)" 'the secret' "both say yes"
like "$(get a.test '/both/page.txt?code=403' -u good:good)" '^param REMOTE_USER=good$' "the authorizer knows the user and may still refuse"
is "$(code a.test "/no/page.txt")" 403 "its yes does not outweigh the no of Require"

# One in PHP
is "$(get a.test '/php/page.txt' -u joe:x)" 'the secret' "a script as authorizer"
like "$(get a.test '/php/' -u joe:x)" '^LEVEL=7$' "its variables, for the index of a directory"
is "$(get a.test '/php/page.txt?page') $(code a.test /php/page.txt)" 'who are you? 401' "and its refusal"
