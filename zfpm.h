/*
 * zfpm.h: every shared struct and prototype, grouped by file, lowest file last
 * in the calling order (see the table of files in README).
 */
#ifndef ZFPM_H
#define ZFPM_H

#include <sys/types.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "fcgi.h"
#include "forkserver.h"

#define ZFPM_VERSION		"0.1"
#define MAX_WORKERS		100000	/* upper bound of max_workers */
#define MAX_CONNECTIONS		1000	/* upper bound of an app's connections */
#define MAX_APPS		16	/* apps that one pool can name */
#define POOL_NAME_LEN		255
#define TEXT_LEN		256	/* of a reason that travels in a message */
#define RESUME_MS		10000	/* after an upgrade, for a configuration to be right that was it a moment ago */
#define RESUME_NAP_MS		500	/* between two looks at it */
#define TERM_AGAIN_MS		250	/* from SIGTERM to the second one: see kill_overdue() in master.c */

/* ---- conf.c: zfpm.conf -> struct conf; read as root, before the fork ------- */

enum timeout_kind {
	TIMEOUT_WAIT,		/* queued, no worker free */
	TIMEOUT_APP,		/* the application neither gives nor takes a byte */
	TIMEOUT_SERVER,		/* the web server neither gives nor takes a byte */
	TIMEOUT_REQUEST,	/* from the first byte to the end */
	TIMEOUT_IDLE,		/* a worker with nothing to do is retired */
	TIMEOUT_KILL,		/* between SIGTERM and SIGKILL */
	TIMEOUT_START,		/* an app server has not reached accept() */
	TIMEOUT_APP_SERVER,	/* an app server without workers is retired */
	TIMEOUT_KINDS
};

enum server_close {
	SERVER_CLOSE_FINISH,	/* the script goes on, its output is discarded */
	SERVER_CLOSE_ABORT,	/* the application's connection is closed */
};

struct conf_env {		/* `env NAME VALUE`; a later one of the same name wins */
	struct conf_env	*next;	/* in the order of the file */
	const char	*name;
	const char	*value;	/* a template in a pattern pool (%1, %p) */
};

struct conf_cgroup {		/* `cgroup KEY VALUE` */
	struct conf_cgroup *next;	/* in the order of the file */
	const char	*key;		/* a file of cgroup v2: memory.max, cpu.weight ... */
	const char	*value;		/* a template in a pattern pool */
};

struct conf_rlimit {
	struct conf_rlimit *next;
	int		 resource;	/* RLIMIT_... */
	const char	*name;		/* as configured, for messages */
	struct rlimit	 limit;
};

struct conf_net {		/* `allow CIDR`, family AF_INET or AF_INET6 */
	struct conf_net	*next;
	int		 family;
	uint8_t		 addr[16];
	int		 prefix_len;
};

struct conf_listen {
	struct conf_listen *next;
	const char	*file;		/* where it was configured */
	int		 line;
	const char	*address;	/* a path, HOST:PORT or [HOST]:PORT, as configured */
	struct sockaddr_storage sa;
	socklen_t	 sa_len;
	uid_t		 uid;		/* owner of a Unix socket, (uid_t)-1 = leave */
	gid_t		 gid;		/* (gid_t)-1 = leave */
	mode_t		 mode;		/* default 0660 */
	const char	*key_file;	/* NULL: no key */
	const char	*key;		/* its first line */
	size_t		 key_len;
	uid_t		*allow_uids;	/* peers of a Unix socket; none = all that can connect */
	int		 nallow_uids;
	struct conf_net	*allow;		/* peers of a TCP socket; never empty for one */
	int		 fd;		/* listen.c opens it; -1 before */
	bool		 passed;	/* it came from the service manager: its path is not ours to unlink */
};

struct conf_app {
	const char	*name;
	const char	*file;
	int		 line;
	char		**argv;		/* argv[0] is an absolute path; NULL at the end */
	struct conf_env	*env;
	char		**extensions;	/* NULL at the end; NULL itself: any */
	unsigned	 roles;		/* bit 1 << enum fcgi_role */
	int		 connections;	/* requests at a time on one process; 1 with fork_server */
	bool		 fork_server;	/* its workers are forked from an app server */
	const char	*library;	/* with that conf's fork_server_library, else NULL */
	char		**watch;	/* files and directories that it reads when it starts; NULL at the end; NULL itself: none */
};

struct conf_pool {
	struct conf_pool *hash_next;	/* of the exact names with one hash */
	const char	*name;		/* or the pattern, with one '*' */
	const char	*file;
	int		 line;
	int		 index;		/* in conf->pools */
	int		 star;		/* offset of '*' in a pattern, -1 in an exact name */
	const char	*user;		/* templates where star != -1 */
	const char	*group;		/* NULL: the user's own */
	char		**groups;	/* supplementary groups beside initgroups'; NULL: none */
	struct conf_app	**apps;		/* the first is the default */
	int		 napps;
	int		 max_workers;
	int		 min_workers;	/* started ahead, of the first app, and kept; 0 in a pattern */
	int		 max_queue;
	int		 max_requests;	/* 0: no limit */
	const char	*directory;	/* NULL: the root of what the process sees */
	const char	*chroot;	/* NULL: none */
	mode_t		 umask;
	int		 nice;		/* added to zfpm's own */
	struct conf_rlimit *rlimits;
	struct conf_cgroup *cgroups;	/* NULL: the pool has no cgroup of its own */
	const char	*error_log;	/* a template; NULL: zfpm's own log */
	struct conf_env	*env;
	int64_t		 timeout_ms[TIMEOUT_KINDS];
	int64_t		 slow_ms;	/* a request that takes longer is logged; 0: none is */
	size_t		 buffer_request;
	size_t		 buffer_response;
	enum server_close on_server_close;
};

enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_FILE };

struct conf {
	const char	*file;
	struct conf_listen *listens;
	struct conf_app	**apps;
	int		 napps;
	struct conf_pool **pools;	/* in the order of the file */
	int		 npools;
	struct conf_pool **hash;	/* by name; hash_size, a power of two, buckets, then the patterns in order and NULL */
	size_t		 hash_size;
	const char	*run_dir;
	const char	*control;	/* the control socket's path; RUN_DIR/control unless given */
	const char	*router_user;
	const char	*fork_server_library;	/* zfpm-forkserver.so, an absolute path; FORKSERVER_FILE unless given */
	enum log_target	 log_target;
	const char	*log_file;	/* LOG_TO_FILE */
	int		 log_level;
	int		 max_workers;	/* of all pools together */
	uid_t		 min_uid;
	gid_t		 min_gid;
	size_t		 max_params;
	int64_t		 timeout_ms[TIMEOUT_KINDS];	/* the pools' defaults; also before a request names its pool */
	struct chunk	*memory;	/* all of it, this struct too: conf.c's own */
};

/*
 * Read a configuration file with all that it includes. Errors go to `errors` as
 * FILE:LINE: what is wrong, a line each, all of them in one run. Returns NULL if
 * there were any, with nothing left behind; so too without memory. check_names also looks up every
 * user, group and command (zfpm -t). conf_free() gives the result back; its descriptors are listen.c's.
 */
struct conf	*conf_load(const char *file, bool check_names, FILE *errors);
void		 conf_free(struct conf *);

/*
 * A number for everything that the process of a worker was made from: of the pool called name (user, groups, limits,
 * environment, directories, error_log, cgroup ... templates expanded) and of the app (command, environment, connections, fork_server). A worker
 * outlives a reload if it stays the same. What concerns requests only (timeouts, queue, max_workers ...) has no part in it.
 */
uint64_t	 conf_fingerprint(const struct conf_pool *, const struct conf_app *, const char *name);

