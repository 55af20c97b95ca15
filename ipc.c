/*
 * ipc.c: messages of one fixed size between zfpm's processes, and packets of bytes between two routers; descriptors as SCM_RIGHTS.
 *
 * Moves messages and nothing else: what one means, and whether to believe it,
 * is decided by who reads it. Never waits but where the caller says so.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#define PATIENCE_MS	5000	/* for the other end of a handover to take something */

union control {
	struct cmsghdr	 align;
	char		 buf[CMSG_SPACE(IPC_FDS * sizeof(int))];
};

/* sendmsg() with these descriptors. 0, or -1 with errno. */
static int
send_parts(int sock, struct iovec *iov, size_t niov, const int *fd, int nfds, int flags)
{
	union control control;
	struct cmsghdr *c;
	struct msghdr mh;
	ssize_t n;

	memset(&mh, 0, sizeof(mh));
	mh.msg_iov = iov;
	mh.msg_iovlen = niov;
	if (nfds > 0) {
		memset(&control, 0, sizeof(control));
		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE((size_t)nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fd, (size_t)nfds * sizeof(int));
	}
	do
		n = sendmsg(sock, &mh, MSG_NOSIGNAL | flags);
	while (n == -1 && errno == EINTR);
	if (n == -1 && errno == EWOULDBLOCK)
		errno = EAGAIN;
	return n == -1 ? -1 : 0;
}

/* recvmsg() of one packet; fd[] is filled up with -1. The length, 0 at the end, or -1 with errno (EMSGSIZE: it was longer). */
static ssize_t
recv_packet(int sock, void *buf, size_t size, int *fd, int nfds)
{
	union control control;
	struct cmsghdr *c;
	struct msghdr mh;
	struct iovec iov;
	ssize_t n;
	size_t len;
	int i, extra;

	for (i = 0; i < nfds; i++)
		fd[i] = -1;
	memset(&mh, 0, sizeof(mh));
	iov.iov_base = buf;
	iov.iov_len = size;
	mh.msg_iov = &iov;
	mh.msg_iovlen = 1;
	mh.msg_control = control.buf;
	mh.msg_controllen = sizeof(control.buf);
	do
		n = recvmsg(sock, &mh, MSG_DONTWAIT);
	while (n == -1 && errno == EINTR);
	if (n == -1) {
		if (errno == EWOULDBLOCK)
			errno = EAGAIN;
		return -1;
	}
	/* There is room for IPC_FDS descriptors: the kernel closes those that did not fit. */
	for (c = CMSG_FIRSTHDR(&mh); c != NULL; c = CMSG_NXTHDR(&mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		len = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < (int)len; i++)
			if (i < nfds) {
				memcpy(&fd[i], CMSG_DATA(c) + (size_t)i * sizeof(int), sizeof(int));
				fcntl(fd[i], F_SETFD, FD_CLOEXEC);
			} else {
				memcpy(&extra, CMSG_DATA(c) + (size_t)i * sizeof(int), sizeof(int));
				close(extra);
			}
	}
	if (n > 0 && (mh.msg_flags & MSG_TRUNC) != 0) {
		for (i = 0; i < nfds; i++) {
			if (fd[i] != -1)
				close(fd[i]);
			fd[i] = -1;
		}
		errno = EMSGSIZE;
		return -1;
	}
	return n;
}

int
ipc_send(int sock, const struct msg *msg, int fd, bool wait)
{
	struct iovec iov;

	iov.iov_base = (void *)(uintptr_t)msg;
	iov.iov_len = sizeof(*msg);
	return send_parts(sock, &iov, 1, &fd, fd != -1, wait ? 0 : MSG_DONTWAIT);
}

int
ipc_recv(int sock, struct msg *msg, int *fd)
{
	ssize_t n = recv_packet(sock, msg, sizeof(*msg), fd, 1);

	if (n == (ssize_t)sizeof(*msg))
		return 1;
	if (n == 0)
		return 0;
	if (n > 0 || errno == EMSGSIZE) {
		if (*fd != -1)
			close(*fd);
		*fd = -1;
		errno = EBADMSG;
	}
	return -1;
}

int
ipc_send_bytes(int sock, const void *head, size_t head_len, const void *data, size_t data_len, const int *fd, int nfds)
{
	struct pollfd pfd = { .fd = sock, .events = POLLOUT };
	struct iovec iov[2];
	int64_t end_ms = 0, now_ms;

	iov[0].iov_base = (void *)(uintptr_t)head;
	iov[0].iov_len = head_len;
	iov[1].iov_base = (void *)(uintptr_t)data;
	iov[1].iov_len = data_len;
	for (;;) {
		if (send_parts(sock, iov, 2, fd, nfds, MSG_DONTWAIT) == 0)
			return 0;
		if (errno != EAGAIN && errno != ENOBUFS && errno != ETOOMANYREFS)
			return -1;
		now_ms = os_now_ms();
		if (end_ms == 0)
			end_ms = now_ms + PATIENCE_MS;
		if (now_ms >= end_ms) {
			errno = ETIMEDOUT;
			return -1;
		}
		/* The kernel allows a user only so many descriptors under way, too: the other end is taking them. */
		if (errno == EAGAIN)
			poll(&pfd, 1, (int)(end_ms - now_ms));
		else
			poll(NULL, 0, 1);
	}
}

ssize_t
ipc_recv_bytes(int sock, void *buf, size_t size, int fd[IPC_FDS])
{
	return recv_packet(sock, buf, size, fd, IPC_FDS);
}
