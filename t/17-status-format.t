#!/bin/sh
# Each format of zfpm status is what it says it is, whatever clients have sent, and whatever happens while it is made.
# shellcheck disable=SC2016,SC1003 # the expressions are perl's
rootless=1
. "${0%/*}/lib.sh"
plan 73

sanitize=''
[ -z "${ZFPM_BUILD:-}" ] || sanitize='-O1 -g -fsanitize=address,undefined'
# shellcheck disable=SC2086 # a list of options
if ! "${CC:-cc}" -std=c11 -D_POSIX_C_SOURCE=200809L ${sanitize:--O2} -I"$top" -o "$tmp/status" "$t/unit/status-unit.c"; then
	diag "t/unit/status-unit.c does not compile"
	exit 1
fi
# scene NAME FORMAT [POOL]: the page is in $tmp/page
scene() {
	"$tmp/status" "$@" >"$tmp/page" 2>"$tmp/page.err"
	scene_status=$?
	[ "$scene_status" -eq 0 ] || diag "$*: exit $scene_status: $(cat "$tmp/page.err")"
}
json() { perl "$t/unit/json.pl" "$@" <"$tmp/page"; }
openmetrics() { perl "$t/unit/openmetrics.pl" ${1+"$1"} <"$tmp/page"; }
html() {
	perl -e '
		local $/;
		my $text = <STDIN>;
		utf8::decode(my $chars = $text) or die "no UTF-8\n";
		die "control character\n" if $chars =~ /[\x00-\x09\x0b-\x1f\x7f-\x9f\x{2028}-\x{202e}\x{2066}-\x{2069}]/;
		my @open;
		$text =~ s/^<!DOCTYPE html>\n// or die "no doctype\n";
		while ($text =~ /\G(?:<(\/?)([a-z0-9]+)((?: [a-z-]+="[^"<>&]*")*)>|([^<>&]|&(?:lt|gt|amp|quot|#39);)+)/gc) {
			next if !defined $2 || $2 eq "meta";
			if (!$1) {
				push @open, $2;
			} elsif (!@open || pop @open ne $2) {
				die "$2 ends, but @open is open\n";
			}
		}
		die "neither tag nor text: ", substr($text, pos($text) // 0, 60), "\n" if (pos($text) // 0) != length $text;
		die "open: @open\n" if @open;' <"$tmp/page"
}
only_text() { perl -e 'local $/; my $t = <STDIN>; utf8::decode($t) or exit 1;
	exit $t =~ /[\x00-\x09\x0b-\x1f\x7f-\x9f\x{2028}-\x{202e}\x{2066}-\x{2069}]/' <"$tmp/page"; }
row() { sed -n "$1p" "$tmp/page"; }
table() { sed -n "/^POOL *$1/,/^\$/p" "$tmp/page" | sed '1d;/^$/d'; }

# ---- JSON

scene mixed json
passes "JSON: it can be read" json 1
is "$(json '@$j{qw(version master_pid generation max_workers connections connections_accepted pools_configured pools_living)}')" \
    "$(sed -n 's/^#define ZFPM_VERSION[^"]*"\(.*\)"/\1/p' "$top/zfpm.h"),4711,3,500,12,123456789012,5,4" "JSON: what zfpm is"
is "$(json '$j->{uptime_s} - 93784 < 60 && $j->{uptime_s} >= 93784' '$j->{configuration_age_s} >= 3700')" '1
1' "JSON: for how long it has run"
is "$(json 'J($j->{workers})' 'J($j->{queue})')" '{"busy":5,"finishing":3,"idle":1,"starting":1,"stopping":1,"total":11}
{"length":3}' "JSON: all workers by state, and all that wait"
is "$(json 'J($j->{counters})')" '{"aborted":1002,"failed":1001,"queue_full":1003,"request_bytes":1005,"requests":1000,"response_bytes":18446744073709551615,'\
'"restarts":{"closed":1017,"cut":1016,"died":1012,"evicted":1014,"idle":1009,"max_requests":1010,"reload":1013,"retired":1015,"timeout":1011},'\
'"slow":1004,"start_failures":1008,"timeouts":{"app":1019,"request":1021,"server":1020,"wait":1018},"workers_started":1007}' \
    "JSON: every counter, to its last digit"
is "$(json 'J($pool{"www.example.com"}{counters})')" '{"aborted":102,"failed":101,"queue_full":103,"request_bytes":105,"requests":100,"response_bytes":106,'\
'"restarts":{"closed":117,"cut":116,"died":112,"evicted":114,"idle":109,"max_requests":110,"reload":113,"retired":115,"timeout":111},'\
'"slow":104,"start_failures":108,"timeouts":{"app":119,"request":121,"server":120,"wait":118},"workers_started":107}' \
    "JSON: and of a pool"
is "$(json 'my $w = $pool{"www.example.com"}{workers}; @$w{qw(total idle busy starting stopping finishing)}')" 9,1,4,1,1,2 "JSON: a pool's workers by state"
is "$(json 'map { "$_->{number}:$_->{state}" } sort { $a->{number} <=> $b->{number} } @{$pool{"www.example.com"}{workers}{list}}')" \
    1:starting,2:idle,3:busy,4:busy,5:retiring,6:leaving,7:stopping,8:finishing,9:finishing "JSON: one by one, but for those that have gone"
worker='my ($w) = grep { $_->{number} == N } @{$pool{"www.example.com"}{workers}{list}}; '
worker() { json "$(printf %s "$worker" | sed "s/N/$1/") $2"; }
is "$(worker 1 'J([@$w{qw(pid age_s requests request)}])')" '[null,0.05,1,null]' "JSON: a worker that starts has no pid yet"
is "$(worker 2 '@$w{qw(pid app age_s idle_s requests busy connections)}')" 100002,php8.2,7384,3692,2,0,1 "JSON: an idle one"
is "$(worker 3 'J($w->{request})')" \
    '{"elapsed_s":1.5,"method":"GET","script":"/srv/www/slow page.php","uri":"/slow.php?a=1&b=<script>alert(\"x\")</script>"}' \
    "JSON: what a busy one does, since when"
is "$(worker 4 '@$w{qw(busy connections)}, @{$w->{request}}{qw(uri elapsed_s)}')" 2,4,/early,0.2 "JSON: of several requests the oldest"
is "$(worker 5 '$w->{cause}'),$(worker 7 '$w->{cause}')" retired,max_requests "JSON: why one is on its way out"
is "$(worker 8 '@{$w->{request}}{qw(method uri elapsed_s)}'),$(worker 9 '$w->{request}')" HEAD,/elsewhere,90000,null "JSON: what one does under an earlier configuration"
is "$(json '@{$pool{"www.example.com"}{queue}}{qw(length longest_wait_s)}' 'map { "$_->{app} $_->{uri} $_->{wait_s}" } grep { $_->{uri} } @{$pool{"www.example.com"}{queue}{list}}')" \
    "3,5
php8.2 /first 2.5,php8.2 /second 0.01" "JSON: the queue"
is "$(json '$j->{app_servers}' 'J($pool{"www.example.com"}{app_servers})' 'J($pool{"bob.users.example.com"}{app_servers})')" \
    '5
[{"age_s":0.04,"app":"odd \"app\"\n","pid":200003,"state":"starting","workers":0},'\
'{"age_s":90000,"app":"php8.2","pid":200002,"state":"ending","workers":1},{"age_s":7385,"app":"php8.2","pid":200001,"state":"ready","workers":2}]
[]' "JSON: app servers, with how many workers"
is "$(json 'map { map { $_->{state} } @{$_->{app_servers}} } grep { $_->{name} =~ /^bad/ } values %pool')" ending,ready "JSON: one that fails, and one of which nothing is known yet"
is "$(worker 5 'J([@{$w->{request}}{qw(method uri)}]), $w->{request}{script} eq "\x01\x7f"')" '["G\tE T","/\u001b[2J\r\nX: y\\"],1' "JSON: control characters"
fails "JSON: none of them as it is" grep -q '[[:cntrl:]]' "$tmp/page"
is "$(json 'J($pool{"bob.users.example.com"}{workers}{list}[0]{request})')" \
    '{"elapsed_s":0,"method":"GET","script":"\u0080","uri":"/\u00ff\u00fe \u00c3( \u00c0\u00bc \u00ed\u00a0\u0080 \u00f4\u0090\u0080\u0080 \u00e2\u0082 \u0085 \u202e \u00e9 \u20ac \ud83d\ude00 \u00c3"}' \
    "JSON: bytes that are no UTF-8 come as characters of that number, UTF-8 stays what it was"
is "$(json '$pool{"bob.users.example.com"}{pattern}' '$pool{"www.example.com"}{pattern}')" '*.users.example.com
null' "JSON: the pattern that a pool is from"
is "$(json '$pool{"rested.example.com"}{counters}{timeouts}{request}')" 521 "JSON: the counters of a pool that has lived"
is "$(json 'delete $pool{"rested.example.com"}{counters}; J([grep { $_->{state} eq "resting" } @{$j->{pools}}])')" \
    '[{"max_workers":10,"name":"rested.example.com","state":"resting"},{"max_workers":10,"name":"never.example.com","state":"resting"}]' \
    "JSON: pools that rest, and no pattern among them"
is "$(json '$pool{"(removed)"}{state}')" removed "JSON: workers whose pool is configured no more"
is "$(json 'J($_->{failing})' 'J((grep { /^bad/ } keys %pool)[0])' 'J($pool{(grep { /^bad/ } keys %pool)[0]}{failing})' | sed 1d)" \
    '"bad\"na\\me\n<b>&'"'"'\u00ff"
[{"app":"php8.2","reason":"exec: <No> such \"file\"\u001b","retry_s":0.25},{"app":"odd \"app\"\n","reason":"user: gone","retry_s":0}]' \
    "JSON: an app that fails to start"
scene mixed json www.example.com
is "$(json 'map { $_->{name} } @{$j->{pools}}')" www.example.com "JSON: one pool alone"
scene mixed json never.example.com
is "$(json 'J($j->{pools})')" '[{"max_workers":10,"name":"never.example.com","state":"resting"}]' "JSON: one that rests"
scene mixed json x.users.example.com
is "$(json 'J($j->{pools})')" '[{"max_workers":10,"name":"x.users.example.com","pattern":"*.users.example.com","state":"resting"}]' "JSON: one that a pattern would make"
scene mixed json unknown
is "$(json 'J($j->{pools})')" '[]' "JSON: one that there is not"
scene empty json
is "$(json 'J($j->{pools})')" '[]' "JSON: no pool at all"
scene queue json
is "$(json 'my $q = $j->{pools}[0]{queue}; $q->{length}, $q->{longest_wait_s}, scalar @{$q->{list}}')" 250,25,100 "JSON: of a long queue the first hundred"

# ---- OpenMetrics

scene mixed openmetrics
passes "OpenMetrics: it is that" openmetrics
is "$(openmetrics zfpm_requests_total),$(openmetrics zfpm_response_bytes_total),$(openmetrics 'zfpm_worker_restarts_total{cause="cut"}')" \
    1000,18446744073709551615,1016 "OpenMetrics: counters of all"
is "$(openmetrics 'zfpm_pool_requests_total{pool="www.example.com"}'),$(openmetrics 'zfpm_pool_timeouts_total{pool="www.example.com",kind="server"}')" \
    100,120 "OpenMetrics: of a pool"
is "$(openmetrics 'zfpm_pool_requests_total{pool="rested.example.com"}')" 500 "OpenMetrics: of one that rests"
is "$(openmetrics 'zfpm_workers{state="finishing"}'),$(openmetrics 'zfpm_pool_workers{pool="www.example.com",state="busy"}')" 3,4 "OpenMetrics: workers by state"
is "$(openmetrics 'zfpm_pool_queue_longest_wait_seconds{pool="www.example.com"}')" 5 "OpenMetrics: the longest wait"
is "$(openmetrics 'zfpm_pool_max_workers{pool="bad\"na\\me\n<b>&'"'"'\\xFF"}')" 10 "OpenMetrics: a name is escaped"
fails "OpenMetrics: what is 0 in a pool is left out" grep -q '^zfpm_pool_.* 0$' "$(grep -v '_requests_total\|_max_workers' "$tmp/page" >"$tmp/rest"; echo "$tmp/rest")"
is "$(openmetrics zfpm_app_servers),$(openmetrics 'zfpm_pool_app_servers{pool="www.example.com"}')" 5,3 "OpenMetrics: app servers"
scene mixed openmetrics rested.example.com
is "$(openmetrics && grep -c '^zfpm_pool_.*pool="rested' "$tmp/page"),$(grep -c 'pool="www' "$tmp/page")" 22,0 "OpenMetrics: one pool alone"
scene empty openmetrics
passes "OpenMetrics: no pool at all" openmetrics

# ---- text

scene mixed text
passes "text: nothing but lines of printable text" only_text
is "$(table IDLE | awk '{ print $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 }')" "www.example.com 1 4 1 1 2 10 3 5.0s 100 101
bad\"na\\\\me\\x0A<b>&'\\xFF 0 0 0 0 0 10 0 - 0 0
(removed) 0 0 0 0 1 0 0 - 0 0
bob.users.example.com 0 1 0 0 0 10 0 - 0 0" "text: a line for each living pool, in the order of the configuration, then the others"
like "$(table IDLE)" 'idle=109,max_requests=110,timeout=111,died=112,reload=113,evicted=114,retired=115,cut=116,closed=117 +wait=118,app=119,server=120,request=121$' \
    "text: with restarts and timeouts"
like "$(cat "$tmp/page")" '^2 pools are resting$' "text: one for all that rest"
is "$(table PID | awk '{ print (NF >= 10 ? "ok" : $0) }' | sort -u)" ok "text: a line for each worker, no column left empty"
is "$(table PID | awk '$1 == "www.example.com" { print $3 }' | tr '\n' ' ')" "finishing finishing stopping leaving retiring busy busy idle starting " "text: their states"
is "$(table PID | awk '$2 == 100005')" 'www.example.com        100005 retiring  php8.2     1.0s        5   1/1 12h00m G\x09E\x20T /\x1B[2J\x0D\x0AX: y\\' \
    "text: what comes from clients is escaped"
is "$(table PID | sed -n 's/^bob.* GET *//p')" '/\xFF\xFE \xC3( \xC0\xBC \xED\xA0\x80 \xF4\x90\x80\x80 \xE2\x82 \xC2\x85 \xE2\x80\xAE é € 😀 \xC3' "text: but for letters of other languages"
is "$(table 'APP *PID' | tr -s ' ')" 'www.example.com odd\x20"app"\x0A 200003 starting 0.0s 0
www.example.com php8.2 200002 ending 1d01h 1
www.example.com php8.2 200001 ready 2h03m 2
bad"na\\me\x0A<b>&'"'"'\xFF php8.2 200005 ending 1.0s 0
bad"na\\me\x0A<b>&'"'"'\xFF odd\x20"app"\x0A 200004 ready 1.0s 0' "text: app servers"
is "$(table 'APP *WAIT' | awk '{ print $2, $3, $5 }')" 'php8.2 2.5s /first
php8.2 0.0s /second
odd\x20"app"\x0A 5.0s -' "text: what waits"
is "$(table 'APP *RETRY' | awk '{ print $3, $4 }')" '0.2s exec:
now user:' "text: what fails to start"
like "$(row 1)" '^zfpm +[0-9.]+, master 4711, generation 3, up 1d02h, configured 1h01m ago$' "text: what zfpm is"
is "$(sed -n 's/^app_servers *//p' "$tmp/page")" 5 "text: how many there are"
scene mixed text rested.example.com
is "$(sed -n 's/^\(pool\|requests\) *//p' "$tmp/page")" 'rested.example.com, resting
500 served, 501 failed (503 queue full), 502 aborted, 504 slow' "text: one pool alone"
scene queue text
is "$(table 'APP *WAIT' | wc -l),$(table 'APP *WAIT' | tail -n 1 | tr -s ' ')" "101,full - - - (150 more)" "text: of a long queue the first hundred"

# ---- HTML

scene mixed html
passes "HTML: its tags are balanced, and there are no others" html
is "$(grep -c '^<h2>' "$tmp/page"),$(grep -c '&lt;script&gt;alert(&quot;x&quot;)' "$tmp/page")" 6,2 "HTML: the same tables, and that of what runs longest"
like "$(cat "$tmp/page")" '<meta http-equiv="refresh" content="5">' "HTML: it is loaded again by itself"
like "$(cat "$tmp/page")" '<a href="\?json">JSON</a>' "HTML: and leads to the page for programs"
like "$(grep '^<tr><td>www.example.com</td><td><span class="bar">' "$tmp/page")" 'class="busy" style="width:[0-9]+%"></i><i class="idle" style="width:10%"' \
    "HTML: a picture of how many of the workers that may be are busy and idle"
is "$(sed -n '/<h2>App servers/,/<\/table>/p' "$tmp/page" | sed -n 's/^<tr><td>bad.*&gt;&amp;&#39;[^<]*<\/td>//p')" \
    '<td>php8.2</td><td class="n">200005</td><td>ending</td><td class="n">1.0s</td><td class="n">0</td></tr>
<td>odd &quot;app&quot;\x0A</td><td class="n">200004</td><td>ready</td><td class="n">1.0s</td><td class="n">0</td></tr>' "HTML: app servers, escaped"
running=$(sed -n '/<h2>Longest/,/<h2>Pools/p' "$tmp/page" | grep -c '^<tr><td>')
scene mixed json
is "$(json 'scalar map { grep { $_->{request} } @{$_->{workers}{list}} } values %pool')" "$running" "HTML: all requests that run, as long as they are few"
scene empty html
passes "HTML: no pool at all" html

# ---- while it is made

pools() { json 'map { $_->{name} } @{$j->{pools}}' | tr , '\n'; }
scene change json
is "$(pools | sort -u | wc -l),$(pools | wc -l)" 1000,1000 "pools come to life and rest meanwhile: none comes twice, none is left out"
is "$(json 'scalar grep { $_->{state} eq "living" } @{$j->{pools}}' | awk '{ print ($1 > 50 && $1 < 500) }')" 1 "those come as living that are"
scene change text
is "$scene_status,$(table IDLE | awk '{ print $1 }' | sort | uniq -d | wc -l)" 0,0 "so in a table"
scene change openmetrics
passes "and in families of metrics" openmetrics
scene crowd json
is "$(json 'my %n; $n{$_->{number}}++ for @{$j->{pools}[0]{workers}{list}}; (scalar grep { $_ > 1 } values %n), scalar keys %n > 19000')" 0,1 "workers go meanwhile: the others come once"
is "$(json 'my %n; $n{$_->{pid}}++ for @{$j->{pools}[0]{app_servers}}; (scalar grep { $_ > 1 } values %n), scalar keys %n > 19000')" 0,1 "and of app servers"
like "$(cat "$tmp/page.err")" '^biggest 1[67][0-9]{3}$' "a pool with 20,000 workers and app servers comes in small pieces"
for format in text json openmetrics html; do
	"$tmp/status" memory "$format" || break
done
ok $? "no memory, wherever it fails, is reported"
