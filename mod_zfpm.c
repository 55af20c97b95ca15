/*
 * mod_zfpm.c: Apache's side of zfpm. Turns a request into one FastCGI request
 * on a connection to zfpm and the answer into a response. It reads from the
 * bottom up: directives and hooks are last, the handler stands above them.
 *
 * Owns the connections to zfpm that an Apache process keeps, and the key, which
 * it puts into the FastCGI stream and nowhere else. Never starts a program,
 * never decides who runs it (zfpm does, by the pool's name, and that comes from
 * the server's configuration alone), never sends a request a second time if
 * zfpm can have read a byte of it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE	/* POLLRDHUP, SOCK_CLOEXEC; there is another way where they are missing */
#endif
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apr_buckets.h"
#include "apr_date.h"
#include "apr_lib.h"
#include "apr_network_io.h"
#include "apr_portable.h"
#include "apr_strings.h"
#include "apr_thread_mutex.h"

#include "httpd.h"
#include "ap_expr.h"
#include "ap_mpm.h"
#include "http_config.h"
#include "http_core.h"
#include "http_log.h"
#include "http_protocol.h"
#include "http_request.h"
#include "util_filter.h"
#include "util_script.h"

#undef APR_OFFSETOF		/* APR's own counts from a null pointer, which clang warns of in every brigade */
#define APR_OFFSETOF	offsetof

/* Modules share one name space: what fcgi.c exports is to be found in this one alone. */
#pragma GCC visibility push(hidden)
#include "fcgi.h"
#pragma GCC visibility pop

#define DEFAULT_SOCKET		"/run/zfpm/zfpm.sock"
#define DEFAULT_CONNECT		apr_time_from_sec(5)
#define KEY_MIN			16	/* characters of a key; zfpm asks for as many */
#define KEY_MAX			1024
#define POOL_NAME_LEN		255

#define REQUEST_ID		1	/* there is never more than one on a connection */
#define UP_RECORD		64000	/* body bytes that are gathered for one STDIN record: eight of Apache's reads */
#define UP_IOVS			64
#define BLOCK_SMALL		8000	/* the first block for a response */
#define BLOCK_LARGE		65000	/* the next ones, for a response that fills it */
#define BLOCK_ROOM		1024	/* a block with less room is not read into */
#define DOWN_HIGH		65536	/* body bytes that are handed down without waiting for a pause */
#define HEADER_MAX		65536	/* of a response header in all */
#define SPOOL_MEMORY		65536	/* a spooled body that is larger goes to a file */
#define STDERR_LINE		7000	/* escaped bytes in one line of the error log, which ends at 8192 */
#define CLIENT_TICK_MS		1000	/* how often mod_reqtimeout is asked about a slow body */
#define BLIND_TICK_MS		20	/* look for more of a body that cannot be polled for (old HTTP/2) */
#if defined(O_PATH)
#define OPEN_WALK	O_PATH		/* a directory that may be passed through, though not read */
#elif defined(O_SEARCH)
#define OPEN_WALK	O_SEARCH
#else
#define OPEN_WALK	O_RDONLY
#endif
#define TRACE_CONNECTION APLOG_TRACE1	/* where a request got its connection, and what became of it */
#define TRACE_RECORD	APLOG_TRACE5	/* each record, its type and length */
#define TRACE_PARAM	APLOG_TRACE7	/* each parameter, its name and length; values may be secrets */
#define ABORT_WAIT	apr_time_from_sec(1)	/* for zfpm to take notice of an ABORT_REQUEST */
#define PATIENCE	apr_time_from_sec(1)	/* how long a client that left at once is not missed */
#define CONNECT_NAP_MS		10	/* between tries while zfpm's listen queue is full */

#define RESET_MESSAGE	"Connection to FastCGI was reset by peer during reading response. " \
			"Check your FastCGI application log. Increase LogLevel verbosity to 'info' " \
			"for additional protocol info."

module AP_MODULE_DECLARE_DATA __attribute__((visibility("default"))) zfpm_module;
APLOG_USE_MODULE(zfpm);

/* ---- configuration and what is kept for the life of a process --------------- */

/* One address at which zfpm listens; virtual hosts with the same address share it. */
struct peer {
	const char	*address;	/* as configured */
	apr_sockaddr_t	*tcp;		/* what it means; NULL: the path of a Unix socket */
	apr_thread_mutex_t *lock;	/* of the fields below; NULL in a process of one thread */
	int		*idle;		/* descriptors of kept connections, the last used at the end */
	int		 nidle;		/* never above idle_max */
};

/* Per server and virtual host. */
struct server_conf {
	const char	*address;	/* NULL: not set */
	apr_sockaddr_t	*tcp;
	const char	*key;		/* NULL: none */
	size_t		 key_len;
	apr_interval_time_t connect_timeout;	/* -1: not set */
	apr_interval_time_t timeout;	/* -1: not set; 0: none */
	struct peer	*peer;		/* set after the configuration has been read */
};

/* Per directory; the server's own directives are its outermost directory. */
struct dir_conf {
	const char	*pool;		/* NULL: the server's name */
	const char	*app;		/* NULL: the pool's first */
	const char	*authorizer;	/* the app that is asked first; NULL: not set; "": none */
	const char	*authorizer_script;	/* its SCRIPT_FILENAME; NULL: none */
	apr_array_header_t *sendfile;	/* of const char *: directories, no slash at their end; NULL: not set */
	int		 virtual;	/* -1: not set */
	const char	*prefix;	/* where it is on: the Location's path, no slash at its end */
	int		 error_override;	/* -1: not set */
	int		 pass_authorization;
};

/* What one hook leaves with a request for the next. */
struct request_conf {
	bool	 virtual;	/* no file has been looked up */
	bool	 looking;	/* for what PATH_TRANSLATED would be: nobody is going to get this file */
};

static apr_array_header_t *peers;	/* of struct peer *; of the configuration that is in force */
static int idle_max = -1;		/* ZfpmIdleConnections; -1: as many as there are threads */
static bool virtual_used;		/* ZfpmVirtual is on somewhere */

/* ---- one request ------------------------------------------------------------- */

enum up_state {			/* the way of the request */
	UP_CLIENT,		/* records are made from what the client sends */
	UP_SPOOL,		/* records are made from the spooled body */
	UP_LAST,		/* what is pending ends with the empty STDIN record */
	UP_DONE,		/* zfpm has been sent all */
	UP_LOST,		/* zfpm takes no more; it may still have answered */
};

enum down_state {		/* the way of the response; the exchange lasts until DOWN_ENDED */
	DOWN_HEADER,		/* no complete header yet */
	DOWN_BODY,		/* body bytes go to the client */
	DOWN_DISCARD,		/* Apache makes the response (answer); the body is read and dropped */
	DOWN_ENDED,		/* END_REQUEST came */
	DOWN_LOST,		/* the connection ended before that, or what came is not FastCGI */
	DOWN_SILENT,		/* ZfpmTimeout passed */
	DOWN_GONE,		/* the client left */
	DOWN_REFUSED,		/* the request body failed; answer says how */
};

enum line_state { LINE_START, LINE_CR, LINE_INSIDE };

struct exchange {
	request_rec	*r;
	struct server_conf *sc;
	struct dir_conf	*dc;
	int		 role;		/* FCGI_RESPONDER or FCGI_AUTHORIZER */
	const char	*page;		/* of zfpm's own status pages, which one; NULL: a pool's application is asked */
	const char	*pool;
	const char	*app;		/* NULL: the pool's first */
	apr_table_t	*env;		/* what is sent beside zfpm's own parameters */
	int		 fd;		/* the connection to zfpm; -1: none */
	bool		 kept;		/* it has served before */
	int		 client_fd;	/* to poll for the client; -1: there is no such thing */
	bool		 client_hup;	/* client_fd tells when the client closes */

	/* up */
	enum up_state	 up;
	const uint8_t	*head;		/* pending: first these bytes, a header or all up to STDIN */
	size_t		 head_len;
	apr_bucket_brigade *body;	/* then body_len bytes of a record's content */
	size_t		 body_len;
	size_t		 tail_len;	/* then the last bytes of end_of_stdin */
	bool		 begun;		/* part of what is pending has been sent */
	apr_bucket_brigade *in;		/* UP_CLIENT: for ap_get_brigade(); UP_SPOOL: the rest of the body */
	apr_off_t	 want;		/* body bytes that are not in a record yet */
	bool		 starved;	/* the client has sent nothing more for the moment */
	bool		 blocked;	/* zfpm takes nothing more for the moment */
	int		 starved_ms;	/* for how long it has been starved */
	uint8_t		 record[FCGI_HEADER_LEN];

	/* down */
	enum down_state	 down;
	struct fcgi_reader reader;
	bool		 look;		/* there may be bytes to read: try before polling */
	apr_bucket	*block;		/* a heap bucket that is read into; what goes down are copies of it */
	size_t		 block_size;
	size_t		 block_len;	/* bytes of it that are in use */
	bool		 filled;	/* a read has filled a block: take a large one */
	enum line_state	 line;		/* where in the header we are */
	char		*header;	/* up to and with its empty line */
	size_t		 header_len, header_size;
	apr_table_t	*fields;	/* the script's fields for err_headers_out; there when they are handed down */
	int		 status;	/* that the script has given; 0: none */
	int		 answer;	/* what the handler returns */
	const char	*redirect;	/* the local path of an internal redirect */
	const char	*sendfile;	/* what X-Sendfile named */
	apr_file_t	*file;		/* that, open: the body of the response */
	bool		 granted;	/* the authorizer has said yes */
	apr_off_t	 promised;	/* bytes of the body by the script's Content-Length; -1: unknown */
	bool		 overrun;	/* the script wrote more than it promised */
	bool		 hold;		/* an error without a byte of body so far: may become ErrorDocument */
	bool		 passed;	/* something has been handed down: the status can not change any more */
	apr_bucket_brigade *out;	/* to be handed down */
	size_t		 out_len;
	apr_time_t	 delivered;	/* since when the client has all of a response of known length; 0: it has not */
	uint8_t		 end[FCGI_BODY_LEN];	/* body of END_REQUEST */
	size_t		 end_len;
	size_t		 unread;	/* bytes that came behind the record that ended the exchange */
	char		*err;		/* an unfinished line of FCGI_STDERR */
	size_t		 err_len, err_cost;

	/* for the summary */
	apr_time_t	 start;
	unsigned long	 records_up, records_down;
	apr_off_t	 bytes_up, bytes_down, body_up, stdout_len, stderr_len, body_down;
};

static const uint8_t end_of_stdin[FCGI_HEADER_LEN] = { FCGI_VERSION_1, FCGI_STDIN, 0, REQUEST_ID };

/* What a message names beside its text; the log escapes it. */
static const char *
whose(const struct exchange *x)
{
	if (x->page != NULL)
		return apr_psprintf(x->r->pool, "(status of zfpm, URI %s)", x->r->uri);
	return apr_psprintf(x->r->pool, "(pool %s, %s%s%sURI %s)", x->pool, x->app != NULL ? "app " : "",
	    x->app != NULL ? x->app : "", x->app != NULL ? ", " : "", x->r->uri);
}

static const char *
error_text(const struct exchange *x, int error)
{
	char buf[128];

	return apr_pstrdup(x->r->pool, apr_strerror(APR_FROM_OS_ERROR(error), buf, sizeof(buf)));
}

static void
trace_record(const struct exchange *x, const char *way, int type, size_t len)
{
	static const char *const names[] = { NULL, "BEGIN_REQUEST", "ABORT_REQUEST", "END_REQUEST", "PARAMS", "STDIN",
	    "STDOUT", "STDERR", "DATA", "GET_VALUES", "GET_VALUES_RESULT", "UNKNOWN_TYPE" };

	ap_log_rerror(APLOG_MARK, TRACE_RECORD, 0, x->r, "%s %s, %" APR_SIZE_T_FMT " bytes", way,
	    type >= FCGI_BEGIN_REQUEST && type <= FCGI_UNKNOWN_TYPE ? names[type] : "a record of unknown type", len);
}

/* The request's own body has failed, or can not be had: the answer is Apache's. */
static void
refuse(struct exchange *x, int answer)
{
	x->down = DOWN_REFUSED;
	x->answer = answer;
}

/* ---- connections to zfpm ------------------------------------------------------- */

/* Nothing may lie in an idle connection, and its other end must be there. */
static bool
still_good(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) == -1 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* A kept connection that is alive, the last used first; -1 if there is none. */
static int
peer_take(struct peer *p)
{
	int fd;

	for (;;) {
		if (p->lock != NULL)
			apr_thread_mutex_lock(p->lock);
		fd = p->nidle > 0 ? p->idle[--p->nidle] : -1;
		if (p->lock != NULL)
			apr_thread_mutex_unlock(p->lock);
		if (fd == -1 || still_good(fd))
			return fd;
		close(fd);
	}
}

