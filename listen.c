/*
 * listen.c: root. The listening sockets, across reloads and upgrades.
 *
 * Owns every descriptor that web servers connect to, whether we have bound it,
 * the service manager has passed it, or the program before an upgrade has left
 * it. Never accepts from one: that is the routers' part.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <arpa/inet.h>
#include <netinet/in.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#define PASSED_FIRST	3	/* where the service manager begins to count */

/* A socket that was there before us and that no listener has taken yet. */
struct given {
	int		 fd;	/* -1: taken */
	struct sockaddr_storage sa;
	bool		 passed;	/* by the service manager; else it is ours, and so is its path */
};

static struct given	*given;
static int		 ngiven;

/* ---- addresses --------------------------------------------------------------------- */

/* One by one what makes an address: the rest of the structs need not be the same. */
static bool
same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_un *au = (const struct sockaddr_un *)a, *bu = (const struct sockaddr_un *)b;
	const struct sockaddr_in *a4 = (const struct sockaddr_in *)a, *b4 = (const struct sockaddr_in *)b;
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a, *b6 = (const struct sockaddr_in6 *)b;

	if (a->ss_family != b->ss_family)
		return false;
	switch (a->ss_family) {
	case AF_UNIX:
		return strncmp(au->sun_path, bu->sun_path, sizeof(au->sun_path)) == 0;
	case AF_INET:
		return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	case AF_INET6:
		return a6->sin6_port == b6->sin6_port && a6->sin6_scope_id == b6->sin6_scope_id &&
		    memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0;
	default:
		return false;
	}
}

/* As it would stand in zfpm.conf. */
static void
put_address(const struct sockaddr_storage *sa, char *buf, size_t size)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)sa;
	const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
	char host[INET6_ADDRSTRLEN];

	switch (sa->ss_family) {
	case AF_UNIX:
		if (un->sun_path[0] == '\0')
			snprintf(buf, size, "a Unix socket without a path");
		else
			snprintf(buf, size, "%.*s", (int)sizeof(un->sun_path), un->sun_path);
		break;
	case AF_INET:
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(buf, size, "%s:%d", host, ntohs(in->sin_port));
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(buf, size, "[%s]:%d", host, ntohs(in6->sin6_port));
		break;
	default:
		snprintf(buf, size, "address family %d", sa->ss_family);
		break;
	}
}

static struct conf_listen *
find(const struct conf *conf, const struct conf_listen *wanted)
{
	struct conf_listen *l;

	for (l = conf == NULL ? NULL : conf->listens; l != NULL; l = l->next)
		if (l->fd != -1 && same_address(&l->sa, &wanted->sa))
			return l;
	return NULL;
}

/* ---- sockets that are there already -------------------------------------------------- */

static bool
int_option(int fd, int option, int wanted)
{
	socklen_t len = sizeof(int);
	int value;

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 && value == wanted;
}

int
listen_adopt(int fd, bool passed)
{
	struct given *grown, *g;
	socklen_t len = sizeof(g->sa);
	int flags;

	if (!int_option(fd, SO_TYPE, SOCK_STREAM) || !int_option(fd, SO_ACCEPTCONN, 1)) {
		errno = EINVAL;
		return -1;
	}
	if ((flags = fcntl(fd, F_GETFL)) == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) == -1)
		return -1;
	if ((grown = realloc(given, (size_t)(ngiven + 1) * sizeof(*given))) == NULL)
		return -1;
	given = grown;
	g = &given[ngiven];
	memset(g, 0, sizeof(*g));
	if (getsockname(fd, (struct sockaddr *)&g->sa, &len) == -1)
		return -1;
	g->fd = fd;
	g->passed = passed;
	ngiven++;
	return 0;
}

/* A number in the environment, from 1 on; 0: none. */
static long
env_number(const char *name)
{
	const char *s = getenv(name);
	char *end;
	long n;

	if (s == NULL || *s < '0' || *s > '9')
		return 0;
	errno = 0;
	n = strtol(s, &end, 10);
	return errno != 0 || *end != '\0' ? 0 : n;
}