/* Say on standard output what a configuration holds, and warn of what is unwise (zfpm -t). */
void		 conf_summary(const struct conf *);

/* The pool that serves a name: the exact one, else the first pattern that matches, else NULL. */
struct conf_pool *conf_find(const struct conf *, const char *name);

/* 1 if a name of a pool is well-formed (1 to 255 of A-Za-z0-9._-, no dot first). */
int		 conf_name_ok(const char *name);

/*
 * Put the template into buf with %1 and %p replaced for the pool called name;
 * %% is a percent sign. Returns 0, or -1 if it does not fit.
 */
int		 conf_expand(char *buf, size_t size, const char *template, const struct conf_pool *, const char *name);

/* ---- ipc.c: messages between master, router, guard and control commands ------ */

enum msg_type {
	/* router to master */
	MSG_PONG = 1,		/* answer to MSG_PING; the first one says that the router lives */
	MSG_SPAWN,		/* worker, pool, app, name: start one */
	MSG_STOP,		/* worker: SIGTERM, and SIGKILL after `timeout kill`; value 1: SIGKILL at once; 2: it is overdue, and with it what it has started */
	MSG_RELEASED,		/* answer to MSG_HANDOVER: it accepts and starts nothing any more, and has given what was idle. Again: the successor takes nothing, MSG_HANDOVER once more */
	MSG_GIVE,		/* worker: it is idle; its descriptors are on their way to the successor */
	MSG_ENDED,		/* worker of an app server, value: its wait status, as the app server says */
	MSG_END_SERVER,		/* server: it forks no more. value 1: nor does it do what it should: SIGKILL for all of its session */
	/* master to router */
	MSG_PING,
	MSG_STARTED,		/* worker, pid, and the read end of its error pipe as descriptor */
	MSG_FAILED,		/* worker, text: STEP: REASON; the worker is forgotten. No text: nobody's fault */
	MSG_EXITED,		/* worker, pid, value: its wait status; forgotten too */
	MSG_SERVER,		/* server, pid, pool, app, name, and the read end of its error pipe, if it is new: an app server */
	MSG_FORK,		/* worker, server: have it forked there. MSG_SERVER came before */
	MSG_SERVER_STALE,	/* server: replace its workers, each when it is idle; those that are asked for now come from another */
	MSG_SERVER_GONE,	/* server, value: its wait status, or text: STEP: REASON, why it was not started. Its workers are forgotten too */
	MSG_QUIT,		/* accept no more; finish what there is and exit. value: 1 = refuse what is queued */
	MSG_HANDOVER,		/* a socket to the successor as descriptor: leave everything that is not running to it */
	MSG_HEIR,		/* a socket from a predecessor as descriptor: it hands over what it has through that */
	MSG_TAKE,		/* worker, pid, server, pool, app, name, value: enum take. A worker of an earlier router */
	MSG_GO,			/* all that was before is told: accept. worker: the first number that no router has used yet */
	MSG_LOG,		/* the log file anew, as descriptor */
	MSG_ERROR_LOG,		/* name, and the pool's error log, opened, as descriptor; none: it has none any more */
	MSG_RETIRE,		/* name: replace the workers of this pool */
	MSG_STATUS,		/* name (empty: all), value: enum status_format; write it to the descriptor, and a NUL behind it if it is whole */
	/* master to guard */
	MSG_GUARD,		/* a handle of a process as descriptor; value 1: a router's. Also MSG_LOG */
	/* zfpm COMMAND to master, on the control socket */
	MSG_COMMAND,		/* value: enum control_command; text: POOL; status: app = the format, and a descriptor to write to */
	/* and back */
	MSG_SAY,		/* text, of several messages if need be, for standard output; value 1: for standard error */
	MSG_DONE,		/* value: the exit status */
};

enum take {
	TAKE_ELSEWHERE,		/* it serves in an earlier router; it may come later */
	TAKE_IDLE,		/* it is yours now */
	TAKE_STOPPED,		/* it is being stopped: its settings have changed */
	TAKE_RETIRED,		/* the same, for zfpm retire */
	TAKE_STARTING,		/* MSG_STARTED or MSG_FAILED will come to you */
};

enum control_command {
	CONTROL_STATUS,
	CONTROL_RELOAD,
	CONTROL_REOPEN,
	CONTROL_UPGRADE,
	CONTROL_STOP,
	CONTROL_QUIT,
	CONTROL_RETIRE,
};

#define NO_POOL		UINT32_MAX	/* in struct msg: a pool that is configured no more */

/*
 * One message, always sent and received whole. From the router it is hostile:
 * master.c checks every field. Unused fields are zero.
 */
struct msg {
	uint32_t	 type;			/* enum msg_type */
	uint32_t	 worker;		/* zfpm's number for a worker, never used twice */
	uint32_t	 server;		/* the master's number for an app server, never used twice; 0: none */
	uint32_t	 pool;			/* index in conf->pools */
	uint32_t	 app;			/* index in that pool's apps */
	int32_t		 pid;
	int32_t		 value;
	char		 text[TEXT_LEN];	/* a name, a reason, a text; NUL at the end */
};

/*
 * Send one message, with fd if it is not -1 (which stays the caller's). Returns
 * 0 or -1 with errno; EAGAIN only if wait is false and the socket is full.
 */
int	 ipc_send(int sock, const struct msg *, int fd, bool wait);

/*
 * Receive one message without waiting. Returns 1; 0 at the end of the stream; -1 with errno
 * (EAGAIN: nothing there; EBADMSG: not a whole message). *fd becomes a
 * descriptor of the caller's, close-on-exec, or -1.
 */
int	 ipc_recv(int sock, struct msg *, int *fd);

/*
 * The same for bytes of any length that a packet can have, with up to IPC_FDS descriptors: what one router hands to the next.
 * Sending waits, 5 seconds at most (ETIMEDOUT). ipc_recv_bytes() returns the length, 0 at the end of the stream, -1 with errno; fd[] is filled up with -1.
 */
#define IPC_FDS		2
int	 ipc_send_bytes(int sock, const void *head, size_t head_len, const void *data, size_t data_len, const int *fd, int nfds);
ssize_t	 ipc_recv_bytes(int sock, void *buf, size_t size, int fd[IPC_FDS]);

/* ---- control.c: the control socket. Root's commands to a running zfpm -------- */

/*
 * zfpm status, reload, reopen, upgrade, stop, quit, retire: send the command to
 * the zfpm whose control socket this is, show what it says, wait for its end. Returns the exit status.
 */
int	 control_client(const char *path, enum control_command, const char *pool, int format);

/* The listening socket at path, for root alone; -1 with what failed in err. */
int	 control_listen(const char *path, char *err, size_t size);
/* A connection of root's, non-blocking; -1 with errno if there is none (others are logged and shown the door). */
int	 control_accept(int fd);

/* ---- listen.c: root. The listening sockets, across reloads ------------------- */

/*
 * Once, at start: note the sockets that the service manager passes (LISTEN_FDS), descriptors from 3 on, and take the
 * variables out of the environment. Returns how many: whoever closes what is open otherwise leaves those alone.
 */
int	 listen_passed(void);
/*
 * Note a socket that listens already, passed by the service manager or by the program before an upgrade: close-on-exec and
 * non-blocking from now on, and ours. listen_open() finds it by its address. 0, or -1 with errno (EINVAL: no listening stream socket).
 */
int	 listen_adopt(int fd, bool passed);
/*
 * Give every listener of conf its descriptor: that of the same address in old (NULL: none), else one that was passed to us, else a new one.
 * Returns 0, or -1 with what failed in err; then old is as it was and nothing of ours is left.
 */
