/*
 * log.c: one event, one line. Called from anywhere, calls nothing of ours but os.c.
 *
 * Owns the connection to syslog, and no file. Everything that
 * is not printable comes out escaped, so that no client and no application can
 * forge a line. Never fails, never ends the program, but for fatal(), and never waits for
 * whoever reads: a line that has no room is lost, and the next that has says how many were.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "zfpm.h"

#define LINE_LEN	4096
#define PATIENCE_MS	10	/* for a pipe that is full, once: then lines are lost until it has room */
#define REDIAL_MS	1000	/* syslogd is looked for again no sooner than that */

static const char	*log_name = "zfpm";
static enum log_target	 log_target = LOG_TO_STDERR;
static int		 log_fd = STDERR_FILENO;
static bool		 log_is_file = true;	/* log_fd: a write to it does not wait for anybody */
static int		 log_level = LOG_LEVEL_INFO;
static int		 syslog_fd = -1;	/* the connection that we have made ourselves */
static int64_t		 redial_ms;		/* not before */
static unsigned long	 lost;			/* lines since the last that was written */
static int		 lost_errno;		/* why the first of them was */
static bool		 torn;			/* and a part of it is there */

int
log_syslog(void)
{
	static const char *const paths[] = { "/dev/log", "/var/run/syslog", "/var/run/log" };
	struct sockaddr_un sun;
	size_t i;
	int fd;

	/*
	 * Not the C library's: that waits for a syslogd that does not read, and the router could not connect
	 * again, for it has no /dev. This descriptor can be given to it.
	 */
	for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		memset(&sun, 0, sizeof(sun));
		sun.sun_family = AF_UNIX;
		strcpy(sun.sun_path, paths[i]);
		if ((fd = os_socket(AF_UNIX, SOCK_DGRAM)) == -1)
			return -1;
		if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0)
			return fd;
		close(fd);
	}
	return -1;
}

/* Connect to syslog, again if need be: what we have stays if that can not be. */
static void
dial_syslog(void)
{
	int fd;

	redial_ms = os_now_ms() + REDIAL_MS;
	if ((fd = log_syslog()) == -1)
		return;
	if (syslog_fd != -1)
		close(syslog_fd);
	log_fd = syslog_fd = fd;
}

void
log_init(const char *name, enum log_target target, int fd, int level)
{
	struct stat st;

	log_name = name;
	log_target = target;
	log_level = level;
	/* The zone is found now: the router has no /etc later. */
	tzset();
	if (target == LOG_TO_SYSLOG && fd == -1) {
		log_fd = syslog_fd;
		dial_syslog();
		return;
	}
	log_fd = fd;
	torn = false;
	log_is_file = fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISCHR(st.st_mode)) && !isatty(fd);
	if (syslog_fd != -1)
		close(syslog_fd);
	syslog_fd = -1;
}

void
log_process(const char *name)
{
	log_name = name;
	lost = 0;	/* those were the parent's */
}

