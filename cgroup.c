/*
 * cgroup.c: root. Each pool with `cgroup` directives in a cgroup v2 of its own.
 *
 * Owns one directory of the cgroup2 tree, zfpm-PID below the cgroup that the master PID was started in,
 * and in it `zfpm`, where zfpm itself and the pools without settings are, and pool@NAME for each pool that has some.
 * The process id keeps two zfpm in one cgroup apart, and stays the same over an upgrade.
 * Never works above the cgroup it was started in, never ends a process but those in a pool's own cgroup, and removes nothing
 * that holds a process: the kernel does not let it. All of it is reading and writing files.
 *
 * A cgroup that passes its controllers on to others below it must hold no process itself (but for the root of the
 * tree), so what is in ours moves one down, and back at the end: else nothing could be started there again.
 */
#include <sys/types.h>
#include <sys/stat.h>

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#define OURS		"zfpm-"		/* and the master's process id: the directory of one zfpm */
#define LEAF		"zfpm"		/* in it: where zfpm's own processes are */
#define POOL		"pool@"		/* before a pool's name: it could be called cgroup.procs */
#define ENTER_TRIES	10		/* an emptied cgroup may be removed while the next worker is on its way into it */
#define MOVE_TRIES	10		/* what is to be moved may fork meanwhile */
#define SWEEP_MS	60000		/* what is busy for longer is in use again */
#define END_MS		1000		/* for what was killed to be gone, when zfpm ends */

struct tree {
	char		 mount[PATH_MAX];	/* where the tree is mounted */
	char		 own[PATH_MAX];		/* our directory in it */
	char		 base[PATH_MAX];	/* the same; where that is the leaf of some zfpm: what it was started in */
	bool		 read_only;
};

struct busy {			/* a cgroup that could not be removed yet */
	struct busy	*next;
	int64_t		 since_ms;
	char		 dir[];
};

static struct tree	 tree;			/* where we are; base is where we were started */
static char		 ours[PATH_MAX];	/* base/zfpm-PID; empty: not known yet */
static bool		 done;			/* it is there, with all in its place */
static pid_t		 owner;			/* the process that puts it back; 0: none yet */
static struct busy	*busy;

/* Fill in err; always -1, for `return`. */
__attribute__((format(printf, 3, 4)))
static int
fail(char *err, size_t size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, size, fmt, ap);
	va_end(ap);
	return -1;
}

/* ---- files ------------------------------------------------------------------------------- */

