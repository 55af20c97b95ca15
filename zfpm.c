/*
 * zfpm.c: the program's options. Reads the configuration and becomes the master.
 *
 * Owns nothing that lives longer than start-up.
 */
#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#ifndef CONF_FILE
#define CONF_FILE	"/etc/zfpm/zfpm.conf"
#endif

_Noreturn static void
usage(FILE *to, int status)
{
	fprintf(to,
	    "usage: zfpm [-c FILE] [-d]    run in the foreground; -d: in the background\n"
	    "       zfpm -t [-c FILE]      check the configuration and say what it holds\n"
	    "       zfpm -V | -h           version, this help\n"
	    "FILE is " CONF_FILE " unless given.\n");
	exit(status);
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

int
main(int argc, char **argv)
{
	const char *file = CONF_FILE;
	bool check = false, background = false;
	struct conf *conf;
	int c, ready_fd = -1;

	os_close_from(STDERR_FILENO + 1);	/* whatever we were started with is no business of our children */
	log_init("zfpm", LOG_TO_STDERR, STDERR_FILENO, LOG_LEVEL_INFO);
	if (os_title_init(argc, argv) == -1)
		fatal("arguments");
	while ((c = getopt(argc, argv, "c:dhtV")) != -1)
		switch (c) {
		case 'c':
			file = optarg;
			break;
		case 'd':
			background = true;
			break;
		case 'h':
			usage(stdout, 0);
		case 't':
			check = true;
			break;
		case 'V':
			printf("zfpm " ZFPM_VERSION "\n");
			return 0;
		default:
			usage(stderr, 2);
		}
	if (optind != argc)
		usage(stderr, 2);
	if ((conf = conf_load(file, check)) == NULL)
		return 1;
	if (check) {
		conf_summary(conf);
		return 0;
	}
	if (background) {
		if (conf->log_target == LOG_TO_STDERR)
			fatalx("-d needs `log syslog` or `log FILE`");
		ready_fd = detach();
	}
	if (chdir("/") == -1)
		fatal("/");
	return master_run(conf, ready_fd);
}