int	 listen_open(struct conf *, struct conf *old, char *err, size_t size);
/* conf is in force: close and unlink those of old that it does not have. */
void	 listen_commit(struct conf *, struct conf *old);
/* conf does not come into force after all: its new sockets go, and those that old has too are as they were. */
void	 listen_undo(struct conf *, struct conf *old);
/* Close all, and unlink those that are ours. */
void	 listen_close(struct conf *);
/* Remove a Unix socket of this type that nobody listens on any more. 0: its path is free; -1 with the reason in err. */
int	 listen_clear(const struct sockaddr_storage *, socklen_t, int type, char *err, size_t size);

/* ---- cgroup.c: root. Each pool in a cgroup v2 of its own --------------------- */

/* Is there a cgroup v2 tree with the controllers of these keys? 0, or -1 with the reason in err (zfpm -t). */
int	 cgroup_check(const struct conf *, char *err, size_t size);
/*
 * In the master: move zfpm itself into a leaf below its own cgroup, so that pools can have theirs beside it, with every controller
 * that there is. Does nothing where it is done. 0, or -1 with the reason in err.
 */
int	 cgroup_init(char *err, size_t size);
struct spawn_error;
/* In the forked child, still root: make the pool's cgroup, set its keys, enter it. 0 or -1 with *err. */
int	 cgroup_enter(const struct conf_pool *, const char *name, struct spawn_error *err);
/* The last process of the pool has gone: end what is left in its cgroup, and remove it, now or in cgroup_sweep(). */
void	 cgroup_leave(const char *name);
/* Try again to remove those that were busy. Returns how many are left. */
int	 cgroup_sweep(void);

/* ---- master.c: root. Spawns, reaps, kills; never reads the network ---------- */

struct start {
	const char	*file;		/* the configuration, an absolute path */
	const char	*binary;	/* absolute path of the program that runs, for upgrade; not resolved further, so a link can be moved */
	char		**argv;		/* as it was started; NULL at the end */
	int		 ready_fd;	/* gets one byte and is closed as soon as requests can come; -1: nobody waits */
	int		 state_fd;	/* after an upgrade: what the program before has left (ZFPM_STATE); else -1 */
};

/* Bind the sockets, start the router and run until told to stop; returns the exit status. Owns conf. */
int	 master_run(struct conf *, const struct start *);

enum proc_state {
	PROC_STARTING,	/* forked, exec not yet reported */
	PROC_RUNNING,
	PROC_STOPPING,	/* SIGTERM sent; SIGKILL at kill_ms */
	PROC_KILLED,	/* SIGKILL sent */
};

struct queued {			/* a message that a router's socket had no room for */
	struct queued	*next;
	struct msg	 msg;
	int		 fd;		/* ours to close, or -1 */
};

/* A router: the current one, one that is about to replace it, or one that finishes what it has. */
struct router {
	struct router	*next;
	pid_t		 pid;
	int		 sock;		/* -1: closed; it is going */
	uint32_t	 generation;
	bool		 told;		/* MSG_HANDOVER was sent: it starts nothing any more */
	int64_t		 told_ms;	/* when */
	bool		 released;	/* and it has answered */
	int		 pings;		/* without an answer */
	struct queued	*queue_first, *queue_last;
	int		 nqueued;
};

enum proc_kind {
	PROC_DIRECT,	/* a worker that the master has started */
	PROC_SERVER,	/* an app server; no worker itself */
	PROC_FORKED,	/* a worker that an app server forks: no child of ours, and never signalled by us */
};

/* One process, from fork to waitpid(); of PROC_FORKED, from the router's wish to its word that it has ended. */
struct proc {
	enum proc_kind	 kind;
	enum proc_state	 state;
	uint32_t	 number;	/* names its socket; app servers have numbers of their own */
	pid_t		 pid;		/* also its session and process group; PROC_FORKED: 0 */
	struct router	*router;	/* whose it is; NULL: that one is gone, or PROC_SERVER, which is everybody's */
	struct proc	*server;	/* PROC_FORKED: by which */
	int		 nforked;	/* PROC_SERVER: workers that it has */
	int64_t		 idle_ms;	/* PROC_SERVER: since when it has none */
	uint64_t	 stamp;		/* PROC_SERVER: of its program and the files that it read (spawn_stamp()) */
	bool		 stale;		/* PROC_SERVER: it forks no more; a worker: it is to be replaced */
	const struct conf_pool *pool;	/* that its name means now; NULL: none */
	int		 app;		/* index in pool->apps; -1: it has no such app any more */
	char		*name;		/* of the pool; ours */
	char		*app_name;	/* ours */
	uint64_t	 fingerprint;	/* of the settings that it was started with */
	int64_t		 patience_ms;	/* `timeout kill` of those */
	bool		 cgroup;	/* it is in the pool's cgroup */
	bool		 whole;		/* PROC_DIRECT: nothing of its process group outlives it, however it ends */
	int		 report_fd;	/* until exec is reported, then -1 */
	int		 error_fd;	/* until it is handed to a router, then -1 */
	int64_t		 kill_ms;	/* PROC_STOPPING */
	bool		 told_twice;	/* PROC_STOPPING: it has had its second SIGTERM */
	bool		 failed;	/* text says which step */
	char		 text[TEXT_LEN];
};

struct client {			/* zfpm COMMAND, at the control socket */
	struct client	*next;
	int		 fd;		/* -1: gone */
	bool		 waits;		/* for the end of its command */
	bool		 begun;		/* which has begun */
	enum control_command command;
	uint32_t	 last_number;	/* CONTROL_RETIRE: until no worker up to this one is left ... */
	char		 pool[POOL_NAME_LEN + 1];	/* ... of this pool */
};

/* What the master knows and an upgrade must not forget. */
struct master {
	int64_t		 zfpm_start;	/* seconds since 1970 */
	uint32_t	 last_number;	/* the highest number of a worker so far */
	uint32_t	 last_server;	/* and of an app server */
	uint32_t	 generation;	/* of the newest router */
	int		 lock_fd;	/* RUN_DIR/zfpm.pid, locked as long as it is open */
	int		 control_fd;	/* listens; -1: there is none */
	char		*control_path;	/* where; ours */
	pid_t		 guard_pid;	/* 0: none */
	int		 guard_sock;
	struct router	*routers;	/* newest first */
	struct client	*clients;
	struct proc	**procs;	/* in no order */
	int		 nprocs, procs_size;
	int		 nservers;	/* of them; the others are workers */
};

/* A new entry, at the end of the table; NULL without memory. */
struct proc *proc_new(struct master *);

/* ---- upgrade.c: root. From one program to the next, in the same process ----------------------- */

/*
 * Write down what the master knows into a file without a name, and let all its descriptors survive exec. Returns the file's
 * descriptor, or -1 with errno and everything as it was. upgrade_undo(): exec has failed.
 */
int	 upgrade_save(const struct master *, const struct conf *);
void	 upgrade_undo(const struct master *, const struct conf *, int state_fd);
/* In the next program: read it, and note the listening sockets (listen_adopt()). 0, or -1: the file makes no sense, which is logged. */
int	 upgrade_load(struct master *, int state_fd);

/* ---- spawn.c: root, then the pool's user. From fork to exec ------------------ */

#define SPAWN_STEP_LEN	24

/* What the child reports over the close-on-exec pipe when a step fails. */
struct spawn_error {
	char		 step[SPAWN_STEP_LEN];	/* "setuid", "user", "chroot" ... */
	char		 reason[TEXT_LEN - SPAWN_STEP_LEN - 8];
};

struct spawned {
	pid_t		 pid;
	int		 report_fd;	/* struct spawn_error, or its end when exec has succeeded */
	int		 error_fd;	/* read end of the error pipe */
};

/*
 * Once, at start: raise zfpm's own limit of descriptors (applications get the one that was there before), and note
 * the router's user, as which no application may run, and whether a guard ends the applications when the master dies.
 */