/* a and b, one behind the other. 0, or -1 with errno. */
static int
join(char *buf, size_t size, const char *a, const char *b)
{
	int n = snprintf(buf, size, "%s%s", a, b);

	if (n >= 0 && (size_t)n < size)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

/* Open the file called name in a directory. A descriptor, or -1 with errno. */
static int
open_in(const char *dir, const char *name, int flags)
{
	char path[PATH_MAX], slash[NAME_MAX + 2];

	if (join(slash, sizeof(slash), "/", name) == -1 || join(path, sizeof(path), dir, slash) == -1)
		return -1;
	return open(path, flags | O_CLOEXEC);
}

static FILE *
read_in(const char *dir, const char *name)
{
	FILE *f;
	int fd;

	if ((fd = open_in(dir, name, O_RDONLY)) == -1)
		return NULL;
	if ((f = fdopen(fd, "r")) == NULL)
		close(fd);
	return f;
}

/* Write a text at once, as these files want it, and close. 0, or -1 with errno. */
static int
put_close(int fd, const char *text)
{
	size_t len = strlen(text);
	ssize_t n;
	int error;

	if (fd == -1)
		return -1;
	do
		n = write(fd, text, len);
	while (n == -1 && errno == EINTR);
	error = n == -1 ? errno : EIO;
	close(fd);
	errno = error;
	return n == (ssize_t)len ? 0 : -1;
}

/* The names of a line like `cpu io memory`, one after the other; NULL at the end. */
static char *
next_word(char **line)
{
	char *word = *line + strspn(*line, " \n"), *end = word + strcspn(word, " \n");

	if (word == end)
		return NULL;
	*line = *end == '\0' ? end : end + 1;
	*end = '\0';
	return word;
}

/* The controllers in a file: those that a cgroup can pass on, or does; in a static buffer, for next_word(). */
static char *
controllers(const char *dir, const char *name)
{
	static char line[1024];
	FILE *f;

	line[0] = '\0';
	if ((f = read_in(dir, name)) != NULL) {
		if (fgets(line, sizeof(line), f) == NULL)
			line[0] = '\0';
		fclose(f);
	}
	return line;
}

/* Pass on all the controllers that there are, each by itself: one that can not be is missed by those who use its keys. */
static void
pass_on(const char *dir)
{
	char *line = controllers(dir, "cgroup.controllers"), *word, text[80];

	while ((word = next_word(&line)) != NULL) {
		if (join(text, sizeof(text), "+", word) == -1)
			continue;
		if (put_close(open_in(dir, "cgroup.subtree_control", O_WRONLY), text) == -1)
			log_debug("cgroup %s: controller %s: %s", dir, word, strerror(errno));
	}
}

/* Pass on none any more, but for those that somebody below passes on too. */
static void
hold_back(const char *dir)
{
	char *line = controllers(dir, "cgroup.subtree_control"), *word, text[80];

	while ((word = next_word(&line)) != NULL)
		if (join(text, sizeof(text), "-", word) == 0)
			put_close(open_in(dir, "cgroup.subtree_control", O_WRONLY), text);
}

/* ---- where we are ---------------------------------------------------------------------------- */

/* Take /zfpm-PID/zfpm off the end of a path, if it is there. */
static void
strip_leaf(char *path)
{
	size_t len = strlen(path), leaf_len = strlen("/" LEAF), ours_len = strlen("/" OURS), digits;

	if (len < leaf_len || strcmp(path + len - leaf_len, "/" LEAF) != 0)
		return;
	len -= leaf_len;
	for (digits = 0; len > 0 && isdigit((unsigned char)path[len - 1]); digits++)
		len--;
	if (digits > 0 && len >= ours_len && strncmp(path + len - ours_len, "/" OURS, ours_len) == 0)
		path[len - ours_len] = '\0';
}

/* Our place in the tree, as the kernel writes it. 0, or -1 with the reason in err. */
static int
find_path(char *path, size_t path_size, char *err, size_t size)
{
	char line[PATH_MAX + 8];
	FILE *f;
	int found = -1;

	if ((f = fopen("/proc/self/cgroup", "r")) == NULL)
		return fail(err, size, "/proc/self/cgroup: %s", strerror(errno));
	while (found == -1 && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "0::/", 4) == 0)
			found = join(path, path_size, line + 3, "");
	}
	fclose(f);
	if (found == -1)
		return fail(err, size, "the system has no cgroup v2");
	if (strncmp(path, "/..", 3) == 0)
		return fail(err, size, "our cgroup is outside of the tree that can be seen here");
	return 0;
}

