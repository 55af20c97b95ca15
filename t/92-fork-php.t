#!/bin/sh
# PHP does under the fork server what it does in a process of its own: one OPcache and APCu for a pool's workers and none
# for two pools, nothing random that two workers share, and else not a byte of difference.
. "${0%/*}/lib.sh"
php=/usr/bin/php-cgi
[ -x "$php" ] || skip_all "no $php"
plan 145

www=$tmp/www
mkdir -m 755 "$www" "$www/sub" "$tmp/rc"
mkdir -m 1777 "$tmp/notes" "$tmp/sessions" "$tmp/mail" "$tmp/temp"

# ---- scripts ---------------------------------------------------------------------------

cat >"$www/lib.php" <<END
<?php
const NOTES = '$tmp/notes', TEMP = '$tmp/temp';
END
cat >>"$www/lib.php" <<-\END
	function note($name, $text = '') {
		file_put_contents(NOTES . "/$name.new", $text === '' ? getmypid() : $text);
		rename(NOTES . "/$name.new", NOTES . "/$name");
	}
	function wait_for($what) {
		for ($i = 0; $i < 1500; $i++, usleep(20000))
			if ($what())
				return;
		exit("waited in vain\n");
	}
	function await($name) {
		wait_for(function () use ($name) { return file_exists(NOTES . "/$name"); });
	}
	function shake($name) {		// until the test has seen it
		note($name);
		await("$name.seen");
	}
	function meet($name, $n) {	// until so many processes are here
		note("$name." . getmypid());
		wait_for(function () use ($name, $n) { return count(preg_grep('/\.\d+$/', glob(NOTES . "/$name.*"))) >= $n; });
	}
END

echo '<?php echo getmypid(), PHP_EOL;' >"$www/pid.php"
echo '<?php function common() { return 1; }' >"$www/common.php"
cat >"$www/opcache.php" <<-\END
	<?php
	require 'lib.php';
	$file = __DIR__ . '/common.php';
	$hits = function () use ($file) {
		foreach (opcache_get_status()['scripts'] ?? [] as $path => $script)
			if ($path === $file)
				return $script['hits'];
		return 'none';
	};
	if (isset($_GET['reset'])) {
		opcache_reset();
		exit;
	}
	echo 'pid ', getmypid(), "\n", 'before ', $hits(), "\n";
	if (isset($_GET['look']))
		exit;
	require $file;
	echo 'after ', $hits(), "\n", 'scripts ', opcache_get_status()['opcache_statistics']['num_cached_scripts'], "\n";
	if (isset($_GET['hold']))
		shake($_GET['hold']);
END
echo '<?php echo (int)function_exists("opcache_get_status") && opcache_get_status() !== false, PHP_EOL;' >"$www/has.php"

cat >"$www/random.php" <<-\END
	<?php
	require 'lib.php';
	meet('random', 3);
	session_save_path(TEMP);
	$numbers = range(1, 50);
	shuffle($numbers);
	$r = [
		'getmypid' => getmypid(),
		'mt_rand' => mt_rand(),
		'rand' => rand(),
		'array_rand' => implode(',', array_rand(array_flip(range(1, 60)), 30)),
		'shuffle' => implode(',', $numbers),
		'str_shuffle' => str_shuffle('abcdefghijklmnopqrstuvwxyz'),
		'random_int' => random_int(0, PHP_INT_MAX),
		'random_bytes' => bin2hex(random_bytes(16)),
		'uniqid' => uniqid('', true),
		'lcg_value' => lcg_value(),
		'session_create_id' => session_create_id(),
		'tempnam' => tempnam(TEMP, 'r'),
		'tmpfile' => stream_get_meta_data($f = tmpfile())['uri'],
		'password_hash' => password_hash('x', PASSWORD_BCRYPT, ['cost' => 4]),
	];
	if (function_exists('openssl_random_pseudo_bytes'))
		$r['openssl_random_pseudo_bytes'] = bin2hex(openssl_random_pseudo_bytes(16));
	foreach ($r as $name => $value)
		echo "$name $value\n";
END

