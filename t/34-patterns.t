#!/bin/sh
# A pattern's pool comes to life with its first request, is a pool of its own, and is forgotten with its last worker.
. "${0%/*}/lib.sh"
. "${0%/*}/gate.sh"
plan 17

make_user user
make_user other
mkdir "$tmp/www" "$tmp/www/$user" "$tmp/www/$other"
start_zfpm <<-\END
	app app { command @bin@/app }
	pool *.example.com {
		user %1
		app app
		directory @tmp@/www/%1
		env POOL "%p is of %1, 100%%"
		max_workers 1
		timeout idle 500ms
	}
	pool exact.example.com {
		user @other@
		app app
		env POOL exact
	}
	pool *.com {
		user @user@
		app app
		env POOL second
	}
END
field() { sed -n "s/^$2 //p" "$tmp/$1"; }

passes "there is no worker before the first request" count_workers 0
request "$user.example.com" >"$tmp/a" 2>&1
is "$(field a uid)" "$(id -u "$user")" "%1 is the user"
is "$(field a cwd)" "$tmp/www/$user" "and in the directory"
like "$(cat "$tmp/a")" "^env POOL=$user.example.com is of $user, 100%\$" "%p is the pool's name"
request "$other.example.com" >"$tmp/b" 2>&1
is "$(field b uid)" "$(id -u "$other")" "another name of the same pattern is another user"
hold c "$user.example.com"
hold d "$other.example.com"
passes "each name has max_workers of its own" held c d
enqueue e "$user.example.com"
fails "and a queue of its own" answered e
release c d
finish c d e
is "$(worker_of e)" "$(worker_of c)" "the one that waited had the worker of its name"
passes "when they are idle the workers go" wait_until count_workers 0
request "$user.example.com" >"$tmp/f" 2>&1
is "$(field f uid)" "$(id -u "$user")" "and the pool lives again with the next request"

request exact.example.com >"$tmp/g" 2>&1
like "$(cat "$tmp/g")" '^env POOL=exact$' "an exact name wins over patterns"
request any.com >"$tmp/h" 2>&1
like "$(cat "$tmp/h")" '^env POOL=second$' "a name that the first pattern does not match has the second"
request nobody-of-this-name.example.com >"$tmp/i" 2>"$tmp/i.txt"
like "$(cat "$tmp/i.txt")" "^stderr: Cannot start FCGI process: user: 'nobody-of-this-name' is unknown\$" "a user who does not exist is the request's misfortune"
request root.example.com >"$tmp/i" 2>"$tmp/i.txt"
like "$(cat "$tmp/i.txt")" "^stderr: Cannot start FCGI process: user: 'root' has uid 0" "and so is root"
request example.com -p REQUEST_URI=/u >"$tmp/i" 2>&1
like "$(cat "$tmp/i")" '^env POOL=second$' "what the star stands for is not empty"
request www.example.org >"$tmp/i" 2>"$tmp/i.txt"
is "$(tr -d '\r' <"$tmp/i" | head -n 1) $(cat "$tmp/i.txt")" "Status: 500 Internal Server Error stderr: Unknown pool 'www.example.org'" \
    "a name that nothing matches is an unknown pool"
passes "which is in the log" log_has "Unknown pool 'www.example.org'"