/* mountinfo writes blanks and backslashes as \ooo. */
static void
unescape(char *s)
{
	char *to = s;

	for (; *s != '\0'; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

static bool
has_option(const char *options, const char *name)
{
	size_t len = strlen(name);

	for (;; options++) {
		if (strncmp(options, name, len) == 0 && (options[len] == ',' || options[len] == '\0'))
			return true;
		if ((options = strchr(options, ',')) == NULL)
			return false;
	}
}

/* Is this line of mountinfo a cgroup2 tree with us in it? Then it is in *t. */
static bool
take_mount(struct tree *t, char *line, const char *path)
{
	static struct tree new;
	char below[PATH_MAX], *field[6], *tail, *super, *p = line;
	size_t i, len;
	int fd;

	/* ID PARENT DEVICE ROOT MOUNTPOINT OPTIONS [...] - TYPE SOURCE SUPEROPTIONS */
	line[strcspn(line, "\n")] = '\0';
	if ((tail = strstr(line, " - ")) == NULL || strncmp(tail, " - cgroup2 ", strlen(" - cgroup2 ")) != 0)
		return false;
	*tail = '\0';
	super = strrchr(tail + 1, ' ') + 1;
	for (i = 0; i < 6; i++)
		if ((field[i] = next_word(&p)) == NULL)
			return false;
	unescape(field[3]);
	unescape(field[4]);
	/* Only a part of the tree may be mounted. */
	len = strcmp(field[3], "/") == 0 ? 0 : strlen(field[3]);
	if (strncmp(path, field[3], len) != 0 || (path[len] != '/' && path[len] != '\0'))
		return false;
	path += len;
	if (join(below, sizeof(below), strcmp(path, "/") == 0 ? "" : path, "") == -1)
		return false;
	if (join(new.mount, sizeof(new.mount), field[4], "") == -1 || join(new.own, sizeof(new.own), field[4], below) == -1)
		return false;
	strip_leaf(below);
	if (join(new.base, sizeof(new.base), field[4], below) == -1)
		return false;
	new.read_only = has_option(field[5], "ro") || has_option(super, "ro");
	/* Something else may be mounted over it. */
	if ((fd = open_in(new.base, "cgroup.procs", O_RDONLY)) == -1)
		return false;
	close(fd);
	*t = new;
	return true;
}

/* Find the tree, one that can be written if there are several, and our place in it. 0, or -1 with the reason in err. */
static int
find_tree(struct tree *t, char *err, size_t size)
{
	char path[PATH_MAX], *line = NULL;
	size_t room = 0;
	bool found = false;
	FILE *f;

	if (find_path(path, sizeof(path), err, size) == -1)
		return -1;
	if ((f = fopen("/proc/self/mountinfo", "r")) == NULL)
		return fail(err, size, "/proc/self/mountinfo: %s", strerror(errno));
	while ((!found || t->read_only) && getline(&line, &room, f) != -1)
		if (take_mount(t, line, path))
			found = true;
	free(line);
	fclose(f);
	if (!found)
		return fail(err, size, "no cgroup v2 tree (file system cgroup2) is mounted");
	return 0;
}

/* ---- zfpm -t ----------------------------------------------------------------------------------- */

static bool
is_controller(const char *dir, const char *name, size_t len)
{
	char *line = controllers(dir, "cgroup.controllers"), *word;

	while ((word = next_word(&line)) != NULL)
		if (strlen(word) == len && strncmp(word, name, len) == 0)
			return true;
	return false;
}

/* Is a controller in the hands of cgroup v1? */
static bool
is_old(const char *name, size_t len)
{
	char line[PATH_MAX + 8], list[128], want[64];
	bool old = false;
	FILE *f;

	snprintf(want, sizeof(want), "%.*s", (int)len, name);
	if (strcmp(want, "io") == 0)
		snprintf(want, sizeof(want), "blkio");
	if ((f = fopen("/proc/self/cgroup", "r")) == NULL)
		return false;
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "%*d:%127[^:]:", list) == 1)
			old = old || has_option(list, want);
	fclose(f);
	return old;
}

int
cgroup_check(const struct conf *conf, char *err, size_t size)
{
	const struct conf_cgroup *c;
	static struct tree all;
	bool found = false;
	size_t len;
	int i;

	for (i = 0; i < conf->npools; i++) {
		for (c = conf->pools[i]->cgroups; c != NULL; c = c->next) {
			if (!found && find_tree(&all, err, size) == -1)
				return -1;
			found = true;
			if (all.read_only)
				return fail(err, size, "the cgroup v2 tree is mounted read-only at %s", all.mount);
			/* Of the whole tree: we need not be in the cgroup that zfpm will be in. */
			len = strcspn(c->key, ".");
			if (strncmp(c->key, "cgroup.", 7) == 0 || is_controller(all.mount, c->key, len))
				continue;
			return fail(err, size, "pool %s: cgroup %s: the cgroup v2 tree at %s has no controller '%.*s'%s", conf->pools[i]->name,
			    c->key, all.mount, (int)len, c->key, is_old(c->key, len) ? ": cgroup v1 has it" : "");
		}
	}
	return 0;
}

/* ---- in the master --------------------------------------------------------------------------------- */

/* Set tree and ours. */
static int
find_ours(char *err, size_t size)
{
	char name[40];

	if (find_tree(&tree, err, size) == -1)
		return -1;
	if (tree.read_only)
		return fail(err, size, "the cgroup v2 tree is mounted read-only at %s (systemd: Delegate=yes, ProtectControlGroups=no)", tree.mount);
	snprintf(name, sizeof(name), "/" OURS "%ld", (long)getpid());
	if (join(ours, sizeof(ours) - sizeof("/" POOL) - NAME_MAX, tree.base, name) == -1) {
		ours[0] = '\0';
		return fail(err, size, "%s: %s", tree.base, strerror(ENAMETOOLONG));
	}
	return 0;
}

