/*
 * handover.c: what one router leaves to the next: connections, waiting requests, idle workers, counters.
 *
 * Owns the format of the packets between two routers. Each begins with a type;
 * an upgrade may put two versions of zfpm at the two ends (HANDOVER_VERSION).
 * The reader believes nothing: lengths, states and times are checked, texts are
 * ended, for a router that was taken over shall not take its successor along.
 */
#include <sys/types.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#define BYTES_MAX	32768	/* of a request's bytes in one packet; two fit into a socket's buffer */
#define LINE_MAX_LEN	1023
#define LENGTH_MAX	(INT64_C(1) << 60)	/* of what can have been read: its sums must not overflow */
#define UP_MAX		(UINT64_C(1) << 30)	/* of a request's bytes in memory: more than any setting makes of one */

struct worker_packet {		/* HAND_WORKER, HAND_SERVER */
	uint32_t	 type;
	uint32_t	 worker;
	uint64_t	 requests;
	int64_t		 start_ms;
	int64_t		 idle_ms;
	int32_t		 pid;
	uint8_t		 closes;
	uint8_t		 has_error_fd;
	uint8_t		 has_link_fd;
	uint8_t		 unused[1];
	char		 line[LINE_MAX_LEN + 1];
};

struct serving_packet {
	uint32_t	 type;
	uint32_t	 worker;
	int64_t		 start_ms;	/* the request */
	int64_t		 worker_ms;	/* the worker */
	uint64_t	 requests;
	int32_t		 pid;
	uint32_t	 unused;
	struct about	 about;
};

struct request_packet {
	uint32_t	 type;
	uint8_t		 queued;	/* else idle, and the rest up to listen is nothing */
	uint8_t		 keep, body_done, stdin_done, web_eof;
	uint8_t		 hdr_len, record_type, padding_left;
	uint8_t		 hdr[FCGI_HEADER_LEN];
	uint16_t	 record_id, content_len, content_left;
	uint16_t	 id, role;
	uint16_t	 unused[3];
	int64_t		 content_length, stdin_len, data_length, data_len;
	int64_t		 start_ms, queued_ms, web_in_ms;
	uint64_t	 params_len;
	uint64_t	 up_len;	/* bytes that follow in HAND_BYTES packets */
	char		 listen[256];	/* address of the listener it came by */
	char		 pool_name[POOL_NAME_LEN + 1];
	char		 app_name[64];
	struct about	 about;
};

struct bytes_packet {
	uint32_t	 type;
	uint32_t	 unused;
};

struct counters_packet {
	uint32_t	 type;
	uint32_t	 unused;
	char		 pool[POOL_NAME_LEN + 1];
	struct counters	 counters;
};

/* ---- giving -------------------------------------------------------------------- */

static int
give_worker(int sock, enum hand_type type, const struct handed *w)
{
	struct worker_packet p;
	int fd[IPC_FDS], n = 0;

	memset(&p, 0, sizeof(p));
	p.type = type;
	p.worker = w->worker;
	p.requests = w->requests;
	p.start_ms = w->start_ms;
	p.idle_ms = w->idle_ms;
	p.pid = (int32_t)w->pid;
	p.closes = w->closes;
	if (w->error_fd != -1) {
		p.has_error_fd = 1;
		fd[n++] = w->error_fd;
	}
	if (w->link_fd != -1) {
		p.has_link_fd = 1;
		fd[n++] = w->link_fd;
	}
	memcpy(p.line, w->line, strnlen(w->line, LINE_MAX_LEN));
	return ipc_send_bytes(sock, &p, sizeof(p), NULL, 0, fd, n);
}

int
hand_worker(int sock, const struct handed *w)
{
	return give_worker(sock, HAND_WORKER, w);
}

int
hand_server(int sock, const struct handed *w)
{
	return give_worker(sock, HAND_SERVER, w);
}

int
hand_serving(int sock, const struct worker *w)
{
	struct serving_packet p;
	const struct link *l;

	memset(&p, 0, sizeof(p));
	p.type = HAND_SERVING;
	p.worker = w->number;
	p.worker_ms = w->start_ms;
	p.requests = w->requests;
	p.pid = (int32_t)w->pid;
	for (l = w->links; l < w->links + w->nlinks; l++)
		if (l->request != NULL) {
			p.start_ms = l->request->start_ms;
			p.about = l->request->about;
			break;
		}
	return ipc_send_bytes(sock, &p, sizeof(p), NULL, 0, NULL, 0);
}

