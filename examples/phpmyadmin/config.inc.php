<?php
// phpMyAdmin for many users: replaces /etc/phpmyadmin/config.inc.php, mode 0644. It has no
// secret in it. Whoever runs it, the user of a pool, has a directory of his own, which
// is made with the first page.
$user = posix_getpwuid(posix_geteuid());
$own = $user['dir'] . '/.phpmyadmin';
foreach (["$own/sessions", "$own/tmp"] as $dir) {
    is_dir($dir) || @mkdir($dir, 0700, true);
}
is_file("$own/secret") || file_put_contents("$own/secret", random_bytes(32));

$cfg['blowfish_secret'] = file_get_contents("$own/secret");	// encrypts the password in the browser's cookie
$cfg['SessionSavePath'] = "$own/sessions";
$cfg['TempDir'] = "$own/tmp";

$cfg['Servers'][1] = [
    'auth_type' => 'cookie',
    'host' => 'localhost',
    'socket' => '/run/mysqld/mysqld.sock',
    'AllowNoPassword' => false,
    'AllowRoot' => false,
    // If MariaDB knows this user by unix_socket, it takes any password from here, and so from everybody
    // in the world. Who logs in is a user of MariaDB with another name and a password.
    'AllowDeny' => ['order' => 'deny,allow', 'rules' => ["deny {$user['name']} from all"]],
    'hide_db' => '^(information_schema|performance_schema|mysql|sys)$',
];
$cfg['UploadDir'] = $cfg['SaveDir'] = '';	// files of the server are not for the browser
$cfg['SendErrorReports'] = 'never';
$cfg['PmaNoRelation_DisableWarning'] = true;	// no database of phpMyAdmin's own