# A takes the lock and gives B, which has said that it comes, time to get past it.
cat >"$www/lock.php" <<-\END
	<?php
	require 'lib.php';
	$name = $_GET['how'] . '-' . $_GET['app'];
	if ($_GET['who'] === 'b') {
		await("$name.a");
		note("$name.b");
	}
	if ($_GET['how'] === 'session') {
		session_id("lock$name");
		session_start();
		$seen = $_SESSION['text'] ?? 'nothing';
	} else {
		$f = fopen(TEMP . "/$name", 'c+');
		flock($f, LOCK_EX);
		$seen = stream_get_contents($f);
	}
	if ($_GET['who'] === 'a') {
		note("$name.a");
		await("$name.b");
		usleep(300000);
		if ($_GET['how'] === 'session') {
			$_SESSION['text'] = 'what the other has written';
			session_write_close();
		} else {
			fwrite($f, 'what the other has written');
			fclose($f);
		}
	}
	echo getmypid(), " $seen\n";
END

cat >"$www/apcu.php" <<-\END
	<?php
	require 'lib.php';
	if (isset($_GET['store']))
		apcu_store('key', getmypid());
	echo getmypid(), ' ', var_export(apcu_fetch('key'), true), "\n";
	if (isset($_GET['hold']))
		shake($_GET['hold']);
END

cat >"$www/programs.php" <<-\END
	<?php
	exec('ls -l /proc/$$/fd', $list);	// the shell's own
	$sockets = function ($list) {
		preg_match_all('/ (\d+) -> socket:\[(\d+)\]/', implode("\n", $list), $m);
		return array_combine($m[1], $m[2]);
	};
	$theirs = $sockets($list);
	$ours = [];
	foreach (scandir('/proc/self/fd') as $fd)
		if (preg_match('/socket:\[(\d+)\]/', (string)@readlink("/proc/self/fd/$fd"), $m))
			$ours[$fd] = $m[1];
	unset($ours[0]);
	echo 'connections ', count($ours), ' of which theirs ', count(array_intersect($ours, $theirs)), "\n";
	$listens = 0;
	foreach (file('/proc/net/unix') as $line) {
		$f = preg_split('/\s+/', trim($line));
		if (in_array($f[6], $theirs, true) && hexdec($f[3]) & 0x10000)
			$listens++;
	}
	echo "listening $listens\n";
	echo 'stdin [', shell_exec('timeout 20 cat 2>/dev/null; echo $?'), "]\n";
	echo 'preload [', shell_exec('env | grep -c LD_PRELOAD'), "]\n";
	echo 'libraries [', shell_exec('grep -c forkserver /proc/self/maps'), "]\n";
END

cat >"$www/background.php" <<-\END
	<?php
	// Goes on until the file has gone; what it keeps open is the request's to choose.
	$keep = ['nothing' => '>/dev/null 2>&1', 'stderr' => '>/dev/null'][$_GET['keep']];
	exec(sprintf('sh -c \'while [ -e %s ]; do sleep 0.05; done\' %s & echo $!', $_GET['file'], $keep), $out);
	echo getmypid(), " $out[0]\n";
END

cat >"$www/leave.php" <<-\END
	<?php
	require 'lib.php';
	ignore_user_abort(isset($_GET['ignore']));
	register_shutdown_function(function () {
		note($_GET['name'] . '.end', (connection_aborted() ? 'aborted' : 'connected') . ' ' . (isset($GLOBALS['done']) ? 'done' : 'cut'));
	});
	while (ob_get_level())
		ob_end_flush();
	echo "begun\n";
	flush();
	await($_GET['name'] . '.left');
	for ($i = 0; $i < 50; $i++) {	// zfpm has to learn it first
		echo str_repeat('x', 1000);
		flush();
		if (connection_aborted())
			break;
		usleep(10000);
	}
	echo str_repeat('x', 100000);
	flush();
	$done = true;
END

cat >"$www/early.php" <<-\END
	<?php
	require 'lib.php';
	ignore_user_abort(true);
	ob_start();
	echo 'hello';
	header('Connection: close');
	header('Content-Length: 5');
	while (ob_get_level())
		ob_end_flush();
	flush();
	await('early.seen');
	note('early.done', connection_status());
END

cat >"$www/flush.php" <<-\END
	<?php
	require 'lib.php';
	while (ob_get_level())
		ob_end_clean();
	ob_start();
	echo "one\n";
	ob_end_flush();
	flush();
	await('flush.one');
	ob_start();
	echo "two\n";
	ob_flush();
	flush();
	await('flush.two');
	echo "three\n";
END