int
hand_request(int sock, const struct request *r)
{
	const struct fcgi_reader *reader = &r->web_reader;
	struct bytes_packet bytes = { HAND_BYTES, 0 };
	struct request_packet p;
	const struct block *b;
	uint32_t at, n;

	memset(&p, 0, sizeof(p));
	p.type = HAND_REQUEST;
	p.web_in_ms = r->web_in_ms;
	memcpy(p.listen, r->listen->address, strnlen(r->listen->address, sizeof(p.listen) - 1));
	if (r->state == REQ_QUEUED) {
		p.queued = 1;
		p.keep = r->keep;
		p.body_done = r->body_done;
		p.stdin_done = r->stdin_done;
		p.web_eof = r->web_eof;
		p.hdr_len = reader->hdr_len;
		memcpy(p.hdr, reader->hdr, sizeof(p.hdr));
		p.record_type = reader->type;
		p.padding_left = reader->padding_left;
		p.record_id = reader->id;
		p.content_len = reader->content_len;
		p.content_left = reader->content_left;
		p.id = r->id;
		p.role = r->role;
		p.content_length = r->content_length;
		p.stdin_len = r->stdin_len;
		p.data_length = r->data_length;
		p.data_len = r->data_len;
		p.start_ms = r->start_ms;
		p.queued_ms = r->queued_ms;
		p.params_len = r->params_len;
		p.up_len = r->up.len;
		memcpy(p.pool_name, r->pool_name, sizeof(p.pool_name));
		memcpy(p.app_name, r->app_name, sizeof(p.app_name));
		p.about = r->about;
	}
	if (ipc_send_bytes(sock, &p, sizeof(p), NULL, 0, &r->web_fd, 1) == -1)
		return -1;
	for (b = r->up.first; p.queued && b != NULL; b = b->next)
		for (at = b->head; at < b->tail; at += n) {
			n = b->tail - at < BYTES_MAX ? b->tail - at : BYTES_MAX;
			if (ipc_send_bytes(sock, &bytes, sizeof(bytes), b->data + at, n, NULL, 0) == -1)
				return -1;
		}
	return 0;
}

int
hand_counters(int sock, const char *pool, const struct counters *c)
{
	struct counters_packet p;

	memset(&p, 0, sizeof(p));
	p.type = HAND_COUNTERS;
	memcpy(p.pool, pool, strnlen(pool, sizeof(p.pool) - 1));
	p.counters = *c;
	return ipc_send_bytes(sock, &p, sizeof(p), NULL, 0, NULL, 0);
}

/* ---- taking ----------------------------------------------------------------------- */

static void
end_about(struct about *a)
{
	a->method[sizeof(a->method) - 1] = a->uri[sizeof(a->uri) - 1] = a->script[sizeof(a->script) - 1] = '\0';
}

/* A time of the other router's clock, which is ours: never one to come. */
static int64_t
past(int64_t ms, int64_t now_ms)
{
	return ms < 0 ? 0 : ms > now_ms ? now_ms : ms;
}

static bool
sane(const struct request_packet *p)
{
	int64_t now_ms = os_now_ms();	/* the caller's may be older than the packet */

	if (!p->queued)
		return p->up_len == 0;
	if (p->hdr_len > FCGI_HEADER_LEN || p->content_left > p->content_len)
		return false;
	/* In the midst of a record: only one that needs nothing of what was before. */
	if (p->hdr_len == FCGI_HEADER_LEN && (p->record_id == 0 || p->record_type == FCGI_BEGIN_REQUEST))
		return false;
	if (p->role < FCGI_RESPONDER || p->role > FCGI_FILTER || p->id == 0)
		return false;
	if (p->content_length < -1 || p->stdin_len < 0 || p->data_length < -1 || p->data_len < 0 || p->stdin_len > LENGTH_MAX ||
	    p->data_len > LENGTH_MAX || p->up_len > UP_MAX || p->params_len > p->up_len + LENGTH_MAX)
		return false;
	return p->start_ms > 0 && p->start_ms <= now_ms && p->queued_ms >= p->start_ms && p->queued_ms <= now_ms &&
	    p->web_in_ms <= now_ms && p->up_len > 0;
}

/* The request that the packet describes, with its connection; NULL without memory. */
static struct request *
make_request(struct request_packet *p, int fd, const struct conf *conf, int64_t now_ms)
{
	/* A listener that is configured no more: what came by it is answered, and then closed. */
	static const struct conf_listen removed = { .address = "(removed)", .fd = -1 };
	const struct conf_listen *l;
	struct request *r;

	p->listen[sizeof(p->listen) - 1] = p->pool_name[POOL_NAME_LEN] = p->app_name[sizeof(p->app_name) - 1] = '\0';
	end_about(&p->about);
	for (l = conf->listens; l != NULL && strcmp(l->address, p->listen) != 0; l = l->next)
		;
	if ((r = request_new(fd, l != NULL ? l : &removed, now_ms)) == NULL)
		return NULL;
	if (!p->queued) {
		if (l == NULL)
			r->state = REQ_DEAD;
		return r;
	}
	r->state = REQ_QUEUED;		/* request_arrived() gives it its place */
	r->active = true;
	r->keep = p->keep && l != NULL;
	r->body_done = p->body_done;
	r->stdin_done = p->stdin_done;
	r->web_eof = p->web_eof;
	r->web_reader.hdr_len = p->hdr_len;
	memcpy(r->web_reader.hdr, p->hdr, sizeof(p->hdr));
	r->web_reader.type = p->record_type;
	r->web_reader.padding_left = p->padding_left;
	r->web_reader.id = p->record_id;
	r->web_reader.content_len = p->content_len;
	r->web_reader.content_left = p->content_left;
	r->id = p->id;
	r->role = p->role;
	r->key_ok = true;
	r->content_length = p->content_length;
	r->stdin_len = p->stdin_len;
	r->data_length = p->data_length;
	r->data_len = p->data_len;
	r->params_len = p->params_len;
	r->start_ms = past(p->start_ms, now_ms);
	r->queued_ms = past(p->queued_ms, now_ms);
	r->web_in_ms = past(p->web_in_ms, now_ms);
	memcpy(r->pool_name, p->pool_name, sizeof(r->pool_name));
	memcpy(r->app_name, p->app_name, sizeof(r->app_name));
	r->about = p->about;
	return r;
}

