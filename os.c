/*
 * os.c: all that POSIX.1-2008 lacks. Called from anywhere, calls nothing of ours.
 *
 * The only file compiled with more than POSIX in view. What only Linux has
 * comes with a portable way to do without.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#ifdef __linux__
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "zfpm.h"

extern char **environ;

int64_t
os_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int
os_set_groups(size_t n, const gid_t *gids)
{
	return setgroups(n, gids);
}

int
os_user_groups(const char *user, gid_t gid, gid_t *gids, int *n)
{
	return getgrouplist(user, gid, gids, n) == -1 ? -1 : 0;
}

int
os_chroot(const char *dir)
{
	return chroot(dir);
}

void
os_close_from(int first)
{
	long max;
	int fd;

#if defined(__linux__) && defined(SYS_close_range)
	if (syscall(SYS_close_range, (unsigned)first, ~0U, 0) == 0)
		return;
#endif
	if ((max = sysconf(_SC_OPEN_MAX)) == -1)
		max = 65536;
	for (fd = first; fd < max; fd++)
		close(fd);
}

int
os_peer_uid(int fd, uid_t *uid)
{
#ifdef SO_PEERCRED
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == -1)
		return -1;
	*uid = cred.uid;
	return 0;
#else
	gid_t gid;

	return getpeereid(fd, uid, &gid);
#endif
}

int
os_peek_on(int fd)
{
#ifdef SO_PEEK_OFF
	int offset = 0;

	return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset));
#else
	(void)fd;
	errno = ENOTSUP;
	return -1;
#endif
}

void
os_die_with_parent(pid_t parent, int sig)
{
#ifdef __linux__
	prctl(PR_SET_PDEATHSIG, sig, 0, 0, 0);
#else
	(void)sig;
#endif
	/* It may have died before the line above. */
	if (getppid() != parent)
		_exit(1);
}

int
os_process_open(pid_t pid)
{
#if defined(__linux__) && defined(SYS_pidfd_open)
	return (int)syscall(SYS_pidfd_open, pid, 0);	/* close-on-exec by itself */
#else
	(void)pid;
	errno = ENOSYS;
	return -1;
#endif
}

int
os_process_signal(int handle, int sig)
{
#if defined(__linux__) && defined(SYS_pidfd_send_signal)
	return (int)syscall(SYS_pidfd_send_signal, handle, sig, NULL, 0);
#else
	(void)handle;
	(void)sig;
	errno = ENOSYS;
	return -1;
#endif
}

#ifdef __linux__
/* The session that a process belongs to, and its parent; -1: it has ended. */
static long
session_of(const char *pid, long *parent)
{
	char path[64], buf[512], state, *p;
	long session;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) == -1)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	buf[n] = '\0';
	/* "pid (name) state ppid pgrp session": the name is the process's own choice. */
	if ((p = strrchr(buf, ')')) == NULL || sscanf(p + 1, " %c %ld %*d %ld", &state, parent, &session) != 3 || state == 'Z')
		return -1;
	return session;
}

/* SIGKILL for all processes of these sessions but for the first one's leader. Returns how many there were. */
static int
kill_sessions(const long *session, int n)
{
	long of, parent;
	struct dirent *d;
	int i, handle, found = 0;
	DIR *dir;

	if ((dir = opendir("/proc")) == NULL)
		return 0;
	while ((d = readdir(dir)) != NULL) {
		if (d->d_name[0] < '1' || d->d_name[0] > '9' || atol(d->d_name) == session[0] || (of = session_of(d->d_name, &parent)) == -1)
			continue;
		for (i = 0; i < n && session[i] != of; i++)
			;
		/* With a handle, so that the number can not come to mean another process in between. */
		if (i == n || (handle = os_process_open((pid_t)atol(d->d_name))) == -1)
			continue;
		if (session_of(d->d_name, &parent) == of && os_process_signal(handle, SIGKILL) == 0)
			found++;
		close(handle);
	}
	closedir(dir);
	return found;
}