cat >"$www/long.php" <<-\END
	<?php
	set_time_limit(1);	// of processor time: waiting is free
	$t = microtime(true);
	while (microtime(true) - $t < 2.5)
		usleep(100000);
	echo getmypid(), " done\n";
END

cat >"$www/stderr.php" <<-\END
	<?php
	file_put_contents('php://stderr', "words of the script\n");
	exec('echo words of a program >&2');
	error_log('for the web server');
	echo getmypid(), "\n";
END

cat >"$www/ini.php" <<-\END
	<?php
	echo ini_get('memory_limit'), ' ', ini_get('precision'), ' ', basename(dirname((string)php_ini_loaded_file())), ' ',
	    getenv('FROM_APP'), getenv('FROM_POOL'), $_SERVER['FROM_POOL'] ?? '', "\n";
END
cp "$www/ini.php" "$www/sub"
echo 'memory_limit = 77M' >"$www/sub/.user.ini"
echo 'precision = 7' >"$tmp/c.ini"
echo 'precision = 9' >"$tmp/rc/php.ini"

echo '<?php function x( {' >"$www/parse.php"
cat >"$www/case.php" <<-\END
	<?php
	require 'lib.php';
	class Loud { function __destruct() { echo "destructor\n"; } }
	function sorted($a) { ksort($a); return $a; }
	switch ($_GET['case']) {
	case 'hello': echo "Hello World\n"; break;
	case 'headers':
		header('X-One: 1');
		header('X-Two: 2');
		header('X-Two: 3', false);
		setcookie('c', 'v');
		http_response_code(418);
		echo "tea\n";
		break;
	case 'redirect': header('Location: /elsewhere'); break;
	case 'unchanged': http_response_code(304); break;
	case 'server': $s = $_SERVER; unset($s['REQUEST_TIME'], $s['REQUEST_TIME_FLOAT']); print_r(sorted($s)); break;
	case 'environment': print_r(sorted(getenv())); system('env | sort'); break;
	case 'settings': print_r(sorted(ini_get_all(null, false))); break;
	case 'extensions': print_r(get_loaded_extensions()); echo PHP_SAPI; print_r(stream_get_transports()); break;
	case 'process':
		$wanted = '/^(Umask|Uid|Gid|Groups|NoNewPrivs|Seccomp|Sig|Cap|Shd|Threads|CoreDumping|THP)/';
		echo implode(preg_grep($wanted, file('/proc/self/status'))), file_get_contents('/proc/self/limits'), getcwd(), "\n";
		echo file_get_contents('/proc/self/oom_score_adj'), file_get_contents('/proc/self/comm');
		echo posix_getpgid(0) === getmypid() ? "leads its group\n" : "does not lead its group\n";
		system("grep -E '^(Sig|Shd|Umask|Seccomp)' /proc/self/status");
		break;
	case 'descriptors':
		$kinds = [];
		foreach (scandir('/proc/self/fd') as $fd)
			if (is_numeric($fd) && ($to = @readlink("/proc/self/fd/$fd")) !== false)
				$kinds[] = preg_replace(['/\[\d+\]/', '/\d+/', '/\.ZendSem\.\w+/'], ['', 'N', 'ZendSem'], $to);
		sort($kinds);
		print_r($kinds);
		break;
	case 'cmdline': echo str_replace("\0", ' ', file_get_contents('/proc/self/cmdline')), "\n"; print_r($argv ?? 'no argv'); break;
	case 'form': print_r($_POST); print_r($_GET); print_r($_COOKIE); break;
	case 'input': $b = file_get_contents('php://input'); echo strlen($b), ' ', md5($b), "\n"; break;
	case 'unread': echo "not read\n"; break;
	case 'upload':
		foreach ($_FILES as $name => $f)
			echo "$name $f[name] $f[type] $f[error] $f[size] ", $f['tmp_name'] !== '' ? md5_file($f['tmp_name']) : '', ' ',
			    (int)is_uploaded_file($f['tmp_name']), (int)move_uploaded_file($f['tmp_name'], TEMP . '/up'), "\n";
		break;
	case 'big': for ($i = 0; $i < 2000; $i++) echo str_repeat(chr(33 + $i % 90), 9999), "\n"; break;
	case 'slow': for ($i = 0; $i < 20; $i++) { echo "$i\n"; flush(); usleep(5000); } break;
	case 'exit': echo "before\n"; exit; echo "after\n";
	case 'exit-text': new Loud; $keep = new Loud; exit("text\n");
	case 'exit-status': echo "status\n"; exit(3);
	case 'exit-callback': ob_start(function ($b) { exit; }); echo "in the buffer\n"; break;
	case 'callback': ob_start(function ($b) { return strtoupper($b); }); echo "upper\n"; break;
	case 'nested': ob_start(); echo 1; ob_start('strrev'); echo 'abc'; ob_start(); echo 'xyz'; break;
	case 'shutdown-exit':
		register_shutdown_function(function () { echo "shutdown 1\n"; register_shutdown_function(function () { echo "shutdown 2\n"; exit; }); });
		exit("exit\n");
	case 'shutdown-fatal': register_shutdown_function(function () { print_r(error_get_last()); }); nosuch();
	case 'timeout':
		register_shutdown_function(function () { echo 'shutdown ', error_get_last()['message'], "\n"; });
		set_time_limit(1);
		for (;;);
	case 'memory': ini_set('memory_limit', '4M'); echo "begun\n"; $s = str_repeat('x', 10000000); break;
	case 'recursion': ini_set('memory_limit', '8M'); function f($n) { return f($n + 1) + 1; } f(0); break;
	case 'fatal': echo "begun\n"; nosuch(); break;
	case 'shown': ini_set('display_errors', 1); echo "begun\n"; nosuch(); break;
	case 'exception': throw new RuntimeException('not caught');
	case 'handler': set_exception_handler(function ($e) { echo 'handled ', $e->getMessage(), "\n"; }); throw new Exception('x');
	case 'user-error': trigger_error('by the script', E_USER_ERROR); break;
	case 'warning': echo $nosuch; echo "on\n"; break;
	case 'late-header': echo str_repeat("x\n", 5000); flush(); header('X-Late: 1'); break;
	case 'stderr': var_dump(@file_put_contents('/dev/stderr', "x\n")); break;
	case 'log': error_log("one\ntwo"); error_log(str_repeat('long ', 3000)); echo "logged\n"; break;
	case 'include': include 'nosuch.php'; require 'nosuch.php'; break;
	case 'session': session_id('case'); session_start(); $_SESSION['n'] = 1; echo session_status(), session_id(), "\n"; session_destroy(); break;
	case 'gzip': ob_start('ob_gzhandler'); echo str_repeat("squeeze\n", 1000); break;
	case 'file': readfile(__FILE__); break;
	case 'exec': echo exec('echo a; echo b; exit 3', $out, $status); print_r($out); echo $status, "\n"; break;
	case 'shell': echo shell_exec('id -un; umask; pwd; cat'), `echo x`; passthru('printf "\1\2"'); system('false', $s); echo $s, "\n"; break;
	case 'proc':
		$p = proc_open(['sort'], [['pipe', 'r'], ['pipe', 'w'], ['pipe', 'w']], $pipes, '/', ['A' => 'b']);
		fwrite($pipes[0], "2\n1\n");
		fclose($pipes[0]);
		echo stream_get_contents($pipes[1]), stream_get_contents($pipes[2]), proc_close($p), "\n";
		$p = proc_open('kill -9 $$', [], $pipes);
		do $s = proc_get_status($p); while ($s['running'] && usleep(1000) === null);
		echo $s['signaled'], $s['termsig'], "\n";
		$p = popen('cat >/dev/null; exit 5', 'w');
		fwrite($p, 'x');
		echo pclose($p), "\n";
		break;
	case 'mail': var_dump(mail('a@b.test', 'subject', "text\n", 'From: c@d.test')); break;
	case 'socket':
		$s = stream_socket_server('tcp://127.0.0.1:0');
		$c = stream_socket_client('tcp://' . stream_socket_get_name($s, false));
		$a = stream_socket_accept($s);
		fwrite($c, "through a socket of its own\n");
		echo fgets($a);
		break;
	case 'select': [$a, $b] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0); $r = [$a]; $w = $x = null;
		echo stream_select($r, $w, $x, 0, 100000), "\n"; fwrite($b, 'x'); $r = [$a]; echo stream_select($r, $w, $x, 1), "\n"; break;
	case 'sleep': echo sleep(0), usleep(10), time_nanosleep(0, 1000), "\n"; break;
	case 'functions': foreach (['fastcgi_finish_request', 'apache_request_headers', 'getallheaders', 'pcntl_fork', 'apache_child_terminate'] as $f)
		echo $f, (int)function_exists($f), "\n"; print_r(getallheaders()); break;
	case 'info': ob_start(); phpinfo(INFO_GENERAL | INFO_CONFIGURATION); echo preg_replace('/.*(System|Build Date).*/', '', ob_get_clean()); break;
	}