static void
peer_put(struct peer *p, int fd)
{
	if (p->lock != NULL)
		apr_thread_mutex_lock(p->lock);
	if (p->nidle < idle_max) {
		p->idle[p->nidle++] = fd;
		fd = -1;
	}
	if (p->lock != NULL)
		apr_thread_mutex_unlock(p->lock);
	if (fd != -1)
		close(fd);
}

static int
open_socket(int family)
{
#if defined(SOCK_NONBLOCK) && defined(SOCK_CLOEXEC)
	return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#else
	int fd;

	fd = socket(family, SOCK_STREAM, 0);
	if (fd != -1 && (fcntl(fd, F_SETFD, FD_CLOEXEC) == -1 || fcntl(fd, F_SETFL, O_NONBLOCK) == -1)) {
		close(fd);
		fd = -1;
	}
	return fd;
#endif
}

/* Wait for the end of a connect() under way. Returns 0 or an errno. */
static int
wait_connected(int fd, apr_time_t deadline)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	apr_time_t left;
	socklen_t len;
	int error, n;

	do {
		left = deadline - apr_time_now();
		if (left <= 0)
			return ETIMEDOUT;
		n = poll(&p, 1, (int)apr_time_as_msec(left) + 1);
	} while (n == 0 || (n == -1 && errno == EINTR));
	if (n == -1)
		return errno;
	len = sizeof(error);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1)
		return errno;
	return error;
}

/*
 * A machine that has lost its power or its network says no goodbye; without this
 * a request whose response is waited for, and a kept connection, would not find
 * out. zfpm does the same at its end: a probe after a minute, then every 10 s, and
 * six without an answer are the end.
 */
static void
set_keepalive(int fd)
{
	int on = 1;

	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
#if defined(TCP_KEEPIDLE) && defined(TCP_KEEPINTVL) && defined(TCP_KEEPCNT)
	int idle_s = 60, interval_s = 10, count = 6;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
#endif
}

/* Connect to one socket address. Returns the descriptor, or -1 with errno. */
static int
connect_to(const struct sockaddr *sa, socklen_t sa_len, apr_time_t deadline)
{
	int error, fd, one = 1;

	fd = open_socket(sa->sa_family);
	if (fd == -1)
		return -1;
	/* Linux: EAGAIN means a full queue on a Unix socket, and there is nothing to poll for. */
	while ((error = connect(fd, sa, sa_len) == 0 ? 0 : errno) == EAGAIN && apr_time_now() < deadline)
		poll(NULL, 0, CONNECT_NAP_MS);
	if (error == EINPROGRESS || error == EINTR)
		error = wait_connected(fd, deadline);
	else if (error == EAGAIN)
		error = ETIMEDOUT;
	if (error != 0) {
		close(fd);
		errno = error;
		return -1;
	}
	if (sa->sa_family != AF_UNIX) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		set_keepalive(fd);
	}
	return fd;
}

static int
peer_connect(const struct peer *p, apr_interval_time_t timeout)
{
	struct sockaddr_un sun;
	apr_sockaddr_t *a;
	apr_time_t deadline;
	int fd = -1;

	deadline = apr_time_now() + timeout;
	if (p->tcp == NULL) {
		memset(&sun, 0, sizeof(sun));
		sun.sun_family = AF_UNIX;
		apr_cpystrn(sun.sun_path, p->address, sizeof(sun.sun_path));
		return connect_to((struct sockaddr *)&sun, sizeof(sun), deadline);
	}
	for (a = p->tcp; a != NULL && fd == -1; a = a->next)
		fd = connect_to((struct sockaddr *)&a->sa, a->salen, deadline);
	return fd;
}

/* A connection for this request: a kept one, or a new one. Returns false, and has said why, if there is none. */
static bool
get_connection(struct exchange *x)
{
	struct peer *p = x->sc->peer;

	x->fd = peer_take(p);
	x->kept = x->fd != -1;
	if (x->fd == -1)
		x->fd = peer_connect(p, x->sc->connect_timeout);
	if (x->fd == -1) {
		ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, x->r, "Cannot connect to zfpm at %s: %s %s", p->address,
		    error_text(x, errno), whose(x));
		return false;
	}
	ap_log_rerror(APLOG_MARK, TRACE_CONNECTION, 0, x->r, "%s connection to %s, descriptor %d",
	    x->kept ? "kept" : "new", p->address, x->fd);
	return true;
}

/* ---- the request's parameters ------------------------------------------------- */

struct var {
	const char	*name;
	const char	*value;
	size_t		 name_len;
	size_t		 value_len;
};

/*
 * What may not come from an environment table: zfpm's own names, because users
 * can put them there (SetEnv, RewriteRule, SetEnvIf), HTTP_PROXY, which programs
 * take for a setting of theirs, and what put_params() knows better.
 */
static bool
is_hidden(const char *name)
{
	switch (name[0]) {
	case 'Z':	return strncmp(name, "ZFPM_", 5) == 0;
	case 'H':	return strcmp(name, "HTTP_PROXY") == 0;
	case 'C':	return strcmp(name, "CONTENT_LENGTH") == 0;
	case '\0':	return true;
	}
	return false;
}

static struct var
var(const char *name, const char *value)
{
	return (struct var){ name, value, strlen(name), strlen(value) };
}

/* The variables of x->env that may be sent. Returns their number. */
static int
collect_env(struct exchange *x, struct var *v)
{
	const apr_array_header_t *env = apr_table_elts(x->env);
	const apr_table_entry_t *e = (const apr_table_entry_t *)env->elts;
	const char *authorization;
	int i, n = 0, redirect_url = -1;
	bool has_authorization = false, has_path_info = false, has_status = false;

	for (i = 0; i < env->nelts; i++) {
		if (is_hidden(e[i].key))
			continue;
		v[n] = var(e[i].key, e[i].val);
		switch (e[i].key[0]) {
		case 'H':
			if (strcmp(e[i].key, "HTTP_AUTHORIZATION") == 0)
				has_authorization = true;
			break;
		case 'P':
			if (strcmp(e[i].key, "PATH_INFO") == 0)
				has_path_info = true;
			break;
		case 'R':
			if (strcmp(e[i].key, "REDIRECT_STATUS") == 0)
				has_status = true;
			else if (strcmp(e[i].key, "REDIRECT_URL") == 0)
				redirect_url = n;
			break;
		}
		n++;
	}
	/*
	 * php-cgi (cgi.fix_pathinfo=1) takes REDIRECT_URL beside PATH_TRANSLATED
	 * for the sign of an Action and looks for the script there, or throws
	 * PATH_INFO away. It leaves both alone, and all is right, if REDIRECT_URL
	 * is missing; the same text is in REQUEST_URI and REDIRECT_SCRIPT_URL.
	 */
	if (redirect_url != -1 && has_path_info)
		v[redirect_url] = v[--n];
	if (!has_status)
		v[n++] = var("REDIRECT_STATUS", "200");
	if (x->dc->pass_authorization != 0 && !has_authorization &&
	    (authorization = apr_table_get(x->r->headers_in, "Authorization")) != NULL)
		v[n++] = var("HTTP_AUTHORIZATION", authorization);
	return n;
}

/*
 * Collect the variables that are sent, zfpm's own last: of two with one name the
 * last counts. Returns their number. content_length: -1 if there is no body.
 */
static int
collect_vars(struct exchange *x, struct var *v, apr_off_t content_length)
{
	int n = 0;

	if (x->page != NULL) {
		v[n++] = var("ZFPM_STATUS", x->page);
	} else {
		n = collect_env(x, v);
		if (content_length >= 0)
			v[n++] = var("CONTENT_LENGTH", apr_off_t_toa(x->r->pool, content_length));
		v[n++] = var("ZFPM_POOL", x->pool);
		if (x->app != NULL)
			v[n++] = var("ZFPM_APP", x->app);
	}
	if (x->sc->key != NULL)
		v[n++] = (struct var){ "ZFPM_KEY", x->sc->key, sizeof("ZFPM_KEY") - 1, x->sc->key_len };
	return n;
}

#define EXTRA_VARS	6	/* that collect_env() and collect_vars() add */

static void
put_params_header(struct exchange *x, uint8_t *record, const uint8_t *end)
{
	size_t len = (size_t)(end - record) - FCGI_HEADER_LEN;

	trace_record(x, "send", FCGI_PARAMS, len);
	x->records_up++;
	fcgi_put_header(record, FCGI_PARAMS, REQUEST_ID, (uint16_t)len, 0);
}

/*
 * Put BEGIN_REQUEST and the whole PARAMS stream into one piece of memory, with
 * room for one more header behind it. No pair straddles two records: PHP closes
 * the connection when one does. Returns OK, or the status of a request whose
 * variable is too long for a record.
 */
static int
put_params(struct exchange *x, apr_off_t content_length)
{
	request_rec *r = x->r;
	struct var *v;
	uint8_t *buf, *p, *record;
	size_t pair, records, size, sum = 0;
	int i, n;

	v = apr_palloc(r->pool, ((size_t)apr_table_elts(x->env)->nelts + EXTRA_VARS) * sizeof(*v));
	n = collect_vars(x, v, content_length);
	for (i = 0; i < n; i++) {
		pair = fcgi_pair_size(v[i].name_len, v[i].value_len);
		ap_log_rerror(APLOG_MARK, TRACE_PARAM, 0, r, "parameter %s, %" APR_SIZE_T_FMT " bytes", v[i].name,
		    v[i].value_len);
		if (pair > FCGI_MAX_CONTENT) {
			ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
			    "the variable %s is too long for a FastCGI record (%" APR_SIZE_T_FMT " bytes) %s",
			    v[i].name, v[i].value_len, whose(x));
			return strncmp(v[i].name, "HTTP_", 5) == 0 ? HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE :
			    HTTP_INTERNAL_SERVER_ERROR;
		}
		sum += pair;
	}
	/* Two records in a row hold more than one record can, so this many are enough. */
	records = 2 * (sum / FCGI_MAX_CONTENT) + 2;
	size = FCGI_HEADER_LEN + FCGI_BODY_LEN + sum + (records + 2) * FCGI_HEADER_LEN;
	buf = p = apr_palloc(r->pool, size);

	p += fcgi_put_begin(p, REQUEST_ID, (uint16_t)x->role, idle_max > 0 ? FCGI_KEEP_CONN : 0);
	trace_record(x, "send", FCGI_BEGIN_REQUEST, FCGI_BODY_LEN);
	record = p;
	p += FCGI_HEADER_LEN;
	x->records_up++;
	for (i = 0; i < n; i++) {
		pair = fcgi_pair_size(v[i].name_len, v[i].value_len);
		if ((size_t)(p - record) - FCGI_HEADER_LEN + pair > FCGI_MAX_CONTENT) {
			put_params_header(x, record, p);
			record = p;
			p += FCGI_HEADER_LEN;
		}
		p += fcgi_put_pair(p, v[i].name, (uint32_t)v[i].name_len, v[i].value, (uint32_t)v[i].value_len);
	}
	put_params_header(x, record, p);
	record = p;
	p += FCGI_HEADER_LEN;
	put_params_header(x, record, p);
	x->head = buf;
	x->head_len = (size_t)(p - buf);
	return OK;
}

/* ---- the request body ------------------------------------------------------------ */

static bool
nothing_pending(const struct exchange *x)
{
	return x->head_len == 0 && x->body_len == 0 && x->tail_len == 0;
}

/* n more bytes of what is pending have been sent. */
static void
consume(struct exchange *x, size_t n)
{
	apr_bucket *e;
	size_t part;

	x->bytes_up += (apr_off_t)n;
	x->begun = true;
	part = n < x->head_len ? n : x->head_len;
	x->head += part;
	x->head_len -= part;
	n -= part;
	while (n > 0 && x->body_len > 0) {
		e = APR_BRIGADE_FIRST(x->body);
		if (n < e->length)
			apr_bucket_split(e, n);
		n -= e->length;
		x->body_len -= e->length;
		x->body_up += (apr_off_t)e->length;
		apr_bucket_delete(e);
	}
	x->tail_len -= n;
}

/*
 * Send what is pending, in one call where the socket takes it. Returns false
 * with errno if the connection has broken (or, with x->down changed, the body).
 */