/* Remove what is left of zfpm-PID, as far as no process is in it. */
static void
remove_all(const char *dir)
{
	char path[PATH_MAX];
	struct dirent *e;
	DIR *d;

	if ((d = opendir(dir)) == NULL)
		return;
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.' && join(path, sizeof(path), dir, "/") == 0 && strlen(path) + strlen(e->d_name) < sizeof(path)) {
			strcat(path, e->d_name);
			rmdir(path);	/* the kernel's own files, and what is in use, withstand that */
		}
	closedir(d);
	rmdir(dir);
}

/* Remove what earlier masters have left that died without a chance to. */
static void
remove_stale(void)
{
	char path[PATH_MAX];
	struct dirent *e;
	char *end;
	long pid;
	DIR *d;

	if ((d = opendir(tree.base)) == NULL)
		return;
	while ((e = readdir(d)) != NULL) {
		if (strncmp(e->d_name, OURS, strlen(OURS)) != 0 || !isdigit((unsigned char)e->d_name[strlen(OURS)]))
			continue;
		errno = 0;
		pid = strtol(e->d_name + strlen(OURS), &end, 10);
		if (*end != '\0' || errno != 0 || pid <= 0 || pid > INT_MAX)
			continue;
		/* One with our own number can only be ours from before an upgrade, or stale. */
		if (pid != (long)getpid() && (kill((pid_t)pid, 0) == 0 || errno != ESRCH))
			continue;
		if (join(path, sizeof(path), tree.base, "/") == 0 && strlen(path) + strlen(e->d_name) < sizeof(path)) {
			strcat(path, e->d_name);
			remove_all(path);
		}
	}
	closedir(d);
}

static bool
is_child(const char *pid)
{
	char dir[64], line[512], *end = NULL;
	long parent = 0;
	FILE *f;

	/* PID (NAME) STATE PARENT ...; a name can be anything. */
	if (join(dir, sizeof(dir), "/proc/", pid) == -1 || (f = read_in(dir, "stat")) == NULL)
		return false;
	if (fgets(line, sizeof(line), f) != NULL && (end = strrchr(line, ')')) != NULL && end[1] == ' ' && end[2] != '\0')
		parent = strtol(end + 3, NULL, 10);
	fclose(f);
	return parent == (long)getpid();
}

/* Move the processes of a cgroup, all or our children, into another. 0, or -1 with the reason in err. */
static int
move(const char *from, const char *to, bool all, char *err, size_t size)
{
	char pid[32];
	int tries, n = 1, moved = 0, error = EBUSY;
	FILE *f;

	for (tries = 0; n > 0 && tries < MOVE_TRIES; tries++) {
		n = 0;
		if ((f = read_in(from, "cgroup.procs")) == NULL)
			return fail(err, size, "%s/cgroup.procs: %s", from, strerror(errno));
		while (fgets(pid, sizeof(pid), f) != NULL) {
			pid[strcspn(pid, "\n")] = '\0';
			if (!all && !is_child(pid))
				continue;
			n++;
			/* 0 here is a process that is not to be seen in our namespace, and there means ourselves. */
			if (strcmp(pid, "0") == 0)
				error = EPERM;
			else if (put_close(open_in(to, "cgroup.procs", O_WRONLY), pid) == 0)
				moved++;
			else if (errno != ESRCH)
				error = errno;
		}
		fclose(f);
	}
	if (n > 0)
		return fail(err, size, "%s: %d processes can not be moved: %s", from, n, strerror(error));
	if (moved > 0)
		log_info("cgroup: %d processes are now in %s", moved, to);
	return 0;
}

/* The root of the tree, which has no type, may hold processes and pass controllers on. */
static bool
is_root(const char *dir)
{
	int fd;

	if ((fd = open_in(dir, "cgroup.type", O_RDONLY)) == -1)
		return errno == ENOENT;
	close(fd);
	return false;
}

/*
 * At exit: leave all as it was found, as far as nobody else is there: the kernel refuses what would touch another zfpm.
 * The root of the tree keeps its controllers: others may use them by now.
 */
