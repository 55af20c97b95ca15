/*
 * control.c: the control socket. Root's commands to a running zfpm: both of its ends.
 *
 * Owns how a connection is made, proved to be root's, and asked from the
 * command line. What a command does is master.c's; control.c decides nothing.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#define PAGE_ROOM	(1 << 20)	/* bytes of a status page under way; Linux' own limit */

/* 0, or -1 if the path is too long for a socket. */
static int
set_path(struct sockaddr_storage *sa, const char *path)
{
	struct sockaddr_un *sun = (struct sockaddr_un *)sa;

	memset(sa, 0, sizeof(*sa));
	if (strlen(path) >= sizeof(sun->sun_path))
		return -1;
	sun->sun_family = AF_UNIX;
	strcpy(sun->sun_path, path);
	return 0;
}

/* ---- the master's end ------------------------------------------------------------------ */

int
control_listen(const char *path, char *err, size_t size)
{
	struct sockaddr_storage sa;
	char reason[128];
	mode_t mask;
	int bound, fd;

	if (set_path(&sa, path) == -1) {
		snprintf(err, size, "control %s: too long for a socket", path);
		return -1;
	}
	if (listen_clear(&sa, sizeof(struct sockaddr_un), SOCK_SEQPACKET, reason, sizeof(reason)) == -1) {
		snprintf(err, size, "control %s: %s", path, reason);
		return -1;
	}
	if ((fd = os_socket(AF_UNIX, SOCK_SEQPACKET)) == -1) {
		snprintf(err, size, "control %s: socket: %s", path, strerror(errno));
		return -1;
	}
	mask = umask(0177);	/* never, not for a moment, anybody's but root's */
	bound = bind(fd, (struct sockaddr *)&sa, sizeof(struct sockaddr_un));
	umask(mask);
	if (bound == -1 || listen(fd, SOMAXCONN) == -1) {
		snprintf(err, size, "control %s: %s", path, strerror(errno));
		close(fd);
		if (bound == 0)
			unlink(path);
		return -1;
	}
	return fd;
}

int
control_accept(int fd)
{
	uid_t uid;
	int sock;

	while ((sock = os_accept(fd)) != -1) {
		if (os_peer_uid(sock, &uid) == -1)
			log_warn("control: peer");
		else if (uid != 0)
			log_warnx("control: refused, not root but user %ld", (long)uid);
		else
			return sock;
		close(sock);
	}
	return -1;
}

/* ---- the command's end ------------------------------------------------------------------- */

static const char *const command_names[] = {
	[CONTROL_STATUS] = "status",
	[CONTROL_RELOAD] = "reload",
	[CONTROL_REOPEN] = "reopen",
	[CONTROL_UPGRADE] = "upgrade",
	[CONTROL_STOP] = "stop",
	[CONTROL_QUIT] = "quit",
	[CONTROL_RETIRE] = "retire",
};

/* Say what went wrong on this side. */
static int
complain(const char *path, const char *what, const char *reason)
{
	fprintf(stderr, "zfpm: %s (control socket %s%s%s)\n", what, path, reason == NULL ? "" : ": ", reason == NULL ? "" : reason);
	return -1;
}

/* A connection to the zfpm of this control socket, or -1 and why not is said. */
static int
dial(const char *path)
{
	struct sockaddr_storage sa;
	uid_t uid;
	int error, fd;

	if (set_path(&sa, path) == -1)
		return complain(path, "zfpm can not be asked", "too long for a socket");
	/* One that blocks: a zfpm with a full queue of commands is busy, not absent. */
	if ((fd = socket(AF_UNIX, SOCK_SEQPACKET, 0)) == -1)
		return complain(path, "zfpm can not be asked", strerror(errno));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(struct sockaddr_un)) == -1) {
		error = errno;
		close(fd);
		if (error == EACCES || error == EPERM)
			return complain(path, "only root can do that", strerror(error));
		return complain(path, error == ENOENT || error == ECONNREFUSED ? "zfpm is not running" : "zfpm can not be asked",
		    strerror(error));
	}
	/* Who made the socket: a path that others can write must not lead us to them. */
	if (os_peer_uid(fd, &uid) == -1 || uid != 0) {
		close(fd);
		return complain(path, "zfpm can not be asked", "the socket is not root's");
	}
	return fd;
}

/*
 * Write it all. On a terminal nothing that came over the socket does anything but appear there, whoever may have had
 * a hand in it: a status page is written by the router. last is the byte before, for characters of two bytes. 0 or -1.
 */