/* A request that never became whole: its web server sees its connection end. */
static void
forget_request(struct heritage *h)
{
	if (h->request != NULL)
		request_free(h->request);
	h->request = NULL;
}

enum hand_type
hand_get(struct heritage *h, struct handed *out, const struct conf *conf, int64_t now_ms)
{
	static union {
		uint32_t		 type;
		struct worker_packet	 worker;
		struct serving_packet	 serving;
		struct request_packet	 request;
		struct bytes_packet	 bytes;
		struct counters_packet	 counters;
		uint8_t			 data[sizeof(struct bytes_packet) + BYTES_MAX];
	} in;
	int fd[IPC_FDS], i;
	ssize_t n;
	size_t len;

	out->error_fd = out->link_fd = -1;
	for (;;) {
		if ((n = ipc_recv_bytes(h->sock, &in, sizeof(in), fd)) == -1 && errno == EAGAIN)
			return HAND_NOTHING;
		if (n == 0 || (n == -1 && errno != EMSGSIZE)) {
			forget_request(h);
			return HAND_END;
		}
		if (n < (ssize_t)sizeof(in.type))
			goto nonsense;
		len = (size_t)n;
		/* While a request's bytes come, nothing else may. */
		if (h->request != NULL) {
			len -= sizeof(in.bytes);
			if (in.type != HAND_BYTES || n <= (ssize_t)sizeof(in.bytes) || len > h->bytes_left || fd[0] != -1 ||
			    request_append(h->request, in.data + sizeof(in.bytes), len) == -1)
				goto nonsense;
			if ((h->bytes_left -= len) > 0)
				continue;
			out->request = h->request;
			h->request = NULL;
			return HAND_REQUEST;
		}
		switch (in.type) {
		case HAND_WORKER:
		case HAND_SERVER:
			if (len != sizeof(in.worker) || (in.worker.has_error_fd != 0) + (in.worker.has_link_fd != 0) !=
			    (fd[0] != -1) + (fd[1] != -1))
				goto nonsense;
			in.worker.line[LINE_MAX_LEN] = '\0';
			i = 0;
			if (in.worker.has_error_fd)
				out->error_fd = fd[i++];
			if (in.worker.has_link_fd)
				out->link_fd = fd[i];
			out->worker = in.worker.worker;
			out->requests = in.worker.requests;
			out->start_ms = past(in.worker.start_ms, now_ms);
			out->idle_ms = past(in.worker.idle_ms, now_ms);
			out->closes = in.worker.closes != 0;
			out->pid = (pid_t)in.worker.pid;
			out->line = in.worker.line;
			return (enum hand_type)in.type;
		case HAND_SERVING:
			if (len != sizeof(in.serving) || fd[0] != -1)
				goto nonsense;
			end_about(&in.serving.about);
			out->worker = in.serving.worker;
			out->requests = in.serving.requests;
			out->pid = (pid_t)in.serving.pid;
			out->start_ms = past(in.serving.worker_ms, now_ms);
			out->request_ms = past(in.serving.start_ms, now_ms);
			out->about = &in.serving.about;
			return HAND_SERVING;
		case HAND_COUNTERS:
			if (len != sizeof(in.counters) || fd[0] != -1)
				goto nonsense;
			in.counters.pool[POOL_NAME_LEN] = '\0';
			out->pool = in.counters.pool;
			out->counters = &in.counters.counters;
			return HAND_COUNTERS;
		case HAND_REQUEST:
			if (len != sizeof(in.request) || fd[0] == -1 || fd[1] != -1 || !sane(&in.request))
				goto nonsense;
			out->request = make_request(&in.request, fd[0], conf, now_ms);
			fd[0] = -1;	/* request_new() owns it */
			if (out->request == NULL)
				goto nonsense;
			if (in.request.up_len == 0)
				return HAND_REQUEST;
			h->request = out->request;
			h->bytes_left = in.request.up_len;
			break;
		default:
			goto nonsense;
		}
	}

nonsense:
	for (i = 0; i < IPC_FDS; i++)
		if (fd[i] != -1)
			close(fd[i]);
	forget_request(h);
	return HAND_NONSENSE;
}
