/*
 * log.c: one event, one line. Called from anywhere, calls nothing of ours.
 *
 * Owns the descriptor or syslog connection that lines go to. Everything that
 * is not printable comes out escaped, so that no client and no application can
 * forge a line. Never fails and never ends the program, but for fatal().
 */
#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
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

static const char	*log_name = "zfpm";
static enum log_target	 log_target = LOG_TO_STDERR;
static int		 log_fd = STDERR_FILENO;
static int		 log_level = LOG_LEVEL_INFO;

void
log_init(const char *name, enum log_target target, int fd, int level)
{
	log_name = name;
	log_target = target;
	log_fd = fd;
	log_level = level;
	/* The zone and the syslog socket are found now: the router has no /etc and no /dev later. */
	tzset();
	if (target == LOG_TO_SYSLOG)
		openlog("zfpm", LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

void
log_process(const char *name)
{
	log_name = name;
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
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
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

static void
log_line(int level, int error, const char *fmt, va_list ap)
{
	static const int priority[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
	static const char *const name[] = { "error", "warn", "info", "debug" };
	char text[LINE_LEN], line[LINE_LEN], zone[8];
	int saved = errno;
	struct timespec ts;
	struct tm tm;
	size_t len = 0;
	ssize_t n;

	if (level > log_level)
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	if (log_target != LOG_TO_SYSLOG) {
		clock_gettime(CLOCK_REALTIME, &ts);
		localtime_r(&ts.tv_sec, &tm);
		len = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
		strftime(zone, sizeof(zone), "%z", &tm);
		len += (size_t)snprintf(line + len, sizeof(line) - len, ".%03ld%s %s[%ld] %s: ",
		    ts.tv_nsec / 1000000, zone, log_name, (long)getpid(), name[level]);
	}
	len = put_escaped(line, len, text);
	if (error != 0) {
		len = put_escaped(line, len, ": ");
		len = put_escaped(line, len, strerror(error));
	}
	if (log_target == LOG_TO_SYSLOG) {
		line[len] = '\0';
		syslog(priority[level], "%s: %s", log_name, line);
	} else {
		line[len++] = '\n';
		/* One write, so that lines of several processes do not mix. A full disk is nobody's reason to stop. */
		do
			n = write(log_fd, line, len);
		while (n == -1 && errno == EINTR);
	}
	errno = saved;
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