/* The session of this process, and those that its children lead. Returns how many. The caller frees it. */
static int
sessions_of(pid_t leader, long **sessions)
{
	long *grown, of, parent;
	struct dirent *d;
	int n = 0, size = 0;
	DIR *dir;

	*sessions = NULL;
	if ((dir = opendir("/proc")) == NULL)
		return 0;
	for (d = readdir(dir); d != NULL; d = readdir(dir)) {
		if (n == size) {
			if ((grown = realloc(*sessions, (size_t)(size + 64) * sizeof(long))) == NULL)
				break;
			*sessions = grown;
			size += 64;
		}
		if (n == 0)
			(*sessions)[n++] = (long)leader;
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9' && (of = session_of(d->d_name, &parent)) == atol(d->d_name) && parent == (long)leader)
			(*sessions)[n++] = of;
	}
	closedir(dir);
	return n;
}
#endif

void
os_kill_session(pid_t leader)
{
#ifdef __linux__
	long *sessions;
	int n, pass;

	/* Of the children's sessions once: theirs may be other sessions' numbers soon. */
	n = sessions_of(leader, &sessions);
	if (n > 1)
		kill_sessions(sessions, n);
	kill(leader, SIGKILL);
	/* Again until there are none: they may have started others meanwhile. This number stays taken until it is waited for. */
	for (pass = 0; pass < 16 && n > 0 && kill_sessions(sessions, 1) > 0; pass++)
		;
	free(sessions);
#else
	kill(leader, SIGKILL);
#endif
	kill(-leader, SIGKILL);
}

int
os_no_new_privileges(void)
{
#ifdef __linux__
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		return -1;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#else
	return 0;
#endif
}

/* argv's and environ's own memory, which ps reads. */
static char	*title_start;
static size_t	 title_size;

int
os_title_init(int argc, char **argv)
{
	char *end, **env;
	int i;

	if (argc < 1)
		return 0;
	title_start = argv[0];
	end = argv[0] + strlen(argv[0]) + 1;
	for (i = 1; i < argc && argv[i] == end; i++)
		end += strlen(argv[i]) + 1;
	for (i = 0; environ[i] != NULL; i++)
		if (environ[i] == end)
			end += strlen(environ[i]) + 1;
	title_size = (size_t)(end - title_start);

	/* The strings that are about to be overwritten live on elsewhere. */
	for (i = 1; i < argc; i++)
		if ((argv[i] = strdup(argv[i])) == NULL)
			return -1;
	for (env = environ; *env != NULL; env++)
		if ((*env = strdup(*env)) == NULL)
			return -1;
	return 0;
}

void
os_title(const char *title)
{
	if (title_size < 2)
		return;
	memset(title_start, 0, title_size);
	strncpy(title_start, title, title_size - 1);
}

int
os_accept(int fd)
{
	return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/*
 * A peer that has lost its power or its network says no goodbye, and who only
 * waits for it never finds out by himself. Two hours, which is what systems wait
 * by default before they ask, are too long. Not TCP_USER_TIMEOUT: it also ends
 * connections whose peer is there and takes nothing for a while.
 */
void
os_keepalive(int fd)
{
	int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
#if defined(TCP_KEEPIDLE) && defined(TCP_KEEPINTVL) && defined(TCP_KEEPCNT)
	int idle_s = 60, interval_s = 10, count = 6;

	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
#endif
}

int
os_pipe(int fd[2])
{
	return pipe2(fd, O_CLOEXEC);
}

void
os_pipe_room(int fd, int bytes)
{
#ifdef F_SETPIPE_SZ
	fcntl(fd, F_SETPIPE_SZ, bytes);
#else
	(void)fd;
	(void)bytes;
#endif
}

int
os_socketpair(int type, int sv[2])
{
	return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, sv);
}