/* Length of a well-formed UTF-8 sequence of 2 to 4 bytes at s that is no control character, else 0. */
static size_t
utf8_len(const unsigned char *s)
{
	size_t i, n;

	if (s[0] >= 0xc3 && s[0] <= 0xdf)	/* from U+00C0 on; U+0080 to U+009F are controls */
		n = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		n = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		n = 4;
	else
		return 0;
	for (i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	/* U+2028 to U+202E and U+2066 to U+2069 end or turn a line on a terminal. */
	if (s[0] == 0xe2 && ((s[1] == 0x80 && s[2] >= 0xa8 && s[2] <= 0xae) || (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9)))
		return 0;
	return n;
}

/* Append text to line at len, escaped; returns the new length, below LINE_LEN - 1. */
static size_t
put_escaped(char *line, size_t len, const char *text)
{
	static const char hex[] = "0123456789ABCDEF";
	const unsigned char *s = (const unsigned char *)text;
	size_t n;

	while (*s != '\0' && len < LINE_LEN - 6) {
		if ((*s >= 0x20 && *s < 0x7f && *s != '\\')) {
			line[len++] = (char)*s++;
		} else if ((n = utf8_len(s)) > 0) {
			memcpy(line + len, s, n);
			len += n;
			s += n;
		} else {
			line[len++] = '\\';
			if (*s == '\\') {
				line[len++] = '\\';
			} else {
				line[len++] = 'x';
				line[len++] = hex[*s >> 4];
				line[len++] = hex[*s & 15];
			}
			s++;
		}
	}
	return len;
}

/* The time as files have it: 2026-01-31T23:59:59.123+0100. Returns its length. */
static size_t
put_time(char *line, size_t size, const struct timespec *ts, const struct tm *tm)
{
	char stamp[32], zone[8];

	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", tm);
	strftime(zone, sizeof(zone), "%z", tm);
	return (size_t)snprintf(line, size, "%s.%03ld%s ", stamp, ts->tv_nsec / 1000000, zone);
}

/* What stands before the text of a line; returns its length. */
static size_t
put_head(char *line, size_t size, int level)
{
	static const int priority[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
	static const char *const name[] = { "error", "warn", "info", "debug" };
	char stamp[32];
	struct timespec ts;
	struct tm tm;
	size_t len;

	clock_gettime(CLOCK_REALTIME, &ts);
	localtime_r(&ts.tv_sec, &tm);
	if (log_target == LOG_TO_SYSLOG) {
		strftime(stamp, sizeof(stamp), "%b %e %H:%M:%S", &tm);
		return (size_t)snprintf(line, size, "<%d>%s zfpm[%ld]: %s: ", LOG_DAEMON | priority[level], stamp,
		    (long)getpid(), log_name);
	}
	len = put_time(line, size, &ts, &tm);
	return len + (size_t)snprintf(line + len, size - len, "%s[%ld] %s: ", log_name, (long)getpid(), name[level]);
}

/* Write a line, whole if that is possible without waiting. Returns 0 or -1 with errno. */
static int
put_line(const char *line, size_t len)
{
	struct pollfd pfd = { .fd = log_fd, .events = POLLOUT };
	ssize_t n;

	if (log_target == LOG_TO_SYSLOG) {
		while ((n = send(log_fd, line, len, MSG_NOSIGNAL | MSG_DONTWAIT)) == -1 && errno == EINTR)
			;
		if (n != -1 || errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || os_now_ms() < redial_ms)
			return n == -1 ? -1 : 0;
		/* syslogd has been started anew. */
		dial_syslog();
		return send(log_fd, line, len, MSG_NOSIGNAL | MSG_DONTWAIT) == -1 ? -1 : 0;
	}
	/* The descriptor may be somebody else's too, so it is not for us to make it non-blocking. */
	if (!log_is_file && poll(&pfd, 1, lost == 0 ? PATIENCE_MS : 0) == 0) {
		errno = EAGAIN;
		return -1;
	}
	/* One write, so that lines of several processes do not mix. */
	while ((n = write(log_fd, line, len)) == -1 && errno == EINTR)
		;
	if (n == (ssize_t)len)
		return 0;
	if (n > 0) {		/* the disk is full now */
		torn = true;
		errno = ENOSPC;
	}
	return -1;
}

/* One line, with strerror(error) if that is not 0. */
static int
put_event(int level, int error, const char *text)
{
	char line[LINE_LEN];
	size_t len = 0;

	if (torn)
		line[len++] = '\n';
	len += put_head(line + len, sizeof(line) - len, level);
	len = put_escaped(line, len, text);
	if (error != 0) {
		len = put_escaped(line, len, ": ");
		len = put_escaped(line, len, strerror(error));
	}
	if (log_target != LOG_TO_SYSLOG)
		line[len++] = '\n';
	if (put_line(line, len) == -1)
		return -1;
	torn = false;
	return 0;
}

static void
log_line(int level, int error, const char *fmt, va_list ap)
{
	char text[LINE_LEN], gap[64];
	int saved = errno;

	if (level > log_level)
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	if (lost > 0) {
		snprintf(gap, sizeof(gap), "log: lines lost here: %lu", lost);
		if (put_event(LOG_LEVEL_WARN, lost_errno, gap) == 0)
			lost = 0;
	}
	if (lost > 0) {
		lost++;		/* no room for the gap, none for this one: the order stays */
	} else if (put_event(level, error, text) == -1) {
		lost_errno = errno;
		lost = 1;
	}
	errno = saved;
}

int
log_to(int fd, const char *fmt, ...)
{
	char text[LINE_LEN], line[LINE_LEN];
	struct timespec ts;
	struct tm tm;
	size_t len;
	ssize_t n;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	clock_gettime(CLOCK_REALTIME, &ts);
	localtime_r(&ts.tv_sec, &tm);
	len = put_escaped(line, put_time(line, sizeof(line), &ts, &tm), text);
	line[len++] = '\n';
	do
		n = write(fd, line, len);
	while (n == -1 && errno == EINTR);
	if (n >= 0 && (size_t)n < len)
		errno = ENOSPC;
	return n == (ssize_t)len ? 0 : -1;
}

void
log_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_LEVEL_WARN, errno, fmt, ap);
	va_end(ap);
}

void
log_warnx(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_LEVEL_WARN, 0, fmt, ap);
	va_end(ap);
}

void
log_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_LEVEL_INFO, 0, fmt, ap);
	va_end(ap);
}

void
log_debug(const char *fmt, ...)
{
	va_list ap;

	if (log_level < LOG_LEVEL_DEBUG)
		return;
	va_start(ap, fmt);
	log_line(LOG_LEVEL_DEBUG, 0, fmt, ap);
	va_end(ap);
}

void
fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_LEVEL_ERROR, errno, fmt, ap);
	va_end(ap);
	exit(1);
}

void
fatalx(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_LEVEL_ERROR, 0, fmt, ap);
	va_end(ap);
	exit(1);
}

static const char *
signal_name(int sig)
{
	static const struct {
		int		 sig;
		const char	*name;
	} names[] = {
		{ SIGHUP, "SIGHUP" },	{ SIGINT, "SIGINT" },	{ SIGQUIT, "SIGQUIT" },	{ SIGILL, "SIGILL" },
		{ SIGTRAP, "SIGTRAP" },	{ SIGABRT, "SIGABRT" },	{ SIGBUS, "SIGBUS" },	{ SIGFPE, "SIGFPE" },
		{ SIGKILL, "SIGKILL" },	{ SIGUSR1, "SIGUSR1" },	{ SIGSEGV, "SIGSEGV" },	{ SIGUSR2, "SIGUSR2" },
		{ SIGPIPE, "SIGPIPE" },	{ SIGALRM, "SIGALRM" },	{ SIGTERM, "SIGTERM" },	{ SIGXCPU, "SIGXCPU" },
		{ SIGXFSZ, "SIGXFSZ" },	{ SIGSYS, "SIGSYS" },
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].sig == sig)
			return names[i].name;
	return "unknown";
}

const char *
log_wait_status(int status)
{
	static char buf[64];

	if (WIFSIGNALED(status))
		snprintf(buf, sizeof(buf), "exited on signal %d (%s)", WTERMSIG(status), signal_name(WTERMSIG(status)));
	else
		snprintf(buf, sizeof(buf), "exited with status %d", WEXITSTATUS(status));
	return buf;
}