static int
show(int fd, char *text, size_t len, unsigned char *last)
{
	unsigned char *s = (unsigned char *)text;
	bool terminal = isatty(fd) == 1;
	ssize_t n;
	size_t i;

	for (i = 0; i < len; i++) {
		if (terminal && ((s[i] < 0x20 && s[i] != '\n' && s[i] != '\t') || s[i] == 0x7f ||
		    (*last == 0xc2 && s[i] >= 0x80 && s[i] < 0xa0)))
			s[i] = '?';
		*last = s[i];
	}
	while (len > 0) {
		if ((n = write(fd, text, len)) == -1) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/* What one command has heard so far. */
struct hearing {
	int		 sock;		/* -1: it has ended */
	int		 page;		/* read end of the status page's pipe; -1: none, or all of it is shown */
	bool		 whole;		/* all of it came: a NUL stands at its end, and nowhere else */
	int		 status;	/* from MSG_DONE, -1 before */
	unsigned char	 last[2];	/* byte shown on standard output, standard error */
};

/* A message has come, or the end. 0, or -1 and what is wrong is said. */
static int
hear_message(struct hearing *h, const char *path)
{
	struct msg msg;
	int fd, n;

	if ((n = ipc_recv(h->sock, &msg, &fd)) == -1) {
		if (errno == EAGAIN)
			return 0;
		if (errno != ECONNRESET)
			return complain(path, "zfpm can not be understood", strerror(errno));
		n = 0;
	}
	if (fd != -1)
		close(fd);
	if (n == 0) {
		close(h->sock);
		h->sock = -1;
		return h->status != -1 ? 0 : complain(path, "zfpm ended before it had answered", NULL);
	}
	msg.text[sizeof(msg.text) - 1] = '\0';
	switch (msg.type) {
	case MSG_SAY:
		/* An output that takes nothing is no reason to leave before the command is done. */
		show(msg.value == 0 ? STDOUT_FILENO : STDERR_FILENO, msg.text, strlen(msg.text), &h->last[msg.value != 0]);
		return 0;
	case MSG_DONE:
		h->status = msg.value >= 0 && msg.value <= 255 ? msg.value : 1;
		return 0;
	default:
		return complain(path, "zfpm can not be understood", "unknown message");
	}
}

/* A piece of the status page, or its end. 0, or -1 and what is wrong is said. */
static int
hear_page(struct hearing *h)
{
	char buf[16384];
	ssize_t n;

	if ((n = read(h->page, buf, sizeof(buf))) == -1) {
		if (errno == EINTR)
			return 0;
		fprintf(stderr, "zfpm: status: %s\n", strerror(errno));
		return -1;
	}
	if (n == 0) {
		close(h->page);
		h->page = -1;
		return 0;
	}
	h->whole = buf[n - 1] == '\0';
	if (show(STDOUT_FILENO, buf, (size_t)n - h->whole, &h->last[0]) == -1) {
		fprintf(stderr, "zfpm: status: standard output: %s\n", strerror(errno));
		return -1;
	}
	return 0;
}

/* Send the command, the write end of a new pipe with it if there will be a page. 0, or -1 and what is wrong is said. */
static int
ask(struct hearing *h, const char *path, enum control_command command, const char *pool, int format)
{
	int page[2] = { -1, -1 }, n;
	struct msg msg;

	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_COMMAND;
	msg.value = (int32_t)command;
	snprintf(msg.text, sizeof(msg.text), "%s", pool == NULL ? "" : pool);
	if (command == CONTROL_STATUS) {
		msg.app = (uint32_t)format;
		if (os_pipe(page) == -1) {
			fprintf(stderr, "zfpm: pipe: %s\n", strerror(errno));
			return -1;
		}
		os_pipe_room(page[1], PAGE_ROOM);	/* most pages are written at once, without our having to take turns */
		h->page = page[0];
	}
	n = ipc_send(h->sock, &msg, page[1], true);
	if (page[1] != -1)
		close(page[1]);		/* its end is the end of the page */
	return n == 0 ? 0 : complain(path, "zfpm ended before it had answered", strerror(errno));
}

int
control_client(const char *path, enum control_command command, const char *pool, int format)
{
	struct hearing h = { -1, -1, false, -1, { 0, 0 } };
	bool until_end = command == CONTROL_STOP || command == CONTROL_QUIT;
	struct pollfd pfds[2];

	if ((h.sock = dial(path)) == -1 || ask(&h, path, command, pool, format) == -1)
		return 1;
	/* One that ends says so first and closes then, when its locks and sockets are free for the next one. */
	while (h.status == -1 || h.page != -1 || (until_end && h.status == 0 && h.sock != -1)) {
		pfds[0].fd = h.sock;
		pfds[1].fd = h.page;
		pfds[0].events = pfds[1].events = POLLIN;
		if (poll(pfds, 2, -1) == -1) {
			if (errno == EINTR)
				continue;
			fprintf(stderr, "zfpm: poll: %s\n", strerror(errno));
			return 1;
		}
		if (pfds[1].revents != 0 && hear_page(&h) == -1)
			return 1;
		if (pfds[0].revents != 0 && hear_message(&h, path) == -1)
			return 1;
	}
	if (command == CONTROL_STATUS && h.status == 0 && !h.whole) {
		complain(path, "the router ended before it had answered", NULL);
		return 1;
	}
	if (h.status != 0 && h.last[1] == 0)
		fprintf(stderr, "zfpm: %s: failed\n", command_names[command]);
	return h.status;
}