int
os_socket(int family, int type)
{
	return socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

#ifdef __linux__
int
os_watch_open(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

int
os_watch_add(int watch, int fd, void *data)
{
	struct epoll_event ev;

	memset(&ev, 0, sizeof(ev));
	ev.events = EPOLLIN;
	ev.data.ptr = data;
	return epoll_ctl(watch, EPOLL_CTL_ADD, fd, &ev);
}

void
os_watch_remove(int watch, int fd)
{
	epoll_ctl(watch, EPOLL_CTL_DEL, fd, NULL);
}

int
os_watch_ready(int watch, void **data, short *revents, int n)
{
	struct epoll_event ev[64];
	int i, got;

	if ((got = epoll_wait(watch, ev, n < 64 ? n : 64, 0)) == -1)
		return 0;
	for (i = 0; i < got; i++) {
		data[i] = ev[i].data.ptr;
		if (revents != NULL)
			revents[i] = (short)((ev[i].events & EPOLLIN ? POLLIN : 0) | (ev[i].events & EPOLLERR ? POLLERR : 0) |
			    (ev[i].events & EPOLLHUP ? POLLHUP : 0));
	}
	return got;
}
#else
/*
 * Without epoll the set is asked on every turn: os_watch_open() gives no
 * descriptor (-1 with ENOSYS), and the caller looks once a second.
 */
static struct pollfd	*watch_fds;
static void		**watch_data;
static int		 watch_len, watch_size;

int
os_watch_open(void)
{
	errno = ENOSYS;
	return -1;
}

int
os_watch_add(int watch, int fd, void *data)
{
	void *p;
	int size;

	(void)watch;
	if (watch_len == watch_size) {
		size = watch_size == 0 ? 64 : 2 * watch_size;
		if ((p = realloc(watch_fds, (size_t)size * sizeof(*watch_fds))) == NULL)
			return -1;
		watch_fds = p;
		if ((p = realloc(watch_data, (size_t)size * sizeof(*watch_data))) == NULL)
			return -1;
		watch_data = p;
		watch_size = size;
	}
	watch_fds[watch_len].fd = fd;
	watch_fds[watch_len].events = POLLIN;
	watch_data[watch_len++] = data;
	return 0;
}

void
os_watch_remove(int watch, int fd)
{
	int i;

	(void)watch;
	for (i = 0; i < watch_len; i++)
		if (watch_fds[i].fd == fd) {
			watch_fds[i] = watch_fds[--watch_len];
			watch_data[i] = watch_data[watch_len];
			return;
		}
}

int
os_watch_ready(int watch, void **data, short *revents, int n)
{
	int i, got = 0;

	(void)watch;
	if (poll(watch_fds, (nfds_t)watch_len, 0) <= 0)
		return 0;
	for (i = 0; i < watch_len && got < n; i++)
		if (watch_fds[i].revents != 0) {
			if (revents != NULL)
				revents[got] = watch_fds[i].revents;
			data[got++] = watch_data[i];
		}
	return got;
}
#endif

/* ---- systemd's protocol, without its library ------------------------------------------ */

int
os_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	const struct timeval patience = { .tv_sec = 1 };
	struct sockaddr_un sun;
	socklen_t len;
	ssize_t n;
	int fd;

	if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(sun.sun_path))
		return 0;
	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	strcpy(sun.sun_path, path);
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (path[0] == '@')		/* the abstract namespace */
		sun.sun_path[0] = '\0';
	if ((fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) == -1)
		return -1;
	/* Somebody who does not read shall not hold us. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	n = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&sun, len);
	close(fd);
	return n == -1 ? -1 : 0;
}

int
os_notify_reloading(void)
{
	struct timespec ts;
	char state[64];

	/* To the microsecond: a time before that of its own request would be taken for an older one's. */
	clock_gettime(CLOCK_MONOTONIC, &ts);
	snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%lld",
	    (long long)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
	return os_notify(state);
}

int64_t
os_watchdog_ms(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	long long n;
	char *end;

	if (usec == NULL || *usec < '0' || *usec > '9')
		return 0;
	if (pid != NULL && strtol(pid, NULL, 10) != (long)getpid())
		return 0;
	errno = 0;
	n = strtoll(usec, &end, 10);
	if (errno != 0 || *end != '\0' || n == 0)
		return 0;
	return n < 2000 ? 1 : n / 2000;
}