END
cat >"$tmp/sendmail" <<-END
	#!/bin/sh
	{ echo "arguments \$*"; env | grep -c LD_PRELOAD; cat; } >"$tmp/mail/\$\$.new" && mv "$tmp/mail/\$\$.new" "$tmp/mail/letter"
END
chmod 755 "$tmp/sendmail"
# OPcache takes no file that is younger than two seconds.
find "$www" -name '*.php' -exec touch -t 202001010000 {} +

# ---- zfpm ---------------------------------------------------------------------------------

make_user user
make_user other
command="command $php -d opcache.enable=1 -d opcache.validate_timestamps=0 -d apc.enabled=1 -d log_errors=1 -d display_errors=0
	-d error_reporting=-1 -d html_errors=0 -d error_log= -d session.save_path=$tmp/sessions -d upload_max_filesize=100M
	-d post_max_size=100M -d user_ini.cache_ttl=300 -d mail.add_x_header=0 \"-d sendmail_path=$tmp/sendmail -t -i\""
command=$(printf '%s' "$command" | tr '\n\t' '  ')
start_zfpm <<-END
	max_workers 60
	app php { $command
		fork_server on
		extensions .php }
	app second { $command
		fork_server on }
	app direct { $command
		extensions .php }
	app c { command $php -c $tmp/c.ini
		fork_server on }
	app rc { command $php
		fork_server on
		env PHPRC $tmp/rc
		env FROM_APP app }
	app startup { $command -d extension=nosuch.so
		fork_server on }
	pool one {
		user @user@
		app php second direct c rc startup
		max_workers 8
		env FROM_POOL pool
	}
	pool same { user @user@
		app php }
	pool two { user @other@
		app php }
	pool random { user @user@
		app php direct
		max_workers 3 }
	pool pair { user @user@
		app php direct
		max_workers 2 }
	pool three { user @user@
		app php
		max_workers 1
		max_requests 3 }
	pool once { user @user@
		app php direct
		max_workers 1
		max_requests 1 }
	pool idle { user @user@
		app php
		timeout idle 1s
		timeout app_server 1s }
