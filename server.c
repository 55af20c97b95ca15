/*
 * server.c: the router's side of app servers: connections to them, and messages there and back.
 *
 * Owns what is known of the living app servers and the format of what is said (forkserver.h). Decides nothing: router.c
 * acts on what an app server says, pool.c on what that means for a worker. An app server runs as a tenant, so what it
 * says is checked where it is used, and it can not make anybody wait.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#define SERVER_HASH	1024		/* a power of two */

static struct server	*server_hash[SERVER_HASH];
static uint32_t		 router;	/* our generation */

void
server_init(uint32_t generation)
{
	router = generation;
}

struct server *
server_new(uint32_t number, pid_t pid, struct pool *p, int app, int64_t now_ms)
{
	struct server *s;

	if ((s = calloc(1, sizeof(*s))) == NULL)
		return NULL;
	s->state = SERVER_NEW;
	s->number = number;
	s->pid = pid;
	s->start_ms = now_ms;
	s->pool = p;
	s->app = app;
	s->fd = s->slot = -1;
	s->errors.fd = -1;
	s->errors.pool = p;
	s->errors.pid = pid;
	s->errors.server = true;
	timeout_init(&s->timer, TIMER_SERVER);
	s->hash_next = server_hash[number % SERVER_HASH];
	server_hash[number % SERVER_HASH] = s;
	s->pool_next = p->servers;
	p->servers = s;
	return s;
}

struct server *
server_find(uint32_t number)
{
	struct server *s;

	for (s = server_hash[number % SERVER_HASH]; s != NULL; s = s->hash_next)
		if (s->number == number)
			return s;
	return NULL;
}

struct server *
server_after(const struct server *s)
{
	size_t i = 0;

	if (s != NULL) {
		if (s->hash_next != NULL)
			return s->hash_next;
		i = s->number % SERVER_HASH + 1;
	}
	for (; i < SERVER_HASH; i++)
		if (server_hash[i] != NULL)
			return server_hash[i];
	return NULL;
}

void
server_free(struct server *s)
{
	struct server **sp;

	for (sp = &server_hash[s->number % SERVER_HASH]; *sp != s; sp = &(*sp)->hash_next)
		;
	*sp = s->hash_next;
	for (sp = &s->pool->servers; *sp != s; sp = &(*sp)->pool_next)
		;
	*sp = s->pool_next;
	if (s->fd != -1)
		close(s->fd);
	timeout_remove(&s->timer);
	free(s);
}

void
server_attach(struct server *s, struct worker *w)
{
	w->forked = true;
	w->server = s;
	w->server_prev = NULL;
	w->server_next = s->workers;
	if (s->workers != NULL)
		s->workers->server_prev = w;
	s->workers = w;
}

void
server_detach(struct worker *w)
{
	struct server *s = w->server;

	if (s == NULL)
		return;
	if (w->server_prev != NULL)
		w->server_prev->server_next = w->server_next;
	else
		s->workers = w->server_next;
	if (w->server_next != NULL)
		w->server_next->server_prev = w->server_prev;
	s->forking -= w->forking;
	w->forking = false;
	w->server = NULL;
}

/* ---- what we say ------------------------------------------------------------------------- */