int
listen_passed(void)
{
	long n, max = sysconf(_SC_OPEN_MAX);
	int fd;

	n = env_number("LISTEN_PID") == (long)getpid() ? env_number("LISTEN_FDS") : 0;
	/* They are meant for us: whatever we start, an upgraded zfpm too, shall not take other descriptors for these. */
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (max == -1 || max > INT_MAX)
		max = INT_MAX;
	if (n > max - PASSED_FIRST)
		n = 0;	/* so many there can not be */
	for (fd = PASSED_FIRST; fd < PASSED_FIRST + n; fd++)
		if (listen_adopt(fd, true) == -1) {
			log_warnx("LISTEN_FDS: descriptor %d is no listening stream socket; closed", fd);
			close(fd);
		}
	return (int)n;
}

static struct given *
find_given(const struct conf_listen *l)
{
	int i;

	for (i = 0; i < ngiven; i++)
		if (given[i].fd != -1 && same_address(&given[i].sa, &l->sa))
			return &given[i];
	return NULL;
}

/* What no listener has taken is of no use any more. */
static void
drop_given(void)
{
	char address[sizeof(struct sockaddr_un) + 64];
	struct given *g;

	for (g = given; g < given + ngiven; g++) {
		if (g->fd == -1)
			continue;
		put_address(&g->sa, address, sizeof(address));
		if (g->passed)
			log_warnx("LISTEN_FDS: descriptor %d (%s) matches no listen; closed", g->fd, address);
		close(g->fd);
		if (!g->passed && g->sa.ss_family == AF_UNIX && address[0] == '/')
			unlink(address);
	}
	free(given);
	given = NULL;
	ngiven = 0;
}

/* ---- sockets of our own ---------------------------------------------------------------- */

int
listen_clear(const struct sockaddr_storage *sa, socklen_t len, int type, char *err, size_t size)
{
	const char *path = ((const struct sockaddr_un *)sa)->sun_path;
	struct stat st;
	int fd, error;

	if (lstat(path, &st) == -1)
		return 0;	/* whatever else is wrong with it, bind() says better */
	if (!S_ISSOCK(st.st_mode)) {
		snprintf(err, size, "exists and is no socket");
		return -1;
	}
	if ((fd = os_socket(AF_UNIX, type)) == -1) {
		snprintf(err, size, "socket: %s", strerror(errno));
		return -1;
	}
	error = connect(fd, (const struct sockaddr *)sa, len) == 0 ? 0 : errno;
	close(fd);
	if (error == ECONNREFUSED)	/* nothing else says that nobody listens */
		error = unlink(path) == 0 ? ENOENT : errno;
	if (error == ENOENT)
		return 0;
	/* A full queue, or a socket of another type, is somebody's too. */
	if (error == 0 || error == EAGAIN || error == EPROTOTYPE)
		snprintf(err, size, "another process listens there");
	else
		snprintf(err, size, "%s", strerror(error));
	return -1;
}

/* Owner, group and mode of a Unix socket that listens already. from: what it had; NULL: not known. 0 or -1 with errno. */
static int
set_access(const struct conf_listen *l, const struct conf_listen *from)
{
	uid_t uid = l->uid;
	gid_t gid = l->gid;
	struct stat st;

	if (l->sa.ss_family != AF_UNIX)
		return 0;
	if (from != NULL) {
		if (l->uid == from->uid && l->gid == from->gid && l->mode == from->mode)
			return 0;
		/* What is not said any more is again as it is in a new one. */
		if (uid == (uid_t)-1 && from->uid != (uid_t)-1 && !l->passed)
			uid = geteuid();
		if (gid == (gid_t)-1 && from->gid != (gid_t)-1 && !l->passed)
			gid = getegid();
	}
	if (lstat(l->address, &st) == -1)
		return -1;
	if (!S_ISSOCK(st.st_mode)) {
		errno = ENOTSOCK;
		return -1;
	}
	/* In between nobody can connect who may not either before or afterwards. */
	if (chmod(l->address, l->mode & st.st_mode) == -1 || chown(l->address, uid, gid) == -1 || chmod(l->address, l->mode) == -1)
		return -1;
	return 0;
}

