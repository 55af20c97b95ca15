/*
 * zfpm.c: the program's options. Reads the configuration and becomes the master, or asks the one that runs.
 *
 * Owns nothing that lives longer than start-up.
 */
#include <sys/types.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#ifndef CONF_FILE
#define CONF_FILE	"/etc/zfpm/zfpm.conf"
#endif

enum operand { NO_OPERAND, POOL_OR_ALL, ONE_POOL };

static const struct {
	const char		*name;
	enum control_command	 command;
	enum operand		 operand;
} commands[] = {
	{ "status",	CONTROL_STATUS,		POOL_OR_ALL },
	{ "reload",	CONTROL_RELOAD,		NO_OPERAND },
	{ "reopen",	CONTROL_REOPEN,		NO_OPERAND },
	{ "upgrade",	CONTROL_UPGRADE,	NO_OPERAND },
	{ "stop",	CONTROL_STOP,		NO_OPERAND },
	{ "quit",	CONTROL_QUIT,		NO_OPERAND },
	{ "retire",	CONTROL_RETIRE,		ONE_POOL },
};

#define LEN(a)	(sizeof(a) / sizeof((a)[0]))

/* What the command line says. */
struct options {
	const char	*file;		/* -c */
	const char	*format;	/* -f; NULL: not given */
	bool		 check;		/* -t */
	bool		 background;	/* -d */
	const char	*words[3];	/* COMMAND and its operand; one more than there may be */
	int		 nwords;
};

_Noreturn static void
usage(FILE *to, int status)
{
	fprintf(to,
	    "usage: zfpm [-c FILE] [-d]     run in the foreground; -d: in the background\n"
	    "       zfpm -t [-c FILE]       check the configuration and say what it holds\n"
	    "       zfpm -V | -h            version, this help\n"
	    "       zfpm COMMAND [-c FILE]  for the zfpm that runs with FILE; each waits until it is done:\n"
	    "\n"
	    "       status [-f text|json|openmetrics|html] [POOL]   show what it is doing\n"
	    "       reload         take the configuration as it is now\n"
	    "       reopen         open the log files anew\n"
	    "       upgrade        go on with the program that is installed now\n"
	    "       retire POOL    replace the pool's workers, each when it is idle\n"
	    "       quit           end when the running requests are done\n"
	    "       stop           end now\n"
	    "\n"
	    "FILE is " CONF_FILE " unless given.\n");
	exit(status);
}

/* Options and words in any order; behind "--" there are words alone. */
static void
parse(int argc, char **argv, struct options *o)
{
	bool words_only = false;
	int c;

	for (;;) {
		if (!words_only)
			while ((c = getopt(argc, argv, "c:df:htV")) != -1)
				switch (c) {
				case 'c':
					o->file = optarg;
					break;
				case 'd':
					o->background = true;
					break;
				case 'f':
					o->format = optarg;
					break;
				case 'h':
					usage(stdout, 0);
				case 't':
					o->check = true;
					break;
				case 'V':
					printf("zfpm " ZFPM_VERSION "\n");
					exit(0);
				default:
					usage(stderr, 2);
				}
		if (optind >= argc)
			return;
		if (strcmp(argv[optind - 1], "--") == 0)
			words_only = true;
		if (o->nwords == (int)LEN(o->words))
			usage(stderr, 2);
		o->words[o->nwords++] = argv[optind++];
	}
}

/* ---- commands ------------------------------------------------------------------------- */

/*
 * The value of a directive on a line of the configuration, if the line is that: a path, quoted or not. Returns
 * whether it was, with the path in value.
 */
static bool
scan_line(const char *line, const char *name, char *value, size_t size)
{
	size_t len = strlen(name), n = 0;
	bool quoted;

	line += strspn(line, " \t");
	if (strncmp(line, name, len) != 0 || strchr(" \t", line[len]) == NULL || line[len] == '\0')
		return false;
	line += len + strspn(line + len, " \t");
	if ((quoted = *line == '"'))
		line++;
	for (; *line != '\0' && strchr(quoted ? "\"\n" : " \t\r\n{}", *line) == NULL; line++) {
		if (quoted && *line == '\\' && line[1] != '\0')
			line++;
		if (n + 1 == size)
			return false;
		value[n++] = *line;
	}
	value[n] = '\0';
	return value[0] == '/';
}