static bool
push(struct exchange *x)
{
	struct iovec iov[UP_IOVS];
	struct msghdr msg;
	apr_bucket *e;
	const char *data;
	apr_size_t len;
	size_t listed;
	ssize_t n;
	int iovs;

	while (!nothing_pending(x)) {
		iovs = 0;
		listed = 0;
		if (x->head_len > 0)
			iov[iovs++] = (struct iovec){ (void *)(uintptr_t)x->head, x->head_len };
		for (e = APR_BRIGADE_FIRST(x->body); listed < x->body_len && iovs < UP_IOVS - 1; e = APR_BUCKET_NEXT(e)) {
			if (apr_bucket_read(e, &data, &len, APR_BLOCK_READ) != APR_SUCCESS) {
				refuse(x, HTTP_INTERNAL_SERVER_ERROR);
				return false;
			}
			iov[iovs++] = (struct iovec){ (void *)(uintptr_t)data, len };
			listed += len;
		}
		if (listed == x->body_len && x->tail_len > 0)
			iov[iovs++] = (struct iovec){
			    (void *)(uintptr_t)(end_of_stdin + sizeof(end_of_stdin) - x->tail_len), x->tail_len };
		memset(&msg, 0, sizeof(msg));
		msg.msg_iov = iov;
		msg.msg_iovlen = (size_t)iovs;
		do {
			n = sendmsg(x->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		} while (n == -1 && errno == EINTR);
		if (n == -1) {
			x->blocked = errno == EAGAIN || errno == EWOULDBLOCK;
			return x->blocked;
		}
		consume(x, (size_t)n);
	}
	x->blocked = false;
	x->begun = false;
	if (x->up == UP_LAST)
		x->up = UP_DONE;
	return true;
}

/* Take over the data of x->in, which the next read may overwrite. */
static void
keep_data(struct exchange *x)
{
	apr_bucket *e;
	const char *data;
	apr_size_t len;
	apr_status_t rv;

	while (!APR_BRIGADE_EMPTY(x->in)) {
		e = APR_BRIGADE_FIRST(x->in);
		if (APR_BUCKET_IS_EOS(e) && x->want > 0) {
			refuse(x, HTTP_BAD_REQUEST);	/* less than was promised: somebody else has read it */
			return;
		}
		if (APR_BUCKET_IS_METADATA(e)) {
			apr_bucket_delete(e);
			continue;
		}
		if ((rv = apr_bucket_read(e, &data, &len, APR_BLOCK_READ)) != APR_SUCCESS ||
		    (rv = apr_bucket_setaside(e, x->r->pool)) != APR_SUCCESS || (apr_off_t)len > x->want) {
			refuse(x, ap_map_http_request_error(rv, HTTP_BAD_REQUEST));
			return;
		}
		APR_BUCKET_REMOVE(e);
		if (len == 0) {
			apr_bucket_destroy(e);
			continue;
		}
		APR_BRIGADE_INSERT_TAIL(x->body, e);
		x->body_len += len;
		x->want -= (apr_off_t)len;
	}
}

/* "100 Continue", which Apache sends by itself only where a read may block. */
static void
ask_for_body(request_rec *r)
{
	const char *line = r->status_line;
	int status = r->status;

	r->status = HTTP_CONTINUE;
	r->status_line = NULL;
	ap_send_interim_response(r, 0);
	r->status = status;
	r->status_line = line;
}

/* What the client has sent, up to one record, without waiting for it. */
static void
gather_client(struct exchange *x)
{
	apr_off_t ask;
	apr_status_t rv;
	int reads;

	x->starved = false;
	for (reads = 0; reads < UP_IOVS - 2 && x->want > 0 && x->body_len < UP_RECORD; reads++) {
		ask = (apr_off_t)(UP_RECORD - x->body_len);
		rv = ap_get_brigade(x->r->input_filters, x->in, AP_MODE_READBYTES, APR_NONBLOCK_READ,
		    ask < x->want ? ask : x->want);
		if (APR_STATUS_IS_EAGAIN(rv) || (rv == APR_SUCCESS && APR_BRIGADE_EMPTY(x->in))) {
			x->starved = true;
			break;
		}
		if (rv != APR_SUCCESS)
			refuse(x, ap_map_http_request_error(rv, HTTP_BAD_REQUEST));
		else
			keep_data(x);
		apr_brigade_cleanup(x->in);
		if (x->down == DOWN_REFUSED)
			return;
	}
	if (x->body_len > 0) {
		x->starved_ms = 0;
		x->r->expecting_100 = 0;	/* it has not waited */
	} else if (x->starved && x->r->expecting_100 && !x->passed) {
		ask_for_body(x->r);
	}
}

static void
gather_spool(struct exchange *x)
{
	apr_bucket *after, *e;
	apr_off_t n;

	n = x->want < UP_RECORD ? x->want : UP_RECORD;
	if (apr_brigade_partition(x->in, n, &after) != APR_SUCCESS) {
		refuse(x, HTTP_INTERNAL_SERVER_ERROR);
		return;
	}
	while ((e = APR_BRIGADE_FIRST(x->in)) != after) {
		APR_BUCKET_REMOVE(e);
		APR_BRIGADE_INSERT_TAIL(x->body, e);
	}
	x->body_len = (size_t)n;
	x->want -= n;
}

/* Make the next STDIN record pending, behind what is pending already (PARAMS, the first time). */
static void
next_record(struct exchange *x)
{
	uint8_t *header = x->record;

	if (x->up == UP_CLIENT)
		gather_client(x);
	else
		gather_spool(x);
	if (x->down == DOWN_REFUSED)
		return;
	if (x->body_len > 0) {
		if (x->head_len > 0)	/* put_params() has left room for it */
			header = (uint8_t *)(uintptr_t)x->head + x->head_len;
		else
			x->head = x->record;
		x->head_len += fcgi_put_header(header, FCGI_STDIN, REQUEST_ID, (uint16_t)x->body_len, 0);
		x->records_up++;
		trace_record(x, "send", FCGI_STDIN, x->body_len);
	}
	if (x->want == 0) {
		trace_record(x, "send", FCGI_STDIN, 0);
		x->tail_len = sizeof(end_of_stdin);
		x->up = UP_LAST;
		x->records_up++;
	}
}

static bool
spool_to_file(struct exchange *x, apr_file_t **file)
{
	const char *dir;
	char *name;
	apr_bucket *e;
	const char *data;
	apr_size_t len;
	apr_status_t rv;

	rv = apr_temp_dir_get(&dir, x->r->pool);
	if (rv == APR_SUCCESS) {
		name = apr_pstrcat(x->r->pool, dir, "/zfpm.XXXXXX", NULL);
		rv = apr_file_mktemp(file, name, APR_FOPEN_CREATE | APR_FOPEN_READ | APR_FOPEN_WRITE | APR_FOPEN_EXCL |
		    APR_FOPEN_LARGEFILE, x->r->pool);
		if (rv == APR_SUCCESS)
			rv = apr_file_remove(name, x->r->pool);
	}
	while (rv == APR_SUCCESS && !APR_BRIGADE_EMPTY(x->body)) {
		e = APR_BRIGADE_FIRST(x->body);
		rv = apr_bucket_read(e, &data, &len, APR_BLOCK_READ);
		if (rv == APR_SUCCESS)
			rv = apr_file_write_full(*file, data, len, NULL);
		apr_bucket_delete(e);
	}
	if (rv == APR_SUCCESS)
		return true;
	ap_log_rerror(APLOG_MARK, APLOG_ERR, rv, x->r, "cannot spool a request body %s", whose(x));
	return false;
}

/* Put data of unknown length behind what has been spooled. */
static bool
spool_add(struct exchange *x, apr_file_t **file, const char *data, apr_size_t len)
{
	apr_status_t rv;

	if (*file == NULL) {
		if (x->want + (apr_off_t)len <= SPOOL_MEMORY)
			return apr_brigade_write(x->body, NULL, NULL, data, len) == APR_SUCCESS;
		if (!spool_to_file(x, file))
			return false;
	}
	rv = apr_file_write_full(*file, data, len, NULL);
	if (rv != APR_SUCCESS)
		ap_log_rerror(APLOG_MARK, APLOG_ERR, rv, x->r, "cannot spool a request body %s", whose(x));
	return rv == APR_SUCCESS;
}

/*
 * Read a body whose length nobody knows (chunked, HTTP/2 without a length, or
 * changed by an input filter) to its end, so that CONTENT_LENGTH is true. It is
 * then in x->in, x->want bytes. Returns OK or the status to answer with.
 */
static int
spool(struct exchange *x)
{
	request_rec *r = x->r;
	apr_bucket_brigade *bb;
	apr_file_t *file = NULL;
	apr_bucket *e;
	const char *data;
	apr_size_t len;
	apr_status_t rv;
	bool eos = false;

	x->want = 0;
	while (!eos) {
		rv = ap_get_brigade(r->input_filters, x->in, AP_MODE_READBYTES, APR_BLOCK_READ, HUGE_STRING_LEN);
		if (rv != APR_SUCCESS)
			return ap_map_http_request_error(rv, HTTP_BAD_REQUEST);
		for (e = APR_BRIGADE_FIRST(x->in); e != APR_BRIGADE_SENTINEL(x->in) && !eos; e = APR_BUCKET_NEXT(e)) {
			eos = APR_BUCKET_IS_EOS(e);
			if (APR_BUCKET_IS_METADATA(e))
				continue;
			rv = apr_bucket_read(e, &data, &len, APR_BLOCK_READ);
			if (rv != APR_SUCCESS)
				return ap_map_http_request_error(rv, HTTP_BAD_REQUEST);
			if (!spool_add(x, &file, data, len))
				return HTTP_INTERNAL_SERVER_ERROR;
			x->want += (apr_off_t)len;
		}
		apr_brigade_cleanup(x->in);
	}
	if (file != NULL)
		apr_brigade_insert_file(x->body, file, 0, x->want, r->pool);
	bb = x->in;
	x->in = x->body;
	x->body = bb;
	return OK;
}

/* ---- the response ------------------------------------------------------------------ */

/* The script's fields replace what an earlier answer to this request has left of the same names. */
static void
publish_fields(struct exchange *x)
{
	const apr_array_header_t *a = apr_table_elts(x->fields);
	const apr_table_entry_t *e = (const apr_table_entry_t *)a->elts;
	apr_table_t *to = x->r->err_headers_out;
	int i;

	if (!apr_is_empty_table(to))
		for (i = 0; i < a->nelts; i++)
			if (ap_cstr_casecmp(e[i].key, "Set-Cookie") != 0)
				apr_table_unset(to, e[i].key);
	for (i = 0; i < a->nelts; i++)
		apr_table_addn(to, e[i].key, e[i].val);
}

/* Everything that is ready goes to the client. */
static void
hand_down(struct exchange *x, bool flush)
{
	request_rec *r = x->r;

	if (flush)
		APR_BRIGADE_INSERT_TAIL(x->out, apr_bucket_flush_create(r->connection->bucket_alloc));
	if (!x->passed)
		publish_fields(x);
	x->passed = true;
	x->out_len = 0;
	if (ap_pass_brigade(r->output_filters, x->out) != APR_SUCCESS || r->connection->aborted)
		x->down = DOWN_GONE;
	apr_brigade_cleanup(x->out);
}

/* Body bytes, which lie in x->block. */
static void
body_data(struct exchange *x, const uint8_t *data, size_t len)
{
	apr_bucket *e;

	x->hold = false;
	if (x->promised != -1 && (apr_off_t)len > x->promised - x->body_down) {
		/* One byte more would be taken for the beginning of another response. */
		if (!x->overrun)
			ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, x->r,
			    "the response is longer than its Content-Length of %" APR_OFF_T_FMT ", the rest is dropped %s",
			    x->promised, whose(x));
		x->overrun = true;
		len = (size_t)(x->promised - x->body_down);
		if (len == 0)
			return;
	}
	apr_bucket_copy(x->block, &e);
	e->start = (apr_off_t)(data - (const uint8_t *)((apr_bucket_heap *)x->block->data)->base);
	e->length = len;
	APR_BRIGADE_INSERT_TAIL(x->out, e);
	x->out_len += len;
	x->body_down += (apr_off_t)len;
	if (x->out_len >= DOWN_HIGH)
		hand_down(x, false);
}

/* How many of these bytes belong to the header; *done if its empty line is among them. */
static size_t
header_bytes(struct exchange *x, const uint8_t *p, size_t len, bool *done)
{
	const uint8_t *nl;
	size_t i = 0;

	while (i < len) {
		if (p[i] == '\n' && x->line != LINE_INSIDE) {
			*done = true;
			return i + 1;
		}
		if (p[i] == '\r' && x->line == LINE_START) {
			x->line = LINE_CR;
			i++;
			continue;
		}
		x->line = LINE_INSIDE;
		nl = memchr(p + i, '\n', len - i);
		if (nl == NULL)
			break;
		i = (size_t)(nl - p) + 1;
		x->line = LINE_START;
	}
	return len;
}

