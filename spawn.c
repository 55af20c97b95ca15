/*
 * spawn.c: from a pool's configuration to a running program, by way of root.
 *
 * Owns the order in which rights are given up, every reason to refuse a
 * start, what makes a file fit to be a pool's error_log, and whether a program
 * can have a fork server. Runs in the master up to fork() and in the child from there to exec.
 * Users and groups are looked up in the child: a slow directory service stops
 * nobody else, and its libraries never run inside the master.
 * Never reads from the network, from the router or from an application.
 */
#include <sys/types.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <dirent.h>
#include <elf.h>
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
#define ERROR_LOG_MS	10000	/* a pool's error_log that can not be used is told of that often */
#define MAX_LINKS	16	/* symbolic links on the way to an error_log */
#define BACKLOG_MORE	16	/* connections that a worker has not accepted yet, beside its `connections` */
#define MAX_WATCHED	1000	/* files of a directory that are looked at */
#define SERVER_BACKLOG	4096	/* the same of an app server: workers that it has not forked yet */

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

/* ---- the fork server's library ------------------------------------------------- */

/*
 * Open a file to look into it: as its user, for where the path leads may be the user's choice, and there are devices
 * that do something when root opens them. Root's groups stay, which nobody can tell from here.
 */
static int
open_as(const char *path, uid_t uid)
{
	bool change = geteuid() == 0 && uid != 0;
	struct stat st;
	int fd, error;

	if (change && seteuid(uid) == -1)
		return -1;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	error = errno;
	if (change && seteuid(0) == -1)
		fatal("seteuid");
	if (fd != -1 && (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode))) {
		close(fd);
		fd = -1;
		error = EINVAL;
	}
	errno = error;
	return fd;
}

/* A number of an ELF file, in its own byte order; 0 if the file ends before. */
static uint64_t
elf_number(int fd, bool big_endian, uint64_t offset, size_t size)
{
	uint8_t byte[8];
	uint64_t n = 0;
	size_t i;

	if (offset > INT32_MAX || pread(fd, byte, size, (off_t)offset) != (ssize_t)size)
		return 0;
	for (i = 0; i < size; i++)
		n |= (uint64_t)byte[big_endian ? size - 1 - i : i] << 8 * i;
	return n;
}

/* What of an ELF file decides whether one can be loaded into the other. */
struct elf {
	uint8_t		 class, order;	/* 32 or 64 bits, which byte comes first */
	uint64_t	 machine;
	uint64_t	 type;		/* ET_EXEC, ET_DYN */
	bool		 interpreter;	/* it is loaded by ld.so */
	bool		 soname;	/* it has a name for others to load it by: with none of both, it is linked statically */
};

#define ELF_HEADERS	128	/* programs have a dozen */
#define ELF_DYNAMIC	256	/* libraries have two dozens */
#define ELF_AT(field)		(wide ? offsetof(Elf64_Ehdr, field) : offsetof(Elf32_Ehdr, field))
#define ELF_SIZE(field)		(wide ? sizeof(((Elf64_Ehdr *)0)->field) : sizeof(((Elf32_Ehdr *)0)->field))
#define ELF_GET(field)		elf_number(fd, big, ELF_AT(field), ELF_SIZE(field))

/* Whether its dynamic section at this offset has a name. In both classes a tag and its value have the size of an address. */
static bool
elf_has_name(int fd, bool big, bool wide, uint64_t offset)
{
	size_t size = wide ? 8 : 4;
	uint64_t tag = DT_NULL + 1;
	int i;

	for (i = 0; i < ELF_DYNAMIC && tag != DT_NULL && tag != DT_SONAME; i++)
		tag = elf_number(fd, big, offset + (uint64_t)i * 2 * size, size);
	return tag == DT_SONAME;
}

