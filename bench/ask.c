/*
 * bench/ask.c: how long a running zfpm takes to answer `zfpm status`: from the
 * command on the control socket to the end of the page, without the start of a program.
 *
 *   ask CONTROL-SOCKET text|json TIMES
 *
 * Prints one number of milliseconds a line. Exit 1 when a page is not whole.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "zfpm.h"

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1000 + (double)ts.tv_nsec / 1e6;
}

static double
ask(const char *path, enum status_format format)
{
	static char buf[1 << 16];
	struct sockaddr_un sun;
	int sock, page[2];
	struct msg msg;
	double start;
	char last = 1;
	ssize_t n;

	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	memset(&msg, 0, sizeof(msg));
	msg.type = MSG_COMMAND;
	msg.value = CONTROL_STATUS;
	msg.app = format;
	start = now();
	if ((sock = socket(AF_UNIX, SOCK_SEQPACKET, 0)) == -1 || connect(sock, (struct sockaddr *)&sun, sizeof(sun)) == -1 ||
	    os_pipe(page) == -1) {
		perror(path);
		exit(1);
	}
	os_pipe_room(page[1], 1 << 20);
	if (ipc_send(sock, &msg, page[1], true) == -1) {
		perror("ask");
		exit(1);
	}
	close(page[1]);
	while ((n = read(page[0], buf, sizeof(buf))) > 0)
		last = buf[n - 1];
	close(page[0]);
	close(sock);
	if (last != '\0') {
		fprintf(stderr, "ask: the page is not whole\n");
		exit(1);
	}
	return now() - start;
}

int
main(int argc, char **argv)
{
	int i;

	if (argc != 4)
		return 2;
	for (i = 0; i < atoi(argv[3]); i++)
		printf("%.3f\n", ask(argv[1], strcmp(argv[2], "json") == 0 ? STATUS_JSON : STATUS_TEXT));
	return 0;
}
