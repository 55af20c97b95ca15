/*
 * spawn.c: from a pool's configuration to a running program, by way of root.
 *
 * Owns the order in which rights are given up, and every reason to refuse a
 * start. Runs in the master up to fork() and in the child from there to exec.
 * Users and groups are looked up in the child: a slow directory service stops
 * nobody else, and its libraries never run inside the master.
 * Never reads from the network, from the router or from an application.
 */
#include <sys/types.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#define REPORT_FD	3	/* in the child, close-on-exec */
#define MAX_GROUPS	1024
#define MAX_ENV		512
#define BACKLOG_MORE	16	/* connections that a worker has not accepted yet, beside its `connections` */

static struct rlimit	nofile_before;	/* what zfpm was started with: the applications' limit */
static uid_t		router_uid = (uid_t)-1;	/* -1: not known yet */
static gid_t		router_gid = (gid_t)-1;
static bool		guarded;	/* somebody ends the applications when the master dies */

void
spawn_init(uid_t uid, gid_t gid, bool guard)
{
	struct rlimit rl;

	guarded = guard;
	router_uid = uid;
	router_gid = gid;
	if (getrlimit(RLIMIT_NOFILE, &nofile_before) == -1)
		fatal("getrlimit");
	rl = nofile_before;
	rl.rlim_cur = rl.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &rl) == -1)
		log_warn("setrlimit");
}

/* Fill in *err; always -1, for `return`. */
__attribute__((format(printf, 3, 4)))
static int
refuse(struct spawn_error *err, const char *step, const char *fmt, ...)
{
	va_list ap;

	snprintf(err->step, sizeof(err->step), "%s", step);
	va_start(ap, fmt);
	vsnprintf(err->reason, sizeof(err->reason), fmt, ap);
	va_end(ap);
	return -1;
}

int
spawn_find_user(const struct conf *conf, const char *user, const char *group, struct spawn_user *su, struct spawn_error *err)
{
	static char name[256], home[PATH_MAX];
	struct passwd *pw;
	struct group *gr;

	if (router_uid == (uid_t)-1 && (pw = getpwnam(conf->router_user)) != NULL) {
		router_uid = pw->pw_uid;
		router_gid = pw->pw_gid;
	}
	errno = 0;
	if ((pw = getpwnam(user)) == NULL) {
		/* "Not found" has many errnos; only these mean that the answer is not known. */
		if (errno == EIO || errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EINTR)
			return refuse(err, "user", "'%s': %s", user, strerror(errno));
		return refuse(err, "user", "'%s' is unknown", user);
	}
	snprintf(name, sizeof(name), "%s", pw->pw_name);
	snprintf(home, sizeof(home), "%s", pw->pw_dir);
	su->name = name;
	su->home = home;
	su->uid = pw->pw_uid;
	su->gid = pw->pw_gid;
	if (group != NULL) {
		errno = 0;
		if ((gr = getgrnam(group)) == NULL) {
			if (errno == EIO || errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EINTR)
				return refuse(err, "group", "'%s': %s", group, strerror(errno));
			return refuse(err, "group", "'%s' is unknown", group);
		}
		su->gid = gr->gr_gid;
	}
	if (su->uid == 0)
		return refuse(err, "user", "'%s' has uid 0: root never runs an application", user);
	if (su->gid == 0)
		return refuse(err, "group", "'%s' has gid 0: root's group never runs an application", group != NULL ? group : user);
	/* As the router's user it could connect to every pool's workers. */
	if (su->uid == router_uid)
		return refuse(err, "user", "'%s' is the router's user", user);
	if (su->gid == router_gid)
		return refuse(err, "group", "'%s' is the group of the router's user", group != NULL ? group : user);
	if (su->uid < conf->min_uid)
		return refuse(err, "user", "'%s' has uid %lu, below min_uid %lu", user, (unsigned long)su->uid, (unsigned long)conf->min_uid);
	if (su->gid < conf->min_gid)
		return refuse(err, "group", "'%s' has gid %lu, below min_gid %lu", group != NULL ? group : user,
		    (unsigned long)su->gid, (unsigned long)conf->min_gid);
	return 0;
}

