/*
 * upgrade.c: root. What the master knows, from one program to the next in the same process.
 *
 * Owns the format of that: lines of text in a file without a name, whose
 * descriptor survives exec with all the others that it lists. Only root's own
 * program writes it. Never starts or ends anything.
 */
#include <sys/types.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#define STATE_VERSION	2

/* Call f for every descriptor that the state lists. */
static void
each_fd(const struct master *m, const struct conf *conf, void (*f)(int fd, int flags), int flags)
{
	const struct conf_listen *l;
	const struct router *r;
	const struct client *c;
	int i;

	f(m->lock_fd, flags);
	f(m->control_fd, flags);
	f(m->guard_sock, flags);
	for (l = conf->listens; l != NULL; l = l->next)
		f(l->fd, flags);
	for (r = m->routers; r != NULL; r = r->next)
		f(r->sock, flags);
	for (c = m->clients; c != NULL; c = c->next)
		f(c->fd, flags);
	for (i = 0; i < m->nprocs; i++) {
		f(m->procs[i]->report_fd, flags);
		f(m->procs[i]->error_fd, flags);
	}
}

static void
set_flags(int fd, int flags)
{
	if (fd != -1)
		fcntl(fd, F_SETFD, flags);
}

static int
router_index(const struct master *m, const struct router *router)
{
	const struct router *r;
	int i = 0;

	for (r = m->routers; r != NULL; r = r->next, i++)
		if (r == router)
			return i;
	return -1;
}

int
upgrade_save(const struct master *m, const struct conf *conf)
{
	char path[PATH_MAX];
	const struct conf_listen *l;
	const struct router *r;
	const struct client *c;
	const struct proc *p;
	int error, fd, i, n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/upgrade", conf->run_dir);
	unlink(path);		/* of a program that ended at the next line */
	if ((fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)) == -1)
		return -1;
	unlink(path);
	if ((i = dup(fd)) == -1 || (f = fdopen(i, "w")) == NULL) {
		error = errno;
		if (i != -1)
			close(i);
		close(fd);
		errno = error;
		return -1;
	}
	fprintf(f, "zfpm %d\n", STATE_VERSION);
	fprintf(f, "master %" PRId64 " %lu %lu %lu %d\n", m->zfpm_start, (unsigned long)m->last_number, (unsigned long)m->last_server,
	    (unsigned long)m->generation, m->lock_fd);
	if (m->control_fd != -1)
		fprintf(f, "control %d %s\n", m->control_fd, m->control_path);
	if (m->guard_pid != 0)
		fprintf(f, "guard %ld %d\n", (long)m->guard_pid, m->guard_sock);
	for (l = conf->listens; l != NULL; l = l->next)
		if (l->fd != -1)
			fprintf(f, "listen %d %d\n", l->fd, l->passed);
	for (r = m->routers; r != NULL; r = r->next)
		fprintf(f, "router %ld %d %lu %d\n", (long)r->pid, r->sock, (unsigned long)r->generation, r->released);
	/* App servers first: the others speak of them. */
	for (n = 0; n < 2 * m->nprocs; n++) {
		p = m->procs[n % m->nprocs];
		if ((p->kind == PROC_SERVER) != (n < m->nprocs))
			continue;
		fprintf(f, "proc %d %lu %lu %ld %d %d %d %d %" PRId64 " %" PRId64 " %" PRIx64 " %" PRIx64 " %d %d %s %s\n", (int)p->kind,
		    (unsigned long)p->number, p->server != NULL ? (unsigned long)p->server->number : 0, (long)p->pid, (int)p->state,
		    router_index(m, p->router), p->report_fd, p->error_fd, p->patience_ms, p->kill_ms, p->fingerprint, p->stamp, p->stale,
		    p->cgroup, p->name, p->app_name);
		if (p->failed)
			fprintf(f, "failed %s\n", p->text);
	}
	for (c = m->clients; c != NULL; c = c->next)
		if (c->fd != -1)
			fprintf(f, "client %d %d %d %d %lu %s\n", c->fd, c->waits, c->begun, (int)c->command, (unsigned long)c->last_number,
			    c->pool[0] != '\0' ? c->pool : "-");
	fprintf(f, "end\n");
	i = ferror(f);
	if (fclose(f) == EOF || i != 0) {
		error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	if (lseek(fd, 0, SEEK_SET) == -1)
		return -1;
	each_fd(m, conf, set_flags, 0);
	set_flags(fd, 0);
	return fd;
}

void
upgrade_undo(const struct master *m, const struct conf *conf, int state_fd)
{
	each_fd(m, conf, set_flags, FD_CLOEXEC);
	close(state_fd);
}

static struct router *
router_at(const struct master *m, int index)
{
	struct router *r = m->routers;

	if (index == -1)
		return NULL;
	while (r != NULL && index-- > 0)
		r = r->next;
	return r;
}

static int
load_router(struct master *m, const char *line)
{
	struct router *r, **end;
	unsigned long generation;
	int released, sock;
	long pid;

	if (sscanf(line, "%ld %d %lu %d", &pid, &sock, &generation, &released) != 4 || (r = calloc(1, sizeof(*r))) == NULL)
		return -1;
	r->pid = (pid_t)pid;
	r->sock = sock;
	r->generation = (uint32_t)generation;
	r->told = r->released = released != 0;
	set_flags(sock, FD_CLOEXEC);
	for (end = &m->routers; *end != NULL; end = &(*end)->next)
		;
	*end = r;
	return 0;
}