void	 spawn_init(uid_t router_uid, gid_t router_gid, bool guarded);

/*
 * Start one worker of a pool, or the app server of an app with fork_server, with the application's listening socket at
 * socket_path (created, owned by the router's user, and the caller's to unlink
 * when the worker has gone). Returns 0, or -1 with the failed step in *err; then
 * nothing is left behind. What fails in the child comes over report_fd.
 */
int	 spawn_worker(const struct conf *, const struct conf_pool *, const struct conf_app *,
	    const char *pool_name, const char *socket_path, struct spawned *, struct spawn_error *err);

/* A number for the state of all files that an app server was made from: its program, the library, and what `watch` names. */
uint64_t spawn_stamp(const struct conf_app *);

/*
 * Find the user of a pool, group and uid checked against what may ever run
 * (uid 0, min_uid, ...). Also used by zfpm -t. Returns 0 or -1 with *err.
 */
struct spawn_user {
	const char	*name;		/* valid until the next call */
	const char	*home;
	uid_t		 uid;
	gid_t		 gid;
};
int	 spawn_find_user(const struct conf *, const char *user, const char *group, struct spawn_user *, struct spawn_error *err);

/*
 * The pool's error_log, opened for appending: a regular file below directories that only root can write, which the child
 * of the first worker has made (root's, mode 0640, of the pool's group). -1: there is none, or it can not be used, which is logged.
 */
int	 spawn_error_log(const struct conf_pool *, const char *name);

/* Could this path be one? 0, or -1 with the reason in why. It need not be there yet. */
int	 spawn_check_error_log(const char *path, char *why, size_t size);

/* In a forked child: signals as a program expects to find them. */
void	 spawn_reset_signals(void);

/* Is this command one that may run for uid? Returns 0 or -1 with *err. */
int	 spawn_check_command(const char *path, uid_t uid, struct spawn_error *err);

/*
 * Will the fork server's library be loaded into this command, which may run, for uid? Opens both with the rights of uid,
 * if they are to be had. 0, or -1 with *err. Also used by zfpm -t.
 */
int	 spawn_check_fork_server(const char *command, const char *library, uid_t uid, struct spawn_error *err);

/* ---- guard.c: root. Ends what is left when the master dies -------------------- */

/* In the forked child: wait for the end of the master at the other end of this socket, then for that of all the others. */
_Noreturn void	 guard_run(int master, int log_fd);

/* ---- router.c: user zfpm, chrooted. The poll loop ---------------------------- */

/*
 * In the forked child, when root is given up: take what the routers before leave, wait for MSG_GO, and route until told
 * to quit, until a next router has got everything, or until the master is gone. log_fd is what the log is written to.
 */
struct status_info;
_Noreturn void router_run(const struct conf *, int master_fd, int log_fd, const struct status_info *);

/* ---- timeout.c: the earliest deadline ------------------------------------------ */

enum timer_kind { TIMER_REQUEST, TIMER_WORKER, TIMER_POOL, TIMER_SERVER };

struct timer {			/* embedded in what it times */
	enum timer_kind	 kind;
	int		 slot;		/* in the heap, -1 = not there */
	int64_t		 key_ms;	/* its place in the heap; never later than due_ms */
	int64_t		 due_ms;	/* the deadline, monotonic; 0 = disarmed */
};

void		 timeout_init(struct timer *, enum timer_kind);
/*
 * Arm, or arm anew; moving a deadline away costs nothing. Returns -1 if there is
 * no memory for one more timer (only when it was not in the heap), else 0.
 */
int		 timeout_arm(struct timer *, int64_t due_ms);
void		 timeout_disarm(struct timer *);
void		 timeout_remove(struct timer *);	/* before its memory goes */
/* A timer that is due, disarmed by this call, or NULL. */
struct timer	*timeout_pop(int64_t now_ms);
/* When the next timer may be due, or 0 if none is armed. Never too late, sometimes too early. */
int64_t		 timeout_next(void);

/* ---- pool.c: who serves, who waits, who is evicted ------------------------------- */

/* Why a worker ended. */
enum end_cause {
	END_IDLE,		/* `timeout idle` */
	END_MAX_REQUESTS,
	END_TIMEOUT,		/* it took longer than a timeout allows */
	END_DIED,		/* by itself, or killed by somebody else */
	END_RELOAD,		/* its settings have changed, or there are too many for the new ones */
	END_EVICTED,		/* its place was needed for another pool or app */
	END_RETIRED,		/* zfpm retire */
	END_CUT,		/* its request's body was cut off */
	END_CLOSED,		/* of an app server: it serves one connection, and that has ended */
	END_CAUSES
};

/* What has happened since zfpm started; kept across reloads and upgrades, not when a router dies. All of one type: handed over as an array. */
struct counters {
	uint64_t	 requests;	/* that an application has ended */
	uint64_t	 failed;	/* that zfpm failed, with a message */
	uint64_t	 aborted;	/* whose web server or client left before the end */
	uint64_t	 queue_full;	/* of the failed: 503 */
	uint64_t	 slow;		/* over the pool's `slow` */
	uint64_t	 bytes_in;	/* STDIN, and DATA of a filter */
	uint64_t	 bytes_out;	/* STDOUT */
	uint64_t	 started;	/* workers */
	uint64_t	 start_failures;
	uint64_t	 ended[END_CAUSES];
	uint64_t	 timeouts[TIMEOUT_KINDS];	/* requests that one has ended: wait, app, server, request */
	uint64_t	 accepted;	/* connections; of all pools together only */
};

/* What a request is about, for messages and status; escaped by whoever shows it. */
struct about {
	char		 method[32];
	char		 uri[512];	/* its beginning */
	char		 script[1024];	/* its end */
};

enum worker_state {
	WORKER_STARTING,	/* asked of the master */
	WORKER_IDLE,		/* can take a request: busy < nlinks */
	WORKER_BUSY,		/* all its connections serve, or it takes no more */
	WORKER_LEAVING,		/* its request was given up, or its connection found closed: is it at accept()? */
	WORKER_STOPPING,	/* the master has been told to stop it; wait for its exit */
	WORKER_ELSEWHERE,	/* it serves in an earlier router; counted, and ours when that is through with it */
	WORKER_GONE,		/* exited; freed with its last request */
};

/* What a process says on its standard error. */
struct errors {
	int		 fd;		/* the read end; -1 if closed; ours */
	struct pool	*pool;
	pid_t		 pid;
	bool		 server;	/* it is an app server's */
	char		 line[1024];	/* an unfinished line */
	int		 line_len;
	int64_t		 line_ms;	/* the rate limit: since then ... */
	int		 line_count;	/* ... so many reads */
	bool		 watched;	/* it is in the router's os_watch, or ... */
	bool		 muted;		/* ... not read until its mute_ms */
};

/* One connection to a worker. */
struct link {
	struct worker	*worker;
	struct request	*request;	/* that it serves; NULL if idle or unconnected */
	int		 fd;		/* -1: not connected; ours to close */
	int		 slot;		/* in the router's poll set while its worker is leaving, -1 = not there */
	bool		 peeks;		/* os_peek_on() has worked for fd */
	uint32_t	 unread;	/* bytes of the last response that are known and still lie in fd; 0 while it serves */
};