END

# POOL APP SCRIPT [ARGUMENT...]
page() {
	page_pool=$1 page_app=$2 page_script=$3
	shift 3
	request "$page_pool" -a "$page_app" -t 60 -p SCRIPT_FILENAME="$www/$page_script" -p SCRIPT_NAME="/$page_script" \
	    -p DOCUMENT_ROOT="$www" -p REQUEST_URI="/$page_script" "$@"
}
body() { page "$@" -O; }
# The same in the background: its output is in $tmp/NAME, its client $begun
begin() {
	begin_name=$1 begin_pool=$2 begin_app=$3 begin_script=$4
	shift 4
	"$bin/client" -s "$sock" -p "$begin_pool" -a "$begin_app" -t 60 -O -p SCRIPT_FILENAME="$www/$begin_script" \
	    -p SCRIPT_NAME="/$begin_script" "$@" >"$tmp/$begin_name" 2>"$tmp/$begin_name.txt" &
	begun=$!
	eval "begun_$begin_name=$begun"
}
finish() { for n in "$@"; do eval "wait \$begun_$n"; done; }
noted() { wait_until test -e "$tmp/notes/$1" || diag "nobody has noted $1"; }
seen() { : >"$tmp/notes/$1"; }
field() { sed -n "s/^$2 //p" "$tmp/$1"; }
word() { cut -d ' ' -f "$2" "$tmp/$1"; }
says() { grep -q "$2" "$tmp/$1"; }

body one php pid.php >"$tmp/out" 2>&1
passes "PHP serves under a fork server" grep -Eq '^[0-9]+$' "$tmp/out" || diag "$(cat "$tmp/out")"
like "$(tr '\0' ' ' <"/proc/$(cat "$tmp/out")/cmdline")" "^$php " "its worker is a php-cgi"
isnt "$(ps -o ppid= -p "$(cat "$tmp/out")" | tr -d ' ')" "$zfpm_pid" "which is no child of zfpm"

