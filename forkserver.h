/*
 * forkserver.h: what a router and zfpm-forkserver.so, inside an app server, say to each other.
 *
 * The app server's descriptor 0 is a listening stream socket that the router's user alone can connect to. A router makes
 * one connection for the two to talk, whose first message is FS_HELLO, and one for each worker, whose first message is
 * FS_FORK: what follows there is the worker's FastCGI. So a worker's connection shows by its peer's name which app
 * server it leads to, also to the router that it is handed to. Messages are whole struct fs_msg, each written at once.
 * An app server belongs to a tenant: the router believes nothing that it reads.
 */
#ifndef FORKSERVER_H
#define FORKSERVER_H

#include <stdint.h>

#define FS_VERSION	1	/* app servers outlive an upgrade of zfpm: the next version has to understand this one as well */
#define FS_TEXT_LEN	128

/*
 * Numbers that no FastCGI record begins with, on any byte order: an application that takes the connection by itself,
 * since the library was not loaded into it, finds nonsense and closes it. The first byte of a record is its version,
 * of which PHP refuses only 0.
 */
#define FS_TYPE(n)	(0xa0a000 + (n) * 0x010100)

enum fs_type {
	/* router to app server */
	FS_HELLO	= FS_TYPE(1),	/* value: FS_VERSION; router; ms: see below */
	FS_FORK		= FS_TYPE(2),	/* on a connection of its own. worker, router; one descriptor: its standard output and error */
	FS_KILL		= FS_TYPE(3),	/* worker, value: SIGTERM, or SIGKILL, which reaches its whole process group */
	FS_RELEASE	= FS_TYPE(4),	/* worker: its end is not ours to hear; another router will ask for it */
	FS_ADOPT	= FS_TYPE(5),	/* worker, forked for another router: tell me of its end */
	/* app server to router, all on the connection that began with FS_HELLO */
	FS_READY	= FS_TYPE(6),	/* the answer to FS_HELLO, when start-up is done. value: FS_VERSION, pid: its own */
	FS_REFUSED	= FS_TYPE(7),	/* instead of that. text: why it can not fork; it exits */
	FS_FORKED	= FS_TYPE(8),	/* worker, pid */
	FS_FAILED	= FS_TYPE(9),	/* worker, value: errno of what failed, text: what ("fork"); it is forgotten */
	FS_EXITED	= FS_TYPE(10),	/* worker, pid, value: its wait status; it is forgotten */
	FS_UNKNOWN	= FS_TYPE(11),	/* worker: answer to FS_ADOPT or FS_KILL of one that has ended before, or was never there */
};

/*
 * When the connection of a router ends, nobody can hear of the workers that it asked for and has not released: they get
 * SIGTERM, and SIGKILL after the `ms` milliseconds of its FS_HELLO. The same when the app server itself gets SIGTERM:
 * it forks no more, ends its workers in this way, and exits when the last of them has gone.
 */
struct fs_msg {
	uint32_t	 type;		/* enum fs_type */
	uint32_t	 router;	/* the generation of the router, each time another */
	uint32_t	 worker;	/* zfpm's number of it, never used twice */
	int32_t		 pid;
	int32_t		 value;
	int32_t		 ms;
	char		 text[FS_TEXT_LEN];	/* NUL at the end */
};

#endif