static void
put_back(void)
{
	int64_t end_ms = os_now_ms() + END_MS;
	char leaf[PATH_MAX];

	if (getpid() != owner)
		return;
	while (cgroup_sweep() > 0 && os_now_ms() < end_ms)
		poll(NULL, 0, 10);
	if (!is_root(tree.base)) {
		hold_back(ours);
		hold_back(tree.base);
		put_close(open_in(tree.base, "cgroup.procs", O_WRONLY), "0");
		if (join(leaf, sizeof(leaf), ours, "/" LEAF) == 0)
			rmdir(leaf);
	}
	rmdir(ours);
}

int
cgroup_init(char *err, size_t size)
{
	char leaf[PATH_MAX];

	if (done)
		return 0;
	if (find_ours(err, size) == -1)
		return -1;
	if (mkdir(ours, 0755) == -1 && errno != EEXIST)
		return fail(err, size, "%s: %s", ours, strerror(errno));
	if (owner == 0 && atexit(put_back) == 0)
		owner = getpid();
	/* In the root we stay where we are, and with us all the others. */
	if (!is_root(tree.base)) {
		if (join(leaf, sizeof(leaf), ours, "/" LEAF) == -1)
			return fail(err, size, "%s: %s", ours, strerror(errno));
		if (mkdir(leaf, 0755) == -1 && errno != EEXIST)
			return fail(err, size, "%s: %s", leaf, strerror(errno));
		if (put_close(open_in(leaf, "cgroup.procs", O_WRONLY), "0") == -1)
			return fail(err, size, "%s/cgroup.procs: %s", leaf, strerror(errno));
		/* In another zfpm's leaf only what is ours is moved; in ours, after an upgrade, all is in its place. */
		if (strcmp(tree.own, tree.base) != 0 && strcmp(tree.own, leaf) != 0 && move(tree.own, leaf, false, err, size) == -1)
			return -1;
		if (move(tree.base, leaf, true, err, size) == -1)
			return -1;
	}
	remove_stale();	/* we may have been started in what an earlier one left */
	pass_on(tree.base);
	pass_on(ours);
	done = true;
	return 0;
}

/* ---- pools --------------------------------------------------------------------------------------------- */

/*
 * The directory of a pool. A name that leaves no room for the prefix needs none: none of the kernel's own files has one that
 * long, and no prefixed name is like it, for @ is in no pool's name.
 */
static int
pool_dir(char *buf, size_t size, const char *name)
{
	char entry[NAME_MAX + sizeof("/" POOL)];

	snprintf(entry, sizeof(entry), "/%s%s", strlen(POOL) + strlen(name) <= NAME_MAX ? POOL : "", name);
	return join(buf, size, ours, entry);
}

/* Fill in *err; always -1, for `return`. */
__attribute__((format(printf, 2, 3)))
static int
refuse(struct spawn_error *err, const char *fmt, ...)
{
	va_list ap;

	snprintf(err->step, sizeof(err->step), "cgroup");
	va_start(ap, fmt);
	vsnprintf(err->reason, sizeof(err->reason), fmt, ap);
	va_end(ap);
	return -1;
}

/* Set the keys of a cgroup, and enter it. 0, or -1 with *err and errno. */
static int
set_and_enter(const char *dir, const struct conf_pool *pool, const char *name, struct spawn_error *err)
{
	const struct conf_cgroup *c;
	char value[PATH_MAX];
	int error;

	for (c = pool->cgroups; c != NULL; c = c->next) {
		if (conf_expand(value, sizeof(value), c->value, pool, name) == -1) {
			refuse(err, "%s: %s", c->key, strerror(ENAMETOOLONG));
			errno = ENAMETOOLONG;
			return -1;
		}
		if (put_close(open_in(dir, c->key, O_WRONLY), value) == 0)
			continue;
		error = errno;
		if (error == ENOENT)
			refuse(err, "%s: %s: its controller is not there, or zfpm's own cgroup does not get it", c->key, strerror(error));
		else
			refuse(err, "%s '%.80s': %s", c->key, value, strerror(error));
		errno = error;
		return -1;
	}
	if (put_close(open_in(dir, "cgroup.procs", O_WRONLY), "0") == 0)
		return 0;
	error = errno;
	refuse(err, "cgroup.procs: %s", strerror(error));
	errno = error;
	return -1;
}