struct worker {
	enum worker_state state;
	uint32_t	 number;	/* the master knows it by this; names its socket */
	pid_t		 pid;		/* 0 until started; for messages only */
	struct pool	*pool;
	int		 app;		/* index in pool->apps */
	struct worker	*pool_prev, *pool_next;	/* all workers of the pool */
	struct worker	*hash_next;		/* of the workers with one hash of number */
	struct worker	*idle_prev, *idle_next;	/* WORKER_IDLE: of its app, most recently used first */
	struct worker	*lru_prev, *lru_next;	/* serving nobody: of all pools, longest idle first */
	struct worker	*chore_next;		/* in the list of workers that router.c must stop or probe */
	bool		 in_lru, in_chores;
	bool		 retiring;	/* stop it when its last request has ended */
	enum end_cause	 cause;		/* why, if it is retiring or stopping; else END_DIED */
	bool		 kill;		/* and at once: it may not find out that its connection ends */
	bool		 told;		/* the master has been told to stop it */
	bool		 ahead;		/* WORKER_STARTING: nobody waits for it */
	bool		 doubted;	/* WORKER_LEAVING by pool_doubt(), and counted in its app's starting */
	bool		 asked;		/* WORKER_LEAVING: it has taken an empty connection, and closed that without an error */
	bool		 closes;	/* it closes its connection after a response, and lives */
	struct timer	 timer;		/* idle: retire; leaving: overdue; stopping, of an app server: the next signal */
	int		 signal;	/* the last one that its app server was asked to send; 0: none */
	int64_t		 start_ms;	/* asked of the master */
	int64_t		 idle_ms;	/* since when it serves nobody */
	uint64_t	 requests;	/* completed */
	struct about	*elsewhere;	/* WORKER_ELSEWHERE: what it serves there; NULL: not known. Ours */
	int64_t		 elsewhere_ms;	/* and since when; 0: it has not served since */
	bool		 handed;	/* WORKER_ELSEWHERE: it has been given to us, the master's word is still to come */
	int		 busy;		/* links with a request */
	struct errors	 errors;
	bool		 forked;	/* by an app server: it serves one connection, which no other can follow */
	struct server	*server;	/* by which; NULL when that is gone */
	struct worker	*server_prev, *server_next;	/* all workers of that */
	bool		 forking;	/* it is still to be forked */
	bool		 wants_fork, wants_adopt;	/* the app server is still to be told so */
	int		 wants_signal;	/* or to send it this; 0: none */
	int		 nlinks;	/* connections of the app */
	struct link	 links[];
};

struct pool_app {
	struct worker	*idle_first, *idle_last;
	struct request	*queue_first, *queue_last;	/* first in, first out */
	int		 queued;
	int		 starting;	/* workers that will be idle soon */
	int		 alive;		/* workers that will serve again: starting, idle, busy or leaving */
	bool		 fragile;	/* an empty connection ends its workers: that they close is no reason to ask them with one */
	bool		 closes;	/* its workers close their connection after a response, and live */
	uint64_t	 left_after;	/* responses after which the last worker that left by itself did so */
	int		 left;		/* so many of them in a row; 0: one has served longer since */
	int64_t		 backoff_ms;	/* current wait after a failed start, 0 = none */
	int64_t		 retry_ms;	/* no start before this time */
	char		 reason[TEXT_LEN + 32];	/* the message, why the last start failed */
};

/* The living part of a pool: exists while it has workers, requests or a back-off. */
struct pool {
	struct pool	*hash_next;
	const struct conf_pool *conf;
	struct worker	*workers;
	struct timer	 timer;		/* end of a back-off */
	int		 nworkers;	/* not yet exited */
	int		 stopping;	/* of them, on their way out */
	int		 elsewhere;	/* of them, with an earlier router */
	int		 busy;		/* requests being served */
	int		 queued;	/* in all apps */
	int		 requests;	/* that point here, in whatever state */
	struct server	*servers;	/* app servers, by pool_next */
	bool		 in_ready;	/* in the list of pools that pool_next() must look at */
	bool		 in_starved;	/* in the list of pools that only the global limit holds back */
	bool		 in_ahead;	/* in the list of pools that have less than min_workers */
	struct pool	*ready_next, *ahead_next;
	struct pool	*starved_prev, *starved_next;
	struct pool_app	 *apps;		/* conf->napps of them */
	struct counters	 *counters;	/* of an exact pool, they outlive it */
	int64_t		 window_ms;	/* when the window of RATE_MS that is being counted began */
	uint32_t	 window_requests, last_requests;	/* ended in it, and in the one before */
	int		 error_log_fd;	/* -1: zfpm's own log; ours */
	int64_t		 error_log_ms;	/* its last failure was logged */
	char		 name[POOL_NAME_LEN + 1];
};

/* The beginning of the message to all whose process can not be started; STEP: REASON follows. */
#define CANNOT_START	"Cannot start FCGI process: "

enum pool_action {
	POOL_NOTHING,		/* nothing can be done now */
	POOL_SERVE,		/* request, link: begin it there */
	POOL_REFUSE,		/* request, reason: no process can be started */
	POOL_START,		/* worker: ask the master for it */
	POOL_STOP,		/* worker: close its connections (but see worker.kill), have the master stop it */
	POOL_PROBE,		/* worker: offer it a connection, to see when it is back at accept() */
	POOL_GIVE,		/* worker: it is idle, and the next router's from now on */
};

struct pool_step {
	struct request	*request;
	struct link	*link;
	struct worker	*worker;
	const char	*reason;	/* the whole message */
};

void		 pool_init(const struct conf *);
/* The living pool of this name, made if need be. NULL: errno ENOENT (no such pool) or ENOMEM. Counts one request. */
struct pool	*pool_get(const char *name);
/* The same for the one that stands for all that are configured no more. */
struct pool	*pool_removed(void);
/* A request lets go of its pool, which is freed with the last of all it has. */
void		 pool_release(struct pool *);
/* Queue r (r->pool, r->app set); -1 if max_queue is reached. */
int		 pool_queue(struct request *r);
/* r comes from an earlier router's queue: to its place by r->queued_ms, however many wait. */
void		 pool_queue_again(struct request *r);
/* r found its worker dead before a byte was sent: first in the queue again. */
void		 pool_requeue(struct request *r);
void		 pool_unqueue(struct request *r);
/*
 * What is to be done next, called until POOL_NOTHING after anything has
 * happened. With POOL_SERVE the link is taken already.
 */
enum pool_action pool_next(struct pool_step *, int64_t now_ms);
/* The link's request has ended and the worker waits for the next one. served: it counts for max_requests. */
void		 pool_put(struct link *, bool served, int64_t now_ms);
/* The link's request was given up while the worker is still at it; its connection is closed here. */
void		 pool_leave(struct link *, int64_t now_ms);
/*
 * The link's request lacks a part of its body that will never come. PHP would take the end of the connection for
 * the end of the body, and run the script: so the worker is killed before the connection is closed.
 */
void		 pool_kill(struct link *, int64_t now_ms);
/*
 * Its worker has closed the connection since the last request, or refuses one: it
 * may be exiting, and its socket may still take a request that nobody will read. The
 * request goes elsewhere (pool_requeue()) until the worker is known to be back, or has exited.
 */
void		 pool_doubt(struct link *, int64_t now_ms);
/* A leaving worker's timer is due. Returns whether it may still take its time: it was only doubted. */
bool		 pool_patience(struct worker *, int64_t now_ms);
/* The link's request took too long, or the worker is dead: stop the worker, as soon as it serves nobody else. */
void		 pool_overdue(struct link *, enum end_cause);
/* `timeout idle` is over for this worker. */
void		 pool_idle_too_long(struct worker *);
/* A leaving worker is back. */
void		 pool_returned(struct worker *, int64_t now_ms);
/* The link's request was lost: its worker closed the connection after the response before, and lives. */
void		 pool_closed(struct link *, int64_t now_ms);
/* It has ended by itself after a response. */
void		 pool_left(struct worker *);
/* Is the response that it gives now its last one, going by others of its app? It should not find the connection open then. */
bool		 pool_leaves(const struct worker *);
/* It has died of being asked whether it is back, and so would the others of its app. */
void		 pool_fragile(struct worker *);
/* Stop a worker: at once if it serves nobody, else with the end of its last request. */
void		 pool_retire(struct worker *, enum end_cause);
struct worker	*pool_worker(uint32_t number);
void		 pool_started(struct worker *, pid_t pid, int64_t now_ms);
/* It could not be started, or ended before it took its first request: its app is backed off. reason: the message to those who waited for it. */
void		 pool_failed(struct worker *, const char *reason, int64_t now_ms);
/* It has exited. Its links with a request stay until pool_put() or pool_overdue(); frees it otherwise. */
void		 pool_gone(struct worker *);
/* The pool's timer is due. */
void		 pool_timeout(struct pool *, int64_t now_ms);
/* Fail everything that waits from now on (reason: for all); the router is leaving. */
void		 pool_close(const char *reason);