static void
header_add(struct exchange *x, const uint8_t *p, size_t len, bool done)
{
	char *header;

	if (x->header_len + len + 1 > x->header_size) {
		x->header_size = x->header_len + len + 1;
		if (!done && x->header_size < 4096)
			x->header_size = 4096;
		if (x->header_len > 0)
			x->header_size *= 2;
		header = apr_palloc(x->r->pool, x->header_size);
		if (x->header_len > 0)
			memcpy(header, x->header, x->header_len);
		x->header = header;
	}
	memcpy(x->header + x->header_len, p, len);
	x->header_len += len;
	x->header[x->header_len] = '\0';
}

/* Apache makes the answer; what the script has still to say is read and dropped. */
static void
answer_instead(struct exchange *x, int answer)
{
	x->down = DOWN_DISCARD;
	x->answer = answer;
	x->hold = false;
}

static void
bad_header(struct exchange *x, const char *what, const char *line)
{
	ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, x->r, "%s from script: %.200s %s", what, line, whose(x));
	answer_instead(x, HTTP_INTERNAL_SERVER_ERROR);
}

/* A length of decimal digits alone, or -1. */
static apr_off_t
strict_length(const char *s)
{
	apr_off_t n;
	char *end;

	if (!apr_isdigit(*s) || apr_strtoff(&n, s, &end, 10) != APR_SUCCESS || *end != '\0' || n < 0)
		return -1;
	return n;
}

/* One header field of the script. Both strings live as long as the request. */
static void
header_field(struct exchange *x, char *name, char *value)
{
	request_rec *r = x->r;
	apr_time_t date;

	switch (apr_tolower(*name)) {
	case 'c':
		if (ap_cstr_casecmp(name, "Content-Type") == 0) {
			ap_content_type_tolower(value);
			ap_set_content_type(r, value);
			return;
		}
		if (ap_cstr_casecmp(name, "Content-Length") == 0) {
			x->promised = strict_length(value);
			if (x->promised == -1)
				ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r, "bad Content-Length from script: %s %s",
				    value, whose(x));
			return;
		}
		if (ap_cstr_casecmp(name, "Content-Range") == 0) {
			apr_table_setn(r->headers_out, name, value);
			return;
		}
		if (ap_cstr_casecmp(name, "Connection") == 0) {
			if (ap_find_token(r->pool, value, "close"))
				apr_table_setn(r->headers_out, "Connection", "close");
			return;		/* anything else is between Apache and the client */
		}
		break;
	case 'e':
		if (ap_cstr_casecmp(name, "ETag") == 0) {
			apr_table_setn(r->headers_out, name, value);
			return;
		}
		break;
	case 'k':
		if (ap_cstr_casecmp(name, "Keep-Alive") == 0)
			return;
		break;
	case 'l':
		if (ap_cstr_casecmp(name, "Location") == 0) {
			apr_table_setn(r->headers_out, name, value);
			return;
		}
		if (ap_cstr_casecmp(name, "Last-Modified") == 0) {
			date = apr_date_parse_http(value);
			if (date != APR_DATE_BAD) {
				ap_update_mtime(r, date);
				ap_set_last_modified(r);
			}
			return;
		}
		break;
	case 's':
		if (ap_cstr_casecmp(name, "Status") == 0) {
			if (!apr_isdigit(value[0]) || !apr_isdigit(value[1]) || !apr_isdigit(value[2]) ||
			    apr_isdigit(value[3]) || value[0] < '2' || value[0] > '5') {
				bad_header(x, "bad Status", value);
				return;
			}
			x->status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
			r->status = x->status;
			r->status_line = value;
			return;
		}
		break;
	case 't':
		if (ap_cstr_casecmp(name, "Transfer-Encoding") == 0)
			return;		/* how the body travels is between Apache and the client */
		break;
	case 'v':
		if (x->role == FCGI_AUTHORIZER && ap_cstr_casecmpn(name, "Variable-", 9) == 0)
			return;		/* for the request that it has not let through */
		break;
	case 'x':
		if (ap_cstr_casecmp(name, "X-Sendfile") == 0 && x->dc->sendfile != NULL && x->dc->sendfile->nelts > 0) {
			x->sendfile = value;
			return;
		}
		break;
	}
	apr_table_addn(x->fields, name, value);
}

/* An answer of Apache's own takes the place of the script's: nothing that described that one may stay. */
static void
forget_response(struct exchange *x)
{
	static const char *const entity[] = { "Content-Encoding", "Content-Language", "Content-Disposition",
	    "Content-MD5", "Accept-Ranges", NULL };
	request_rec *r = x->r;
	int i;

	r->status = HTTP_OK;
	r->status_line = NULL;
	r->content_encoding = NULL;
	apr_table_unset(r->headers_out, "Accept-Ranges");
	apr_table_unset(r->headers_out, "Content-Length");
	apr_table_unset(r->headers_out, "Content-Range");
	apr_table_unset(r->headers_out, "ETag");
	apr_table_unset(r->headers_out, "Last-Modified");
	for (i = 0; entity[i] != NULL; i++)
		apr_table_unset(r->err_headers_out, entity[i]);
}

/*
 * Open what realpath() has named, a name at a time and through no link: whoever
 * may write there could put one in the way between the look and the open.
 */
static int
open_real(const char *path)
{
	char name[NAME_MAX + 1];
	size_t len;
	int dir, fd;

	dir = open("/", O_DIRECTORY | O_CLOEXEC | OPEN_WALK);
	while (dir != -1) {
		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (len >= sizeof(name)) {
			close(dir);
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(name, path, len);
		name[len] = '\0';
		path += len;
		if (*path == '\0')
			fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		else
			fd = openat(dir, name, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | OPEN_WALK);
		close(dir);
		if (*path == '\0')
			return fd;
		dir = fd;
	}
	return -1;
}

static bool
sendfile_allowed(const struct exchange *x, const char *real)
{
	const char *dir;
	size_t len;
	int i;

	for (i = 0; i < x->dc->sendfile->nelts; i++) {
		dir = APR_ARRAY_IDX(x->dc->sendfile, i, const char *);
		len = strlen(dir);
		if (strncmp(real, dir, len) == 0 && real[len] == '/')
			return true;
	}
	return false;
}

static apr_status_t
close_file(void *file)
{
	return apr_file_close(file);
}

/* What Apache would make of a file of this name here, if the script has not said it. */
static void
type_by_name(request_rec *r, const char *path)
{
	request_rec like = *r;

	like.filename = (char *)(uintptr_t)path;
	like.path_info = NULL;
	like.content_type = like.content_encoding = NULL;
	like.output_filters = like.proto_output_filters = like.input_filters = like.proto_input_filters = NULL;
	if (ap_run_type_checker(&like) == OK && like.content_type != NULL) {
		ap_set_content_type(r, like.content_type);
		r->content_encoding = like.content_encoding;
	}
}

/*
 * The body of the response is to be a file: open it. Apache's own filters then
 * see to ranges. Returns OK or the status to answer with.
 */
static int
sendfile_open(struct exchange *x)
{
	request_rec *r = x->r;
	core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
	const char *path, *refusal = NULL;
	char *real = NULL;
	apr_os_file_t fd = -1;

	path = x->sendfile[0] == '/' ? x->sendfile : ap_make_full_path(r->pool, ap_make_dirstr_parent(r->pool, r->filename),
	    x->sendfile);
	if ((real = realpath(path, NULL)) == NULL)
		refusal = error_text(x, errno);
	else if (!sendfile_allowed(x, real))
		refusal = apr_psprintf(r->pool, "%s is not below a directory of ZfpmXSendfile", real);
	else if ((fd = open_real(real)) == -1)
		refusal = error_text(x, errno);
	free(real);
	if (refusal == NULL) {
		apr_os_file_put(&x->file, &fd, APR_FOPEN_READ | APR_FOPEN_LARGEFILE |
		    (core->enable_sendfile == ENABLE_SENDFILE_ON ? APR_FOPEN_SENDFILE_ENABLED : 0), r->pool);
		apr_pool_cleanup_register(r->pool, x->file, close_file, apr_pool_cleanup_null);
		if (apr_file_info_get(&r->finfo, APR_FINFO_NORM, x->file) != APR_SUCCESS || r->finfo.filetype != APR_REG)
			refusal = "not a regular file";
	}
	if (refusal != NULL) {
		ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "X-Sendfile: cannot send %s: %s %s", x->sendfile, refusal,
		    whose(x));
		return HTTP_INTERNAL_SERVER_ERROR;
	}
	if (r->content_type == NULL)
		type_by_name(r, path);
	if (apr_table_get(r->headers_out, "Last-Modified") == NULL) {
		ap_update_mtime(r, r->finfo.mtime);
		ap_set_last_modified(r);
	}
	if (apr_table_get(r->headers_out, "ETag") == NULL)
		ap_set_etag(r);
	ap_set_accept_ranges(r);
	ap_set_content_length(r, r->finfo.size);
	x->promised = -1;	/* whatever the script has said */
	return OK;
}

/* The header is complete and well-formed: what becomes of the response? */
static void
header_decide(struct exchange *x)
{
	request_rec *r = x->r;
	const char *location;
	int rv;

	location = apr_table_get(r->headers_out, "Location");
	if (location != NULL && (x->status == 0 || x->status == HTTP_OK)) {
		if (location[0] == '/' && x->role == FCGI_RESPONDER) {
			x->redirect = location;
			apr_table_unset(r->headers_out, "Location");
			answer_instead(x, OK);
		} else {
			answer_instead(x, HTTP_MOVED_TEMPORARILY);
		}
		return;
	}
	if (x->sendfile != NULL && (rv = sendfile_open(x)) != OK) {
		answer_instead(x, rv);
		return;
	}
	if (x->status == 0 && r->method_number == M_GET && (rv = ap_meets_conditions(r)) != OK) {
		answer_instead(x, rv);
		return;
	}
	if (x->file != NULL) {
		answer_instead(x, OK);
		return;
	}
	if (r->header_only || AP_STATUS_IS_HEADER_ONLY(r->status)) {
		/* A length without a body: true for HEAD and 304, and no byte will be counted. */
		if (x->promised != -1 && r->status != HTTP_NO_CONTENT)
			apr_table_setn(r->headers_out, "Content-Length", apr_off_t_toa(r->pool, x->promised));
		x->promised = -1;
	} else if (x->promised != -1) {
		ap_set_content_length(r, x->promised);
	}
	/* The body of an answer to HEAD is always empty, that says nothing about the page. */
	x->hold = x->status >= 400 && x->dc->error_override != 0 && !r->header_only;
	x->down = DOWN_BODY;
}

/* What a response says, in the order in which it stands there; x->down is another one if it can not be. */
static void
header_apply(struct exchange *x, const apr_array_header_t *fields)
{
	const apr_table_entry_t *e = (const apr_table_entry_t *)fields->elts;
	int i;

	x->fields = apr_table_make(x->r->pool, 10);
	x->promised = -1;
	ap_set_content_type(x->r, NULL);	/* the file's own type is that of a program */
	for (i = 0; i < fields->nelts && x->down == DOWN_HEADER; i++)
		header_field(x, e[i].key, e[i].val);
	if (x->down == DOWN_HEADER)
		header_decide(x);
}

/* An authorizer's header: yes, with variables for the request (6.3), or the response that the client gets. */
static void
authorizer_decide(struct exchange *x, const apr_table_t *given)
{
	const apr_array_header_t *fields = apr_table_elts(given);
	const apr_table_entry_t *e = (const apr_table_entry_t *)fields->elts;
	bool yes = apr_table_get(given, "Status") != NULL || apr_table_get(given, "Location") == NULL;
	int i;

	for (i = 0; i < fields->nelts; i++)
		if (ap_cstr_casecmp(e[i].key, "Status") == 0)
			yes = yes && strncmp(e[i].val, "200", 3) == 0 && !apr_isdigit(e[i].val[3]);
	if (yes) {
		for (i = 0; i < fields->nelts; i++)
			if (ap_cstr_casecmpn(e[i].key, "Variable-", 9) == 0)
				apr_table_setn(x->r->subprocess_env, e[i].key + 9, e[i].val);
		x->granted = true;
		answer_instead(x, OK);
		return;
	}
	if (x->r->main != NULL) {	/* who looks a file up, or includes it, asks whether he may, not for a page that says why */
		answer_instead(x, HTTP_FORBIDDEN);
		return;
	}
	ap_run_insert_error_filter(x->r);	/* as for every refusal: there may be headers to be added */
	header_apply(x, fields);
}