/* Bind and listen. Returns 0, or -1 with the reason in err and nothing left behind. */
static int
open_new(struct conf_listen *l, char *err, size_t size)
{
	char reason[128];
	mode_t mask;
	int bound, on = 1, saved;

	if (l->sa.ss_family == AF_UNIX && listen_clear(&l->sa, l->sa_len, SOCK_STREAM, reason, sizeof(reason)) == -1) {
		snprintf(err, size, "listen %s: %s", l->address, reason);
		return -1;
	}
	if ((l->fd = os_socket(l->sa.ss_family, SOCK_STREAM)) == -1) {
		snprintf(err, size, "listen %s: socket: %s", l->address, strerror(errno));
		return -1;
	}
	if (l->sa.ss_family != AF_UNIX)
		setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	l->passed = false;
	/* Nobody can connect before owner and mode are as configured. */
	mask = umask(0777);
	bound = bind(l->fd, (struct sockaddr *)&l->sa, l->sa_len);
	umask(mask);
	if (bound == -1 || set_access(l, NULL) == -1 || listen(l->fd, SOMAXCONN) == -1) {
		saved = errno;
		snprintf(err, size, "listen %s: %s", l->address, strerror(saved));
		close(l->fd);
		l->fd = -1;
		if (bound == 0 && l->sa.ss_family == AF_UNIX)
			unlink(l->address);
		return -1;
	}
	return 0;
}

static void
close_one(struct conf_listen *l)
{
	if (l->fd == -1)
		return;
	close(l->fd);
	l->fd = -1;
	if (l->sa.ss_family == AF_UNIX && !l->passed)
		unlink(l->address);
}

/* ---- all of a configuration -------------------------------------------------------------- */

void
listen_undo(struct conf *conf, struct conf *old)
{
	struct conf_listen *l, *o;
	int i;

	for (l = conf->listens; l != NULL; l = l->next) {
		if (l->fd == -1)
			continue;
		if ((o = find(old, l)) != NULL) {
			set_access(o, l);
			l->fd = -1;
			continue;
		}
		for (i = 0; i < ngiven && !same_address(&given[i].sa, &l->sa); i++)
			;
		if (i < ngiven) {
			given[i].fd = l->fd;
			l->fd = -1;
		} else {
			close_one(l);
		}
	}
}

int
listen_open(struct conf *conf, struct conf *old, char *err, size_t size)
{
	struct conf_listen *l, *o;
	struct given *g;

	for (l = conf->listens; l != NULL; l = l->next)
		l->fd = -1;
	/* First what is most likely to fail and disturbs nobody: new ones. */
	for (l = conf->listens; l != NULL; l = l->next)
		if (find(old, l) == NULL && find_given(l) == NULL && open_new(l, err, size) == -1) {
			listen_undo(conf, old);
			return -1;
		}
	for (l = conf->listens; l != NULL; l = l->next) {
		if (l->fd != -1)
			continue;
		if ((o = find(old, l)) != NULL) {
			l->fd = o->fd;
			l->passed = o->passed;
		} else {
			g = find_given(l);
			l->fd = g->fd;
			l->passed = g->passed;
			g->fd = -1;
		}
		if (set_access(l, o) == -1) {
			snprintf(err, size, "listen %s: %s", l->address, strerror(errno));
			listen_undo(conf, old);
			return -1;
		}
	}
	drop_given();
	return 0;
}

void
listen_commit(struct conf *conf, struct conf *old)
{
	struct conf_listen *o;

	for (o = old->listens; o != NULL; o = o->next) {
		if (find(conf, o) != NULL)
			o->fd = -1;
		else
			close_one(o);
	}
}

void
listen_close(struct conf *conf)
{
	struct conf_listen *l;

	for (l = conf->listens; l != NULL; l = l->next)
		close_one(l);
}