/* The same, but for one whose request was given up: it may still run. */
void		 pool_replace(struct worker *, enum end_cause);
/* Replace the workers of a pool, each when it is idle. Those that are started from now on stay. */
void		 pool_renew(const char *name);
/* A next router is there: start nothing any more; every worker that is or becomes idle is given away (POOL_GIVE). false: not now. */
void		 pool_hand_over(bool);
/* After POOL_GIVE: forget the worker, without closing what has been sent. */
void		 pool_given(struct worker *);
/* The master tells of a worker that an earlier router had. NULL without memory. */
struct worker	*pool_adopt(uint32_t number, pid_t pid, struct pool *, int app, enum take, int64_t now_ms);
/* It is ours now, idle, with the connections and the history that the earlier router had. */
void		 pool_taken(struct worker *, int64_t now_ms);
/* Its error log from now on (-1: zfpm's own log), which is the pool's to close then: 0. -1: there is no such pool. */
int		 pool_set_error_log(const char *name, int fd);
/* Counters that an earlier router had, of one pool, or (name empty) of all together; and all of ours back to 0. */
void		 pool_add_counters(const char *name, const struct counters *);
void		 pool_forget_counters(void);
/* The master is stopping it: END_RELOAD, its settings have changed, or END_RETIRED. */
void		 pool_stopped(struct worker *, enum end_cause);
/* Has any worker that is not with an earlier router? */
bool		 pool_own_workers(void);
/* All that earlier routers had is known: start workers, from this number on, as they are needed, and what min_workers asks for. */
void		 pool_go(uint32_t first_worker);

/* For status: the living pools, bucket by bucket (pool->hash_next), and what they are together. */
#define POOL_BUCKETS	8192
struct pool	*pool_bucket(size_t i);
struct totals {
	int		 pools;		/* living */
	int		 servers;	/* app servers */
	int		 workers;
	int		 starting, idle, busy, stopping, elsewhere;	/* of them */
	int		 queued;
	struct counters	 counters;
};
void		 pool_totals(struct totals *);
/* The counters of a configured pool that is not living now; NULL: never had any. */
const struct counters *pool_counters(const struct conf_pool *);
/* Count for this pool and for all. */
#define COUNT(p, what)	((p)->counters->what++, all_counters.what++)
#define RATE_MS		10000
/* A request of the pool's has ended: count it, and for the rate. */
void		 pool_served(struct pool *, int64_t now_ms);
extern struct counters all_counters;

/* ---- server.c: the router's side of app servers -------------------------------------- */

enum server_state {
	SERVER_NEW,		/* nobody has needed it yet: not connected */
	SERVER_STARTING,	/* FS_HELLO is sent; it may not have reached accept() */
	SERVER_READY,
	SERVER_LOST,		/* it has closed our connection: the master may tell why */
	SERVER_FAILED,		/* the master has been asked to end it */
};

/* An app server, from MSG_SERVER to MSG_SERVER_GONE. */
struct server {
	enum server_state state;
	struct server	*hash_next, *pool_next;
	uint32_t	 number;	/* names its socket */
	pid_t		 pid;
	int64_t		 start_ms;	/* when we heard of it */
	struct pool	*pool;		/* stays as long as it does */
	int		 app;		/* index in pool->apps */
	int		 fd;		/* -1: not connected; ours to close */
	int		 slot;		/* in the router's poll set, -1 = not there */
	bool		 full;		/* it takes no more now: poll for room */
	bool		 ready;		/* it has reached accept() */
	int		 forking;	/* workers that it is to fork and has not */
	int		 strays;	/* times that it has spoken of workers that nobody knows, since the last one that it has forked */
	struct timer	 timer;		/* `timeout start`, while it starts or forks; or it is lost */
	struct worker	*workers;
	struct errors	 errors;
	uint8_t		 in[sizeof(struct fs_msg)];	/* a message, as far as read */
	size_t		 in_len;
};

/* router: the generation of ours. */
void		 server_init(uint32_t router);
/* A new one; NULL without memory. */
struct server	*server_new(uint32_t number, pid_t pid, struct pool *, int app, int64_t now_ms);
struct server	*server_find(uint32_t number);
/* The one after this, of all, in no order; NULL: the first. NULL at the end. */
struct server	*server_after(const struct server *);
/* After its last worker has been detached; its error pipe is the caller's to close before. */
void		 server_free(struct server *);
void		 server_attach(struct server *, struct worker *);
void		 server_detach(struct worker *);
/*
 * Say all that is still to be said for its workers (wants_fork: connects the worker's link, too), connecting first if need
 * be. 0: as much as it takes now: call again when it has said something, and, if full, when fd has room. -1 with errno:
 * it can not be talked to, or (*which not NULL) this worker's connection and pipe can not be made.
 */
int		 server_flush(struct server *, struct worker **which);
/* A new non-blocking connection to the socket of a worker ('w') or an app server ('s') of this number, or -1 with errno. */
int		 server_connect(char kind, uint32_t number);
/* Another router will ask for this worker. What can not be said is not: then it ends with us. */
void		 server_release(struct worker *);
/* The next message that is there. 1; 0: none; -1: what came is nonsense, or the end (errno 0) of the connection. text is a string. */
int		 server_read(struct server *, struct fs_msg *);

/* ---- status.c: formats the counters, read-only. No I/O ----------------------------- */

enum status_format { STATUS_TEXT, STATUS_JSON, STATUS_OPENMETRICS, STATUS_HTML };

/* What only router.c knows. */
struct status_info {
	pid_t		 master_pid;
	int64_t		 zfpm_start;	/* seconds since 1970: when zfpm started, which upgrades do not change */
	int64_t		 conf_start;	/* when this configuration was taken */
	uint32_t	 generation;	/* 1, and one more with every reload and upgrade */
	int		 connections;	/* from web servers, now */
	int		 max_workers;
	int		 npools;	/* configured */
};

/*
 * A status page under way: whole pools are formatted one after the other, so that it can be written whenever its
 * reader has room while requests go on. pool: one name, or NULL or empty for all. NULL without memory.
 */
struct status;
/* The format of this name (text, json, openmetrics, html), or -1. */
int		 status_format(const char *name);
struct status	*status_new(const struct conf *, enum status_format, const char *pool, const struct status_info *);
/* The next piece, valid until the next call, and its length; NULL at the end (or without memory: then status_failed()). */
const char	*status_next(struct status *, size_t *len, int64_t now_ms);
bool		 status_failed(const struct status *);
void		 status_free(struct status *);

/* ---- request.c: one request between web server and worker -------------------------- */

/*
 * Bytes under way in one direction: a chain of blocks, only while there are
 * bytes. A chain ends between two records, so that another can always follow.
 */