static void
header_parse(struct exchange *x)
{
	apr_table_t *fields = apr_table_make(x->r->pool, 10);
	char *colon, *line, *next, *stop, *value;

	stop = x->header + x->header_len;
	for (line = x->header; line < stop; line = next) {
		next = memchr(line, '\n', (size_t)(stop - line));
		if (next == NULL)
			break;
		*next = '\0';
		if (memchr(line, '\0', (size_t)(next - line)) != NULL) {
			bad_header(x, "NUL byte in a header", line);
			return;
		}
		value = next++;
		while (value > line && apr_isspace(value[-1]))
			*--value = '\0';
		if (*line == '\0')
			break;		/* the end of the header */
		colon = strchr(line, ':');
		if (colon == NULL || colon == line) {
			bad_header(x, "malformed header", line);
			return;
		}
		*colon = '\0';
		for (value = colon + 1; apr_isspace(*value); value++)
			;
		apr_table_addn(fields, line, value);
	}
	if (x->role == FCGI_AUTHORIZER)
		authorizer_decide(x, fields);
	else
		header_apply(x, apr_table_elts(fields));
}

static void
stdout_data(struct exchange *x, const uint8_t *data, size_t len)
{
	size_t n;
	bool done = false;

	x->stdout_len += (apr_off_t)len;
	if (x->down == DOWN_HEADER) {
		n = header_bytes(x, data, len, &done);
		if (x->header_len + n > HEADER_MAX) {
			bad_header(x, "header of more than 64 KB", "");
			return;
		}
		header_add(x, data, n, done);
		if (!done)
			return;
		header_parse(x);
		data += n;
		len -= n;
	}
	if (x->down == DOWN_BODY && len > 0)
		body_data(x, data, len);
}

/* ---- the application's standard error --------------------------------------------------- */

static void
stderr_line(struct exchange *x)
{
	while (x->err_len > 0 && x->err[x->err_len - 1] == '\r')
		x->err_len--;
	if (x->err_len > 0) {
		x->err[x->err_len] = '\0';
		ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, x->r, "stderr: %s", x->err);
	}
	x->err_len = x->err_cost = 0;
}

/*
 * A line each, however it was cut into records. One that the error log would
 * cut off goes there in several: cost is what its bytes take when escaped.
 */
static void
stderr_data(struct exchange *x, const uint8_t *data, size_t len)
{
	size_t i;

	x->stderr_len += (apr_off_t)len;
	if (x->err == NULL)
		x->err = apr_palloc(x->r->pool, STDERR_LINE + 5);
	for (i = 0; i < len; i++) {
		if (data[i] == '\n' || x->err_cost >= STDERR_LINE)
			stderr_line(x);
		if (data[i] == '\n')
			continue;
		x->err[x->err_len++] = data[i] == '\0' ? ' ' : (char)data[i];
		x->err_cost += data[i] < ' ' || data[i] > '~' ? 4 : data[i] == '\\' || data[i] == '"' ? 2 : 1;
	}
}

/* ---- reading from zfpm ------------------------------------------------------------------ */

static void
end_request(struct exchange *x)
{
	static const char *const meaning[] = { "complete", "can not multiplex", "overloaded", "unknown role" };
	int status;

	status = x->end[4];
	if (x->err_len > 0)
		stderr_line(x);
	if (status == FCGI_REQUEST_COMPLETE) {
		if (x->down == DOWN_HEADER) {
			ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, x->r, "End of script output before headers %s", whose(x));
			x->answer = HTTP_INTERNAL_SERVER_ERROR;
		}
	} else {
		/* A full queue is answered with a response and its reason on FCGI_STDERR besides: that is enough. */
		ap_log_rerror(APLOG_MARK, status == FCGI_OVERLOADED && x->down != DOWN_HEADER ? APLOG_INFO : APLOG_ERR, 0, x->r,
		    "zfpm ended the request with status %d (%s) %s", status,
		    status <= FCGI_UNKNOWN_ROLE ? meaning[status] : "unknown", whose(x));
		if (x->down == DOWN_HEADER)
			x->answer = status == FCGI_OVERLOADED ? HTTP_SERVICE_UNAVAILABLE : HTTP_INTERNAL_SERVER_ERROR;
	}
	x->down = DOWN_ENDED;
}

static void
take_part(struct exchange *x, const struct fcgi_part *part)
{
	size_t n;

	if (part->first) {
		x->records_down++;
		trace_record(x, "received", part->type, part->content_len);
	}
	if (part->id != REQUEST_ID)
		return;
	switch (part->type) {
	case FCGI_STDOUT:
		if (part->len > 0)
			stdout_data(x, part->data, part->len);
		break;
	case FCGI_STDERR:
		if (part->len > 0)
			stderr_data(x, part->data, part->len);
		break;
	case FCGI_END_REQUEST:
		n = part->len < sizeof(x->end) - x->end_len ? part->len : sizeof(x->end) - x->end_len;
		memcpy(x->end + x->end_len, part->data, n);
		x->end_len += n;
		if (part->last)
			end_request(x);
		break;
	}
}

/* Take apart what has just been read into the block. */
static void
take_bytes(struct exchange *x, const uint8_t *buf, size_t len)
{
	struct fcgi_part part;
	int rv = 0;

	while (x->down < DOWN_ENDED && (rv = fcgi_read(&x->reader, &buf, &len, &part)) == 1)
		take_part(x, &part);
	if (rv == -1) {
		ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, x->r, "what zfpm sends is not FastCGI %s", whose(x));
		x->down = DOWN_LOST;
	}
	x->unread = len;
}

/* A place to read to: behind the last bytes, or at the beginning if nobody holds the block any more. */
static uint8_t *
room(struct exchange *x, size_t *size)
{
	apr_bucket_alloc_t *list = x->r->connection->bucket_alloc;
	apr_bucket_heap *heap;

	if (x->block != NULL) {
		heap = x->block->data;
		if (heap->refcount.refcount == 1)
			x->block_len = 0;
		if (x->block_size - x->block_len < BLOCK_ROOM || (x->filled && x->block_size < BLOCK_LARGE)) {
			apr_bucket_destroy(x->block);
			x->block = NULL;
		}
	}
	if (x->block == NULL) {
		x->block_size = x->filled ? BLOCK_LARGE : BLOCK_SMALL;
		x->block_len = 0;
		x->block = apr_bucket_heap_create(apr_bucket_alloc(x->block_size, list), x->block_size,
		    apr_bucket_free, list);
	}
	heap = x->block->data;
	*size = x->block_size - x->block_len;
	return (uint8_t *)heap->base + x->block_len;
}

/* Read once, without waiting. x->look becomes false when there was nothing. */
static void
receive(struct exchange *x)
{
	uint8_t *buf;
	size_t size;
	ssize_t n;

	buf = room(x, &size);
	do {
		n = recv(x->fd, buf, size, MSG_DONTWAIT);
	} while (n == -1 && errno == EINTR);
	if (n == -1 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		x->look = false;
	} else if (n <= 0) {
		x->down = DOWN_LOST;
	} else {
		x->look = true;
		x->filled = (size_t)n == size;
		x->block_len += (size_t)n;
		x->bytes_down += n;
		take_bytes(x, buf, (size_t)n);
	}
}

/* ---- waiting ---------------------------------------------------------------------------- */

/* Which descriptor tells about the client: for more of its body, and when it closes. */
static void
find_client(struct exchange *x)
{
	conn_rec *c = x->r->connection;
	apr_socket_t *s;

	x->client_fd = -1;
	x->client_hup = false;
	if (c->master == NULL && (s = ap_get_conn_socket(c)) != NULL && apr_os_sock_get(&x->client_fd, s) == APR_SUCCESS) {
		x->client_hup = true;
		return;
	}
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 129)
	apr_pollfd_t p;

	if (c->master != NULL && x->starved && ap_get_pollfd_from_conn(c, &p, NULL) == APR_SUCCESS) {
		if (p.desc_type == APR_POLL_SOCKET)
			apr_os_sock_get(&x->client_fd, p.desc.s);
		else if (p.desc_type == APR_POLL_FILE)
			apr_os_file_get(&x->client_fd, p.desc.f);
	}
#endif
}