int
spawn_check_command(const char *path, uid_t uid, struct spawn_error *err)
{
	struct stat st;

	if (path[0] != '/')
		return refuse(err, "command", "%s: is not an absolute path", path);
	if (stat(path, &st) == -1)
		return refuse(err, "command", "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return refuse(err, "command", "%s: is not a regular file", path);
	if (st.st_uid != 0 && st.st_uid != uid)
		return refuse(err, "command", "%s: is owned by uid %lu, not by root or the pool's user", path, (unsigned long)st.st_uid);
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return refuse(err, "command", "%s: is writable by group or others", path);
	if ((st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == 0)
		return refuse(err, "command", "%s: is not executable", path);
	return 0;
}

/* ---- in the child ---------------------------------------------------------- */

/* Report the failed step to the master, and end. */
_Noreturn static void
child_fail(const struct spawn_error *err)
{
	ssize_t n;

	do
		n = write(REPORT_FD, err, sizeof(*err));
	while (n == -1 && errno == EINTR);
	_exit(1);
}

/* The same for a system call that failed: errno is the reason. */
_Noreturn static void
child_die(const char *step, const char *what)
{
	struct spawn_error err;
	int error = errno;

	memset(&err, 0, sizeof(err));
	if (what != NULL)
		refuse(&err, step, "%s: %s", what, strerror(error));
	else
		refuse(&err, step, "%s", strerror(error));
	child_fail(&err);
}

/* The template with %1 and %p put in, in memory that the child never frees. */
static const char *
expanded(const char *template, const struct conf_pool *pool, const char *name)
{
	char buf[PATH_MAX], *s;

	if (template == NULL || pool->star == -1)
		return template;
	errno = ENAMETOOLONG;
	if (conf_expand(buf, sizeof(buf), template, pool, name) == -1 || (s = strdup(buf)) == NULL)
		child_die("configuration", template);
	return s;
}

/* Set NAME=VALUE in env, over an earlier one of the same name. */
static void
put_env(char **env, const char *name, const char *value)
{
	size_t i, name_len = strlen(name), size = name_len + strlen(value) + 2;
	char *s;

	for (i = 0; env[i] != NULL; i++)
		if (strncmp(env[i], name, name_len) == 0 && env[i][name_len] == '=')
			break;
	errno = E2BIG;
	if (i == MAX_ENV || (s = malloc(size)) == NULL)
		child_die("environment", name);
	snprintf(s, size, "%s=%s", name, value);
	env[i] = s;
}

/* The environment, from nothing. */
static char **
make_env(const struct conf_pool *pool, const struct conf_app *app, const char *name, const struct spawn_user *su)
{
	static char *env[MAX_ENV + 1];
	const struct conf_env *e;

	put_env(env, "PATH", "/usr/local/bin:/usr/bin:/bin");
	put_env(env, "USER", su->name);
	put_env(env, "LOGNAME", su->name);
	put_env(env, "HOME", su->home);
	/* PHP would leave by itself after 500 requests, in the middle of somebody's next one: zfpm counts. */
	put_env(env, "PHP_FCGI_MAX_REQUESTS", "0");
	put_env(env, "PHP_FCGI_CHILDREN", "0");
	for (e = app->env; e != NULL; e = e->next)
		put_env(env, e->name, e->value);
	for (e = pool->env; e != NULL; e = e->next)
		put_env(env, e->name, expanded(e->value, pool, name));
	return env;
}

/* The user's groups and those of `groups`; returns how many. */
static int
find_groups(const struct conf_pool *pool, const struct spawn_user *su, gid_t *gids)
{
	struct spawn_error err;
	struct group *gr;
	int i, n = MAX_GROUPS;

	errno = EINVAL;
	if (os_user_groups(su->name, su->gid, gids, &n) == -1)
		child_die("groups", su->name);
	memset(&err, 0, sizeof(err));
	for (i = 0; pool->groups != NULL && pool->groups[i] != NULL; i++) {
		if ((gr = getgrnam(pool->groups[i])) == NULL) {
			refuse(&err, "groups", "'%s' is unknown", pool->groups[i]);
			child_fail(&err);
		}
		errno = EINVAL;
		if (n == MAX_GROUPS)
			child_die("groups", pool->groups[i]);
		gids[n++] = gr->gr_gid;
	}
	for (i = 0; i < n; i++) {
		if (gids[i] != 0 && gids[i] != router_gid)
			continue;
		refuse(&err, "groups", "'%s' is in group %lu: %s group never runs an application", su->name, (unsigned long)gids[i],
		    gids[i] == 0 ? "root's" : "the router's");
		child_fail(&err);
	}
	return n;
}

/* Signals as a program expects to find them. */
static void
reset_signals(void)
{
	struct sigaction sa;
	sigset_t none;
	int sig;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = SIG_DFL;
	sigemptyset(&sa.sa_mask);
	for (sig = 1; sig < 65; sig++)
		sigaction(sig, &sa, NULL);	/* fails for SIGKILL, SIGSTOP and libc's own: fine */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * In the forked child: become the pool's user for good and run its program.
 * Any failure is reported to the master, which logs it with the pool's name.
 *  1 descriptors  an open fd is a privilege too: 0 = listening socket, 1 and 2 = the error pipe,
 *                 3 = report, gone with exec; no other survives
 *  2 session      its own, so that a signal to its group reaches all it started, and only that
 *  3 lookups      user, group, groups: need /etc and the directory service, so before chroot; refuses root
 *  4 limits       while we may still raise them
 *  5 chroot       needs root; then the command is looked at as the program will see it
 *  6 groups, gid  need root
 *  7 uid          last: after it nothing above can be repeated
 *  8 proof        root must not come back
 *  9 the rest     chdir, umask, signals with the user's own rights
 * 10 master       goes with it: the guard has a handle of us by now; where there are none, a signal from the
 *                 kernel, asked for after setuid, which clears it
 * 11 exec         with an environment made from nothing
 */
_Noreturn static void
worker_exec(const struct conf *conf, const struct conf_pool *pool, const struct conf_app *app, const char *name,
    int listen_fd, int error_fd, int report_fd, pid_t master)
{
	const char *chroot_dir, *dir, *user;
	const struct conf_rlimit *rl;
	struct spawn_error err;
	struct spawn_user su;
	gid_t gids[MAX_GROUPS];
	char **env;
	int ngids;

	/* 1. The master keeps 0, 1 and 2 open, so all three of ours are above them; the one that may be 3 comes last. */
	if (dup2(listen_fd, FCGI_LISTENSOCK_FILENO) == -1 || dup2(error_fd, STDOUT_FILENO) == -1 || dup2(error_fd, STDERR_FILENO) == -1 ||
	    dup2(report_fd, REPORT_FD) == -1 || fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC) == -1)
		_exit(1);
	os_close_from(REPORT_FD + 1);

	/* 2 */
	if (setsid() == -1)
		child_die("session", NULL);

	/* 3 */
	memset(&err, 0, sizeof(err));
	user = expanded(pool->user, pool, name);
	if (spawn_find_user(conf, user, expanded(pool->group, pool, name), &su, &err) == -1)
		child_fail(&err);
	ngids = find_groups(pool, &su, gids);
	env = make_env(pool, app, name, &su);
	chroot_dir = expanded(pool->chroot, pool, name);
	dir = expanded(pool->directory, pool, name);
	os_close_from(REPORT_FD + 1);	/* what the lookups may have left open */

	/* 4 */
	if (setrlimit(RLIMIT_NOFILE, &nofile_before) == -1)
		child_die("rlimit", "nofile");
	for (rl = pool->rlimits; rl != NULL; rl = rl->next)
		if (setrlimit(rl->resource, &rl->limit) == -1)
			child_die("rlimit", rl->name);
	errno = 0;
	if (pool->nice != 0 && setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + pool->nice) == -1)
		child_die("nice", NULL);

	/* 5 */
	if (chroot_dir != NULL && (os_chroot(chroot_dir) == -1 || chdir("/") == -1))
		child_die("chroot", chroot_dir);
	if (spawn_check_command(app->argv[0], su.uid, &err) == -1)
		child_fail(&err);

	/* 6 */
	if (os_set_groups((size_t)ngids, gids) == -1)
		child_die("setgroups", NULL);
	if (setgid(su.gid) == -1)
		child_die("setgid", NULL);

	/* 7 */
	if (setuid(su.uid) == -1)
		child_die("setuid", NULL);

	/* 8 */
	if (setuid(0) != -1 || geteuid() != su.uid || getuid() != su.uid || getegid() != su.gid || getgid() != su.gid) {
		errno = EPERM;
		child_die("setuid", "root came back");
	}

	/* 9 */
	if (chdir(dir != NULL ? dir : "/") == -1)
		child_die("directory", dir);
	umask(pool->umask);
	reset_signals();

	/* 10 */
	if (guarded && getppid() != master)
		_exit(1);
	if (!guarded)
		os_die_with_parent(master, SIGTERM);

	/* 11 */
	execve(app->argv[0], app->argv, env);
	child_die("exec", app->argv[0]);
}

/* ---- in the master ------------------------------------------------------------ */

/* The worker's private listening socket: only the router's user can connect to it. Returns it or -1. */
static int
make_socket(const char *path, int backlog)
{
	struct sockaddr_un sun;
	mode_t mask;
	int fd, error;

	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(sun.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(sun.sun_path, path);
	/* Blocking, unlike zfpm's own: programs expect accept() to wait. */
	if ((fd = socket(AF_UNIX, SOCK_STREAM, 0)) == -1)
		return -1;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	mask = umask(0177);
	if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) == -1) {
		error = errno;
		umask(mask);
		close(fd);
		errno = error;
		return -1;
	}
	umask(mask);
	if (chown(path, router_uid, router_gid) == -1 || listen(fd, backlog) == -1) {
		error = errno;
		unlink(path);
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

int
spawn_worker(const struct conf *conf, const struct conf_pool *pool, const struct conf_app *app, const char *pool_name,
    const char *socket_path, struct spawned *sp, struct spawn_error *err)
{
	int errno_saved, listen_fd, errors[2] = { -1, -1 }, report[2] = { -1, -1 };
	pid_t master = getpid();
	sigset_t all, before;
	const char *step;

	memset(err, 0, sizeof(*err));
	step = "socket";
	if ((listen_fd = make_socket(socket_path, app->connections + BACKLOG_MORE)) == -1) {
		refuse(err, step, "%s: %s", socket_path, strerror(errno));
		return -1;
	}
	step = "pipe";
	if (os_pipe(errors) == -1 || os_pipe(report) == -1)
		goto fail;
	if (fcntl(errors[0], F_SETFL, O_NONBLOCK) == -1 || fcntl(report[0], F_SETFL, O_NONBLOCK) == -1)
		goto fail;
	step = "fork";
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);	/* the master's handlers never run in the child */
	sp->pid = fork();
	if (sp->pid == 0)
		worker_exec(conf, pool, app, pool_name, listen_fd, errors[1], report[1], master);
	errno_saved = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = errno_saved;
	if (sp->pid == -1)
		goto fail;
	close(listen_fd);
	close(errors[1]);
	close(report[1]);
	sp->error_fd = errors[0];
	sp->report_fd = report[0];
	return 0;

fail:
	refuse(err, step, "%s", strerror(errno));
	if (report[0] != -1) {
		close(report[0]);
		close(report[1]);
	}
	if (errors[0] != -1) {
		close(errors[0]);
		close(errors[1]);
	}
	unlink(socket_path);
	close(listen_fd);
	return -1;
}