int
cgroup_enter(const struct conf_pool *pool, const char *name, struct spawn_error *err)
{
	char dir[PATH_MAX];
	int tries, error;

	if (ours[0] == '\0')
		return refuse(err, "there is no cgroup for the pools");
	if (pool_dir(dir, sizeof(dir), name) == -1)
		return refuse(err, "%s", strerror(errno));
	for (tries = 0; tries < ENTER_TRIES; tries++) {
		if (mkdir(dir, 0755) == -1 && errno != EEXIST) {
			if (errno != ENOENT)
				return refuse(err, "mkdir: %s", strerror(errno));
			/* The last pool before has taken that with it. */
			if (mkdir(ours, 0755) == -1 && errno != EEXIST)
				return refuse(err, "mkdir: %s", strerror(errno));
			pass_on(ours);
			refuse(err, "mkdir: %s", strerror(ENOENT));
			continue;
		}
		if (set_and_enter(dir, pool, name, err) == 0)
			return 0;
		/* It may have been removed meanwhile, with the last process before; or a controller has come, or gone and come back. */
		error = errno;
		if ((error != ENOENT && error != ENODEV) || (tries > 0 && access(dir, F_OK) == 0))
			return -1;
		pass_on(tree.base);
		pass_on(ours);
	}
	return -1;
}

/* ---- the end of a pool --------------------------------------------------------------------------------- */

static bool
is_in(const char *dir, long pid)
{
	bool found = false;
	char line[32];
	FILE *f;

	if ((f = read_in(dir, "cgroup.procs")) == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), f) != NULL)
		found = strtol(line, NULL, 10) == pid;
	fclose(f);
	return found;
}

/*
 * For kernels without cgroup.kill: signal each process by a handle that was taken before it was seen in there, so that
 * its number can not have become another's. What it forks meanwhile is met in the next turn.
 */
static void
kill_each(const char *dir)
{
	char line[32];
	int tries, n = 1, handle;
	long pid;
	FILE *f;

	for (tries = 0; n > 0 && tries < MOVE_TRIES; tries++) {
		n = 0;
		if ((f = read_in(dir, "cgroup.procs")) == NULL)
			return;
		while (fgets(line, sizeof(line), f) != NULL) {
			if ((pid = strtol(line, NULL, 10)) <= 1 || pid > INT_MAX)
				continue;
			n++;
			if ((handle = os_process_open((pid_t)pid)) == -1) {
				if (errno == ENOSYS && is_in(dir, pid))
					kill((pid_t)pid, SIGKILL);
				continue;
			}
			if (is_in(dir, pid))
				os_process_signal(handle, SIGKILL);
			close(handle);
		}
		fclose(f);
	}
}

/* Remove a cgroup, and with the last one what they were in, if zfpm itself is not there. False: it is busy. */
static bool
removed(const char *dir)
{
	if (rmdir(dir) == -1 && errno == EBUSY)
		return false;
	rmdir(ours);
	return true;
}

void
cgroup_leave(const char *name)
{
	static bool looked;
	char dir[PATH_MAX], err[TEXT_LEN];
	struct busy *b;

	/* Not known after an upgrade to a configuration that has no use for it. */
	if (ours[0] == '\0' && !looked)
		find_ours(err, sizeof(err));
	looked = true;
	if (ours[0] == '\0')
		return;
	if (pool_dir(dir, sizeof(dir), name) == -1 || access(dir, F_OK) == -1)
		return;
	if (removed(dir))
		return;
	if (put_close(open_in(dir, "cgroup.kill", O_WRONLY), "1") == -1)
		kill_each(dir);
	if (removed(dir))
		return;
	for (b = busy; b != NULL; b = b->next)
		if (strcmp(b->dir, dir) == 0)
			break;
	if (b == NULL) {
		if ((b = malloc(sizeof(*b) + strlen(dir) + 1)) == NULL)
			return;
		strcpy(b->dir, dir);
		b->next = busy;
		busy = b;
	}
	b->since_ms = os_now_ms();
}

int
cgroup_sweep(void)
{
	struct busy **where = &busy, *b;
	int64_t now_ms = busy != NULL ? os_now_ms() : 0;
	int left = 0;

	while ((b = *where) != NULL) {
		/* Nothing is killed here: in what is busy the pool's next worker may be. */
		if (removed(b->dir) || now_ms - b->since_ms > SWEEP_MS) {
			*where = b->next;
			free(b);
			continue;
		}
		where = &b->next;
		left++;
	}
	return left;
}