/* The client's socket has something to say while nothing is expected: has it been closed? */
static void
client_woke(struct exchange *x, short revents)
{
#ifdef POLLRDHUP
	(void)revents;		/* nothing else was asked for */
	x->down = DOWN_GONE;
#else
	if ((revents & (POLLHUP | POLLERR)) || !still_good(x->client_fd)) {
		char c;

		if (recv(x->client_fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
			x->client_hup = false;	/* its next request: this way we learn no more */
		else
			x->down = DOWN_GONE;
	}
#endif
}

#ifdef POLLRDHUP
#define CLIENT_CLOSES	POLLRDHUP
#else
#define CLIENT_CLOSES	POLLIN
#endif

/* poll() that looks after an HTTP/2 client besides: nothing wakes us when such a one leaves. */
static int
poll_watching(struct exchange *x, struct pollfd *p, nfds_t nfds, int ms)
{
	conn_rec *c = x->r->connection;
	int n, tick;

	for (;;) {
		tick = c->master != NULL && (ms == -1 || ms > CLIENT_TICK_MS) ? CLIENT_TICK_MS : ms;
		n = poll(p, nfds, tick);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == 0 && c->aborted)
			x->down = DOWN_GONE;
		if (n != 0 || c->aborted || tick == ms)
			return n;
		if (ms != -1)
			ms -= tick;
	}
}

/* The client has all of a response whose length is known, though END_REQUEST is still to come. */
static bool
delivered(const struct exchange *x)
{
	return x->down == DOWN_BODY && x->up == UP_DONE && x->passed && x->out_len == 0 &&
	    (x->r->header_only || (x->promised != -1 && x->body_down == x->promised));
}

/*
 * Until zfpm or the client has something for us, or the time is over.
 *
 * Programs start work in the background by a request to their own site whose
 * answer they do not wait for: they send it and close. That the client left
 * is for the application to judge, so the request gets the time to reach one.
 * Only what still waits for a worker after that is given up. A client that has
 * the whole response leaves when it likes, and the script has a moment to end.
 */
static void
wait_event(struct exchange *x)
{
	struct pollfd p[2];
	apr_interval_time_t limit, patience = 0;
	apr_time_t now;
	int ms, n, nfds = 1;

	p[0] = (struct pollfd){ .fd = x->fd, .events = x->blocked ? POLLIN | POLLOUT : POLLIN };
	if (x->client_fd == -1)
		find_client(x);
	if (x->client_hup && !x->starved) {
		now = apr_time_now();
		if (x->delivered == 0 && delivered(x))
			x->delivered = now;
		patience = (x->delivered != 0 ? x->delivered : x->start) + PATIENCE - now;
	}
	if (x->client_fd != -1 && (x->client_hup || x->starved) && patience <= 0) {
		p[nfds++] = (struct pollfd){ .fd = x->client_fd,
		    .events = (short)((x->client_hup ? CLIENT_CLOSES : 0) | (x->starved ? POLLIN : 0)) };
	}
	if (x->starved && !x->blocked)
		ms = nfds == 2 ? CLIENT_TICK_MS : BLIND_TICK_MS;
	else
		ms = x->sc->timeout > 0 ? (int)apr_time_as_msec(x->sc->timeout) : -1;
	if (patience > 0 && (ms == -1 || ms > apr_time_as_msec(patience)))
		ms = (int)apr_time_as_msec(patience) + 1;
	else
		patience = 0;
	n = poll_watching(x, p, (nfds_t)nfds, ms);
	if (x->down == DOWN_GONE || (n == 0 && patience > 0))
		return;
	if (n == 0 && !(x->starved && !x->blocked)) {
		x->down = DOWN_SILENT;
		return;
	}
	if (n == 0) {
		limit = apr_time_as_msec(x->r->server->timeout);
		x->starved = false;
		x->starved_ms += ms;
		if (x->starved_ms >= limit)
			refuse(x, HTTP_REQUEST_TIME_OUT);
		return;
	}
	if (p[0].revents & (POLLIN | POLLHUP | POLLERR))
		x->look = true;
	if (p[0].revents & POLLOUT)
		x->blocked = false;
	if (nfds == 2 && p[1].revents != 0) {
		if (x->starved)
			x->starved = false;	/* with a body to come its reader is the one to see how it ends */
		else
			client_woke(x, p[1].revents);
	}
}

/* ---- the exchange ------------------------------------------------------------------------- */

/* Send one record of the body, or what is left of one. */
static void
move_up(struct exchange *x)
{
	if (nothing_pending(x))
		next_record(x);
	if (x->down >= DOWN_ENDED || nothing_pending(x))
		return;
	if (!push(x) && x->down < DOWN_ENDED)
		x->up = UP_LOST;	/* an answer may lie there: read on until the end */
	if (!x->blocked)
		x->look = true;		/* nothing may stand still below us while a body goes up */
}

/*
 * Get a connection and send the beginning of the request on it. A kept
 * connection that refuses the very first byte has not served anybody: then
 * another one may.
 */
static bool
begin(struct exchange *x)
{
	for (;;) {
		if (x->fd == -1 && !get_connection(x)) {
			refuse(x, HTTP_SERVICE_UNAVAILABLE);
			return false;
		}
		if (x->up < UP_LAST && !x->starved && x->body_len == 0) {
			next_record(x);
			if (x->down == DOWN_REFUSED)
				return false;
		}
		if (push(x))
			return true;
		if (x->down == DOWN_REFUSED)
			return false;
		if (!x->kept || x->bytes_up > 0) {
			x->up = UP_LOST;
			x->look = true;
			return true;
		}
		close(x->fd);
		x->fd = -1;
	}
}

/*
 * Tell zfpm that nobody wants the response any more. If we closed at once it
 * might meet that while it writes, and never read why; so what still comes is
 * read and dropped until zfpm has closed, for a moment at most.
 */
static void
give_up(struct exchange *x)
{
	struct pollfd p = { .fd = x->fd, .events = POLLIN };
	uint8_t record[FCGI_HEADER_LEN], *buf;
	apr_time_t deadline, left;
	size_t size;

	fcgi_put_header(record, FCGI_ABORT_REQUEST, REQUEST_ID, 0, 0);
	trace_record(x, "send", FCGI_ABORT_REQUEST, 0);
	if (send(x->fd, record, sizeof(record), MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof(record) ||
	    shutdown(x->fd, SHUT_WR) == -1)
		return;
	deadline = apr_time_now() + ABORT_WAIT;
	while ((left = deadline - apr_time_now()) > 0 && poll(&p, 1, (int)apr_time_as_msec(left) + 1) > 0) {
		buf = room(x, &size);
		if (recv(x->fd, buf, size, MSG_DONTWAIT) <= 0)
			break;
	}
}

/*
 * An Apache process that ends, for a restart too, closes its clients' connections: then it is not the client who
 * left, and a script that runs is not to be aborted for it.
 */
static bool
server_stops(void)
{
	int state;

	return ap_mpm_query(AP_MPMQ_MPM_STATE, &state) == APR_SUCCESS && state == AP_MPMQ_STOPPING;
}

/* The connection: kept if both sides stand between two requests, else closed, with ABORT where it can be understood. */
static void
finish_connection(struct exchange *x)
{
	bool keep;

	if (x->fd == -1)
		return;
	keep = (x->down == DOWN_REFUSED && x->bytes_up == 0) || (x->down == DOWN_ENDED && x->up == UP_DONE &&
	    idle_max > 0 && x->unread == 0 && fcgi_at_boundary(&x->reader));
	ap_log_rerror(APLOG_MARK, TRACE_CONNECTION, 0, x->r, "descriptor %d is %s", x->fd, keep ? "kept" : "closed");
	if (keep) {
		peer_put(x->sc->peer, x->fd);
	} else {
		if (x->down != DOWN_ENDED && x->down != DOWN_LOST && !x->begun && !server_stops())
			give_up(x);
		close(x->fd);
	}
	x->fd = -1;
}

/* At LogLevel info: what was seen of a request that went wrong. */
static void
log_summary(const struct exchange *x)
{
	const char *got;

	if (!APLOGrinfo(x->r))
		return;
	if (x->fields == NULL)
		got = x->header_len > 0 ? "in the header" : "no byte yet";
	else
		got = apr_psprintf(x->r->pool, "%" APR_OFF_T_FMT " bytes of the body", x->body_down);
	ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, x->r,
	    "protocol info: socket %s, %s connection, pool %s, app %s; sent %lu records, %" APR_OFF_T_FMT " bytes "
	    "(%" APR_OFF_T_FMT " of the body, %s); received %lu records, %" APR_OFF_T_FMT " bytes (stdout %" APR_OFF_T_FMT
	    ", stderr %" APR_OFF_T_FMT "); response: %s; elapsed %" APR_TIME_T_FMT " ms",
	    x->sc->peer->address, x->kept ? "kept" : "new", x->pool != NULL ? x->pool : "(none)",
	    x->app != NULL ? x->app : x->page != NULL ? "(status)" : "(the first)",
	    x->records_up, x->bytes_up, x->body_up, x->up == UP_DONE ? "complete" : "incomplete",
	    x->records_down, x->bytes_down, x->stdout_len, x->stderr_len, got,
	    apr_time_as_msec(apr_time_now() - x->start));
}

/*
 * The response can not be completed. If nothing of it has been handed down the
 * client gets the status, else it must see that something is missing: the error
 * bucket keeps the chunk filter from writing the last chunk.
 */
static int
cut(struct exchange *x, int status)
{
	request_rec *r = x->r;
	conn_rec *c = r->connection;

	if (!x->passed) {
		forget_response(x);
		return status;
	}
	c->keepalive = AP_CONN_CLOSE;
	APR_BRIGADE_INSERT_TAIL(x->out, ap_bucket_error_create(HTTP_BAD_GATEWAY, NULL, r->pool, c->bucket_alloc));
	APR_BRIGADE_INSERT_TAIL(x->out, apr_bucket_eos_create(c->bucket_alloc));
	(void)ap_pass_brigade(r->output_filters, x->out);
	apr_brigade_cleanup(x->out);
	return OK;
}

/* END_REQUEST came: the end of the response, or what Apache makes of it. */
static int
complete(struct exchange *x)
{
	request_rec *r = x->r;
	apr_bucket *e;

	if (x->hold)
		x->answer = x->status;
	if (x->redirect != NULL || x->answer != OK) {
		if (x->fields != NULL && (x->answer != HTTP_INTERNAL_SERVER_ERROR || x->hold))
			publish_fields(x);	/* a cookie, WWW-Authenticate, Retry-After */
		if (x->answer == HTTP_NOT_MODIFIED) {	/* it is still the script's entity */
			r->status = HTTP_OK;
			r->status_line = NULL;
		} else {
			forget_response(x);
		}
		return x->answer;
	}
	if (x->end[4] != FCGI_REQUEST_COMPLETE) {
		log_summary(x);
		return cut(x, HTTP_INTERNAL_SERVER_ERROR);
	}
	if (x->granted)
		return OK;
	if (x->file != NULL) {
		e = apr_brigade_insert_file(x->out, x->file, 0, r->finfo.size, r->pool);
#if APR_HAS_MMAP
		/* Its owner may cut it off while we send it: reading tells us, a mapping kills the whole process. */
		apr_bucket_file_enable_mmap(e, 0);
#endif
	}
	if (x->promised != -1 && x->body_down < x->promised) {
		ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "the response ends after %" APR_OFF_T_FMT
		    " bytes, its Content-Length is %" APR_OFF_T_FMT " %s", x->body_down, x->promised, whose(x));
		hand_down(x, true);	/* the script has said what it had to say; the length was wrong */
		return cut(x, HTTP_INTERNAL_SERVER_ERROR);
	}
	APR_BRIGADE_INSERT_TAIL(x->out, apr_bucket_eos_create(r->connection->bucket_alloc));
	hand_down(x, false);
	return OK;
}

static int
conclude(struct exchange *x)
{
	if (x->err_len > 0)
		stderr_line(x);
	switch (x->down) {
	case DOWN_HEADER:
	case DOWN_BODY:
	case DOWN_DISCARD:
		break;			/* never here */
	case DOWN_ENDED:
		return complete(x);
	case DOWN_LOST:
		ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, x->r, RESET_MESSAGE " %s", whose(x));
		log_summary(x);
		return cut(x, HTTP_INTERNAL_SERVER_ERROR);
	case DOWN_SILENT:
		ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, x->r,
		    "Timeout (%" APR_TIME_T_FMT "s) exceeded while reading from socket (zfpm) %s",
		    apr_time_sec(x->sc->timeout), whose(x));
		log_summary(x);
		return cut(x, HTTP_GATEWAY_TIME_OUT);
	case DOWN_GONE:
		ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, x->r, "the client left before the end of the response %s", whose(x));
		log_summary(x);
		x->r->connection->keepalive = AP_CONN_CLOSE;
		x->r->connection->aborted = 1;
		return OK;
	case DOWN_REFUSED:
		if (x->bytes_up > 0) {
			ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, x->r, "the request body failed with status %d %s", x->answer,
			    whose(x));
			log_summary(x);
		}
		return cut(x, x->answer);
	}
	return HTTP_INTERNAL_SERVER_ERROR;
}

static void
run(struct exchange *x)
{
	if (!begin(x))
		return;
	while (x->down < DOWN_ENDED) {
		if (x->up < UP_DONE && !x->blocked && !x->starved) {
			move_up(x);
			if (x->down >= DOWN_ENDED)
				break;
		}
		if (x->look) {
			receive(x);
			continue;
		}
		/* Nothing more to read: now the client gets what there is. */
		if (x->down == DOWN_BODY && !x->hold && (!x->passed || x->out_len > 0)) {
			hand_down(x, true);
			if (x->down >= DOWN_ENDED)
				break;
		}
		if (x->up >= UP_DONE || x->blocked || x->starved)
			wait_event(x);
	}
}

/* ---- handlers ------------------------------------------------------------------------------- */

static struct request_conf *
remembered(request_rec *r)
{
	struct request_conf *rc = ap_get_module_config(r->request_config, &zfpm_module);

	if (rc == NULL) {
		rc = apr_pcalloc(r->pool, sizeof(*rc));
		ap_set_module_config(r->request_config, &zfpm_module, rc);
	}
	return rc;
}

static void
exchange_init(struct exchange *x, request_rec *r)
{
	memset(x, 0, sizeof(*x));
	x->r = r;
	x->sc = ap_get_module_config(r->server->module_config, &zfpm_module);
	x->dc = ap_get_module_config(r->per_dir_config, &zfpm_module);
	x->role = FCGI_RESPONDER;
	x->pool = x->dc->pool != NULL ? x->dc->pool : r->server->server_hostname;
	x->app = x->dc->app;
	x->env = r->subprocess_env;
	x->fd = x->client_fd = -1;
	x->promised = -1;
	x->up = UP_LAST;
	x->answer = OK;
	x->out = apr_brigade_create(r->pool, r->connection->bucket_alloc);
	x->body = apr_brigade_create(r->pool, r->connection->bucket_alloc);
	x->start = apr_time_now();
}

/* What is prepared goes to zfpm, what comes back to the client. Returns OK, or the status to answer with. */
static int
serve(struct exchange *x)
{
	int rv;

	run(x);
	finish_connection(x);
	rv = conclude(x);
	if (x->block != NULL)
		apr_bucket_destroy(x->block);
	x->block = NULL;
	return rv;
}

/* Has this request a body that nobody has read yet? An ErrorDocument has none of its own. */
static bool
has_body(request_rec *r)
{
	return ap_request_has_body(r) && !(r->prev != NULL && ap_is_HTTP_ERROR(r->status));
}

/* What ends the request is the empty STDIN record alone. */
static void
no_body(struct exchange *x)
{
	x->tail_len = sizeof(end_of_stdin);
	x->records_up++;
	trace_record(x, "send", FCGI_STDIN, 0);
}

/* A body is on its way: whoever answers instead of the script must not look for it. */
static void
forget_body(request_rec *r)
{
	apr_table_unset(r->headers_in, "Content-Length");
	apr_table_unset(r->headers_in, "Transfer-Encoding");
}

/* CGI/1.1 variables for URLs that are the application's own: the Location is the script, no file is known. */
static void
virtual_vars(struct exchange *x)
{
	apr_table_t *env = x->r->subprocess_env;
	const char *prefix = x->dc->prefix != NULL ? x->dc->prefix : "", *uri = x->r->uri;
	size_t len = strlen(prefix);

	if (strncmp(uri, prefix, len) != 0 || (uri[len] != '/' && uri[len] != '\0'))
		len = 0;	/* the Location is a pattern */
	apr_table_setn(env, "SCRIPT_NAME", apr_pstrmemdup(x->r->pool, uri, len));
	if (uri[len] != '\0')
		apr_table_setn(env, "PATH_INFO", uri + len);
	else
		apr_table_unset(env, "PATH_INFO");
	apr_table_unset(env, "PATH_TRANSLATED");
	apr_table_unset(env, "SCRIPT_FILENAME");
}