static int
load_proc(struct master *m, const char *line)
{
	int64_t patience_ms, kill_ms;
	int kind, state, router, report_fd, error_fd, stale, cgroup, at, i;
	unsigned long number, server;
	uint64_t fingerprint, stamp;
	const char *space;
	struct proc *p;
	long pid;

	if (sscanf(line, "%d %lu %lu %ld %d %d %d %d %" SCNd64 " %" SCNd64 " %" SCNx64 " %" SCNx64 " %d %d %n", &kind, &number, &server, &pid,
	    &state, &router, &report_fd, &error_fd, &patience_ms, &kill_ms, &fingerprint, &stamp, &stale, &cgroup, &at) != 14 || (space = strchr(line + at, ' ')) == NULL || (p = proc_new(m)) == NULL)
		return -1;
	if ((p->name = strndup(line + at, (size_t)(space - line - at))) == NULL || (p->app_name = strdup(space + 1)) == NULL)
		return -1;
	p->kind = (enum proc_kind)kind;
	m->nservers += p->kind == PROC_SERVER;
	p->number = (uint32_t)number;
	for (i = 0; i < m->nprocs && p->kind == PROC_FORKED; i++)
		if (m->procs[i]->kind == PROC_SERVER && m->procs[i]->number == server)
			p->server = m->procs[i];
	if (p->kind == PROC_FORKED && p->server == NULL)
		return -1;
	if (p->server != NULL)
		p->server->nforked++;
	p->idle_ms = os_now_ms();
	p->stamp = stamp;
	p->stale = stale != 0;
	p->pid = (pid_t)pid;
	p->state = (enum proc_state)state;
	p->router = router_at(m, router);
	p->report_fd = report_fd;
	p->error_fd = error_fd;
	p->patience_ms = patience_ms;
	p->kill_ms = kill_ms;
	p->fingerprint = fingerprint;
	p->cgroup = cgroup != 0;
	p->app = -1;
	set_flags(report_fd, FD_CLOEXEC);
	set_flags(error_fd, FD_CLOEXEC);
	return 0;
}

static int
load_client(struct master *m, const char *line)
{
	int fd, waits, begun, command;
	unsigned long last;
	struct client *c;

	if ((c = calloc(1, sizeof(*c))) == NULL)
		return -1;
	if (sscanf(line, "%d %d %d %d %lu %255s", &fd, &waits, &begun, &command, &last, c->pool) != 6) {
		free(c);
		return -1;
	}
	c->fd = fd;
	c->waits = waits != 0;
	c->begun = begun != 0;
	c->command = (enum control_command)command;
	c->last_number = (uint32_t)last;
	set_flags(fd, FD_CLOEXEC);
	c->next = m->clients;
	m->clients = c;
	return 0;
}

static int
load_line(struct master *m, char *line)
{
	unsigned long number, server, generation;
	int at, fd, passed;
	struct proc *p;
	long pid;

	if (strncmp(line, "router ", 7) == 0)
		return load_router(m, line + 7);
	if (strncmp(line, "proc ", 5) == 0)
		return load_proc(m, line + 5);
	if (strncmp(line, "client ", 7) == 0)
		return load_client(m, line + 7);
	if (strncmp(line, "failed ", 7) == 0 && m->nprocs > 0) {
		p = m->procs[m->nprocs - 1];
		p->failed = true;
		snprintf(p->text, sizeof(p->text), "%s", line + 7);
		return 0;
	}
	if (sscanf(line, "master %" SCNd64 " %lu %lu %lu %d", &m->zfpm_start, &number, &server, &generation, &fd) == 5) {
		m->last_number = (uint32_t)number;
		m->last_server = (uint32_t)server;
		m->generation = (uint32_t)generation;
		m->lock_fd = fd;
		set_flags(fd, FD_CLOEXEC);
		return 0;
	}
	if (sscanf(line, "control %d %n", &fd, &at) == 1) {
		m->control_fd = fd;
		set_flags(fd, FD_CLOEXEC);
		return (m->control_path = strdup(line + at)) == NULL ? -1 : 0;
	}
	if (sscanf(line, "guard %ld %d", &pid, &fd) == 2) {
		m->guard_pid = (pid_t)pid;
		m->guard_sock = fd;
		set_flags(fd, FD_CLOEXEC);
		return 0;
	}
	if (sscanf(line, "listen %d %d", &fd, &passed) == 2)
		return listen_adopt(fd, passed != 0);
	return -1;
}

int
upgrade_load(struct master *m, int state_fd)
{
	char *line = NULL;
	size_t size = 0;
	int version, result = -1;
	ssize_t n;
	FILE *f;

	fcntl(state_fd, F_SETFD, FD_CLOEXEC);
	if ((f = fdopen(state_fd, "r")) == NULL) {
		log_warn("upgrade: state");
		return -1;
	}
	if (getline(&line, &size, f) == -1 || sscanf(line, "zfpm %d", &version) != 1 || version != STATE_VERSION) {
		log_warnx("upgrade: state of another version");
	} else {
		while ((n = getline(&line, &size, f)) > 0) {
			if (line[n - 1] == '\n')
				line[n - 1] = '\0';
			if (strcmp(line, "end") == 0) {
				result = 0;
				break;
			}
			if (load_line(m, line) == -1) {
				log_warnx("upgrade: state: %s", line);
				break;
			}
		}
	}
	free(line);
	fclose(f);
	return result;
}