int
server_connect(char kind, uint32_t number)
{
	struct sockaddr_un sun;
	int error, fd;

	if ((fd = os_socket(AF_UNIX, SOCK_STREAM)) == -1)
		return -1;
	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	snprintf(sun.sun_path, sizeof(sun.sun_path), "/%c%lu", kind, (unsigned long)number);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == -1) {
		error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

/* Send a message, with a descriptor unless it is -1. 0, or -1 with errno (EAGAIN: there is no room). */
static int
put(int sock, const struct fs_msg *msg, int fd)
{
	union {
		struct cmsghdr	 align;
		char		 buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct cmsghdr *c;
	struct msghdr mh;
	struct iovec iov;
	ssize_t n;

	memset(&mh, 0, sizeof(mh));
	iov.iov_base = (void *)(uintptr_t)msg;
	iov.iov_len = sizeof(*msg);
	mh.msg_iov = &iov;
	mh.msg_iovlen = 1;
	if (fd != -1) {
		memset(&control, 0, sizeof(control));
		mh.msg_control = control.buf;
		mh.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	do
		n = sendmsg(sock, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n == -1 && errno == EINTR);
	if (n == (ssize_t)sizeof(*msg))
		return 0;
	if (n != -1)
		errno = EPIPE;		/* a part of a message can not be taken back */
	else if (errno == EWOULDBLOCK)
		errno = EAGAIN;
	return -1;
}

static int
say(const struct server *s, enum fs_type type, const struct worker *w, int value)
{
	struct fs_msg msg;

	memset(&msg, 0, sizeof(msg));
	msg.type = type;
	msg.router = router;
	msg.value = value;
	if (type == FS_HELLO)
		msg.ms = (int32_t)s->pool->conf->timeout_ms[TIMEOUT_KILL];
	if (w != NULL)
		msg.worker = w->number;
	return put(s->fd, &msg, -1);
}

/* Connect, for talking. 0, or -1 with errno. */
static int
begin(struct server *s)
{
	int error;

	if ((s->fd = server_connect('s', s->number)) == -1)
		return -1;
	if (say(s, FS_HELLO, NULL, FS_VERSION) == -1) {
		error = errno;
		close(s->fd);
		s->fd = -1;
		errno = error;
		return -1;
	}
	s->state = SERVER_STARTING;
	return 0;
}

/* Have a worker forked: with a connection, and with a pipe for what it says on its standard error. 0, or -1 with errno. */
static int
fork_worker(const struct server *s, struct worker *w)
{
	struct fs_msg msg;
	int error, fd, errors[2];

	if ((fd = server_connect('s', s->number)) == -1)
		return -1;
	if (os_pipe(errors) == -1) {
		error = errno;
		goto fail;
	}
	memset(&msg, 0, sizeof(msg));
	msg.type = FS_FORK;
	msg.router = router;
	msg.worker = w->number;
	if (fcntl(errors[0], F_SETFL, O_NONBLOCK) == -1 || put(fd, &msg, errors[1]) == -1) {
		error = errno;
		close(errors[0]);
		close(errors[1]);
		goto fail;
	}
	close(errors[1]);
	w->errors.fd = errors[0];
	w->links[0].fd = fd;
	return 0;
fail:
	close(fd);
	errno = error;
	return -1;
}

int
server_flush(struct server *s, struct worker **which)
{
	struct worker *w;

	*which = NULL;
	if (s->state == SERVER_LOST || s->state == SERVER_FAILED)
		return 0;
	if (s->state == SERVER_NEW && begin(s) == -1)
		return errno == EAGAIN ? 0 : -1;	/* more wait for it than it has taken: when there is something to say again */
	s->full = false;
	for (w = s->workers; w != NULL; w = w->server_next) {
		*which = w;
		if (w->wants_adopt) {
			if (say(s, FS_ADOPT, w, 0) == -1)
				goto fail;
			w->wants_adopt = false;
		}
		if (w->wants_fork) {
			if (fork_worker(s, w) == -1)
				return errno == EAGAIN ? 0 : -1;	/* too many at once: when it has forked another one */
			w->wants_fork = false;
		}
		if (w->wants_signal != 0) {
			if (say(s, FS_KILL, w, w->wants_signal) == -1)
				goto fail;
			w->wants_signal = 0;
		}
	}
	return 0;
fail:
	s->full = errno == EAGAIN;
	*which = NULL;
	return s->full ? 0 : -1;
}

void
server_release(struct worker *w)
{
	if (w->server->state == SERVER_STARTING || w->server->state == SERVER_READY)
		say(w->server, FS_RELEASE, w, 0);
}

/* ---- what it says ---------------------------------------------------------------------------- */

int
server_read(struct server *s, struct fs_msg *msg)
{
	ssize_t n;

	while (s->in_len < sizeof(s->in)) {
		/* Descriptors that it may send along are closed by the kernel: there is no room for them. */
		if ((n = recv(s->fd, s->in + s->in_len, sizeof(s->in) - s->in_len, MSG_DONTWAIT)) == 0) {
			errno = 0;
			return -1;
		}
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
		s->in_len += (size_t)n;
	}
	memcpy(msg, s->in, sizeof(*msg));
	msg->text[sizeof(msg->text) - 1] = '\0';
	s->in_len = 0;
	return 1;
}