# ---- OPcache --------------------------------------------------------------------------------

if [ "$(body one php has.php)" = 1 ]; then
	begin a one php opcache.php hold=hold
	noted hold
	body one php opcache.php >"$tmp/b"
	body one second opcache.php >"$tmp/c"
	body same php opcache.php >"$tmp/d"
	body two php opcache.php >"$tmp/e"
	seen hold.seen
	finish a
	isnt "$(field a pid)" "$(field b pid)" "two workers of one pool"
	is "$(field a before)" none "OPcache: the first compiles a script"
	is "$(field a after)" 0 "and it is cached"
	is "$(field b before),$(field b after)" 0,1 "the other has it from there, a hit"
	is "$(field b scripts)" "$(field a scripts)" "and both have as many scripts"
	is "$(field c before)" none "another app of the pool has another memory"
	is "$(field d before)" none "so has another pool of the same user"
	is "$(field e before)" none "and a pool of another user"
	is "$(body one php opcache.php look | sed -n 's/^before //p')" 1 "the others' hits do not count"
	body one php opcache.php reset >"$tmp/out"
	emptied() { [ "$(body one php opcache.php look | sed -n 's/^before //p')" = none ]; }
	passes "opcache_reset() reaches all of a pool" wait_until emptied
	isnt "$(body same php opcache.php look | sed -n 's/^before //p')" none "and none of another"

	for i in 1 2 3 4 5 6 7; do body three php opcache.php; done >"$tmp/out"
	is "$(field out before | tr '\n' ' ')" 'none 0 1 2 3 4 5 ' "max_requests: OPcache is kept when a worker is replaced"
	is "$(field out pid | uniq -c | awk '{ printf "%s ", $1 }')" '3 3 1 ' "which happens after so many requests"
	is "$(grep -Ec 'pool three: app server [0-9]+: ready' "$tmp/zfpm.log")" 1 "by the same app server"
else
	skip 14 "PHP has no OPcache here"
fi

# ---- what no two workers may have in common --------------------------------------------------------

for i in 1 2 3; do begin "r$i" random php random.php; done
finish r1 r2 r3
is "$(cat "$tmp/r1" "$tmp/r2" "$tmp/r3" | grep -c '^getmypid ')" 3 "three workers are forked at one time" || diag "$(cat "$tmp/r1")"
for name in getmypid mt_rand rand array_rand shuffle str_shuffle random_int random_bytes uniqid lcg_value session_create_id \
    tempnam tmpfile password_hash openssl_random_pseudo_bytes; do
	sed -n "s/^$name //p" "$tmp/r1" "$tmp/r2" "$tmp/r3" >"$tmp/values"
	if [ "$name" = openssl_random_pseudo_bytes ] && [ ! -s "$tmp/values" ]; then
		skip 1 "PHP has no OpenSSL here"
		continue
	fi
	is "$(sort -u "$tmp/values" | grep -c .)" 3 "$name differs in each of them" || diag "$(cat "$tmp/values")"
done

for how in session file; do
	begin a random php lock.php how=$how app=php who=a
	begin b random php lock.php how=$how app=php who=b
	finish a b
	isnt "$(word a 1)" "$(word b 1)" "$how lock: two workers"
	is "$(word a 2-),$(word b 2-)" "$([ $how = session ] && echo nothing),what the other has written" "the second waits for the first"
done

if "$php" -m | grep -q '^apcu'; then
	begin a one php apcu.php store hold=apcu
	noted apcu
	body one php apcu.php >"$tmp/b"
	body same php apcu.php >"$tmp/c"
	body two php apcu.php >"$tmp/d"
	body one second apcu.php >"$tmp/e"
	seen apcu.seen
	finish a
	isnt "$(word a 1)" "$(word b 1)" "APCu: two workers"
	is "$(word b 2)" "$(word a 1)" "what one has stored the other fetches"
	is "$(word c 2),$(word d 2),$(word e 2)" false,false,false "neither another pool nor another app does"
else
	skip 3 "PHP has no APCu here"
fi

# ---- the same, byte for byte ---------------------------------------------------------------------------