#define BLOCK_DATA	(FCGI_HEADER_LEN + FCGI_MAX_CONTENT + 57)
struct block {
	struct block	*next;
	uint32_t	 head;		/* first byte that is still to be written */
	uint32_t	 tail;		/* end of the bytes */
	uint8_t		 data[BLOCK_DATA];
};
struct chain {
	struct block	*first, *last;
	size_t		 len;		/* bytes in all blocks */
};

enum req_state {
	REQ_IDLE,	/* a kept connection with no request */
	REQ_PARAMS,	/* reading BEGIN_REQUEST and PARAMS from the web server */
	REQ_BODY,	/* collecting a small body, so that it holds no worker meanwhile */
	REQ_STATUS,	/* it asked for the status page, which is made here, piece by piece */
	REQ_QUEUED,	/* no worker yet; linked in its app's queue */
	REQ_RELAY,	/* a worker has it: STDIN goes up, STDOUT and STDERR come down */
	REQ_LOST,	/* the worker closed the connection; the master may still tell why */
	REQ_DRAIN,	/* nothing more will come; the last bytes go to the web server */
	REQ_LINGER,	/* all is sent; closing while the web server still sends would keep it from reading that */
	REQ_DEAD,	/* freed by router_sweep(), never inside a handler */
};

/* What the bytes just read have decided; done when no pointer to them is live any more. */
enum req_verdict {
	VERDICT_NONE,
	VERDICT_ABORT,		/* ABORT_REQUEST */
	VERDICT_SHORT,		/* the body ended before CONTENT_LENGTH */
	VERDICT_BROKEN,		/* not FastCGI: verdict_text says what */
};

/* A connection from the web server, and the request that it carries, if any. */
struct request {
	enum req_state	 state;
	bool		 in_dead;	/* in the list of router_sweep() */
	struct request	*dead_next;	/* there, or in the list of free ones */
	struct request	*all_prev, *all_next;

	/* server side */
	int		 web_fd;	/* ours to close; -1 when the web server is gone */
	int		 web_slot;	/* in the router's poll set, -1 = not there */
	bool		 web_watched;	/* it is in the router's os_watch of web servers' connections instead */
	short		 web_events;	/* what to poll it for */
	const struct conf_listen *listen;
	bool		 web_eof;	/* it sends no more, but may still read */
	struct fcgi_reader web_reader;
	uint8_t		 begin[FCGI_BODY_LEN];	/* a BEGIN_REQUEST's body, as far as read */
	uint8_t		*values;	/* a GET_VALUES' content, as far as read; NULL if there is none */
	size_t		 values_len;
	enum req_verdict verdict;
	const char	*verdict_text;

	/* the request: valid from BEGIN_REQUEST on */
	bool		 active;	/* BEGIN_REQUEST read, END_REQUEST not yet put into down */
	bool		 keep;		/* FCGI_KEEP_CONN */
	bool		 key_ok;
	bool		 body_done;	/* all of the request has been read */
	bool		 stdin_done;
	bool		 answered;	/* STDOUT bytes have gone down */
	uint16_t	 id;		/* the web server's; the worker always sees 1. 0: no request has begun on this connection yet */
	uint16_t	 role;
	int64_t		 content_length;	/* -1: none given */
	int64_t		 stdin_len;	/* bytes of STDIN read */
	int64_t		 stdout_len;	/* bytes of STDOUT that the worker has given */
	int64_t		 data_length;	/* FCGI_DATA_LENGTH of a FILTER; -1: none given */
	int64_t		 data_len;	/* bytes of DATA read */
	struct chain	 up;		/* to the worker: BEGIN_REQUEST and PARAMS, then the body */
	struct chain	 down;		/* to the web server */

	/* re-packing PARAMS into up, between two reads */
	size_t		 params_len;	/* bytes of PARAMS read */
	uint32_t	 record;	/* offset of the open record's header in up.last */
	uint32_t	 partial;	/* bytes of an incomplete pair behind up.last->tail */
	size_t		 pair_left;	/* bytes to come of a pair too long for one record */
	bool		 pair_drop;	/* and it is not forwarded */

	struct status	*status;	/* REQ_STATUS; ours */

	/* application side */
	struct pool	*pool;		/* set when PARAMS are complete, then fixed */
	int		 app;		/* index in the pool's apps */
	struct request	*queue_prev, *queue_next;	/* REQ_QUEUED */
	struct link	*link;		/* REQ_RELAY, REQ_LOST; else NULL */
	pid_t		 pid;		/* of the worker, for messages; 0 before */
	int		 app_slot;	/* the link's descriptor in the router's poll set, -1 = not there */
	short		 app_events;	/* what to poll it for */
	bool		 app_deaf;	/* it reads no more: the rest of the body is discarded */
	bool		 app_reset;	/* it left bytes unread */
	bool		 exited;	/* the worker: exit_status is set */
	bool		 app_began;	/* a byte of it has come */
	int		 exit_status;
	struct fcgi_reader app_reader;
	uint8_t		 end[FCGI_BODY_LEN];	/* an END_REQUEST's body, as far as read */

	/* time, all monotonic */
	struct timer	 timer;
	int64_t		 start_ms;	/* first byte of the request */
	int64_t		 queued_ms;
	int64_t		 relay_ms;	/* a worker took it */
	int64_t		 web_in_ms;	/* last byte from the web server, or since when we want one */
	int64_t		 web_out_ms;	/* last byte to it, or since when it takes none */
	int64_t		 app_ms;	/* last byte to or from the application */
	int64_t		 lost_ms;	/* REQ_LOST began */
	int64_t		 last_ms;	/* zfpm was told to end: no request begins after the one that runs or is to come; 0: not */

	/* for messages; escaped by log.c */
	char		 pool_name[POOL_NAME_LEN + 1];
	char		 app_name[64];	/* empty: the pool's first */
	char		 status_name[16];	/* of the format that ZFPM_STATUS asks for; empty: an ordinary request */
	struct about	 about;
};

/* info: for status pages; the caller's, and up to date whenever a handler is called. */
void		 request_init(const struct conf *, const struct status_info *info);
/* A new connection from the web server; owns fd. NULL with errno if there is no memory; fd is closed then. */
struct request	*request_new(int fd, const struct conf_listen *, int64_t now_ms);
/* After REQ_DEAD and out of the poll set: give back all it holds. */
void		 request_free(struct request *);
/*
 * Handlers. Each moves the request as far as it goes without blocking; the outcome is r->state, web_events
 * and app_events. pool_next() may have something to do afterwards.
 */
void		 request_web_ready(struct request *, short revents, int64_t now_ms);
void		 request_app_ready(struct request *, short revents, int64_t now_ms);
/*
 * Send it to the worker of this link. Returns 0; 1 if the worker may be dead and has seen nothing; -1 with errno
 * if we can not connect for reasons of our own. The link is still taken in both.
 */
int		 request_begin(struct request *, struct link *, int64_t now_ms);
/* A process cannot be started for it: reason is the message. */
void		 request_refuse(struct request *, const char *reason, int64_t now_ms);
/* Its worker has exited. */
void		 request_worker_exited(struct request *, int status, int64_t now_ms);
/* Its timer is due. */
void		 request_timeout(struct request *, int64_t now_ms);
/* May it go to the next router as it is? (Idle, or in a queue, and nothing half done.) */
bool		 request_movable(const struct request *);
/* It has gone there: REQ_DEAD here. */
void		 request_moved(struct request *);
/* It has come from there, all but the place in a queue. Call once its bytes (request_append(): 0, or -1 without memory) are there. */
void		 request_arrived(struct request *, int64_t now_ms);
int		 request_append(struct request *, const uint8_t *, size_t);
/* Accept no further request on this connection, but one whose first bytes are there, or the first of all; at_once: not even those. */
void		 request_last(struct request *, bool at_once, int64_t now_ms);
/* Nothing can be done for it any more: REQ_DEAD. */
void		 request_drop(struct request *, int64_t now_ms);
/* Bring events and timer in line with the state; called after every handler. */
void		 request_settle(struct request *, int64_t now_ms);
/* This descriptor, a connection to its worker, is the link's from now on. */
void		 request_link(struct link *, int fd);
/* Take what lies in an idle link out of its socket: before it is closed or given away. */
void		 request_unlink(struct link *);
/* A new non-blocking connection to the worker's socket, or -1 with errno. */
int		 request_connect(const struct worker *);
/* Is this descriptor, of another router's, a connection to the worker's (its app server's) socket and nothing else? */
bool		 request_connected_to(const struct worker *, int fd);