/* What is sent first: everything up to STDIN. Returns OK or the status to answer with. */
static int
prepare(struct exchange *x)
{
	request_rec *r = x->r;
	struct request_conf *rc = remembered(r);
	const char *length;
	apr_off_t content_length = -1;
	int rv;

	length = apr_table_get(r->headers_in, "Content-Length");
	if (has_body(r)) {
		x->in = apr_brigade_create(r->pool, r->connection->bucket_alloc);
		if (length == NULL || apr_table_get(r->headers_in, "Transfer-Encoding") != NULL || r->kept_body != NULL ||
		    r->input_filters != r->proto_input_filters) {
			x->up = UP_SPOOL;
			if (!get_connection(x))		/* then nobody wants the body */
				return HTTP_SERVICE_UNAVAILABLE;
			peer_put(x->sc->peer, x->fd);
			x->fd = -1;
			rv = spool(x);
			if (rv != OK)
				return rv;
		} else {
			x->up = UP_CLIENT;
			x->want = strict_length(length);
			if (x->want == -1)
				return HTTP_BAD_REQUEST;
		}
		content_length = x->want;
	} else {
		if (length != NULL && strcmp(length, "0") == 0)
			content_length = 0;
	}
	rc->looking = true;
	ap_add_common_vars(r);
	ap_add_cgi_vars(r);
	rc->looking = false;
	if (rc->virtual)
		virtual_vars(x);
	rv = put_params(x, content_length);
	if (x->in == NULL)
		no_body(x);
	return rv;
}

static int
script_handler(request_rec *r, const char *app)
{
	struct exchange x;
	int rv;

	if (!remembered(r)->virtual) {
		if (r->finfo.filetype != APR_REG) {
			ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "script is not a file: %s", r->filename);
			return HTTP_NOT_FOUND;
		}
		if (r->used_path_info == AP_REQ_REJECT_PATH_INFO && r->path_info != NULL && r->path_info[0] != '\0')
			return HTTP_NOT_FOUND;
	}
	exchange_init(&x, r);
	if (app[0] != '\0')
		x.app = app;
	rv = prepare(&x);
	if (rv != OK)
		return rv;
	rv = serve(&x);
	if (x.in != NULL && (rv != OK || x.redirect != NULL))
		forget_body(r);
	if (x.redirect != NULL && rv == OK && x.down == DOWN_ENDED) {
		if (r->method_number != M_GET) {	/* HEAD is one, and stays */
			r->method = "GET";
			r->method_number = M_GET;
		}
		ap_internal_redirect_handler(x.redirect, r);
	}
	return rv;
}

/*
 * Has the server's own configuration given this URL its handler? Only <Location>
 * and what stands outside of sections is asked: a tenant's .htaccess is not in it.
 */
static bool
handler_is_ours(request_rec *r)
{
	request_rec like = *r;
	core_dir_config *core;
	const char *given, *error = NULL;

	like.per_dir_config = r->server->lookup_defaults;
	if (ap_location_walk(&like) != OK)
		return false;
	core = ap_get_core_module_config(like.per_dir_config);
	given = core->expr_handler != NULL ? ap_expr_str_exec(r, core->expr_handler, &error) : core->handler;
	return error == NULL && given != NULL && strcmp(given, r->handler) == 0;
}

/* zfpm's status page. It shows what runs in every pool, so access control is not left to those who own one. */
static int
status_handler(request_rec *r)
{
	static const char *const formats[] = { "json", "text", "openmetrics" };
	struct exchange x;
	size_t i, len;
	int rv;

	if (!handler_is_ours(r)) {
		ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "zfpm-status: only a <Location> of the server's configuration "
		    "can give this handler (URI %s)", r->uri);
		return HTTP_FORBIDDEN;
	}
	r->allowed |= AP_METHOD_BIT << M_GET;
	if (r->method_number == M_OPTIONS)
		return DECLINED;
	if (r->method_number != M_GET)
		return HTTP_METHOD_NOT_ALLOWED;
	exchange_init(&x, r);
	x.pool = x.app = NULL;
	x.page = "html";
	len = r->args != NULL ? strcspn(r->args, "&=") : 0;
	for (i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (len == strlen(formats[i]) && strncmp(r->args, formats[i], len) == 0)
			x.page = formats[i];
	rv = put_params(&x, -1);
	no_body(&x);
	return rv == OK ? serve(&x) : rv;
}

static int
handler(request_rec *r)
{
	if (r->handler == NULL || strncmp(r->handler, "zfpm", 4) != 0)
		return DECLINED;
	switch (r->handler[4]) {
	case '\0':
		return script_handler(r, "");
	case ':':
		return script_handler(r, r->handler + 5);
	case '-':
		if (strcmp(r->handler, "zfpm-status") == 0)
			return status_handler(r);
		/* Declined, the script's source would be sent. */
		ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "there is no handler %s: zfpm, zfpm:APP and zfpm-status are; "
		    "the FILTER role is not supported (URI %s)", r->handler, r->uri);
		return HTTP_INTERNAL_SERVER_ERROR;
	}
	return DECLINED;
}

/* What an authorizer is sent: what is known of the request, but no body and nothing of the script (6.3). */
static int
prepare_authorizer(struct exchange *x)
{
	static const char *const unknown[] = { "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME", "SCRIPT_FILENAME", NULL };
	request_rec *r = x->r;
	apr_table_t *env = r->subprocess_env;
	char *path_info = r->path_info;
	int i;

	r->subprocess_env = apr_table_copy(r->pool, env);
	r->path_info = NULL;	/* or what it might mean would be looked up */
	ap_add_common_vars(r);
	ap_add_cgi_vars(r);
	r->path_info = path_info;
	x->env = r->subprocess_env;
	r->subprocess_env = env;
	for (i = 0; unknown[i] != NULL; i++)
		apr_table_unset(x->env, unknown[i]);
	if (x->dc->authorizer_script != NULL)
		apr_table_setn(x->env, "SCRIPT_FILENAME", x->dc->authorizer_script);
	return put_params(x, -1);
}

/*
 * Ask the authorizer. In the last of the hooks before a handler, for three
 * reasons: what Require has refused does not take a worker; the authorizer is
 * told REMOTE_USER and the variables of mod_ssl; and no shortcut that Apache
 * takes through its access hooks, where a sub-request or an internal redirect
 * has the same configuration, goes round it. So both have to agree.
 */
static int
authorize(request_rec *r)
{
	struct dir_conf *dc = ap_get_module_config(r->per_dir_config, &zfpm_module);
	struct request_conf *main;
	struct exchange x;
	int rv;

	if (dc->authorizer == NULL || dc->authorizer[0] == '\0')
		return DECLINED;
	main = r->main != NULL ? ap_get_module_config(r->main->request_config, &zfpm_module) : NULL;
	if (main != NULL && main->looking)
		return DECLINED;
	exchange_init(&x, r);
	x.role = FCGI_AUTHORIZER;
	x.app = dc->authorizer;
	rv = prepare_authorizer(&x);
	if (rv == OK)
		rv = serve(&x);
	if (rv != OK || x.granted)
		return rv;
	return r->main != NULL ? HTTP_FORBIDDEN : DONE;		/* the client has the authorizer's response */
}

/* ZfpmVirtual: there is nothing to be looked for in the file system, nor a .htaccess to be read. */
static int
skip_files(request_rec *r)
{
	ap_conf_vector_t *before = r->per_dir_config;
	struct dir_conf *dc;

	if (!virtual_used || r->uri[0] != '/' || r->proxyreq != PROXYREQ_NONE)
		return DECLINED;
	if (ap_location_walk(r) == OK) {
		dc = ap_get_module_config(r->per_dir_config, &zfpm_module);
		if (dc->virtual == 1) {
			remembered(r)->virtual = true;
			return OK;
		}
	}
	r->per_dir_config = before;
	return DECLINED;
}

/* ---- directives ------------------------------------------------------------------------------ */

/* Also where AllowOverrideList names it: neither who runs a script nor who may see a file is its owner's choice. */
static const char *
no_htaccess(cmd_parms *cmd)
{
	return ap_check_cmd_context(cmd, NOT_IN_HTACCESS);
}

