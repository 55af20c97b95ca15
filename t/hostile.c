/*
 * hostile.c: says to the master what a router that has been taken over could
 * say. Takes a copy of the router's end of their socket (pidfd_getfd(2), as root),
 * so it is one more voice of that router. Sends one message and ends.
 *
 * hostile ROUTER_PID [type=N] [worker=N] [pool=N] [app=N] [pid=N] [value=N] [text=TEXT | full]
 *         [size=N] [times=N] [descriptor]
 *   full: a text without its NUL; size: of the message, if it is not to be the right one; times: with
 *   the worker's number one higher each time; descriptor: one comes along
 * exit: 0 sent, 1 not, 3 this kernel cannot do it
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../zfpm.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open	434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd	438
#endif

/* The first descriptor of the process that is a SOCK_SEQPACKET socket, or -1. */
static int
router_end(pid_t pid)
{
	int pidfd, fd, i, type;
	socklen_t len;

	if ((pidfd = (int)syscall(SYS_pidfd_open, pid, 0)) == -1)
		return -1;
	for (i = 3; i < 100; i++) {
		if ((fd = (int)syscall(SYS_pidfd_getfd, pidfd, i, 0)) == -1) {
			if (errno == EBADF)
				continue;
			return -1;
		}
		len = sizeof(type);
		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET)
			return fd;
		close(fd);
	}
	return -1;
}

int
main(int argc, char **argv)
{
	union {
		struct cmsghdr	hdr;
		char		buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr mh;
	struct cmsghdr *cm;
	struct iovec iov;
	struct {
		struct msg	msg;
		char		more[64];
	} m;
	size_t size = sizeof(m.msg);
	int i, sock, times = 1, descriptor = 0;
	long n;

	if (argc < 2) {
		fprintf(stderr, "usage: hostile ROUTER_PID [NAME=VALUE ...]; see the top of hostile.c\n");
		return 2;
	}
	memset(&m, 0, sizeof(m));
	for (i = 2; i < argc; i++) {
		n = strchr(argv[i], '=') == NULL ? 0 : atol(strchr(argv[i], '=') + 1);
		if (strncmp(argv[i], "type=", 5) == 0)
			m.msg.type = (uint32_t)n;
		else if (strncmp(argv[i], "worker=", 7) == 0)
			m.msg.worker = (uint32_t)n;
		else if (strncmp(argv[i], "pool=", 5) == 0)
			m.msg.pool = (uint32_t)n;
		else if (strncmp(argv[i], "app=", 4) == 0)
			m.msg.app = (uint32_t)n;
		else if (strncmp(argv[i], "pid=", 4) == 0)
			m.msg.pid = (int32_t)n;
		else if (strncmp(argv[i], "value=", 6) == 0)
			m.msg.value = (int32_t)n;
		else if (strncmp(argv[i], "text=", 5) == 0)
			snprintf(m.msg.text, sizeof(m.msg.text), "%s", argv[i] + 5);
		else if (strcmp(argv[i], "full") == 0)
			memset(m.msg.text, 'a', sizeof(m.msg.text));
		else if (strncmp(argv[i], "size=", 5) == 0 && (size_t)n <= sizeof(m))
			size = (size_t)n;
		else if (strncmp(argv[i], "times=", 6) == 0)
			times = (int)n;
		else if (strcmp(argv[i], "descriptor") == 0)
			descriptor = 1;
		else
			return 2;
	}
	if ((sock = router_end((pid_t)atol(argv[1]))) == -1) {
		perror("hostile");
		return errno == ENOSYS || errno == EPERM ? 3 : 1;
	}
	for (; times > 0; times--, m.msg.worker++) {
		memset(&mh, 0, sizeof(mh));
		iov.iov_base = &m;
		iov.iov_len = size;
		mh.msg_iov = &iov;
		mh.msg_iovlen = 1;
		if (descriptor) {
			memset(&control, 0, sizeof(control));
			mh.msg_control = &control;
			mh.msg_controllen = sizeof(control.buf);
			cm = CMSG_FIRSTHDR(&mh);
			cm->cmsg_level = SOL_SOCKET;
			cm->cmsg_type = SCM_RIGHTS;
			cm->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(cm), &(int){ STDIN_FILENO }, sizeof(int));
		}
		if (sendmsg(sock, &mh, MSG_NOSIGNAL) == -1) {
			perror("hostile: sendmsg");
			return 1;
		}
	}
	return 0;
}