/*
 * Where the zfpm that runs with this configuration takes commands. The file is searched for that alone: it may have errors,
 * or be long, and zfpm has to be told, reloaded or stopped all the same. What it includes can not hold these two directives.
 */
static void
find_control(const char *file, char *path, size_t size)
{
	char *line = NULL, value[PATH_MAX], control[PATH_MAX] = "", run_dir[PATH_MAX] = "/run/zfpm";
	size_t line_size = 0;
	FILE *f;

	if ((f = fopen(file, "r")) == NULL) {
		fprintf(stderr, "zfpm: %s: %s\n", file, strerror(errno));
		exit(1);
	}
	while (getline(&line, &line_size, f) != -1)
		if (scan_line(line, "control", value, sizeof(value)))
			strcpy(control, value);
		else if (scan_line(line, "run_dir", value, sizeof(value)))
			strcpy(run_dir, value);
	free(line);
	fclose(f);
	if (control[0] != '\0')
		snprintf(path, size, "%s", control);
	else
		snprintf(path, size, "%s/control", run_dir);
}

/* zfpm COMMAND. Returns the exit status. */
static int
command(const struct options *o)
{
	const char *pool = o->nwords > 1 ? o->words[1] : NULL;
	char path[PATH_MAX + 16];
	int format = STATUS_TEXT;
	size_t i;

	for (i = 0; i < LEN(commands) && strcmp(commands[i].name, o->words[0]) != 0; i++)
		;
	if (i == LEN(commands) || o->nwords > 2 || o->check || o->background)
		usage(stderr, 2);
	if (commands[i].operand == NO_OPERAND ? pool != NULL : commands[i].operand == ONE_POOL && pool == NULL)
		usage(stderr, 2);
	if (o->format != NULL) {
		format = status_format(o->format);
		if (format == -1 || commands[i].command != CONTROL_STATUS)
			usage(stderr, 2);
	}
	if (pool != NULL && !conf_name_ok(pool)) {
		fprintf(stderr, "zfpm: '%s' is no name of a pool\n", pool);
		return 1;
	}
	find_control(o->file, path, sizeof(path));
	return control_client(path, commands[i].command, pool, format);
}

/* ---- the start -------------------------------------------------------------------------- */

/* A number in the environment that a zfpm before this one has put there, and that nobody else shall see; -1: none. */
static int
take_number(const char *name)
{
	const char *s = getenv(name);
	char *end;
	long n;

	if (s == NULL)
		return -1;
	errno = 0;
	n = strtol(s, &end, 10);
	if (errno != 0 || end == s || *end != '\0' || n < 0 || n > INT_MAX)
		fatalx("%s=%s in the environment is no number", name, s);
	unsetenv(name);
	return (int)n;
}