/* False if it is none, a script for instance, or a broken one. */
static bool
read_elf(int fd, struct elf *elf)
{
	uint8_t ident[EI_NIDENT];
	uint64_t headers, size, n, i, at, type;
	bool wide, big;

	if (pread(fd, ident, sizeof(ident), 0) != sizeof(ident) || memcmp(ident, ELFMAG, SELFMAG) != 0)
		return false;
	wide = ident[EI_CLASS] == ELFCLASS64;
	big = ident[EI_DATA] == ELFDATA2MSB;
	elf->class = ident[EI_CLASS];
	elf->order = ident[EI_DATA];
	elf->machine = ELF_GET(e_machine);
	elf->type = ELF_GET(e_type);
	headers = ELF_GET(e_phoff);
	size = ELF_GET(e_phentsize);
	n = ELF_GET(e_phnum);
	if (headers == 0 || headers > INT32_MAX || size == 0 || n == 0 || n > ELF_HEADERS)
		return false;
	elf->interpreter = elf->soname = false;
	for (i = 0; i < n; i++) {
		at = headers + i * size;
		type = elf_number(fd, big, at, 4);	/* in both classes p_type comes first, and has four bytes */
		elf->interpreter |= type == PT_INTERP;
		if (type == PT_DYNAMIC)
			elf->soname |= elf_has_name(fd, big, wide, elf_number(fd, big,
			    at + (wide ? offsetof(Elf64_Phdr, p_offset) : offsetof(Elf32_Phdr, p_offset)), wide ? 8 : 4));
	}
	return true;
}

/*
 * A script passes: it is its interpreter that the library is loaded into, and whether that calls accept() only
 * `timeout start` can tell. So does ld.so itself, which loads the library along with the program that it is given.
 */
int
spawn_check_fork_server(const char *command, const char *library, uid_t uid, struct spawn_error *err)
{
	struct elf program, loaded;
	struct stat st;
	bool known;
	int error, fd;
	void *map;

	if (stat(library, &st) == -1)
		return refuse(err, "fork_server", "%.120s: %s: %s", library, strerror(errno),
		    errno == ENOENT ? "put it there, or 'fork_server off'" : "needs 'fork_server off'");
	if (!S_ISREG(st.st_mode))
		return refuse(err, "fork_server", "%s: is not a regular file", library);
	if (st.st_uid != 0 && st.st_uid != uid)
		return refuse(err, "fork_server", "%.120s: is owned by uid %lu, not by root or the pool's user", library, (unsigned long)st.st_uid);
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return refuse(err, "fork_server", "%s: is writable by group or others", library);
	if ((st.st_mode & (S_IRGRP | S_IROTH)) == 0 && st.st_uid != uid)
		return refuse(err, "fork_server", "%.120s: can not be read by the pool's user", library);
	if ((fd = open_as(library, uid)) == -1)
		return refuse(err, "fork_server", "%.120s: can not be read by the pool's user: %s", library, strerror(errno));
	known = read_elf(fd, &loaded);
	map = mmap(NULL, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	error = errno;
	close(fd);
	if (map == MAP_FAILED)
		return refuse(err, "fork_server", "%.120s: can not be mapped as a program: %s (mounted noexec?)", library, strerror(error));
	munmap(map, 1);
	if (!known || loaded.type != ET_DYN || loaded.interpreter)
		return refuse(err, "fork_server", "%.120s: is not a shared library", library);

	if (stat(command, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID)) != 0)
		return refuse(err, "command", "%.100s: is %s: it ignores the fork server's library; needs 'fork_server off'", command,
		    (st.st_mode & S_ISUID) != 0 ? "setuid" : "setgid");
	if ((fd = open_as(command, uid)) == -1)
		return 0;	/* it may be executable all the same */
	known = read_elf(fd, &program);
	close(fd);
	if (!known)
		return 0;
	if (!program.interpreter && !program.soname)
		return refuse(err, "command", "%.100s: is linked statically: it ignores the fork server's library; needs 'fork_server off'", command);
	if (program.class != loaded.class || program.order != loaded.order || program.machine != loaded.machine)
		return refuse(err, "command", "%.90s: is for another processor than %.90s: needs 'fork_server off'", command, library);
	return 0;
}

/* ---- error_log ---------------------------------------------------------------- */

