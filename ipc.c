/*
 * ipc.c: messages of one fixed size between master and router, descriptors as SCM_RIGHTS.
 *
 * Moves messages and nothing else: what one means, and whether to believe it,
 * is decided by master.c and router.c. Never waits but where the caller says so.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

union control {
	struct cmsghdr	 align;
	char		 buf[CMSG_SPACE(sizeof(int))];
};

int
ipc_send(int sock, const struct msg *msg, int fd, bool wait)
{
	union control control;
	struct cmsghdr *c;
	struct msghdr mh;
	struct iovec iov;
	ssize_t n;

	memset(&mh, 0, sizeof(mh));
	iov.iov_base = (void *)(uintptr_t)msg;
	iov.iov_len = sizeof(*msg);
	mh.msg_iov = &iov;
	mh.msg_iovlen = 1;
	if (fd != -1) {
		memset(&control, 0, sizeof(control));
		mh.msg_control = control.buf;
		mh.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	do
		n = sendmsg(sock, &mh, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT));
	while (n == -1 && errno == EINTR);
	if (n == -1 && errno == EWOULDBLOCK)
		errno = EAGAIN;
	return n == -1 ? -1 : 0;
}

int
ipc_recv(int sock, struct msg *msg, int *fd)
{
	union control control;
	struct cmsghdr *c;
	struct msghdr mh;
	struct iovec iov;
	ssize_t n;

	*fd = -1;
	memset(&mh, 0, sizeof(mh));
	iov.iov_base = msg;
	iov.iov_len = sizeof(*msg);
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
	/* There is room for one descriptor: the kernel closes those that did not fit. */
	for (c = CMSG_FIRSTHDR(&mh); c != NULL; c = CMSG_NXTHDR(&mh, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(*fd))) {
			memcpy(fd, CMSG_DATA(c), sizeof(*fd));
			fcntl(*fd, F_SETFD, FD_CLOEXEC);
		}
	if (n == 0)
		return 0;
	if (n != (ssize_t)sizeof(*msg) || (mh.msg_flags & MSG_TRUNC) != 0) {
		if (*fd != -1)
			close(*fd);
		*fd = -1;
		errno = EBADMSG;
		return -1;
	}
	return 1;
}