static const char *
set_socket(cmd_parms *cmd, void *dir, const char *arg)
{
	struct server_conf *sc = ap_get_module_config(cmd->server->module_config, &zfpm_module);
	const char *problem = no_htaccess(cmd);
	char *host, *scope;
	apr_port_t port;

	(void)dir;
	if (problem != NULL)
		return problem;
	sc->tcp = NULL;
	if (strchr(arg, '/') != NULL) {
		sc->address = ap_server_root_relative(cmd->pool, arg);
		if (sc->address == NULL || strlen(sc->address) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
			return apr_psprintf(cmd->pool, "ZfpmSocket: %s: the path is too long for a socket", arg);
		return NULL;
	}
	sc->address = arg;
	if (apr_parse_addr_port(&host, &scope, &port, arg, cmd->pool) != APR_SUCCESS || host == NULL || port == 0)
		return apr_psprintf(cmd->pool, "ZfpmSocket: %s is neither a PATH with a slash nor HOST:PORT", arg);
	if (apr_sockaddr_info_get(&sc->tcp, host, APR_UNSPEC, port, 0, cmd->pool) != APR_SUCCESS)
		return apr_psprintf(cmd->pool, "ZfpmSocket: %s: no such host", arg);
	return NULL;
}

/* The first line of the key file, read while we are root: no child process can read it again. */
static const char *
set_key(cmd_parms *cmd, void *dir, const char *arg)
{
	struct server_conf *sc = ap_get_module_config(cmd->server->module_config, &zfpm_module);
	const char *file, *problem = no_htaccess(cmd);
	char buf[KEY_MAX + 2], *end;
	struct stat st;
	ssize_t n = 0;
	int fd;

	(void)dir;
	if (problem != NULL)
		return problem;
	file = ap_server_root_relative(cmd->pool, arg);
	fd = file != NULL ? open(file, O_RDONLY | O_NOCTTY | O_NONBLOCK) : -1;
	if (fd == -1 || fstat(fd, &st) == -1) {
		problem = apr_psprintf(cmd->pool, "ZfpmKey: %s: %s", arg, strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		problem = apr_psprintf(cmd->pool, "ZfpmKey: %s: not a regular file", arg);
	} else if (st.st_mode & (S_IRWXG | S_IRWXO)) {
		problem = apr_psprintf(cmd->pool, "ZfpmKey: %s: group or others have access to it (chmod 600)", arg);
	} else if (st.st_uid != 0 && st.st_uid != geteuid()) {
		problem = apr_psprintf(cmd->pool, "ZfpmKey: %s: belongs neither to root nor to who starts Apache", arg);
	} else if ((n = read(fd, buf, sizeof(buf) - 1)) == -1) {
		problem = apr_psprintf(cmd->pool, "ZfpmKey: %s: %s", arg, strerror(errno));
	}
	if (fd != -1)
		close(fd);
	if (problem != NULL)
		return problem;
	buf[n] = '\0';
	end = memchr(buf, '\n', (size_t)n);
	sc->key_len = end != NULL ? (size_t)(end - buf) : (size_t)n;
	if (sc->key_len < KEY_MIN)
		problem = apr_psprintf(cmd->pool, "ZfpmKey: %s: the first line has fewer than %d characters", arg, KEY_MIN);
	else if (sc->key_len > KEY_MAX)
		problem = apr_psprintf(cmd->pool, "ZfpmKey: %s: the first line has more than %d characters", arg, KEY_MAX);
	else
		sc->key = apr_pstrmemdup(cmd->pool, buf, sc->key_len);
	memset(buf, 0, sizeof(buf));
	return problem;
}

/* Names of pools, and of apps: what zfpm.conf allows. */
static bool
is_name(const char *s)
{
	const char *p;

	for (p = s; *p != '\0'; p++)
		if (!apr_isalnum(*p) && *p != '.' && *p != '_' && *p != '-')
			return false;
	return p > s && p - s <= POOL_NAME_LEN && *s != '.';
}

static const char *
set_pool(cmd_parms *cmd, void *dir, const char *arg)
{
	struct dir_conf *dc = dir;
	const char *problem = no_htaccess(cmd);

	if (problem != NULL)
		return problem;
	if (!is_name(arg))
		return apr_psprintf(cmd->pool, "ZfpmPool: %s is not the name of a pool", arg);
	dc->pool = arg;
	return NULL;
}

static const char *
set_app(cmd_parms *cmd, void *dir, const char *arg)
{
	struct dir_conf *dc = dir;

	if (!is_name(arg))
		return apr_psprintf(cmd->pool, "ZfpmApp: %s is not the name of an app", arg);
	dc->app = arg;
	return NULL;
}

static const char *
set_authorizer(cmd_parms *cmd, void *dir, const char *app, const char *script)
{
	struct dir_conf *dc = dir;
	const char *problem = no_htaccess(cmd);

	if (problem != NULL)
		return problem;
	if (!is_name(app))
		return apr_psprintf(cmd->pool, "ZfpmAuthorizer: %s is not the name of an app", app);
	if (script != NULL && script[0] != '/')
		return apr_psprintf(cmd->pool, "ZfpmAuthorizer: %s is not an absolute path", script);
	dc->authorizer = strcmp(app, "none") != 0 ? app : "";
	dc->authorizer_script = script;
	return NULL;
}

static const char *
set_virtual(cmd_parms *cmd, void *dir, int on)
{
	struct dir_conf *dc = dir;
	const char *problem;
	char *prefix;
	size_t len;

	problem = ap_check_cmd_context(cmd, NOT_IN_HTACCESS | NOT_IN_DIRECTORY | NOT_IN_FILES);
	if (problem != NULL)
		return problem;
	dc->virtual = on;
	prefix = apr_pstrdup(cmd->pool, cmd->path != NULL ? cmd->path : "");
	for (len = strlen(prefix); len > 0 && prefix[len - 1] == '/'; len--)
		prefix[len - 1] = '\0';
	dc->prefix = prefix;
	if (on)
		virtual_used = true;
	return NULL;
}

/*
 * A directory is compared as it is written here with what a file is really
 * called. What a link says where it is written, who owns the place can change.
 */
static const char *
set_sendfile(cmd_parms *cmd, void *dir, const char *arg)
{
	struct dir_conf *dc = dir;
	const char *problem = no_htaccess(cmd);
	char *path, *real;
	size_t len;

	if (problem != NULL)
		return problem;
	if (dc->sendfile == NULL)
		dc->sendfile = apr_array_make(cmd->pool, 2, sizeof(const char *));
	if (strcmp(arg, "none") == 0) {
		apr_array_clear(dc->sendfile);
		return NULL;
	}
	path = ap_server_root_relative(cmd->pool, arg);
	if (arg[0] != '/' || path == NULL)
		return apr_psprintf(cmd->pool, "ZfpmXSendfile: %s is not an absolute path", arg);
	for (len = strlen(path); len > 0 && path[len - 1] == '/'; len--)
		path[len - 1] = '\0';
	real = realpath(arg, NULL);
	if (real != NULL && strcmp(real, path) != 0 && len > 0)
		ap_log_error(APLOG_MARK, APLOG_WARNING | APLOG_STARTUP, 0, NULL, "ZfpmXSendfile: %s is really %s: "
		    "no file is below it unless that is written", arg, real);
	free(real);
	APR_ARRAY_PUSH(dc->sendfile, const char *) = path;
	return NULL;
}

static const char *
set_idle(cmd_parms *cmd, void *dir, const char *arg)
{
	const char *problem;
	apr_off_t n;

	(void)dir;
	problem = ap_check_cmd_context(cmd, GLOBAL_ONLY);
	if (problem != NULL)
		return problem;
	n = strict_length(arg);
	if (n < 0 || n > 100000)
		return apr_psprintf(cmd->pool, "ZfpmIdleConnections: %s is not between 0 and 100000", arg);
	idle_max = (int)n;
	return NULL;
}

static const char *
set_time(cmd_parms *cmd, const char *arg, apr_interval_time_t min, apr_interval_time_t *t)
{
	if (ap_timeout_parameter_parse(arg, t, "s") != APR_SUCCESS || *t < min || *t > apr_time_from_sec(INT32_MAX / 1000))
		return apr_psprintf(cmd->pool, "%s: %s is not a time in seconds, or with ms, s, mi or h behind it",
		    cmd->cmd->name, arg);
	return NULL;
}

static const char *
set_connect_timeout(cmd_parms *cmd, void *dir, const char *arg)
{
	struct server_conf *sc = ap_get_module_config(cmd->server->module_config, &zfpm_module);
	const char *problem = no_htaccess(cmd);

	(void)dir;
	return problem != NULL ? problem : set_time(cmd, arg, 1, &sc->connect_timeout);
}

static const char *
set_timeout(cmd_parms *cmd, void *dir, const char *arg)
{
	struct server_conf *sc = ap_get_module_config(cmd->server->module_config, &zfpm_module);
	const char *problem = no_htaccess(cmd);

	(void)dir;
	return problem != NULL ? problem : set_time(cmd, arg, 0, &sc->timeout);
}

static void *
create_server(apr_pool_t *p, server_rec *s)
{
	struct server_conf *sc = apr_pcalloc(p, sizeof(*sc));

	(void)s;
	sc->connect_timeout = sc->timeout = -1;
	return sc;
}

static void *
merge_server(apr_pool_t *p, void *base, void *over)
{
	struct server_conf *b = base, *o = over, *sc = apr_pmemdup(p, o, sizeof(*o));

	if (o->address == NULL) {
		sc->address = b->address;
		sc->tcp = b->tcp;
	}
	if (o->key == NULL) {
		sc->key = b->key;
		sc->key_len = b->key_len;
	}
	if (o->connect_timeout == -1)
		sc->connect_timeout = b->connect_timeout;
	if (o->timeout == -1)
		sc->timeout = b->timeout;
	return sc;
}

static void *
create_dir(apr_pool_t *p, char *dir)
{
	struct dir_conf *dc = apr_pcalloc(p, sizeof(*dc));

	(void)dir;
	dc->virtual = dc->error_override = dc->pass_authorization = -1;
	return dc;
}

static void *
merge_dir(apr_pool_t *p, void *base, void *over)
{
	struct dir_conf *b = base, *o = over, *dc = apr_pmemdup(p, o, sizeof(*o));

	if (o->pool == NULL)
		dc->pool = b->pool;
	if (o->app == NULL)
		dc->app = b->app;
	if (o->authorizer == NULL) {
		dc->authorizer = b->authorizer;
		dc->authorizer_script = b->authorizer_script;
	}
	if (o->sendfile == NULL)
		dc->sendfile = b->sendfile;
	if (o->virtual == -1) {
		dc->virtual = b->virtual;
		dc->prefix = b->prefix;
	}
	if (o->error_override == -1)
		dc->error_override = b->error_override;
	if (o->pass_authorization == -1)
		dc->pass_authorization = b->pass_authorization;
	return dc;
}

/* ---- hooks -------------------------------------------------------------------------------------- */

static int
pre_config(apr_pool_t *p, apr_pool_t *plog, apr_pool_t *ptemp)
{
	(void)plog;
	(void)ptemp;
	idle_max = -1;
	virtual_used = false;
	peers = apr_array_make(p, 4, sizeof(struct peer *));
	return OK;
}

static struct peer *
find_peer(apr_pool_t *p, const char *address, apr_sockaddr_t *tcp)
{
	struct peer *peer;
	int i;

	for (i = 0; i < peers->nelts; i++) {
		peer = APR_ARRAY_IDX(peers, i, struct peer *);
		if (strcmp(peer->address, address) == 0)
			return peer;
	}
	peer = apr_pcalloc(p, sizeof(*peer));
	peer->address = address;
	peer->tcp = tcp;
	APR_ARRAY_PUSH(peers, struct peer *) = peer;
	return peer;
}

/* A package can bring mod_php along and switch it on; nobody would see who runs the scripts then. */
static void
warn_of_mod_php(server_rec *s)
{
	if (ap_find_linked_module("mod_php.c") != NULL || ap_find_linked_module("mod_php7.c") != NULL ||
	    ap_find_linked_module("mod_php5.c") != NULL)
		ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s, "mod_php is loaded too: "
		    "it can run the scripts of every host, all of them as Apache's user");
}

static int
post_config(apr_pool_t *p, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
	struct server_conf *sc;

	(void)plog;
	(void)ptemp;
	if (ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG)
		warn_of_mod_php(s);
	if (idle_max == -1 && (ap_mpm_query(AP_MPMQ_MAX_THREADS, &idle_max) != APR_SUCCESS || idle_max < 1))
		idle_max = 1;
	for (; s != NULL; s = s->next) {
		sc = ap_get_module_config(s->module_config, &zfpm_module);
		if (sc->address == NULL)
			sc->address = DEFAULT_SOCKET;
		if (sc->connect_timeout == -1)
			sc->connect_timeout = DEFAULT_CONNECT;
		if (sc->timeout == -1)
			sc->timeout = 0;
		sc->peer = find_peer(p, sc->address, sc->tcp);
	}
	return OK;
}

static void
child_init(apr_pool_t *p, server_rec *s)
{
	struct peer *peer;
	int i, threaded = 0;

	(void)s;
	ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded);
	for (i = 0; i < peers->nelts; i++) {
		peer = APR_ARRAY_IDX(peers, i, struct peer *);
		peer->idle = apr_palloc(p, (size_t)(idle_max + 1) * sizeof(*peer->idle));
		peer->nidle = 0;
		if (threaded != AP_MPMQ_NOT_SUPPORTED)
			apr_thread_mutex_create(&peer->lock, APR_THREAD_MUTEX_DEFAULT, p);
	}
}

static void
register_hooks(apr_pool_t *p)
{
	static const char *const setters[] = { "mod_env.c", "mod_ssl.c", NULL };

	(void)p;
	ap_hook_pre_config(pre_config, NULL, NULL, APR_HOOK_MIDDLE);
	ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
	ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_MIDDLE);
	ap_hook_map_to_storage(skip_files, NULL, NULL, APR_HOOK_LAST);	/* behind TRACE, before the core */
	ap_hook_fixups(authorize, setters, NULL, APR_HOOK_MIDDLE);
	ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
}

static const command_rec directives[] = {
	AP_INIT_TAKE1("ZfpmSocket", set_socket, NULL, RSRC_CONF,
	    "PATH or HOST:PORT where zfpm listens (" DEFAULT_SOCKET ")"),
	AP_INIT_TAKE1("ZfpmKey", set_key, NULL, RSRC_CONF,
	    "FILE with the key that zfpm's listen asks for (none)"),
	AP_INIT_TAKE1("ZfpmPool", set_pool, NULL, RSRC_CONF | ACCESS_CONF,
	    "the pool that runs the scripts (the server's ServerName)"),
	AP_INIT_TAKE1("ZfpmApp", set_app, NULL, OR_FILEINFO,
	    "which of the pool's apps runs the scripts (the pool's first)"),
	AP_INIT_FLAG("ZfpmVirtual", set_virtual, NULL, RSRC_CONF | ACCESS_CONF,
	    "on or off: URLs are the application's, no file is looked up (off)"),
	AP_INIT_ITERATE("ZfpmXSendfile", set_sendfile, NULL, RSRC_CONF | ACCESS_CONF,
	    "DIRs below which a script may name files with X-Sendfile, or none (none)"),
	AP_INIT_TAKE12("ZfpmAuthorizer", set_authorizer, NULL, RSRC_CONF | ACCESS_CONF,
	    "the app that is asked before access is granted, and its SCRIPT, or none (none)"),
	AP_INIT_TAKE1("ZfpmIdleConnections", set_idle, NULL, RSRC_CONF,
	    "how many connections to zfpm each process keeps (ThreadsPerChild)"),
	AP_INIT_TAKE1("ZfpmConnectTimeout", set_connect_timeout, NULL, RSRC_CONF,
	    "how long a connection to zfpm may take to come about (5s)"),
	AP_INIT_TAKE1("ZfpmTimeout", set_timeout, NULL, RSRC_CONF,
	    "how long zfpm may be silent on a running request (0: without limit)"),
	AP_INIT_FLAG("ZfpmErrorOverride", ap_set_flag_slot, (void *)APR_OFFSETOF(struct dir_conf, error_override), OR_FILEINFO,
	    "on or off: an empty response of status 400 or more becomes the ErrorDocument (on)"),
	AP_INIT_FLAG("ZfpmPassAuthorization", ap_set_flag_slot,
	    (void *)APR_OFFSETOF(struct dir_conf, pass_authorization), OR_AUTHCFG,
	    "on or off: pass the Authorization header (on)"),
	{ .name = NULL }
};

module AP_MODULE_DECLARE_DATA zfpm_module = {
	STANDARD20_MODULE_STUFF,
	create_dir,
	merge_dir,
	create_server,
	merge_server,
	directives,
	register_hooks
#if defined(AP_MODULE_FLAG_NONE)
	, AP_MODULE_FLAG_NONE
#endif
};