/* A symbolic link on the way: *rest becomes what it says and what stands behind it. Where that begins, or -1 with errno. */
static int
follow_link(int dir, const char *link, char rest[PATH_MAX], const char *behind)
{
	char to[PATH_MAX];
	ssize_t n;

	if ((n = readlinkat(dir, link, to, sizeof(to))) == -1) {
		if (errno == EINVAL)
			errno = ENOTDIR;	/* it is no link */
		return -1;
	}
	errno = ENAMETOOLONG;
	if ((size_t)n + strlen(behind) >= sizeof(to))
		return -1;
	strcpy(to + n, behind);
	strcpy(rest, to);
	return to[0] == '/' ? open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : fcntl(dir, F_DUPFD_CLOEXEC, 0);
}

/*
 * Open the directory of an error_log, and put the last part of its path into file. Root appends to what is there, so
 * nobody else may say what that is: each directory on the way is root's, and root alone writes in the last. Further up a
 * group may write, as syslog's does in /var/log of some systems: the most that it can do is to put another such
 * directory in its place, as long as no link is followed in there. A directory that everybody can write is refused,
 * with the sticky bit too. Returns a descriptor, or -1 with the reason in why.
 */
static int
open_log_dir(const char *path, char file[NAME_MAX + 1], char *why, size_t size)
{
	char rest[PATH_MAX], *p = rest;
	int dir, next, links = 0;
	bool group_writes;
	struct stat st;
	size_t len;

	/* A pool's name may bring dots along: they shall not lead out of the directory that is meant. */
	if (path[0] != '/' || strlen(path) >= sizeof(rest) || strstr(path, "/../") != NULL) {
		snprintf(why, size, "is not an absolute path without '..'");
		return -1;
	}
	strcpy(rest, path);
	dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (dir != -1 && fstat(dir, &st) == 0) {
		group_writes = (st.st_mode & S_IWGRP) != 0;
		p += strspn(p, "/");
		len = strcspn(p, "/");
		if (st.st_uid != 0 || (st.st_mode & S_IWOTH) != 0 || (p[len] == '\0' && group_writes)) {
			snprintf(why, size, "others than root can write the directory that '%.*s' is in", (int)(len < 100 ? len : 100), p);
			goto fail;
		}
		if (len == 0 || len > NAME_MAX || strcmp(p, ".") == 0 || strcmp(p, "..") == 0) {
			snprintf(why, size, "does not name a file");
			goto fail;
		}
		memcpy(file, p, len);
		file[len] = '\0';
		p += len;
		if (*p == '\0')
			return dir;
		next = openat(dir, file, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next == -1 && (errno == ENOTDIR || errno == ELOOP) && !group_writes && links++ < MAX_LINKS) {
			next = follow_link(dir, file, rest, p);
			p = rest;
		}
		if (next == -1) {
			snprintf(why, size, "%.100s: %s", file, strerror(errno));
			goto fail;
		}
		close(dir);
		dir = next;
	}
	snprintf(why, size, "%s", strerror(errno));
fail:
	if (dir != -1)
		close(dir);
	return -1;
}

/*
 * In the child, which knows the group: make the file if it is missing, or was made by the master when logs were opened anew.
 * What goes wrong the master finds when it opens it, and says so.
 */
static void
make_error_log(const struct conf_pool *pool, const char *name, gid_t gid)
{
	char path[PATH_MAX], file[NAME_MAX + 1], why[TEXT_LEN];
	struct stat st;
	int dir, fd;

	if (conf_expand(path, sizeof(path), pool->error_log, pool, name) == -1)
		return;
	if ((dir = open_log_dir(path, file, why, sizeof(why))) == -1)
		return;
	if ((fd = openat(dir, file, O_WRONLY | O_CREAT | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0600)) != -1) {
		if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_uid == 0 && st.st_gid == 0 && (st.st_mode & 07777) == 0600 &&
		    fchown(fd, 0, gid) == 0)
			fchmod(fd, 0640);
		close(fd);
	}
	close(dir);
}

int
spawn_check_error_log(const char *path, char *why, size_t size)
{
	char file[NAME_MAX + 1];
	struct stat st;
	int dir;
	bool wrong;

	if ((dir = open_log_dir(path, file, why, size)) == -1)
		return -1;
	wrong = fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) == 0 && (!S_ISREG(st.st_mode) || st.st_nlink != 1);
	close(dir);
	if (wrong)
		snprintf(why, size, "is not a regular file with one name");
	return wrong ? -1 : 0;
}