/* The path from the root, in lasting memory. Links in it are left alone: they may be moved. */
static const char *
absolute(const char *path)
{
	char cwd[PATH_MAX], *whole;
	size_t size;

	if (path[0] == '/')
		return path;
	if (getcwd(cwd, sizeof(cwd)) == NULL)
		fatal("working directory");
	while (strncmp(path, "./", 2) == 0)
		path += 2 + strspn(path + 2, "/");
	size = strlen(cwd) + strlen(path) + 2;
	if ((whole = malloc(size)) == NULL)
		fatal("%s", path);
	snprintf(whole, size, "%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, path);
	return whole;
}

/* The program that runs, as a path: the one that a shell found for this name. */
static const char *
find_binary(const char *name)
{
	const char *dir = getenv("PATH"), *end;
	char path[PATH_MAX], *whole;
	struct stat st;

	if (strchr(name, '/') != NULL)
		return absolute(name);
	for (; dir != NULL; dir = *end == ':' ? end + 1 : NULL) {
		end = dir + strcspn(dir, ":");
		if (snprintf(path, sizeof(path), "%.*s%s%s", (int)(end - dir), dir, end == dir ? "" : "/", name) >= (int)sizeof(path))
			continue;
		if (stat(path, &st) == -1 || !S_ISREG(st.st_mode) || access(path, X_OK) == -1)
			continue;
		if ((whole = strdup(path)) == NULL)
			fatal("%s", name);
		return absolute(whole);
	}
	return name;	/* an upgrade will not find it, and say so */
}

/*
 * Go on in a child of its own session; returns, there, the descriptor that
 * takes one byte when zfpm is ready. The parent waits for it: its exit status
 * says whether zfpm runs.
 */
static int
detach(void)
{
	int fd, ready[2], status;
	pid_t pid;
	ssize_t n;
	char c;

	if (os_pipe(ready) == -1)
		fatal("pipe");
	if ((pid = fork()) == -1)
		fatal("fork");
	if (pid != 0) {
		close(ready[1]);
		while ((n = read(ready[0], &c, 1)) == -1 && errno == EINTR)
			;
		if (n == 1)
			exit(0);
		while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
			;
		exit(1);
	}
	close(ready[0]);
	if (setsid() == -1)
		fatal("setsid");
	if ((fd = open("/dev/null", O_RDWR)) != -1) {
		dup2(fd, STDIN_FILENO);
		dup2(fd, STDOUT_FILENO);
		if (fd > STDERR_FILENO)
			close(fd);
	}
	return ready[1];
}

/*
 * The configuration, or NULL after its errors have been said. The program before has read it a moment ago, and became us because
 * it was right. If somebody is writing to a file of it just now, it can be so again, and what runs goes on meanwhile:
 * to end would be the end of that.
 */
static struct conf *
load(const struct start *start)
{
	int64_t end_ms = os_now_ms() + RESUME_MS;
	struct conf *conf;

	while ((conf = conf_load(start->file, false, stderr)) == NULL && start->state_fd != -1 && os_now_ms() < end_ms)
		poll(NULL, 0, RESUME_NAP_MS);
	return conf;
}

/* Become the master. */
static int
run(const struct options *o, int argc, char **argv)
{
	static char *again[5];	/* the command line of an upgrade: what it means holds in any directory */
	struct start start;
	struct conf *conf;

	start.ready_fd = -1;
	/* A log that takes no more, whether a pipe or a file, is no reason to end. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	/* After an upgrade all that is open is ours; else what we were started with is no business of our children. */
	if ((start.state_fd = take_number("ZFPM_STATE")) == -1)
		os_close_from(STDERR_FILENO + 1 + listen_passed());
	start.file = absolute(o->file);
	start.binary = find_binary(argc > 0 ? argv[0] : "zfpm");
	again[0] = strdup(start.binary);
	again[1] = strdup("-c");
	again[2] = strdup(start.file);
	again[3] = o->background ? strdup("-d") : NULL;
	if (again[0] == NULL || again[1] == NULL || again[2] == NULL || os_title_init(argc, argv) == -1)
		fatal("arguments");
	start.binary = again[0];	/* argv's own memory is about to become the title */
	start.file = again[2];
	start.argv = again;

	if ((conf = load(&start)) == NULL)
		return 1;
	if (o->background && start.state_fd == -1) {
		if (conf->log_target == LOG_TO_STDERR)
			fatalx("-d needs `log syslog` or `log FILE`");
		start.ready_fd = detach();
	}
	if (chdir("/") == -1)
		fatal("/");
	return master_run(conf, &start);
}

/* zfpm -t. A zfpm that is about to execute this program asks it for more than the configuration. */
static int
check(const struct options *o)
{
	int version = take_number("ZFPM_UPGRADE");
	struct conf *conf;

	if (version != -1 && version != HANDOVER_VERSION) {
		fprintf(stderr, "zfpm " ZFPM_VERSION " can not take over from a running zfpm of handover version %d, its own is %d: "
		    "stop and start it instead\n", version, HANDOVER_VERSION);
		return 1;
	}
	if ((conf = conf_load(o->file, true, stderr)) == NULL)
		return 1;
	conf_summary(conf);
	if (version != -1)
		printf("%s\n", UPGRADE_WORD);
	return 0;
}

int
main(int argc, char **argv)
{
	struct options o = { .file = CONF_FILE };

	log_init("zfpm", LOG_TO_STDERR, STDERR_FILENO, LOG_LEVEL_INFO);
	parse(argc, argv, &o);
	if (o.nwords > 0)
		return command(&o);
	if (o.format != NULL || (o.check && o.background))
		usage(stderr, 2);
	return o.check ? check(&o) : run(&o, argc, argv);
}