/* ---- handover.c: from one router to the next ------------------------------------------- */

/*
 * What the socket between two routers carries. An upgrade may change the program between the two: a version that
 * changes any of these structs raises HANDOVER_VERSION, and zfpm upgrade refuses what does not match (-t says so).
 * The next router checks everything it reads: the one before may have been taken over.
 */
#define HANDOVER_VERSION	2
#define UPGRADE_WORD	"upgrade: ok"	/* what zfpm -t says last, and alone on its line, when it has been asked for that */

/* Give the worker's error pipe and connection and what it is known for to the next router. 0, or -1 with errno: it stays. */
struct handed;
int		 hand_worker(int sock, const struct handed *);
/* Give an app server's error pipe, and the unfinished line. */
int		 hand_server(int sock, const struct handed *);
/* Say what a worker that stays here is doing. */
int		 hand_serving(int sock, const struct worker *);
/* Give the connection with the request that waits on it, if any (request_movable()). */
int		 hand_request(int sock, const struct request *);
/* Give what has been counted. pool: its name. */
int		 hand_counters(int sock, const char *pool, const struct counters *);

enum hand_type {
	HAND_NOTHING,		/* no more now */
	HAND_END,		/* the earlier router has given all, or died */
	HAND_NONSENSE,		/* what came can not be true, or there is no memory for it; the rest still counts */
	HAND_WORKER,
	HAND_SERVING,
	HAND_REQUEST,
	HAND_COUNTERS,
	HAND_SERVER,
	HAND_BYTES,		/* inside handover.c: they belong to the HAND_REQUEST before */
};

/* An earlier router. */
struct heritage {
	struct heritage	*next;
	int		 sock;		/* ours to close */
	int		 slot;		/* in the router's poll set */
	struct request	*request;	/* whose bytes are still to come; not yet in anybody's list */
	uint64_t	 bytes_left;
};

/* What it gives: the part that hand_get() says. Descriptors are the caller's, -1 if there are none. */
struct handed {
	struct request	*request;	/* HAND_REQUEST: new; request_arrived() is next */
	uint32_t	 worker;	/* HAND_WORKER, HAND_SERVING, HAND_SERVER: its number */
	int		 error_fd, link_fd;
	pid_t		 pid;		/* 0: not told */
	uint64_t	 requests;
	int64_t		 start_ms, idle_ms;	/* the worker's; HAND_SERVING: no idle_ms */
	int64_t		 request_ms;	/* HAND_SERVING: when its request began */
	bool		 closes;
	const char	*line;		/* of its standard error, unfinished; valid until the next call, as the rest */
	const struct about *about;
	const char	*pool;		/* HAND_COUNTERS */
	const struct counters *counters;
};
/* The next of what an earlier router gives, without waiting. listens: to find the one that a connection came from. */
enum hand_type	 hand_get(struct heritage *, struct handed *, const struct conf *, int64_t now_ms);

/* ---- log.c: called from anywhere, calls nothing but os.c ----------------------------- */

enum { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/*
 * Where lines go from now on, at start and whenever that changes; fd stays the caller's. For LOG_TO_SYSLOG it is one of
 * log_syslog()'s, or -1: log.c then connects by itself, each time anew, which a chrooted router can not.
 */
void	 log_init(const char *process, enum log_target, int fd, int level);
/* A connection to syslog, non-blocking, for log_init() here or in a router; -1 with errno: there is no syslogd. */
int	 log_syslog(void);
void	 log_process(const char *process);	/* in a forked child: who logs, lasting memory */
/* With strerror(errno). Bytes that are not printable ASCII or UTF-8 text come out as \xHH. */
void	 log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	 log_warnx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	 log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	 log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fatalx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A line of an application, time first, to a file of its own. 0, or -1 with errno: it was not written. */
int	 log_to(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "exited with status 3", "exited on signal 9 (SIGKILL)"; in a static buffer. */
const char *log_wait_status(int status);

/* ---- os.c: all that POSIX.1-2008 lacks ------------------------------------------------- */

int64_t	 os_now_ms(void);			/* monotonic */
/* These are the system's own calls: 0, or -1 with errno. */
int	 os_set_groups(size_t n, const gid_t *);
int	 os_chroot(const char *);
int	 os_pipe(int fd[2]);			/* close-on-exec */
void	 os_pipe_room(int fd, int bytes);	/* how much it holds, where that can be said */
int	 os_socketpair(int type, int sv[2]);	/* AF_UNIX, close-on-exec */
int	 os_peer_uid(int fd, uid_t *);		/* of a connected Unix socket */
void	 os_keepalive(int fd);			/* a TCP connection whose peer has vanished breaks within two minutes, where that can be said */
/* From now on recv(MSG_PEEK) goes on where the last one ended. 0, or -1 with errno: there is no such thing. */
int	 os_peek_on(int fd);
/* A descriptor or -1 with errno; non-blocking, close-on-exec. */
int	 os_accept(int fd);
int	 os_socket(int family, int type);
/* All groups of a user, gid first; *n is the room, then the number. -1 if the room is too small. */
int	 os_user_groups(const char *user, gid_t gid, gid_t *gids, int *n);
void	 os_close_from(int first);		/* every descriptor from this one on */
/* SIGKILL for this process, which has not been waited for yet, and every process of its session and of those that its children lead. */
void	 os_kill_session(pid_t);
/* Get sig when parent, which has to be our parent now, dies; exits if it is dead already. */
void	 os_die_with_parent(pid_t parent, int sig);
/* A handle (pidfd) of a process, close-on-exec; -1 with errno: the system has none. Readable when the process has ended. */
int	 os_process_open(pid_t);
int	 os_process_signal(int handle, int sig);	/* 0, or -1 with errno */
/* No exec gives more rights than we have, and no other process may look into us. 0 or -1. */
int	 os_no_new_privileges(void);
/* Let os_title() change what ps shows. Copies argv and environ; 0, or -1 with errno. */
int	 os_title_init(int argc, char **argv);
void	 os_title(const char *);
/* Tell systemd, if NOTIFY_SOCKET asks for it. Waits a second at most. 0, or -1 with errno. */
int	 os_notify(const char *state);
/* The same: RELOADING=1 with the time, which has to be later than that of the request. READY=1 has to follow, whatever comes of it. */
int	 os_notify_reloading(void);
/* How often systemd wants to hear WATCHDOG=1: half of what it would wait, in ms; 0: not at all. */
int64_t	 os_watchdog_ms(void);

/*
 * Descriptors of which few at a time have anything to say (the workers' error pipes,
 * the web servers' connections), kept out of the poll set: os_watch_open() gives one descriptor to poll for all of
 * them, or -1 where there is none: then ask os_watch_ready() once a second.
 */
int	 os_watch_open(void);
int	 os_watch_add(int watch, int fd, void *data);		/* 0 or -1 with errno */
void	 os_watch_remove(int watch, int fd);
/* How many can be read, or have ended; their data, and what poll() would say of them (revents may be NULL). */
int	 os_watch_ready(int watch, void **data, short *revents, int n);

#endif
