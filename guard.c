/*
 * guard.c: root. Sees to it that nothing outlives zfpm when the master dies.
 *
 * Owns a handle (a pidfd) of every process that the master has started; a handle
 * can not come to mean another process. Sleeps as long as the master lives.
 * When that is gone the routers finish what they have, and then the applications
 * are ended. Reads nothing but what the master sends, and starts nothing.
 */
#include <sys/types.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#define KILL_MS		5000	/* between SIGTERM and SIGKILL, when there is no master to ask for the pool's own */

static struct pollfd	*handles;	/* [0]: the master's socket; then one for each process that lives */
static bool		*is_router;	/* in the same order */
static int		 nhandles, handles_size;
static int		 nrouters;	/* that live */
static int		 log_fd;	/* what the log is written to */

static void
add(int fd, bool router)
{
	struct pollfd *grown;
	bool *grown_too;

	if (nhandles == handles_size) {
		handles_size += 64;
		if ((grown = realloc(handles, (size_t)handles_size * sizeof(*handles))) == NULL ||
		    (grown_too = realloc(is_router, (size_t)handles_size * sizeof(*is_router))) == NULL)
			fatal("guard");	/* the master starts another */
		handles = grown;
		is_router = grown_too;
	}
	handles[nhandles].fd = fd;
	handles[nhandles].events = POLLIN;
	handles[nhandles].revents = 0;
	is_router[nhandles++] = router;
	nrouters += router;
}

/* Forget the processes that have ended. */
static void
sweep(void)
{
	int i;

	for (i = nhandles - 1; i > 0; i--) {
		if (handles[i].revents == 0)
			continue;
		nrouters -= is_router[i];
		close(handles[i].fd);
		handles[i] = handles[--nhandles];
		is_router[i] = is_router[nhandles];
	}
}

/* Wait for something to happen, and take it in. Returns poll()'s result. */
static int
turn(int timeout_ms)
{
	struct msg msg;
	int fd, n, got = 0;

	if ((n = poll(handles, (nfds_t)nhandles, timeout_ms)) == -1) {
		if (errno != EINTR)
			fatal("guard: poll");
		return n;
	}
	sweep();
	if (handles[0].fd == -1 || handles[0].revents == 0)
		return n;
	while ((got = ipc_recv(handles[0].fd, &msg, &fd)) == 1) {
		if (fd == -1)
			continue;
		if (msg.type == MSG_LOG) {
			dup2(fd, log_fd);
			close(fd);
		} else {
			add(fd, msg.value != 0);
		}
	}
	if (got == 0 || errno != EAGAIN)
		handles[0].fd = -1;	/* it is gone */
	return n;
}

static void
signal_all(int sig)
{
	int i;

	for (i = 1; i < nhandles; i++)
		if (!is_router[i])
			os_process_signal(handles[i].fd, sig);
}

/* Until all have gone, or it is that late. */
static void
wait_for_all(int64_t until_ms)
{
	while (nhandles > 1 && os_now_ms() < until_ms)
		turn((int)(until_ms - os_now_ms()) + 1);
}

void
guard_run(int master, int log)
{
	static const int ignored[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGPIPE };
	struct sigaction sa;
	int64_t end_ms;
	size_t i;

	log_fd = log;
	log_process("guard");
	os_title("zfpm: guard");
	memset(&sa, 0, sizeof(sa));
	sigemptyset(&sa.sa_mask);
	sa.sa_handler = SIG_IGN;
	for (i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		sigaction(ignored[i], &sa, NULL);
	add(master, false);
	while (handles[0].fd != -1)
		turn(-1);
	if (nhandles > 1)
		log_warnx("the master is gone; %d processes to end when the router has finished", nhandles - 1);
	while (nrouters > 0)
		turn(-1);
	signal_all(SIGTERM);
	end_ms = os_now_ms() + KILL_MS;
	wait_for_all(end_ms - KILL_MS + TERM_AGAIN_MS);
	signal_all(SIGTERM);
	wait_for_all(end_ms);
	if (nhandles > 1)
		log_warnx("%d processes did not end within %ds of SIGTERM; killed", nhandles - 1, KILL_MS / 1000);
	signal_all(SIGKILL);
	exit(0);
}