"$bin/client" pattern 300000 >"$tmp/pattern"
{
	printf -- '--b\r\nContent-Disposition: form-data; name="f"; filename="x.bin"\r\nContent-Type: text/x\r\n\r\n'
	cat "$tmp/pattern"
	printf '\r\n--b\r\nContent-Disposition: form-data; name="none"; filename=""\r\n\r\n\r\n--b--\r\n'
} >"$tmp/multipart"
echo 'a=1&b[]=2&b[]=3' >"$tmp/form"

# CASE [ARGUMENT...]: under both
compare() {
	compare_case=$1
	shift
	for compare_app in direct php; do
		rm -f "$tmp/mail/letter"
		page pair "$compare_app" case.php "case=$compare_case" "$@" >"$tmp/$compare_app.out" 2>"$tmp/$compare_app.txt"
		echo "status $?" >>"$tmp/$compare_app.out"
		if [ -e "$tmp/mail/letter" ]; then cat "$tmp/mail/letter" >>"$tmp/$compare_app.out"; fi
		cat "$tmp/$compare_app.txt" >>"$tmp/$compare_app.out"
	done
	cmp -s "$tmp/direct.out" "$tmp/php.out"
	ok $? "the same: $compare_case" || diag "$(diff "$tmp/direct.out" "$tmp/php.out" | head -n 20)"
}
# ERE: and what it is
and() { grep -Eaq -e "$1" "$tmp/php.out"; ok $? "namely $2" || diag "$(head -n 20 "$tmp/php.out")"; }

for case in hello headers redirect unchanged server settings extensions process descriptors cmdline info functions sleep select socket; do
	compare $case
done
compare environment
and '\[FROM_POOL\]|PATH' "that of the configuration"
fails "without LD_PRELOAD" grep -q 'LD_PRELOAD\|forkserver' "$tmp/php.out"
compare form -b "$tmp/form" -p CONTENT_TYPE=application/x-www-form-urlencoded -p HTTP_COOKIE='x=y'
compare input -b "$tmp/pattern" -p CONTENT_TYPE=application/octet-stream
and "^300000 $(md5sum <"$tmp/pattern" | cut -d ' ' -f 1)" "all of the body"
compare unread -B 3000000 -p CONTENT_TYPE=application/octet-stream
compare upload -b "$tmp/multipart" -p CONTENT_TYPE='multipart/form-data; boundary=b'
and "^f x.bin text/x 0 300000 $(md5sum <"$tmp/pattern" | cut -d ' ' -f 1) 11\$" "the file as it was"
compare big -C
compare slow
compare hello -m HEAD
compare gzip -p HTTP_ACCEPT_ENCODING=gzip
for case in exit exit-text exit-status exit-callback callback nested; do compare $case; done
compare shutdown-exit
and '^shutdown 2' "shutdown functions run after exit"
compare shutdown-fatal
and 'Call to undefined function' "and after a fatal error"
body pair php pid.php >"$tmp/before"
compare timeout
and '^stderr: .*Maximum execution time of 1 second exceeded' "max_execution_time, with its message"
and '^shutdown Maximum execution time' "and shutdown functions"
compare memory
and 'Allowed memory size of [0-9]+ bytes exhausted' "memory_limit, with its message"
compare recursion
compare fatal
and 'Uncaught Error: Call to undefined function' "a fatal error, with its message"
compare shown
compare exception
and 'Uncaught RuntimeException: not caught' "an exception, with its message"
is "$(body pair php pid.php)" "$(cat "$tmp/before")" "after all of this the same worker serves on" || diag "$(tail -n 20 "$tmp/zfpm.log")"
for case in handler user-error warning late-header log stderr include session file exec shell proc; do compare $case; done
compare mail
and '^Subject: subject' "the letter"
and '^0$' "written by a program without LD_PRELOAD"
for app in direct php; do page pair $app parse.php >"$tmp/$app.out" 2>&1; done
passes "the same: a script that is none" cmp -s "$tmp/direct.out" "$tmp/php.out"
for app in direct php; do page pair $app nosuch.php >"$tmp/$app.out" 2>&1; done
passes "the same: a script that is not there" cmp -s "$tmp/direct.out" "$tmp/php.out"

# ---- programs ---------------------------------------------------------------------------------------------