/* The file itself: a descriptor, or -1 with the reason in why. */
static int
open_error_log(const char *path, char *why, size_t size)
{
	char file[NAME_MAX + 1];
	struct stat st;
	int dir, fd;

	if ((dir = open_log_dir(path, file, why, size)) == -1)
		return -1;
	/* Without waiting: for a pipe that nobody reads it would be for ever. Root's alone, until the next worker gives it to the group. */
	fd = openat(dir, file, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0600);
	if (fd == -1 && errno != ELOOP && errno != ENXIO)
		snprintf(why, size, "%s", strerror(errno));
	else
		snprintf(why, size, "is not a regular file with one name");
	close(dir);
	if (fd == -1 || (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1))
		return fd;
	close(fd);
	return -1;
}

int
spawn_error_log(const struct conf_pool *pool, const char *name)
{
	static char told[POOL_NAME_LEN + 1];
	static int64_t told_ms;
	char path[PATH_MAX], why[TEXT_LEN];
	int64_t now_ms;
	int fd;

	if (pool->error_log == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s", pool->error_log);
	if (conf_expand(path, sizeof(path), pool->error_log, pool, name) == -1)
		snprintf(why, sizeof(why), "%s", strerror(ENAMETOOLONG));
	else if ((fd = open_error_log(path, why, sizeof(why))) != -1)
		return fd;
	/* Every worker that starts asks: once is enough. */
	now_ms = os_now_ms();
	if (strcmp(told, name) != 0 || now_ms - told_ms >= ERROR_LOG_MS) {
		log_warnx("pool %s: error_log %s: %s", name, path, why);
		snprintf(told, sizeof(told), "%s", name);
		told_ms = now_ms;
	}
	return -1;
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

/* Have the fork server loaded before everything else that is to be. */
static void
put_preload(char **env, const char *library)
{
	static const char name[] = "LD_PRELOAD=";
	const char *others = NULL;
	char value[2 * PATH_MAX];
	size_t i;

	for (i = 0; env[i] != NULL; i++)
		if (strncmp(env[i], name, sizeof(name) - 1) == 0)
			others = env[i] + sizeof(name) - 1;
	errno = ENAMETOOLONG;
	if ((size_t)snprintf(value, sizeof(value), "%s%s%s", library, others != NULL ? ":" : "", others != NULL ? others : "") >= sizeof(value))
		child_die("environment", "LD_PRELOAD");
	put_env(env, "LD_PRELOAD", value);
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
	if (app->fork_server)
		put_preload(env, app->library);
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

void
spawn_reset_signals(void)
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
 *  4 cgroup       by paths of the whole system, so before chroot; no limit of the pool's is in its way
 *  5 error_log    likewise; only made: the router gets it from the master
 *  6 limits       while we may still raise them
 *  7 chroot       needs root; then the command is looked at as the program will see it
 *  8 groups, gid  need root
 *  9 uid          last: after it nothing above can be repeated
 * 10 proof        root must not come back
 * 11 the rest     a look at the program's and the fork server's files, chdir, umask, signals: with the user's own rights
 * 12 master       goes with it: the guard has a handle of us by now; where there are none, a signal from the
 *                 kernel, asked for after setuid, which clears it
 * 13 exec         with an environment made from nothing
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
	if (pool->cgroups != NULL && cgroup_enter(pool, name, &err) == -1)
		child_fail(&err);

	/* 5 */
	if (pool->error_log != NULL)
		make_error_log(pool, name, su.gid);

	/* 6 */
	if (setrlimit(RLIMIT_NOFILE, &nofile_before) == -1)
		child_die("rlimit", "nofile");
	for (rl = pool->rlimits; rl != NULL; rl = rl->next)
		if (setrlimit(rl->resource, &rl->limit) == -1)
			child_die("rlimit", rl->name);
	errno = 0;
	if (pool->nice != 0 && setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + pool->nice) == -1)
		child_die("nice", NULL);

	/* 7 */
	if (chroot_dir != NULL && (os_chroot(chroot_dir) == -1 || chdir("/") == -1))
		child_die("chroot", chroot_dir);
	if (spawn_check_command(app->argv[0], su.uid, &err) == -1)
		child_fail(&err);

	/* 8 */
	if (os_set_groups((size_t)ngids, gids) == -1)
		child_die("setgroups", NULL);
	if (setgid(su.gid) == -1)
		child_die("setgid", NULL);

	/* 9 */
	if (setuid(su.uid) == -1)
		child_die("setuid", NULL);

	/* 10 */
	if (setuid(0) != -1 || geteuid() != su.uid || getuid() != su.uid || getegid() != su.gid || getgid() != su.gid) {
		errno = EPERM;
		child_die("setuid", "root came back");
	}

	/* 11 */
	if (app->fork_server && spawn_check_fork_server(app->argv[0], app->library, su.uid, &err) == -1)
		child_fail(&err);
	if (chdir(dir != NULL ? dir : "/") == -1)
		child_die("directory", dir);
	umask(pool->umask);
	spawn_reset_signals();

	/* 12 */
	if (guarded && getppid() != master)
		_exit(1);
	if (!guarded)
		os_die_with_parent(master, SIGTERM);

	/* 13 */
	execve(app->argv[0], app->argv, env);
	if (errno == EAGAIN) {
		/* Not a word of it in setuid(), where the user's processes were counted. */
		refuse(&err, "exec", "%.150s: the user has more processes than rlimit nproc allows", app->argv[0]);
		child_fail(&err);
	}
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

/* Mix what is known of a file into a stamp: another file, or other content, makes it another one (FNV-1a). */
static void
stamp_file(uint64_t *stamp, const char *path, bool *is_dir)
{
	struct {
		dev_t		 dev;
		ino_t		 ino;
		off_t		 size;
		struct timespec	 mtime, ctime;
	} seen;
	const uint8_t *p;
	struct stat st;
	size_t i;

	memset(&seen, 0, sizeof(seen));
	*is_dir = false;
	if (stat(path, &st) == 0) {
		*is_dir = S_ISDIR(st.st_mode);
		seen.dev = st.st_dev;
		seen.ino = st.st_ino;
		seen.size = st.st_size;
		seen.mtime = st.st_mtim;
		seen.ctime = st.st_ctim;
	}
	for (p = (const uint8_t *)&seen, i = 0; i < sizeof(seen); i++)
		*stamp = (*stamp ^ p[i]) * UINT64_C(1099511628211);
}

/* The same for a path; of a directory, for what is directly in it too, whatever the order. */
static void
stamp_path(uint64_t *stamp, const char *path)
{
	char entry[PATH_MAX + NAME_MAX + 2];
	uint64_t one, all = 0;
	struct dirent *d;
	bool is_dir;
	DIR *dir;
	int n = 0;

	stamp_file(stamp, path, &is_dir);
	if (!is_dir || (dir = opendir(path)) == NULL)
		return;
	while (n++ < MAX_WATCHED && (d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(entry, sizeof(entry), "%s/%s", path, d->d_name);
		one = UINT64_C(14695981039346656037);
		stamp_file(&one, entry, &is_dir);
		all += one;
	}
	closedir(dir);
	*stamp = (*stamp ^ all) * UINT64_C(1099511628211);
}

uint64_t
spawn_stamp(const struct conf_app *app)
{
	uint64_t stamp = UINT64_C(14695981039346656037);
	char **path;

	stamp_path(&stamp, app->argv[0]);
	stamp_path(&stamp, app->library);
	for (path = app->watch; path != NULL && *path != NULL; path++)
		stamp_path(&stamp, *path);
	return stamp;
}

int
spawn_worker(const struct conf *conf, const struct conf_pool *pool, const struct conf_app *app, const char *pool_name,
    const char *socket_path, struct spawned *sp, struct spawn_error *err)
{
	int errno_saved, listen_fd, errors[2] = { -1, -1 }, report[2] = { -1, -1 };
	pid_t master = getpid();
	sigset_t all, before;
	char reason[TEXT_LEN];
	const char *step;

	memset(err, 0, sizeof(*err));
	if (pool->cgroups != NULL && cgroup_init(reason, sizeof(reason)) == -1)
		return refuse(err, "cgroup", "%s", reason);
	step = "socket";
	if ((listen_fd = make_socket(socket_path, app->fork_server ? SERVER_BACKLOG : app->connections + BACKLOG_MORE)) == -1) {
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