body pair php programs.php >"$tmp/out"
is "$(field out connections)" '1 of which theirs 0' "a program does not get the connection"
is "$(field out listening)" 0 "nor a socket that listens"
body pair direct programs.php >"$tmp/b"
is "$(sed -n '/^stdin/,$p' "$tmp/out")" "$(sed -n '/^stdin/,$p' "$tmp/b")" "from its standard input it reads what it would read otherwise"
is "$(sed -n '/^stdin/,$p' "$tmp/out" | tr '\n' ' ')" 'stdin [1 ] preload [0 ] libraries [0 ] ' "nothing, and of the fork server it gets nothing"

for app in direct php; do
	: >"$tmp/notes/background"
	body once $app background.php keep=nothing file="$tmp/notes/background" >"$tmp/out"
	program=$(word out 2)
	track "$program"
	ok $? "$app: a program in the background does not keep the response"
	passes "its worker ends, as is its time" wait_until gone "$(word out 1)"
	fails "and it runs on" gone "$program"
	rm "$tmp/notes/background"
	passes "to its own end" wait_until gone "$program"
done
: >"$tmp/notes/background"
body once php background.php keep=stderr file="$tmp/notes/background" >"$tmp/out"
program=$(word out 2)
track "$program"
passes "nor does one that has its standard error" test -n "$program"
passes "nor its worker" wait_until gone "$(word out 1)"
body once php pid.php >"$tmp/out"
ok $? "and the pool serves on"
fails "while it runs" gone "$program"
rm "$tmp/notes/background"
wait_until gone "$program"

# ---- clients that leave, and those who shall see something early ------------------------------------------------

for left in leave ignore; do
	begin $left random php leave.php name=$left $left -A first
	finish $left
	seen $left.left
	noted $left.end
done
is "$(cat "$tmp/notes/leave.end")" 'aborted cut' "a client leaves: the script is ended at its next output"
is "$(cat "$tmp/notes/ignore.end")" 'aborted done' "unless it has ignore_user_abort"
begin stays random php leave.php name=stays
wait_until says stays begun
kill "$begun"
seen stays.left
noted stays.end
is "$(cat "$tmp/notes/stays.end")" 'connected done' "the web server goes: the script goes on"
body random php pid.php >"$tmp/out"
ok $? "and the pool serves"

begin flush random php flush.php
passes "what is flushed comes at once" wait_until says flush one
seen flush.one
passes "with ob_flush() too" wait_until says flush two
seen flush.two
finish flush
is "$(tr '\n' ' ' <"$tmp/flush")" 'one two three ' "and the rest at the end"

begin early random php early.php
passes "a response that is whole before its script is comes at once" wait_until says early hello
seen early.seen
noted early.done
finish early
is "$(cat "$tmp/early")$(cat "$tmp/notes/early.done")" hello0 "and the script goes on to its end"

is "$(body idle php long.php | cut -d ' ' -f 2)" "done" "a long script is left in peace by 'timeout idle' and 'timeout app_server'"

# ---- what is said, and settings --------------------------------------------------------------------------------

body one php stderr.php >"$tmp/out" 2>"$tmp/err"
pid=$(cat "$tmp/out")
passes "php://stderr is in zfpm's log, as the worker's" wait_for_log "pool one: worker $pid: stderr: words of the script\$"
passes "so is the standard error of its programs" wait_for_log "pool one: worker $pid: stderr: words of a program\$"
like "$(cat "$tmp/err")" 'for the web server' "error_log() is the web server's"
for i in 1 2; do begin "s$i" one startup random.php; done
body one startup random.php >"$tmp/out"
finish s1 s2
is "$(grep -c 'nosuch\.so' "$tmp/zfpm.log")" 1 "what PHP says at its start is in the log once, not once for each worker" ||
    diag "$(grep 'nosuch\.so' "$tmp/zfpm.log")"
passes "as the app server's" log_has 'pool one: app server [0-9]+: stderr: .*nosuch\.so'

like "$(body one php ini.php)" ' poolpool$' "the pool's environment is there"
like "$(body one php sub/ini.php)" '^77M ' "and so is .user.ini"
unlike "$(body one php ini.php)" '^77M ' "for its own directory alone"
like "$(body one c ini.php)" '^[0-9]+M 7 ' "-c"
like "$(body one rc ini.php)" '^[0-9]+M 9 rc app' "PHPRC"
unlike "$(cat "$tmp/zfpm.log")" 'can not be used|not its own|error: ' "zfpm has nothing to complain of"

stop_zfpm TERM
is "$zfpm_status" 0 "zfpm ends"
