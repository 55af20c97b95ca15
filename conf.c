/*
 * conf.c: zfpm.conf -> struct conf. Owns the grammar, the tables of directives,
 * the defaults, the memory of a configuration, and the question whether a file
 * can be trusted. Runs as root, at the start and at every reload, so nothing but
 * the result outlives a reading. Never binds, spawns or changes a file, never ends
 * the program, and looks up users and groups of pools only for zfpm -t.
 *
 * From the top: memory, errors, trusted files, words, values, the parsers of
 * single directives, the tables (the grammar itself), blocks and files, and last
 * what the other files call.
 */
#include <sys/stat.h>
#include <sys/un.h>
#include <netinet/in.h>
#include <arpa/inet.h>

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zfpm.h"

#ifndef FORKSERVER_FILE
#define FORKSERVER_FILE	"/usr/local/lib/zfpm/zfpm-forkserver.so"
#endif
#ifndef S_ISVTX
#define S_ISVTX		01000	/* XSI, so not in the base of POSIX; the value is the same everywhere */
#endif

#define ARENA_CHUNK	65536
#define MAP_SIZE	1024
#define MAX_WORDS	256	/* of one directive */
#define MAX_DEPTH	16	/* of include in include */
#define MAX_LINKS	32	/* symbolic links followed on one path */
#define MAX_FILE	(64 << 20)
#define MAX_ROWS	16	/* of one table of directives; checked below the tables */
#define MAX_RUN_DIR	64	/* so that every socket's path in it fits into sun_path */
#define MAX_LIBRARY	512
#define MAX_SOCKET	(sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
#define KEY_MIN		16
#define KEY_MAX		1024

#define LEN(array)	(sizeof(array) / sizeof((array)[0]))
#define ID_MAX		0xfffffffeLL	/* (uid_t)-1 means "none" to chown() and setreuid() */
#define DAY_MS		86400000LL

struct place {			/* file is NULL: nowhere */
	const char	*file;
	int		 line;
};

struct chunk {
	struct chunk	*next;
	size_t		 used, size;
	max_align_t	 data[];
};

struct arena {
	struct chunk	*chunks;
	jmp_buf		*no_memory;	/* where to go without */
};

struct entry {
	struct entry	*next;
	const char	*name;
	void		*data;
};

struct map {			/* from a name to something */
	struct entry	*bucket[MAP_SIZE];
};

/* A file that is being read; those that include it are below it. */
struct source {
	struct source	*parent;
	const char	*file;
	const char	*pos, *end;	/* what is still to be read */
	int		 line;
	int		 depth;
};

enum ending {			/* what stood behind the words of a directive */
	END_LINE,
	END_OPEN,		/* { */
	END_CLOSE,		/* } */
	END_FILE,
};

enum limit_unit { LIMIT_COUNT, LIMIT_BYTES, LIMIT_SECONDS };

static const struct limit_name {
	const char	*name;
	int		 resource;
	enum limit_unit	 unit;
} limit_names[] = {
	{ "as",		RLIMIT_AS,	LIMIT_BYTES },
	{ "core",	RLIMIT_CORE,	LIMIT_BYTES },
	{ "cpu",	RLIMIT_CPU,	LIMIT_SECONDS },
	{ "data",	RLIMIT_DATA,	LIMIT_BYTES },
	{ "fsize",	RLIMIT_FSIZE,	LIMIT_BYTES },
#ifdef RLIMIT_LOCKS
	{ "locks",	RLIMIT_LOCKS,	LIMIT_COUNT },
#endif
#ifdef RLIMIT_MEMLOCK
	{ "memlock",	RLIMIT_MEMLOCK,	LIMIT_BYTES },
#endif
#ifdef RLIMIT_MSGQUEUE
	{ "msgqueue",	RLIMIT_MSGQUEUE, LIMIT_BYTES },
#endif
	{ "nofile",	RLIMIT_NOFILE,	LIMIT_COUNT },
#ifdef RLIMIT_NPROC
	{ "nproc",	RLIMIT_NPROC,	LIMIT_COUNT },
#endif
#ifdef RLIMIT_RSS
	{ "rss",	RLIMIT_RSS,	LIMIT_BYTES },
#endif
#ifdef RLIMIT_SIGPENDING
	{ "sigpending",	RLIMIT_SIGPENDING, LIMIT_COUNT },
#endif
	{ "stack",	RLIMIT_STACK,	LIMIT_BYTES },
};

struct seen {			/* where each directive of a block stands */
	struct place	 own[MAX_ROWS];
	struct place	 inherited[MAX_ROWS];
	struct place	 limits[LEN(limit_names)];
};

/* A pool and what only the reading needs to know of it. */
struct draft {
	struct conf_pool pool;		/* first: directives find their place in it */
	struct draft	*next;		/* in the order of the file */
	char		**app_names;	/* apps may be defined further down */
	int		 apps_line;
	int		 min_workers_line;
	unsigned	 own;		/* bit i: row i of inherited_directives stands in the pool itself */
};

/*
 * The same of an app. What root may run everybody may run, so zfpm -t looks at a
 * program once, and again for each user only if it is a user's. What is wrong is
 * said once for each app.
 */
enum app_state { APP_UNKNOWN, APP_OK, APP_OWNED, APP_REPORTED };

struct app_draft {
	struct conf_app	 app;		/* first, so that conf->apps[i] is a draft as well */
	struct app_draft *next;
	int		 connections_line, fork_server_line;	/* 0: not given */
	enum app_state	 state;
	bool		 no_fork_server;	/* why it can not have one has been said */
	int		 npools;	/* that name it */
};

struct cgroup_draft {
	struct conf_cgroup cgroup;	/* first */
	int		 line;
};

struct parser {
	struct conf	*conf;
	struct arena	 kept;		/* the configuration itself */
	struct arena	 scratch;	/* what nobody needs after the reading */
	jmp_buf		 no_memory;
	int		 fd;		/* the file that is being opened and read, or -1 */
	glob_t		 matches;	/* of an include's pattern, while they are copied */
	bool		 matching;
	FILE		*errors;
	int		 nerrors;
	struct source	*source;	/* NULL before and after the reading */
	struct conf_listen **listen_tail;
	struct app_draft *first_app, **app_tail;
	struct draft	*first_pool, **pool_tail;
	struct place	 cgroup;	/* the first such directive */
	struct map	 apps;
	struct map	 files;		/* real paths of those read: each is read once */
	struct map	 dirs;		/* to the real path of a directory, or to NULL if it is refused */
	struct draft	 defaults;
	struct seen	 global_seen;
	const char	*purpose;	/* of the file that is being opened: "include", "key" */

	/* the directive at hand */
	int		 line;
	int		 nwords;
	char		*words[MAX_WORDS + 1];
	enum ending	 ending;
	bool		 bad;		/* it was not understood, which has been said */
	bool		 again;		/* read_words() shall return it once more */
	char		**args;		/* the words behind the directive's name, NULL at the end */
	int		 nargs;
	struct seen	*seen;		/* of its block */
	const struct conf_pool *pool;	/* that it stands in, or NULL */
};

enum {
	REPEAT = 1,
	REQUIRED = 2,
	BLOCK = 4,
	MAIN_FILE = 8,		/* not in a file that is included: zfpm's commands look for it and read no other */
};
#define ANY	MAX_WORDS

struct directive {
	const char	*name;		/* one word, or two: "timeout wait" */
	void		(*parse)(struct parser *, const struct directive *, void *block);
	size_t		 offset;	/* in the block's struct */
	size_t		 size;
	long long	 min, max;	/* of a number's value, or the length of a text */
	int		 args_min, args_max;
	int		 flags;
};

struct section {
	const char	*kind;
	const char	*where;
	const struct directive *own;
	bool		 inherits;	/* inherited_directives can stand here too */
};

/* ---- memory ------------------------------------------------------------------
 * Where there is none, the reading ends: longjmp() goes back to conf_load(), which
 * frees both arenas and closes p->fd. So whoever allocates must hold nothing else.
 */

/* Zeroed. */
static void *
arena_alloc(struct arena *a, size_t size, size_t align)
{
	struct chunk *c = a->chunks;
	size_t want, start = 0;

	if (c != NULL)
		start = (c->used + align - 1) & ~(align - 1);
	if (c == NULL || start > c->size || size > c->size - start) {
		want = size > ARENA_CHUNK ? size : ARENA_CHUNK;
		if ((c = calloc(1, sizeof(*c) + want)) == NULL)
			longjmp(*a->no_memory, 1);
		c->size = want;
		/* Something huge gets a chunk of its own behind the current one, which goes on being filled. */
		if (size > ARENA_CHUNK && a->chunks != NULL) {
			c->next = a->chunks->next;
			a->chunks->next = c;
		} else {
			c->next = a->chunks;
			a->chunks = c;
		}
		start = 0;
	}
	c->used = start + size;
	return (char *)c->data + start;
}

#define NEW(a, type)		((type *)arena_alloc(a, sizeof(type), _Alignof(type)))
#define NEW_ARRAY(a, n, type)	((type *)arena_alloc(a, (size_t)(n) * sizeof(type), _Alignof(type)))

static char *
arena_text(struct arena *a, const char *s, size_t len)
{
	char *copy = arena_alloc(a, len + 1, 1);

	memcpy(copy, s, len);
	return copy;
}

static char *
arena_join(struct arena *a, const char *dir, const char *name)
{
	size_t dir_len = strlen(dir), name_len = strlen(name);
	char *s;

	while (dir_len > 0 && dir[dir_len - 1] == '/')
		dir_len--;
	s = arena_alloc(a, dir_len + name_len + 2, 1);
	memcpy(s, dir, dir_len);
	s[dir_len] = '/';
	memcpy(s + dir_len + 1, name, name_len);
	return s;
}

static char **
arena_words(struct arena *a, char **words, int n)
{
	char **copy = NEW_ARRAY(a, n + 1, char *);

	memcpy(copy, words, (size_t)n * sizeof(*copy));
	return copy;
}

/* One text of several, with a blank between any two. */
static const char *
arena_line(struct arena *a, char **words, int n)
{
	size_t len = 0;
	char *line, *to;
	int i;

	for (i = 0; i < n; i++)
		len += strlen(words[i]) + 1;
	line = to = arena_alloc(a, len, 1);
	for (i = 0; i < n; i++)
		to += sprintf(to, i == 0 ? "%s" : " %s", words[i]);
	return line;
}

static void
free_chunks(struct chunk *c)
{
	struct chunk *next;

	for (; c != NULL; c = next) {
		next = c->next;
		free(c);
	}
}

/* FNV-1a. The names are root's own: nobody can choose them so that they collide. */
static uint32_t
hash_name(const char *s)
{
	uint32_t h = 2166136261U;

	for (; *s != '\0'; s++)
		h = (h ^ (uint8_t)*s) * 16777619U;
	return h;
}

static struct entry *
map_find(const struct map *m, const char *name)
{
	struct entry *e;

	for (e = m->bucket[hash_name(name) % MAP_SIZE]; e != NULL; e = e->next)
		if (strcmp(e->name, name) == 0)
			return e;
	return NULL;
}

/* The name must live as long as the map. */
static void
map_add(struct parser *p, struct map *m, const char *name, void *data)
{
	struct entry *e = NEW(&p->scratch, struct entry), **bucket = &m->bucket[hash_name(name) % MAP_SIZE];

	e->name = name;
	e->data = data;
	e->next = *bucket;
	*bucket = e;
}

/* ---- errors -------------------------------------------------------------------- */

static void
vfail(struct parser *p, const char *file, int line, const char *fmt, va_list ap)
{
	p->nerrors++;
	if (line > 0)
		fprintf(p->errors, "%s:%d: ", file, line);
	else
		fprintf(p->errors, "%s: ", file);
	vfprintf(p->errors, fmt, ap);
	putc('\n', p->errors);
}

__attribute__((format(printf, 4, 5))) static void
fail_at(struct parser *p, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfail(p, file, line, fmt, ap);
	va_end(ap);
}

/* An error in the directive at hand. */
__attribute__((format(printf, 2, 3))) static void
fail(struct parser *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfail(p, p->source->file, p->line, fmt, ap);
	va_end(ap);
}

/* ---- trusted files --------------------------------------------------------------
 * Whoever can write a configuration file is root. So root alone may be able to
 * write it, or to put another one in its place: every directory that is passed on
 * the way from / is looked at, those that hold a symbolic link included. With
 * this done the path means the same file for everybody but root, and between the
 * check of a directory and the open there is nobody who could change it.
 */

__attribute__((format(printf, 3, 4))) static void
refuse_path(struct parser *p, const char *path, const char *fmt, ...)
{
	const char *file = p->conf->file;
	size_t len = strlen(path), file_len = strlen(file);
	char reason[TEXT_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	if (p->source != NULL)
		fail(p, "%s: %s: %s", p->purpose, path, reason);
	else if (len >= file_len && strcmp(path + len - file_len, file) == 0)
		fail_at(p, file, 0, "%s", reason);	/* the file itself, here with its directory */
	else
		fail_at(p, file, 0, "%s: %s", path, reason);
}

static bool
root_alone_writes(struct parser *p, const char *path, const struct stat *st)
{
	/* In /tmp and its like nobody can rename or remove what is root's. */
	bool sticky = S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX) != 0;

	if (st->st_uid != 0)
		refuse_path(p, path, "is owned by uid %lu, not by root", (unsigned long)st->st_uid);
	else if ((st->st_mode & S_IWOTH) != 0 && !sticky)
		refuse_path(p, path, "can be written by everybody");
	else if ((st->st_mode & S_IWGRP) != 0 && st->st_gid != 0 && !sticky)
		refuse_path(p, path, "can be written by group %lu", (unsigned long)st->st_gid);
	else
		return true;
	return false;
}

/* Where the symbolic link leads, which is an entry of the directory dir; NULL if that cannot be trusted. */
static char *
link_target(struct parser *p, const char *dir, const char *path, int links)
{
	char target[PATH_MAX];
	struct stat st;
	ssize_t n;

	if (links >= MAX_LINKS) {
		refuse_path(p, path, "%s", strerror(ELOOP));
		return NULL;
	}
	if (lstat(path, &st) == -1 || (n = readlink(path, target, sizeof(target) - 1)) == -1) {
		refuse_path(p, path, "%s", strerror(errno));
		return NULL;
	}
	if (st.st_uid != 0) {
		refuse_path(p, path, "is owned by uid %lu, not by root", (unsigned long)st.st_uid);
		return NULL;
	}
	target[n] = '\0';
	return target[0] == '/' ? arena_text(&p->scratch, target, (size_t)n) : arena_join(&p->scratch, dir, target);
}

/* The part before the last slash; "" stands for the root. */
static char *
parent_of(struct parser *p, const char *path)
{
	return arena_text(&p->scratch, path, (size_t)(strrchr(path, '/') - path));
}

/* The directory at an absolute path, without any link in it; NULL if it is refused, which is said once. */
static const char *
trusted_dir(struct parser *p, const char *path, int links)
{
	const struct entry *e = map_find(&p->dirs, path);
	const char *name, *parent, *real = NULL, *target;
	struct stat st;

	if (e != NULL)
		return e->data;
	if (path[0] == '\0') {
		if (lstat("/", &st) == -1)
			refuse_path(p, "/", "%s", strerror(errno));
		else if (root_alone_writes(p, "/", &st))
			real = "";
	} else if ((parent = trusted_dir(p, parent_of(p, path), links)) != NULL) {
		name = strrchr(path, '/') + 1;
		if (strcmp(name, "") == 0 || strcmp(name, ".") == 0)
			real = parent;
		else if (strcmp(name, "..") == 0)
			real = parent[0] == '\0' ? parent : parent_of(p, parent);
		else {
			name = arena_join(&p->scratch, parent, name);
			if (lstat(name, &st) == -1)
				refuse_path(p, name, "%s", strerror(errno));
			else if (S_ISLNK(st.st_mode)) {
				if ((target = link_target(p, parent, name, links)) != NULL)
					real = trusted_dir(p, target, links + 1);
			} else if (!S_ISDIR(st.st_mode))
				refuse_path(p, name, "%s", strerror(ENOTDIR));
			else if (root_alone_writes(p, name, &st))
				real = name;
		}
	}
	map_add(p, &p->dirs, arena_text(&p->scratch, path, strlen(path)), (void *)real);
	return real;
}

static void
close_file(struct parser *p)
{
	close(p->fd);
	p->fd = -1;
}

/*
 * Open a file that root alone can write, as p->fd, and give its path without
 * links; false after an error.
 */
static bool
open_trusted(struct parser *p, const char *path, int links, struct stat *st, const char **real)
{
	char cwd[PATH_MAX];
	const char *dir, *target;

	if (path[0] != '/') {
		if (getcwd(cwd, sizeof(cwd)) == NULL) {
			refuse_path(p, path, "%s", strerror(errno));
			return false;
		}
		path = arena_join(&p->scratch, cwd, path);
	}
	if ((dir = trusted_dir(p, parent_of(p, path), links)) == NULL)
		return false;
	*real = arena_join(&p->scratch, dir, strrchr(path, '/') + 1);
	/* O_NONBLOCK: a FIFO must not hold us up before fstat() has told what it is. */
	if ((p->fd = open(*real, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) == -1) {
		if (errno == ELOOP)
			return (target = link_target(p, dir, *real, links)) != NULL && open_trusted(p, target, links + 1, st, real);
		refuse_path(p, *real, "%s", strerror(errno));
		return false;
	}
	if (fstat(p->fd, st) == -1)
		refuse_path(p, *real, "%s", strerror(errno));
	else if (!S_ISREG(st->st_mode))
		refuse_path(p, *real, "is not a regular file");
	else if (root_alone_writes(p, *real, st))
		return true;
	close_file(p);
	return false;
}

/* The bytes of p->fd, at most max of them; NULL after an error. */
static char *
read_all(struct parser *p, const char *path, const struct stat *st, size_t max, size_t *len)
{
	size_t size = st->st_size < (off_t)max ? (size_t)st->st_size + 1 : max + 1;
	char *buf = arena_alloc(&p->scratch, size, 1), *bigger;
	ssize_t n;

	for (*len = 0; *len <= max; *len += (size_t)n) {
		if (*len == size) {	/* it has grown */
			bigger = arena_alloc(&p->scratch, size * 2, 1);
			memcpy(bigger, buf, size);
			buf = bigger;
			size *= 2;
		}
		while ((n = read(p->fd, buf + *len, size - *len)) == -1 && errno == EINTR)
			;
		if (n == 0)
			return buf;
		if (n == -1) {
			refuse_path(p, path, "%s", strerror(errno));
			return NULL;
		}
	}
	refuse_path(p, path, "is larger than %zu bytes", max);
	return NULL;
}

/* ---- words ----------------------------------------------------------------------- */

static void
skip_line(struct source *s)
{
	while (s->pos < s->end && *s->pos != '\n')
		s->pos++;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Neither file nor message shall ever do anything to a terminal. */
static bool
is_control(char c)
{
	return ((uint8_t)c < ' ' && c != '\n' && !is_blank(c)) || c == 127;
}

/* Behind the opening quote. Returns NULL if the closing one is not on the line. */
static char *
quoted_word(struct parser *p)
{
	struct source *s = p->source;
	const char *start = ++s->pos, *c;
	char *word, *to;

	for (c = start; c < s->end && *c != '"' && *c != '\n' && !is_control(*c); c++)
		if (*c == '\\' && c + 1 < s->end && c[1] != '\n' && !is_control(c[1]))
			c++;
	if (c == s->end || *c != '"') {
		fail(p, c < s->end && is_control(*c) ? "control character in a quoted word" : "quoted word without its second '\"'");
		p->bad = true;
		skip_line(s);
		return NULL;
	}
	word = to = arena_alloc(&p->kept, (size_t)(c - start) + 1, 1);
	while (s->pos < c) {
		if (*s->pos == '\\') {
			s->pos++;
			if (*s->pos != '"' && *s->pos != '\\' && !p->bad) {
				fail(p, "'\\%c' in a quoted word: only \\\" and \\\\ are known", *s->pos);
				p->bad = true;
			}
		}
		*to++ = *s->pos++;
	}
	s->pos++;
	if (s->pos < s->end && !is_blank(*s->pos) && strchr("\n{}", *s->pos) == NULL && !p->bad) {
		fail(p, "no space behind the quoted word \"%s\"", word);
		p->bad = true;
	}
	return word;
}

static char *
plain_word(struct parser *p)
{
	struct source *s = p->source;
	const char *start = s->pos;

	while (s->pos < s->end && !is_blank(*s->pos) && !is_control(*s->pos) && strchr("\n{}\"", *s->pos) == NULL)
		s->pos++;
	if (s->pos < s->end && (*s->pos == '"' || is_control(*s->pos))) {
		if (*s->pos == '"')
			fail(p, "'\"' inside of a word: quote all of it");
		else
			fail(p, "control character 0x%02x", (uint8_t)*s->pos);
		p->bad = true;
		skip_line(s);
		return NULL;
	}
	return arena_text(&p->kept, start, (size_t)(s->pos - start));
}

/*
 * Read the words of the next directive, up to what ends it. No words: a brace
 * alone, the end of the file, or a line that was not understood at all.
 */
static void
read_words(struct parser *p)
{
	struct source *s = p->source;
	char *word;

	if (p->again) {
		p->again = false;
		return;
	}
	p->nwords = 0;
	p->bad = false;
	for (;; s->pos++) {
		while (s->pos < s->end && !is_blank(*s->pos) && strchr("\n#{}", *s->pos) == NULL) {
			if (p->nwords == 0)
				p->line = s->line;
			word = *s->pos == '"' ? quoted_word(p) : plain_word(p);
			if (word != NULL && p->nwords < MAX_WORDS)
				p->words[p->nwords++] = word;
			else if (word != NULL && !p->bad) {
				fail(p, "more than %d words", MAX_WORDS);
				p->bad = true;
			}
		}
		if (s->pos < s->end && *s->pos == '#')
			skip_line(s);
		if (s->pos == s->end) {
			p->ending = END_FILE;
			break;
		}
		if (*s->pos == '\n') {
			s->line++;
			if (p->nwords > 0 || p->bad) {
				s->pos++;
				p->ending = END_LINE;
				break;
			}
		} else if (*s->pos == '{' || *s->pos == '}') {
			if (p->nwords == 0)
				p->line = s->line;
			p->ending = *s->pos == '{' ? END_OPEN : END_CLOSE;
			s->pos++;
			break;
		}
	}
	p->words[p->nwords] = NULL;
}

/* After an error: behind the brace that closes the block which has just been opened. */
static void
skip_block(struct parser *p)
{
	int depth;

	for (depth = 1; depth > 0 && p->ending != END_FILE; ) {
		read_words(p);
		if (p->ending == END_OPEN)
			depth++;
		else if (p->ending == END_CLOSE)
			depth--;
	}
	p->ending = END_LINE;
}

/* ---- values ------------------------------------------------------------------------ */

struct unit {
	const char	*suffix;
	long long	 factor;
};

struct scale {
	const char	*form;		/* for messages */
	struct unit	 units[7];	/* the largest first */
};

static const struct scale count_scale = { "a number", { { "", 1 } } };
static const struct scale byte_scale = { "a size such as 64K, 8M or 1G",
	{ { "G", 1 << 30 }, { "M", 1 << 20 }, { "K", 1 << 10 }, { "", 1 } } };
static const struct scale time_scale = { "a time such as 30s, 15m, 24h or 1d",
	{ { "d", DAY_MS }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 }, { "", 1000 } } };

/* A value as an administrator would write it. */
static const char *
format_value(char buf[32], const struct scale *scale, long long value)
{
	const struct unit *u = scale->units;

	while (u->factor > 1 && (value == 0 || value % u->factor != 0))
		u++;
	snprintf(buf, 32, "%lld%s", value / u->factor, u->suffix);
	return buf;
}

static bool
get_number(struct parser *p, const char *name, const char *word, const struct scale *scale,
    long long min, long long max, long long *value)
{
	char min_text[32], max_text[32];
	const struct unit *u;
	const char *s = word;
	bool negative = *s == '-';
	long long v = 0;

	s += negative;
	if (*s < '0' || *s > '9')
		goto malformed;
	for (; *s >= '0' && *s <= '9'; s++)
		v = v > (LLONG_MAX - 9) / 10 ? LLONG_MAX : v * 10 + (*s - '0');
	for (u = scale->units; u->suffix != NULL && strcmp(u->suffix, s) != 0; u++)
		;
	if (u->suffix == NULL)
		goto malformed;
	v = v > LLONG_MAX / u->factor ? LLONG_MAX : v * u->factor;
	if (negative)
		v = -v;
	if (v < min || v > max) {
		fail(p, "%s: %s is not between %s and %s", name, word,
		    format_value(min_text, scale, min), format_value(max_text, scale, max));
		return false;
	}
	*value = v;
	return true;

malformed:
	fail(p, "%s: '%s' is not %s", name, word, scale->form);
	return false;
}

static bool
get_octal(struct parser *p, const char *name, const char *word, mode_t *mode)
{
	const char *s;
	unsigned v = 0;

	for (s = word; *s >= '0' && *s <= '7' && v <= 0777; s++)
		v = v * 8 + (unsigned)(*s - '0');
	if (s == word || *s != '\0' || v > 0777) {
		fail(p, "%s: '%s' is not an octal number between 0 and 0777", name, word);
		return false;
	}
	*mode = v;
	return true;
}

/* Which one of the names this is, or -1 after an error. */
static int
get_choice(struct parser *p, const char *name, const char *word, const char *const *names)
{
	char list[TEXT_LEN];
	size_t len = 0;
	int i;

	for (i = 0; names[i] != NULL; i++) {
		if (strcmp(names[i], word) == 0)
			return i;
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i == 0 ? "" : ", ", names[i]);
	}
	fail(p, "%s: '%s' is not one of %s", name, word, list);
	return -1;
}

static bool
is_absolute(struct parser *p, const char *name, const char *word)
{
	if (word[0] == '/')
		return true;
	fail(p, "%s: '%s' is not an absolute path", name, word);
	return false;
}

/*
 * A text in which %1, %p and %% stand for something. In a pattern pool it is kept
 * for conf_expand(); in an exact one it is expanded here, so that its value is
 * what it says. NULL after an error.
 */
static const char *
get_template(struct parser *p, const char *name, const char *word)
{
	const struct conf_pool *pool = p->pool;
	size_t len = 0, name_len = strlen(pool->name);
	const char *s;
	char *text, *to;

	for (s = word; *s != '\0'; s++, len++) {
		if (*s != '%')
			continue;
		switch (*++s) {
		case '%':
			break;
		case 'p':
			len += name_len;
			break;
		case '1':
			if (pool->star != -1)
				break;
			fail(p, "%s: %%1 is what '*' matched, and there is none in '%s'", name, pool->name);
			return NULL;
		default:
			fail(p, "%s: '%%' in '%s' is not %%1, %%p or %%%%", name, word);
			return NULL;
		}
	}
	if (pool->star != -1 || strchr(word, '%') == NULL)
		return word;
	for (to = text = arena_alloc(&p->kept, len + 1, 1), s = word; *s != '\0'; s++) {
		if (*s == '%' && *++s == 'p') {
			memcpy(to, pool->name, name_len);
			to += name_len;
		} else
			*to++ = *s;
	}
	return text;
}

/* ---- parsers of directives; the number of their arguments has been checked --------- */

#define FIELD(type)	(*(type *)((char *)block + d->offset))

static void
set_count(struct parser *p, const struct directive *d, void *block)
{
	long long v;

	if (get_number(p, d->name, p->args[0], &count_scale, d->min, d->max, &v))
		FIELD(int) = (int)v;
}

static void
set_id(struct parser *p, const struct directive *d, void *block)
{
	long long v;

	_Static_assert(sizeof(uid_t) == sizeof(gid_t), "set_id() stores both");
	if (get_number(p, d->name, p->args[0], &count_scale, d->min, d->max, &v))
		FIELD(uid_t) = (uid_t)v;
}

static void
set_size(struct parser *p, const struct directive *d, void *block)
{
	long long v;

	if (get_number(p, d->name, p->args[0], &byte_scale, d->min, d->max, &v))
		FIELD(size_t) = (size_t)v;
}

static void
set_ms(struct parser *p, const struct directive *d, void *block)
{
	long long v;

	if (get_number(p, d->name, p->args[0], &time_scale, d->min, d->max, &v))
		FIELD(int64_t) = v;
}

/* Messages name these times in seconds, so they must be whole ones. */
static void
set_seconds(struct parser *p, const struct directive *d, void *block)
{
	long long v;

	if (!get_number(p, d->name, p->args[0], &time_scale, d->min, d->max, &v))
		return;
	if (v % 1000 != 0)
		fail(p, "%s: %s is not a whole number of seconds", d->name, p->args[0]);
	else
		FIELD(int64_t) = v;
}

static void
set_umask(struct parser *p, const struct directive *d, void *block)
{
	get_octal(p, d->name, p->args[0], &FIELD(mode_t));
}

static void
set_text(struct parser *p, const struct directive *d, void *block)
{
	if (p->args[0][0] == '\0')
		fail(p, "%s: is empty", d->name);
	else
		FIELD(const char *) = p->args[0];
}

static void
set_path(struct parser *p, const struct directive *d, void *block)
{
	if (!is_absolute(p, d->name, p->args[0]))
		return;
	if ((long long)strlen(p->args[0]) > d->max)
		fail(p, "%s: is longer than %lld characters", d->name, d->max);
	else
		FIELD(const char *) = p->args[0];
}

/* It becomes a word of LD_PRELOAD, where these characters mean something. */
static void
set_library(struct parser *p, const struct directive *d, void *block)
{
	if (strpbrk(p->args[0], ": \t$") != NULL)
		fail(p, "%s: '%s' has a ':', a '$' or a blank in it", d->name, p->args[0]);
	else
		set_path(p, d, block);
}

static void
set_template(struct parser *p, const struct directive *d, void *block)
{
	const char *text = get_template(p, d->name, p->args[0]);

	if (text == NULL)
		return;
	if (text[0] == '\0')
		fail(p, "%s: is empty", d->name);
	else
		FIELD(const char *) = text;
}

static void
set_path_template(struct parser *p, const struct directive *d, void *block)
{
	if (is_absolute(p, d->name, p->args[0]))
		set_template(p, d, block);
}

static void
set_error_log(struct parser *p, const struct directive *d, void *block)
{
	const char *path, *name;
	char why[TEXT_LEN];
	size_t len;

	set_path_template(p, d, block);
	if ((path = FIELD(const char *)) == NULL)
		return;
	for (name = path; *name == '/'; name += len) {
		len = strcspn(++name, "/");
		if ((len == 0 && *name == '\0') || (len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.')) {
			fail(p, "%s: '%s' does not name a file without '.' and '..'", d->name, path);
			return;
		}
	}
	if (p->pool->star == -1 && spawn_check_error_log(path, why, sizeof(why)) == -1)
		fail(p, "%s: %s: %s", d->name, path, why);
}

static void
set_groups(struct parser *p, const struct directive *d, void *block)
{
	int i;

	for (i = 0; i < p->nargs; i++) {
		if (strchr(p->args[i], '%') != NULL) {
			fail(p, "%s: %%1 and %%p have no meaning in '%s'", d->name, p->args[i]);
			return;
		}
	}
	FIELD(char **) = arena_words(&p->kept, p->args, p->nargs);
}

static void
set_pool_apps(struct parser *p, const struct directive *d, void *block)
{
	struct draft *draft = block;
	int i, j;

	for (i = 0; i < p->nargs; i++) {
		for (j = 0; j < i; j++) {
			if (strcmp(p->args[i], p->args[j]) == 0)
				fail(p, "%s: '%s' is named twice", d->name, p->args[i]);
		}
	}
	draft->app_names = arena_words(&p->kept, p->args, p->nargs);
	draft->apps_line = p->line;
	draft->pool.napps = p->nargs;
}

static void
set_min_workers(struct parser *p, const struct directive *d, void *block)
{
	struct draft *draft = block;

	draft->min_workers_line = p->line;
	if (draft->pool.star != -1)
		fail(p, "%s: a pattern has no workers before its first request", d->name);
	else
		set_count(p, d, block);
}

/* Within one block a later value replaces the earlier one of the same name. */
static void
add_env(struct parser *p, const struct directive *d, void *block)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
	struct conf_env **e = &FIELD(struct conf_env *);
	const char *name = p->args[0], *value = p->args[1];

	if (name[0] == '\0' || (name[0] >= '0' && name[0] <= '9') || name[strspn(name, letters)] != '\0') {
		fail(p, "%s: '%s' is not the name of a variable", d->name, name);
		return;
	}
	if (p->pool != NULL && (value = get_template(p, d->name, value)) == NULL)
		return;
	while (*e != NULL && strcmp((*e)->name, name) != 0)
		e = &(*e)->next;
	if (*e == NULL) {
		*e = NEW(&p->kept, struct conf_env);
		(*e)->name = name;
	}
	(*e)->value = value;
}

/*
 * A file of the cgroup and what is written to it. A slash can not be in its name,
 * and of the files with which cgroups themselves are managed only two limits.
 */
static bool
cgroup_key_ok(struct parser *p, const char *name, const char *key)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_.ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	size_t dot = strcspn(key, ".");

	if (dot == 0 || strspn(key, letters) != strlen(key) || key[dot] == '\0' || key[dot + 1] == '\0') {
		fail(p, "%s: '%s' is not a key such as memory.max", name, key);
		return false;
	}
	if (strncmp(key, "cgroup.", 7) == 0 && strcmp(key, "cgroup.max.descendants") != 0 && strcmp(key, "cgroup.max.depth") != 0) {
		fail(p, "%s: '%s' is for zfpm alone", name, key);
		return false;
	}
	return true;
}

static void
add_cgroup(struct parser *p, const struct directive *d, void *block)
{
	struct conf_cgroup **tail = &FIELD(struct conf_cgroup *);
	const char *key = p->args[0], *value = arena_line(&p->kept, p->args + 1, p->nargs - 1);
	struct cgroup_draft *new;

	if (!cgroup_key_ok(p, d->name, key) || (value = get_template(p, d->name, value)) == NULL)
		return;
	if (value[0] == '\0') {
		fail(p, "%s %s: is empty", d->name, key);
		return;
	}
	for (; *tail != NULL; tail = &(*tail)->next) {
		if (strcmp((*tail)->key, key) == 0) {
			fail(p, "%s %s: is set at %s:%d already", d->name, key, p->pool->file, ((struct cgroup_draft *)*tail)->line);
			return;
		}
	}
	new = NEW(&p->kept, struct cgroup_draft);
	new->cgroup.key = key;
	new->cgroup.value = value;
	new->line = p->line;
	*tail = &new->cgroup;
	if (p->cgroup.file == NULL) {
		p->cgroup.file = p->source->file;
		p->cgroup.line = p->line;
	}
}

static bool
get_limit(struct parser *p, const char *name, enum limit_unit unit, const char *word, rlim_t *value)
{
	static const struct scale *const scales[] = { &count_scale, &byte_scale, &time_scale };
	static const long long max[] = { INT_MAX, 1LL << 50, 10000 * DAY_MS };
	long long v;

	if (strcmp(word, "unlimited") == 0) {
		*value = RLIM_INFINITY;
		return true;
	}
	if (!get_number(p, name, word, scales[unit], 0, max[unit], &v))
		return false;
	if (unit == LIMIT_SECONDS) {
		if (v % 1000 != 0) {
			fail(p, "%s: %s is not a whole number of seconds", name, word);
			return false;
		}
		v /= 1000;
	}
	*value = (rlim_t)v;
	return true;
}

static void
add_rlimit(struct parser *p, const struct directive *d, void *block)
{
	struct conf_rlimit **tail = &FIELD(struct conf_rlimit *), limit;
	const char *names[LEN(limit_names) + 1] = { NULL };
	char full_name[32];
	struct place *seen;
	size_t i;
	int n;

	for (i = 0; i < LEN(limit_names); i++)
		names[i] = limit_names[i].name;
	if ((n = get_choice(p, d->name, p->args[0], names)) == -1)
		return;
	memset(&limit, 0, sizeof(limit));
	limit.name = limit_names[n].name;
	limit.resource = limit_names[n].resource;
	snprintf(full_name, sizeof(full_name), "%s %s", d->name, limit.name);
	seen = &p->seen->limits[n];
	if (seen->file != NULL) {
		fail(p, "%s: is set at %s:%d already", full_name, seen->file, seen->line);
		return;
	}
	seen->file = p->source->file;
	seen->line = p->line;
	if (!get_limit(p, full_name, limit_names[n].unit, p->args[1], &limit.limit.rlim_cur) ||
	    !get_limit(p, full_name, limit_names[n].unit, p->args[p->nargs - 1], &limit.limit.rlim_max))
		return;
	/* RLIM_INFINITY is the largest value on all systems we know. */
	if (limit.limit.rlim_cur > limit.limit.rlim_max) {
		fail(p, "%s: the soft limit %s is above the hard limit %s", full_name, p->args[1], p->args[2]);
		return;
	}
	while (*tail != NULL)
		tail = &(*tail)->next;
	*tail = NEW(&p->kept, struct conf_rlimit);
	**tail = limit;
}

static void
set_server_close(struct parser *p, const struct directive *d, void *block)
{
	static const char *const names[] = { [SERVER_CLOSE_FINISH] = "finish", [SERVER_CLOSE_ABORT] = "abort", NULL };
	int n = get_choice(p, d->name, p->args[0], names);

	if (n != -1)
		FIELD(enum server_close) = (enum server_close)n;
}

static void
set_command(struct parser *p, const struct directive *d, void *block)
{
	if (is_absolute(p, d->name, p->args[0]))
		FIELD(char **) = arena_words(&p->kept, p->args, p->nargs);
}

static void
set_connections(struct parser *p, const struct directive *d, void *block)
{
	((struct app_draft *)block)->connections_line = p->line;
	set_count(p, d, block);
}

static void
set_fork_server(struct parser *p, const struct directive *d, void *block)
{
	static const char *const names[] = { "off", "on", NULL };
	int n = get_choice(p, d->name, p->args[0], names);

	((struct app_draft *)block)->fork_server_line = p->line;
	if (n != -1)
		FIELD(bool) = n == 1;
}

static void
add_watch(struct parser *p, const struct directive *d, void *block)
{
	char **before = FIELD(char **), **all;
	int i, n = 0;

	for (i = 0; i < p->nargs; i++)
		if (!is_absolute(p, d->name, p->args[i]))
			return;
	while (before != NULL && before[n] != NULL)
		n++;
	all = NEW_ARRAY(&p->kept, n + p->nargs + 1, char *);
	for (i = 0; i < n; i++)
		all[i] = before[i];
	for (i = 0; i < p->nargs; i++)
		all[n + i] = p->args[i];
	FIELD(char **) = all;
}

static void
set_extensions(struct parser *p, const struct directive *d, void *block)
{
	int i;

	for (i = 0; i < p->nargs; i++) {
		if (p->args[i][0] != '.' || p->args[i][1] == '\0' || strchr(p->args[i], '/') != NULL)
			fail(p, "%s: '%s' is not an extension such as .php", d->name, p->args[i]);
	}
	FIELD(char **) = arena_words(&p->kept, p->args, p->nargs);
}

static void
set_roles(struct parser *p, const struct directive *d, void *block)
{
	static const char *const names[] = { "responder", "authorizer", "filter", NULL };
	unsigned roles = 0;
	int i, n;

	for (i = 0; i < p->nargs; i++) {
		if ((n = get_choice(p, d->name, p->args[i], names)) != -1)
			roles |= 1U << (FCGI_RESPONDER + n);
	}
	FIELD(unsigned) = roles;
}

static void
set_log(struct parser *p, const struct directive *d, void *block)
{
	struct conf *conf = block;

	if (strcmp(p->args[0], "stderr") == 0)
		conf->log_target = LOG_TO_STDERR;
	else if (strcmp(p->args[0], "syslog") == 0)
		conf->log_target = LOG_TO_SYSLOG;
	else if (p->args[0][0] == '/') {
		conf->log_target = LOG_TO_FILE;
		conf->log_file = p->args[0];
	} else
		fail(p, "%s: '%s' is not stderr, syslog or an absolute path", d->name, p->args[0]);
}

static void
set_log_level(struct parser *p, const struct directive *d, void *block)
{
	static const char *const names[] = { [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARN] = "warn",
		[LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug", NULL };
	int n = get_choice(p, d->name, p->args[0], names);

	if (n != -1)
		FIELD(int) = n;
}

/* ---- listen ------------------------------------------------------------------------ */

static bool
listen_unix(struct parser *p, const struct directive *d, struct conf_listen *l)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&l->sa;
	size_t len = strlen(l->address);

	if (len > MAX_SOCKET) {
		fail(p, "%s: %s: is longer than %zu characters", d->name, l->address, MAX_SOCKET);
		return false;
	}
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, l->address, len + 1);
	l->sa_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	return true;
}

/* HOST:PORT or [HOST]:PORT, in numbers: nothing is asked of a name server. */
static bool
listen_tcp(struct parser *p, const struct directive *d, struct conf_listen *l)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&l->sa;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&l->sa;
	const char *colon = strrchr(l->address, ':');
	char host[INET6_ADDRSTRLEN + 2];
	size_t len = colon == NULL ? 0 : (size_t)(colon - l->address);
	long long port;

	if (len == 0 || len >= sizeof(host))
		goto malformed;
	memcpy(host, l->address, len);
	host[len] = '\0';
	if (host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		in6->sin6_family = AF_INET6;
		l->sa_len = sizeof(*in6);
		if (inet_pton(AF_INET6, host + 1, &in6->sin6_addr) != 1)
			goto malformed;
	} else {
		in->sin_family = AF_INET;
		l->sa_len = sizeof(*in);
		if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
			goto malformed;
	}
	if (!get_number(p, "listen: port", colon + 1, &count_scale, 1, 65535, &port))
		return false;
	if (l->sa.ss_family == AF_INET6)
		in6->sin6_port = htons((uint16_t)port);
	else
		in->sin_port = htons((uint16_t)port);
	return true;

malformed:
	fail(p, "%s: '%s' is not a path, ADDRESS:PORT or [ADDRESS]:PORT in numbers", d->name, l->address);
	return false;
}

static bool
get_net(struct parser *p, const char *name, const char *word, struct conf_net *net)
{
	const char *slash = strchr(word, '/');
	char host[INET6_ADDRSTRLEN];
	size_t len = slash == NULL ? strlen(word) : (size_t)(slash - word);
	long long bits, v;
	int i;

	if (len >= sizeof(host))
		goto malformed;
	memcpy(host, word, len);
	host[len] = '\0';
	net->family = strchr(host, ':') != NULL ? AF_INET6 : AF_INET;
	if (inet_pton(net->family, host, net->addr) != 1)
		goto malformed;
	v = bits = net->family == AF_INET6 ? 128 : 32;
	if (slash != NULL && !get_number(p, "listen: allow: prefix length", slash + 1, &count_scale, 0, bits, &v))
		return false;
	net->prefix_len = (int)v;
	for (i = net->prefix_len; i < bits; i++) {
		if ((net->addr[i / 8] & (0x80 >> i % 8)) != 0) {
			fail(p, "%s: %s: the address has bits that are not in the network", name, word);
			return false;
		}
	}
	return true;

malformed:
	fail(p, "%s: '%s' is not an address or ADDRESS/BITS in numbers", name, word);
	return false;
}

/* mod_zfpm reads the same file: a first line of printable characters, without what ends it. */
static void
read_key(struct parser *p, struct conf_listen *l)
{
	const char *buf, *real;
	struct stat st;
	size_t i, len;

	p->purpose = "listen: key";
	if (!is_absolute(p, p->purpose, l->key_file) || !open_trusted(p, l->key_file, 0, &st, &real))
		return;
	if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		refuse_path(p, l->key_file, "has mode %04o: root alone may read it", (unsigned)(st.st_mode & 07777));
	else if ((buf = read_all(p, l->key_file, &st, 65536, &len)) != NULL) {
		for (i = 0; i < len && buf[i] > ' ' && buf[i] <= '~'; i++)
			;
		if (i < len && buf[i] != '\n')
			refuse_path(p, l->key_file, "the first line has a character that is not printable ASCII, or a space");
		else if (i < KEY_MIN || i > KEY_MAX)
			refuse_path(p, l->key_file, "the first line has %zu characters, not %d to %d", i, KEY_MIN, KEY_MAX);
		else {
			l->key = arena_text(&p->kept, buf, i);
			l->key_len = i;
		}
	}
	close_file(p);
}

enum listen_option { LISTEN_OWNER, LISTEN_GROUP, LISTEN_MODE, LISTEN_KEY, LISTEN_ALLOW_USER, LISTEN_ALLOW };

static const char *const listen_options[] = {
	[LISTEN_OWNER] = "owner", [LISTEN_GROUP] = "group", [LISTEN_MODE] = "mode",
	[LISTEN_KEY] = "key", [LISTEN_ALLOW_USER] = "allow_user", [LISTEN_ALLOW] = "allow", NULL
};

/* "Not found" has many errnos; only these mean that the answer is not known. */
static void
fail_lookup(struct parser *p, const char *option, const char *what, const char *name)
{
	if (errno == EIO || errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EINTR)
		fail(p, "listen: %s: %s '%s': %s", option, what, name, strerror(errno));
	else
		fail(p, "listen: %s: unknown %s '%s'", option, what, name);
}

static bool
get_user(struct parser *p, const char *option, const char *user, uid_t *uid)
{
	const struct passwd *pw;

	errno = 0;
	if ((pw = getpwnam(user)) == NULL)
		fail_lookup(p, option, "user", user);
	else
		*uid = pw->pw_uid;
	return pw != NULL;
}

/* One option with its n values. */
static void
listen_option(struct parser *p, struct conf_listen *l, enum listen_option option, char **values, int n)
{
	struct conf_net **tail;
	const struct group *gr;
	int i;

	switch (option) {
	case LISTEN_OWNER:
		get_user(p, "owner", values[0], &l->uid);
		break;
	case LISTEN_GROUP:
		errno = 0;
		if ((gr = getgrnam(values[0])) == NULL)
			fail_lookup(p, "group", "group", values[0]);
		else
			l->gid = gr->gr_gid;
		break;
	case LISTEN_MODE:
		get_octal(p, "listen: mode", values[0], &l->mode);
		break;
	case LISTEN_KEY:
		l->key_file = values[0];
		read_key(p, l);
		break;
	case LISTEN_ALLOW_USER:
		l->allow_uids = NEW_ARRAY(&p->kept, n, uid_t);
		for (i = 0; i < n; i++)
			l->nallow_uids += get_user(p, "allow_user", values[i], &l->allow_uids[l->nallow_uids]);
		break;
	case LISTEN_ALLOW:
		for (i = 0, tail = &l->allow; i < n; i++, tail = &(*tail)->next) {
			*tail = NEW(&p->kept, struct conf_net);
			get_net(p, "listen: allow", values[i], *tail);
		}
		break;
	}
}

static int
find_listen_option(const char *word)
{
	int i;

	for (i = 0; listen_options[i] != NULL; i++)
		if (strcmp(listen_options[i], word) == 0)
			return i;
	return -1;
}

static void
add_listen(struct parser *p, const struct directive *d, void *block)
{
	struct conf_listen *l = NEW(&p->kept, struct conf_listen), *other;
	const unsigned for_unix = 1 << LISTEN_OWNER | 1 << LISTEN_GROUP | 1 << LISTEN_MODE | 1 << LISTEN_ALLOW_USER;
	unsigned given = 0, bad;
	int i, n, option;
	bool is_unix;

	l->file = p->source->file;
	l->line = p->line;
	l->address = p->args[0];
	l->uid = (uid_t)-1;
	l->gid = (gid_t)-1;
	l->mode = 0660;
	l->fd = -1;
	is_unix = l->address[0] == '/';
	if (!(is_unix ? listen_unix(p, d, l) : listen_tcp(p, d, l)))
		return;
	for (other = ((struct conf *)block)->listens; other != NULL; other = other->next) {
		if (other->sa_len == l->sa_len && memcmp(&other->sa, &l->sa, l->sa_len) == 0)
			fail(p, "%s: %s is used at %s:%d already", d->name, l->address, other->file, other->line);
	}
	for (i = 1; i < p->nargs; i += n) {
		if ((option = find_listen_option(p->args[i++])) == -1) {
			fail(p, "%s: unknown option '%s'", d->name, p->args[i - 1]);
			return;
		}
		/* A list goes on until the next option. */
		for (n = 0; i + n < p->nargs && (n == 0 || find_listen_option(p->args[i + n]) == -1); n++)
			if (n == 1 && option != LISTEN_ALLOW && option != LISTEN_ALLOW_USER)
				break;
		if (n == 0)
			fail(p, "%s: no value behind '%s'", d->name, listen_options[option]);
		else if ((given & 1U << option) != 0)
			fail(p, "%s: '%s' is given twice", d->name, listen_options[option]);
		else
			listen_option(p, l, (enum listen_option)option, p->args + i, n);
		given |= 1U << option;
	}
	bad = given & (is_unix ? 1U << LISTEN_ALLOW : for_unix);
	for (i = 0; listen_options[i] != NULL; i++) {
		if ((bad & 1U << i) != 0)
			fail(p, "%s: '%s' has no meaning for a %s socket", d->name, listen_options[i], is_unix ? "Unix" : "TCP");
	}
	if (!is_unix && (given & 1U << LISTEN_ALLOW) == 0)
		fail(p, "%s: a TCP socket needs 'allow'", d->name);
	*p->listen_tail = l;
	p->listen_tail = &l->next;
}

/* ---- the grammar: one table per block, in the order of zfpm.conf(5) ------------------ */

static void	include_files(struct parser *, const struct directive *, void *);
static void	open_app(struct parser *, const struct directive *, void *);
static void	open_pool(struct parser *, const struct directive *, void *);

#define AT(type, field)	offsetof(struct type, field), sizeof(((struct type *)0)->field)

static const struct directive global_directives[] = {
	/* name			parser			stored at			min	max	args	flags */
	{ "listen",		add_listen,		0, 0,				0, 0,		1, ANY,	REPEAT | REQUIRED },
	{ "control",		set_path,		AT(conf, control),		0, MAX_SOCKET,	1, 1,	MAIN_FILE },
	{ "run_dir",		set_path,		AT(conf, run_dir),		0, MAX_RUN_DIR,	1, 1,	MAIN_FILE },
	{ "router_user",	set_text,		AT(conf, router_user),		0, 0,		1, 1,	0 },
	{ "log",		set_log,		0, 0,				0, 0,		1, 1,	0 },
	{ "log_level",		set_log_level,		AT(conf, log_level),		0, 0,		1, 1,	0 },
	{ "max_workers",	set_count,		AT(conf, max_workers),		1, MAX_WORKERS,	1, 1,	0 },
	{ "min_uid",		set_id,			AT(conf, min_uid),		1, ID_MAX,	1, 1,	0 },
	{ "min_gid",		set_id,			AT(conf, min_gid),		1, ID_MAX,	1, 1,	0 },
	{ "max_params",		set_size,		AT(conf, max_params),		4096, 64 << 20,	1, 1,	0 },
	{ "fork_server_library", set_library,	AT(conf, fork_server_library),	0, MAX_LIBRARY,	1, 1,	0 },
	{ "include",		include_files,		0, 0,				0, 0,		1, 1,	REPEAT },
	{ "app",		open_app,		0, 0,				0, 0,		1, 1,	REPEAT | BLOCK },
	{ "pool",		open_pool,		0, 0,				0, 0,		1, 1,	REPEAT | BLOCK },
	{ 0 }
};

/* In a pool, or outside of all blocks as the default for all pools. */
static const struct directive inherited_directives[] = {
	{ "timeout wait",	set_seconds,	AT(conf_pool, timeout_ms[TIMEOUT_WAIT]),	1000, 365 * DAY_MS,	1, 1,	0 },
	{ "timeout app",	set_seconds,	AT(conf_pool, timeout_ms[TIMEOUT_APP]),		1000, 365 * DAY_MS,	1, 1,	0 },
	{ "timeout server",	set_seconds,	AT(conf_pool, timeout_ms[TIMEOUT_SERVER]),	1000, 365 * DAY_MS,	1, 1,	0 },
	{ "timeout request",	set_seconds,	AT(conf_pool, timeout_ms[TIMEOUT_REQUEST]),	1000, 365 * DAY_MS,	1, 1,	0 },
	{ "timeout idle",	set_ms,		AT(conf_pool, timeout_ms[TIMEOUT_IDLE]),	100, 365 * DAY_MS,	1, 1,	0 },
	{ "timeout kill",	set_ms,		AT(conf_pool, timeout_ms[TIMEOUT_KILL]),	100, 3600000,		1, 1,	0 },
	{ "timeout start",	set_seconds,	AT(conf_pool, timeout_ms[TIMEOUT_START]),	1000, 365 * DAY_MS,	1, 1,	0 },
	{ "timeout app_server",	set_ms,		AT(conf_pool, timeout_ms[TIMEOUT_APP_SERVER]),	100, 365 * DAY_MS,	1, 1,	0 },
	{ "buffer_request",	set_size,	AT(conf_pool, buffer_request),			4096, 64 << 20,		1, 1,	0 },
	{ "buffer_response",	set_size,	AT(conf_pool, buffer_response),			4096, 64 << 20,		1, 1,	0 },
	{ "slow",		set_ms,		AT(conf_pool, slow_ms),				1, DAY_MS,		1, 1,	0 },
	{ "on_server_close",	set_server_close, AT(conf_pool, on_server_close),		0, 0,			1, 1,	0 },
	{ "max_queue",		set_count,	AT(conf_pool, max_queue),			0, 1000000,		1, 1,	0 },
	{ "max_requests",	set_count,	AT(conf_pool, max_requests),			0, INT_MAX,		1, 1,	0 },
	{ 0 }
};

static const struct directive app_directives[] = {
	{ "command",		set_command,		AT(conf_app, argv),		0, 0,		1, ANY,	REQUIRED },
	{ "env",		add_env,		AT(conf_app, env),		0, 0,		2, 2,	REPEAT },
	{ "fork_server",	set_fork_server,	AT(conf_app, fork_server),	0, 0,		1, 1,	0 },
	{ "watch",		add_watch,		AT(conf_app, watch),		0, 0,		1, ANY,	REPEAT },
	{ "connections",	set_connections,	AT(conf_app, connections),	1, MAX_CONNECTIONS, 1, 1, 0 },
	{ "extensions",		set_extensions,		AT(conf_app, extensions),	0, 0,		1, ANY,	0 },
	{ "roles",		set_roles,		AT(conf_app, roles),		0, 0,		1, ANY,	0 },
	{ 0 }
};

static const struct directive pool_directives[] = {
	{ "user",		set_template,		AT(conf_pool, user),		0, 0,		1, 1,	REQUIRED },
	{ "group",		set_template,		AT(conf_pool, group),		0, 0,		1, 1,	0 },
	{ "groups",		set_groups,		AT(conf_pool, groups),		0, 0,		1, ANY,	0 },
	{ "app",		set_pool_apps,		0, 0,				0, 0,		1, MAX_APPS, REQUIRED },
	{ "max_workers",	set_count,		AT(conf_pool, max_workers),	1, MAX_WORKERS,	1, 1,	0 },
	{ "min_workers",	set_min_workers,	AT(conf_pool, min_workers),	0, MAX_WORKERS,	1, 1,	0 },
	{ "directory",		set_path_template,	AT(conf_pool, directory),	0, 0,		1, 1,	0 },
	{ "chroot",		set_path_template,	AT(conf_pool, chroot),		0, 0,		1, 1,	0 },
	{ "umask",		set_umask,		AT(conf_pool, umask),		0, 0,		1, 1,	0 },
	{ "nice",		set_count,		AT(conf_pool, nice),		-20, 19,	1, 1,	0 },
	{ "rlimit",		add_rlimit,		AT(conf_pool, rlimits),		0, 0,		2, 3,	REPEAT },
	{ "cgroup",		add_cgroup,		AT(conf_pool, cgroups),		0, 0,		2, ANY,	REPEAT },
	{ "env",		add_env,		AT(conf_pool, env),		0, 0,		2, 2,	REPEAT },
	{ "error_log",		set_error_log,		AT(conf_pool, error_log),	0, 0,		1, 1,	0 },
	{ 0 }
};

_Static_assert(LEN(global_directives) <= MAX_ROWS && LEN(inherited_directives) <= MAX_ROWS &&
    LEN(app_directives) <= MAX_ROWS && LEN(pool_directives) <= MAX_ROWS, "struct seen has a place for every row");

static const struct section global_block = { "global", "outside of app and pool", global_directives, true };
static const struct section app_block = { "app", "in app", app_directives, false };
static const struct section pool_block = { "pool", "in pool", pool_directives, true };

static void
set_defaults(struct parser *p)
{
	struct conf *conf = p->conf;
	struct conf_pool *pool = &p->defaults.pool;

	conf->run_dir = "/run/zfpm";
	conf->router_user = "zfpm";
	conf->fork_server_library = FORKSERVER_FILE;
	conf->log_target = LOG_TO_STDERR;
	conf->log_level = LOG_LEVEL_INFO;
	conf->max_workers = 500;
	conf->min_uid = 1000;
	conf->min_gid = 100;
	conf->max_params = 1 << 20;

	pool->timeout_ms[TIMEOUT_WAIT] = 30 * 1000;
	pool->timeout_ms[TIMEOUT_APP] = 900 * 1000;
	pool->timeout_ms[TIMEOUT_SERVER] = 150 * 1000;
	pool->timeout_ms[TIMEOUT_REQUEST] = DAY_MS;
	pool->timeout_ms[TIMEOUT_IDLE] = 60 * 1000;
	pool->timeout_ms[TIMEOUT_KILL] = 5 * 1000;
	pool->timeout_ms[TIMEOUT_START] = 60 * 1000;
	pool->timeout_ms[TIMEOUT_APP_SERVER] = 300 * 1000;
	pool->buffer_request = 64 << 10;
	pool->buffer_response = 256 << 10;
	pool->on_server_close = SERVER_CLOSE_FINISH;
	pool->max_queue = 100;
	pool->max_requests = 0;
	pool->max_workers = 10;
	pool->umask = 022;
}

/* ---- blocks and files ----------------------------------------------------------------- */

/*
 * The row for the words at hand. *words becomes how many of them are its name, or 0
 * if only the first of two is known, or -1 if none is.
 */
static const struct directive *
find_row(const struct parser *p, const struct directive *d, int *words)
{
	size_t len = strlen(p->words[0]);

	for (; d->name != NULL; d++) {
		if (strncmp(d->name, p->words[0], len) != 0)
			continue;
		if (d->name[len] == '\0') {
			*words = 1;
			return d;
		}
		if (d->name[len] == ' ') {
			*words = 0;
			if (p->nwords > 1 && strcmp(d->name + len + 1, p->words[1]) == 0) {
				*words = 2;
				return d;
			}
		}
	}
	return NULL;
}

/* The first word is the first of several two-word names, but the second is none of theirs. */
static void
fail_second_word(struct parser *p, const struct directive *d)
{
	size_t n = 0, len = strlen(p->words[0]);
	const char *names[MAX_ROWS];

	for (; d->name != NULL; d++)
		if (strncmp(d->name, p->words[0], len) == 0 && d->name[len] == ' ')
			names[n++] = d->name + len + 1;
	names[n] = NULL;
	get_choice(p, p->words[0], p->nwords > 1 ? p->words[1] : "", names);
}

static bool
args_ok(struct parser *p, const struct directive *d)
{
	if (p->nargs >= d->args_min && p->nargs <= d->args_max)
		return true;
	if (d->args_min == d->args_max)
		fail(p, "%s: takes %d value%s, not %d", d->name, d->args_min, d->args_min == 1 ? "" : "s", p->nargs);
	else if (d->args_max == ANY)
		fail(p, "%s: takes at least %d value%s", d->name, d->args_min, d->args_min == 1 ? "" : "s");
	else
		fail(p, "%s: takes %d to %d values, not %d", d->name, d->args_min, d->args_max, p->nargs);
	return false;
}

/* A brace on a line of its own behind what it belongs to: an error, but one that we understand. */
static bool
brace_follows(struct parser *p)
{
	struct source *s = p->source;
	const char *c = s->pos;
	int line = s->line;

	for (; c < s->end && (is_blank(*c) || *c == '\n'); c++)
		line += *c == '\n';
	if (p->ending != END_LINE || c == s->end || *c != '{')
		return false;
	s->pos = c + 1;
	s->line = line;
	p->ending = END_OPEN;
	return true;
}

/* Carry out the directive at hand; one that opens a block reads all of that. */
static void
parse_directive(struct parser *p, const struct section *b, void *base, struct seen *seen)
{
	const struct directive *table = b->own, *d;
	struct place *place = seen->own;
	int words = -1;

	if ((d = find_row(p, table, &words)) == NULL && b->inherits) {
		table = inherited_directives;
		place = seen->inherited;
		/* Outside of all blocks it is the default that is set. */
		if (b == &global_block)
			base = &p->defaults;
		d = find_row(p, table, &words);
	}
	if (d == NULL) {
		if (words == 0)
			fail_second_word(p, table);
		else
			fail(p, "unknown directive '%s' %s", p->words[0], b->where);
		if (p->ending == END_OPEN)
			skip_block(p);
		return;
	}
	p->args = p->words + words;
	p->nargs = p->nwords - words;
	p->seen = seen;
	if ((d->flags & BLOCK) != 0) {
		if (p->ending != END_OPEN) {
			if (!brace_follows(p)) {
				fail(p, "%s: '{' is missing", d->name);
				return;
			}
			fail(p, "%s: '{' must stand on the same line", d->name);
		}
	} else if (p->ending == END_OPEN) {
		fail(p, "%s: unexpected '{'", d->name);
		skip_block(p);
		return;
	}

	if ((d->flags & MAIN_FILE) != 0 && p->source->depth > 0) {
		fail(p, "%s: belongs into %s itself", d->name, p->conf->file);
		return;
	}
	place += d - table;
	if ((d->flags & REPEAT) == 0 && place->file != NULL) {
		fail(p, "%s: is set at %s:%d already", d->name, place->file, place->line);
		return;
	}
	place->file = p->source->file;
	place->line = p->line;
	if (p->bad && (d->flags & BLOCK) == 0)
		return;
	if (args_ok(p, d))
		d->parse(p, d, base);
	else if (p->ending == END_OPEN)
		skip_block(p);
}

/* Only a comment may follow a block on its line. */
static void
finish_line(struct parser *p)
{
	struct source *s = p->source;

	while (s->pos < s->end && is_blank(*s->pos))
		s->pos++;
	if (s->pos < s->end && *s->pos != '\n' && *s->pos != '#') {
		fail_at(p, s->file, s->line, "unexpected text behind '}'");
		skip_line(s);
	}
}

/* Read directives until the block's brace, or for global_block until the file's end. */
static void
parse_block(struct parser *p, const struct section *b, const char *name, void *base, struct seen *seen)
{
	const char *file = p->source->file;
	int i, open_line = p->line, words;
	const struct directive *d;

	for (;;) {
		read_words(p);
		if (p->nwords > 0) {
			/* An app or a pool in a block: more likely its brace was forgotten than meant so. */
			if (b != &global_block && p->ending == END_OPEN &&
			    (d = find_row(p, global_directives, &words)) != NULL && (d->flags & BLOCK) != 0) {
				fail_at(p, file, open_line, "%s %s: '}' is missing before line %d", b->kind, name, p->line);
				p->again = true;
				break;
			}
			parse_directive(p, b, base, seen);
			if (p->again)
				continue;
		} else if (p->ending == END_OPEN) {
			fail(p, "'{' without a directive");
			skip_block(p);
		}
		if (p->ending == END_CLOSE && b != &global_block) {
			finish_line(p);
			break;
		}
		if (p->ending == END_CLOSE)
			fail_at(p, file, p->source->line, "'}' without '{'");
		if (p->ending == END_FILE) {
			if (b != &global_block)
				fail_at(p, file, open_line, "%s %s: '}' is missing", b->kind, name);
			break;
		}
	}
	if (!p->again)
		p->ending = END_LINE;
	for (i = 0; b != &global_block && b->own[i].name != NULL; i++) {
		if ((b->own[i].flags & REQUIRED) != 0 && seen->own[i].file == NULL)
			fail_at(p, file, open_line, "%s %s: '%s' is missing", b->kind, name, b->own[i].name);
	}
}

/* On an error in a block's head the rest is still read, for its errors. */
static void
open_app(struct parser *p, const struct directive *d, void *block)
{
	struct app_draft *draft = NEW(&p->kept, struct app_draft);
	struct conf_app *app = &draft->app;
	const struct conf_app *other;
	const struct entry *e;
	struct seen seen;

	(void)block;
	app->name = p->args[0];
	app->file = p->source->file;
	app->line = p->line;
	app->roles = 1U << FCGI_RESPONDER;
	app->connections = 1;
	if (!conf_name_ok(app->name))
		fail(p, "%s: '%s' is not a name: 1 to %d of A-Z a-z 0-9 . _ -, no dot first", d->name, app->name, POOL_NAME_LEN);
	else if ((e = map_find(&p->apps, app->name)) != NULL) {
		other = e->data;
		fail(p, "%s %s: is defined at %s:%d already", d->name, app->name, other->file, other->line);
	} else
		map_add(p, &p->apps, app->name, app);

	*p->app_tail = draft;
	p->app_tail = &draft->next;
	p->conf->napps++;
	memset(&seen, 0, sizeof(seen));
	parse_block(p, &app_block, app->name, app, &seen);
	if (app->fork_server && app->connections > 1)
		fail_at(p, app->file, draft->connections_line, "connections: %d can not be with 'fork_server on' at %s:%d: "
		    "a worker of a fork server serves one request at a time", app->connections, app->file, draft->fork_server_line);
}

/* Like the name of a pool, with one '*' anywhere. */
static bool
pattern_ok(const char *pattern, int star)
{
	char name[POOL_NAME_LEN + 1];

	if (strlen(pattern) > POOL_NAME_LEN)
		return false;
	strcpy(name, pattern);
	name[star] = 'x';
	return conf_name_ok(name);
}

static void
open_pool(struct parser *p, const struct directive *d, void *block)
{
	struct draft *draft = NEW(&p->kept, struct draft);
	struct conf_pool *pool = &draft->pool;
	struct seen seen;
	const char *star;
	size_t i;

	(void)block;
	pool->name = p->args[0];
	pool->file = p->source->file;
	pool->line = p->line;
	pool->index = p->conf->npools++;
	pool->star = (star = strchr(pool->name, '*')) == NULL ? -1 : (int)(star - pool->name);
	pool->max_workers = p->defaults.pool.max_workers;
	pool->umask = p->defaults.pool.umask;
	if (star != NULL && strchr(star + 1, '*') != NULL)
		fail(p, "%s: '%s' has more than one '*'", d->name, pool->name);
	else if (!(star != NULL ? pattern_ok(pool->name, pool->star) : conf_name_ok(pool->name)))
		fail(p, "%s: '%s' is not a name: 1 to %d of A-Z a-z 0-9 . _ -, no dot first", d->name, pool->name, POOL_NAME_LEN);

	*p->pool_tail = draft;
	p->pool_tail = &draft->next;
	memset(&seen, 0, sizeof(seen));
	p->pool = pool;
	parse_block(p, &pool_block, pool->name, draft, &seen);
	p->pool = NULL;
	for (i = 0; inherited_directives[i].name != NULL; i++)
		if (seen.inherited[i].file != NULL)
			draft->own |= 1U << i;
}

/* Read one file; false if it can not be read. Each is read once, so no chain of includes is endless. */
static bool
parse_file(struct parser *p, const char *path)
{
	struct source s, *parent = p->source;
	const char *real, *buf = NULL;
	struct stat st;
	size_t len = 0;

	p->purpose = "include";
	if (parent != NULL && parent->depth + 1 >= MAX_DEPTH) {
		fail(p, "include: %s: more than %d files deep", path, MAX_DEPTH);
		return false;
	}
	if (!open_trusted(p, path, 0, &st, &real))
		return false;
	if (map_find(&p->files, real) != NULL)
		fail(p, "include: %s: is included already", path);
	else
		buf = read_all(p, real, &st, MAX_FILE, &len);
	close_file(p);
	if (buf == NULL)
		return false;

	map_add(p, &p->files, real, NULL);
	s.parent = parent;
	s.file = path;
	s.pos = buf;
	s.end = buf + len;
	s.line = 1;
	s.depth = parent == NULL ? 0 : parent->depth + 1;
	p->source = &s;
	parse_block(p, &global_block, NULL, p->conf, &p->global_seen);
	p->source = parent;
	return true;
}

/* A directory that is not there is one without files; one that cannot be read is an error. */
static int
glob_error(const char *path, int error)
{
	(void)path;
	return error != ENOENT && error != ENOTDIR;
}

/* The files that a pattern stands for, NULL at the end, copied: what glob() gives would be lost without memory. */
static char **
matching_files(struct parser *p, const char *name, const char *pattern)
{
	int error = glob(pattern, 0, glob_error, &p->matches);
	size_t i, n = error == 0 ? p->matches.gl_pathc : 0;
	char **files;

	if (error != 0 && error != GLOB_NOMATCH)
		fail(p, "%s: %s: %s", name, pattern, strerror(error == GLOB_NOSPACE ? ENOMEM : errno));
	p->matching = true;
	files = NEW_ARRAY(&p->scratch, n + 1, char *);
	for (i = 0; i < n; i++)
		files[i] = arena_text(&p->kept, p->matches.gl_pathv[i], strlen(p->matches.gl_pathv[i]));
	globfree(&p->matches);
	p->matching = false;
	return files;
}

static void
include_files(struct parser *p, const struct directive *d, void *block)
{
	const char *pattern = p->args[0], *slash = strrchr(p->source->file, '/');
	enum ending ending = p->ending;
	int line = p->line;
	char **files;

	(void)block;
	if (pattern[0] != '/' && slash != NULL)
		pattern = arena_join(&p->kept, slash == p->source->file ? "/" :
		    arena_text(&p->scratch, p->source->file, (size_t)(slash - p->source->file)), pattern);
	if (strpbrk(pattern, "*?[") == NULL)
		parse_file(p, pattern);
	else {
		for (files = matching_files(p, d->name, pattern); *files != NULL; files++) {
			p->line = line;
			parse_file(p, *files);
		}
	}
	/* The files had directives of their own. */
	p->line = line;
	p->ending = ending;
}

/* ---- when all has been read -------------------------------------------------------------- */

static void
resolve_apps(struct parser *p, struct draft *draft)
{
	struct conf_pool *pool = &draft->pool;
	const struct entry *e;
	int i;

	pool->apps = NEW_ARRAY(&p->kept, pool->napps, struct conf_app *);
	for (i = 0; i < pool->napps; i++) {
		if ((e = map_find(&p->apps, draft->app_names[i])) != NULL) {
			pool->apps[i] = e->data;
			((struct app_draft *)e->data)->npools++;
		} else
			fail_at(p, pool->file, draft->apps_line, "pool %s: unknown app '%s'", pool->name, draft->app_names[i]);
	}
}

static void
inherit(const struct parser *p, struct draft *draft)
{
	const struct directive *d = inherited_directives;
	int i;

	for (i = 0; d[i].name != NULL; i++)
		if ((draft->own & 1U << i) == 0)
			memcpy((char *)draft + d[i].offset, (const char *)&p->defaults + d[i].offset, d[i].size);
}

static void
check_min_workers(struct parser *p, const struct draft *draft, long long *sum)
{
	const struct conf_pool *pool = &draft->pool;

	if (pool->min_workers > pool->max_workers)
		fail_at(p, pool->file, draft->min_workers_line, "min_workers: %d is more than the pool's max_workers %d",
		    pool->min_workers, pool->max_workers);
	if (*sum <= p->conf->max_workers && (*sum += pool->min_workers) > p->conf->max_workers)
		fail_at(p, pool->file, draft->min_workers_line, "min_workers: with this pool they are %lld, more than the "
		    "max_workers %d of all pools together", *sum, p->conf->max_workers);
}

/*
 * Build the hash. Patterns are in it too, to find those that are there twice: no
 * pool's name can have a '*'. Behind its last bucket stand the patterns again, in
 * their order, and a NULL.
 */
static void
index_pools(struct parser *p)
{
	struct conf *conf = p->conf;
	struct conf_pool *pool, **bucket, **other, **pattern;
	int i, npatterns = 0;

	for (i = 0; i < conf->npools; i++)
		npatterns += conf->pools[i]->star != -1;
	for (conf->hash_size = 64; conf->hash_size < (size_t)conf->npools; conf->hash_size *= 2)
		;
	conf->hash = NEW_ARRAY(&p->kept, conf->hash_size + (size_t)npatterns + 1, struct conf_pool *);
	pattern = conf->hash + conf->hash_size;
	for (i = 0; i < conf->npools; i++) {
		pool = conf->pools[i];
		bucket = &conf->hash[hash_name(pool->name) & (conf->hash_size - 1)];
		for (other = bucket; *other != NULL && strcmp((*other)->name, pool->name) != 0; other = &(*other)->hash_next)
			;
		if (*other != NULL) {
			fail_at(p, pool->file, pool->line, "pool %s: is defined at %s:%d already", pool->name, (*other)->file, (*other)->line);
			continue;
		}
		*other = pool;
		if (pool->star != -1)
			*pattern++ = pool;
	}
}

/* A template that is the same for all names. */
static bool
is_fixed(const struct conf_pool *pool, const char *template)
{
	return pool->star == -1 || strchr(template, '%') == NULL;
}

/* The uid that a pool runs as, with its user and groups checked; -1 if it is not known or not right. */
static uid_t
check_user(struct parser *p, const struct conf_pool *pool)
{
	struct spawn_error err;
	struct spawn_user su;
	const struct group *gr;
	uid_t uid = (uid_t)-1;
	const char *group = pool->group;
	int i;

	for (i = 0; pool->groups != NULL && pool->groups[i] != NULL; i++) {
		if ((gr = getgrnam(pool->groups[i])) == NULL)
			fail_at(p, pool->file, pool->line, "pool %s: groups: '%s' is unknown", pool->name, pool->groups[i]);
		else if (gr->gr_gid == 0)
			fail_at(p, pool->file, pool->line, "pool %s: groups: '%s' has gid 0", pool->name, pool->groups[i]);
	}
	if (pool->user == NULL || !is_fixed(pool, pool->user))
		return uid;
	if (group != NULL && !is_fixed(pool, group))
		return uid;
	if (spawn_find_user(p->conf, pool->user, group, &su, &err) == -1)
		fail_at(p, pool->file, pool->line, "pool %s: %s: %s", pool->name, err.step, err.reason);
	else
		uid = su.uid;
	return uid;
}

/* The same as the processes of a chroot will see it: both files have to be in there. */
static void
check_chroot(struct parser *p, const struct conf_pool *pool, uid_t uid, const struct conf_app *app)
{
	const char *command = arena_join(&p->scratch, pool->chroot, app->argv[0] + 1);
	struct spawn_error err;

	if (spawn_check_command(command, uid, &err) == 0 && (!app->fork_server ||
	    spawn_check_fork_server(command, arena_join(&p->scratch, pool->chroot, app->library + 1), uid, &err) == 0))
		return;
	fail_at(p, pool->file, pool->line, "pool %s: app %s: %s: %s", pool->name, app->name, err.step, err.reason);
}

/* Check the program of an app, in a pool or, if none uses it, for itself. */
static void
check_command(struct parser *p, const struct conf_pool *pool, uid_t uid, struct app_draft *draft)
{
	const struct conf_app *app = &draft->app;
	struct spawn_error err;

	if (app->argv == NULL)
		return;
	if (uid == (uid_t)-1)
		uid = 0;
	if (pool != NULL && pool->chroot != NULL) {
		if (is_fixed(pool, pool->chroot))
			check_chroot(p, pool, uid, app);
		return;
	}
	if (draft->state == APP_UNKNOWN)
		draft->state = spawn_check_command(app->argv[0], 0, &err) == 0 ? APP_OK : APP_OWNED;
	if (draft->state == APP_OWNED && spawn_check_command(app->argv[0], uid, &err) == -1) {
		fail_at(p, app->file, app->line, "app %s: %s: %s", app->name, err.step, err.reason);
		draft->state = APP_REPORTED;
	}
	/* For each user anew: who may read the library is not the same for all. */
	if (app->fork_server && draft->state != APP_REPORTED && !draft->no_fork_server &&
	    spawn_check_fork_server(app->argv[0], app->library, uid, &err) == -1) {
		fail_at(p, app->file, app->line, "app %s: %s: %s", app->name, err.step, err.reason);
		draft->no_fork_server = true;
	}
}

static void
check_names(struct parser *p)
{
	const struct conf *conf = p->conf;
	struct app_draft *app;
	char reason[TEXT_LEN];
	uid_t uid;
	int i, j;

	if (p->cgroup.file != NULL && cgroup_check(conf, reason, sizeof(reason)) == -1)
		fail_at(p, p->cgroup.file, p->cgroup.line, "cgroup: %s", reason);
	for (i = 0; i < conf->npools; i++) {
		uid = check_user(p, conf->pools[i]);
		for (j = 0; j < conf->pools[i]->napps; j++)
			if (conf->pools[i]->apps[j] != NULL)
				check_command(p, conf->pools[i], uid, (struct app_draft *)conf->pools[i]->apps[j]);
	}
	for (app = p->first_app; app != NULL; app = app->next)
		if (app->npools == 0)
			check_command(p, NULL, (uid_t)-1, app);
}

/* What one directive alone can not tell: the defaults, the apps of pools, and what the pools are together. */
static void
complete(struct parser *p)
{
	struct conf *conf = p->conf;
	const struct conf_listen *l;
	struct app_draft *app;
	struct draft *draft;
	long long min_workers = 0;
	int n;

	if (conf->control == NULL)
		conf->control = arena_join(&p->kept, conf->run_dir, "control");
	for (l = conf->listens; l != NULL; l = l->next)
		if (strcmp(l->address, conf->control) == 0)
			fail_at(p, l->file, l->line, "listen: %s is the control socket", l->address);
	memcpy(conf->timeout_ms, p->defaults.pool.timeout_ms, sizeof(conf->timeout_ms));
	conf->apps = NEW_ARRAY(&p->kept, conf->napps, struct conf_app *);
	for (n = 0, app = p->first_app; app != NULL; app = app->next) {
		conf->apps[n++] = &app->app;
		if (app->app.fork_server)
			app->app.library = conf->fork_server_library;
	}
	conf->pools = NEW_ARRAY(&p->kept, conf->npools, struct conf_pool *);
	for (draft = p->first_pool; draft != NULL; draft = draft->next) {
		conf->pools[draft->pool.index] = &draft->pool;
		inherit(p, draft);
		resolve_apps(p, draft);
		check_min_workers(p, draft, &min_workers);
	}
	index_pools(p);
}

static void
read_conf(struct parser *p, const char *file, bool names)
{
	const struct directive *d;

	p->conf = NEW(&p->kept, struct conf);
	p->conf->file = arena_text(&p->kept, file, strlen(file));
	p->listen_tail = &p->conf->listens;
	p->app_tail = &p->first_app;
	p->pool_tail = &p->first_pool;
	set_defaults(p);
	if (parse_file(p, p->conf->file)) {
		for (d = global_directives; d->name != NULL; d++)
			if ((d->flags & REQUIRED) != 0 && p->global_seen.own[d - global_directives].file == NULL)
				fail_at(p, p->conf->file, 0, "'%s' is missing", d->name);
	}
	complete(p);
	if (names)
		check_names(p);
}

struct conf *
conf_load(const char *file, bool names, FILE *errors)
{
	struct parser *p = calloc(1, sizeof(*p));
	struct conf *conf = NULL;

	if (p == NULL) {
		fprintf(errors, "%s: %s\n", file, strerror(ENOMEM));
		return NULL;
	}
	p->errors = errors;
	p->fd = -1;
	p->kept.no_memory = p->scratch.no_memory = &p->no_memory;
	if (setjmp(p->no_memory) == 0)
		read_conf(p, file, names);
	else {
		p->nerrors++;
		fprintf(errors, "%s: %s\n", file, strerror(ENOMEM));
	}
	if (p->fd != -1)
		close(p->fd);
	if (p->matching)
		globfree(&p->matches);
	free_chunks(p->scratch.chunks);
	if (p->nerrors > 0)
		free_chunks(p->kept.chunks);
	else {
		conf = p->conf;
		conf->memory = p->kept.chunks;
	}
	free(p);
	return conf;
}

void
conf_free(struct conf *conf)
{
	if (conf != NULL)
		free_chunks(conf->memory);
}

/* ---- names and templates ------------------------------------------------------------------- */

int
conf_name_ok(const char *name)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t len = strspn(name, letters);

	return len > 0 && len <= POOL_NAME_LEN && name[len] == '\0' && name[0] != '.';
}

/* What '*' stands for must not be empty, nor begin with a dot: it becomes part of paths. */
static bool
matches(const struct conf_pool *pool, const char *name, size_t len)
{
	size_t head = (size_t)pool->star, tail = strlen(pool->name) - head - 1;

	return len > head + tail && name[head] != '.' && memcmp(name, pool->name, head) == 0 &&
	    memcmp(name + len - tail, pool->name + head + 1, tail) == 0;
}

struct conf_pool *
conf_find(const struct conf *conf, const char *name)
{
	struct conf_pool *pool, *const *pattern;
	size_t len;

	/* Without this a name such as a/../../b could match a pattern. */
	if (!conf_name_ok(name))
		return NULL;
	for (pool = conf->hash[hash_name(name) & (conf->hash_size - 1)]; pool != NULL; pool = pool->hash_next)
		if (strcmp(pool->name, name) == 0)
			return pool;
	len = strlen(name);
	for (pattern = conf->hash + conf->hash_size; *pattern != NULL; pattern++)
		if (matches(*pattern, name, len))
			return *pattern;
	return NULL;
}

/*
 * The next piece of what a template stands for, whose end *s then is behind; NULL
 * when there is no more. In an exact pool conf_load() has expanded it already.
 */
static const char *
next_piece(const char **s, const struct conf_pool *pool, const char *name, size_t *len)
{
	const char *text = *s;

	if (text[0] == '\0')
		return NULL;
	if (text[0] != '%' || pool->star == -1) {
		*len = pool->star == -1 ? strlen(text) : strcspn(text, "%");
		*s += *len;
		return text;
	}
	*s += 2;
	switch (text[1]) {
	case 'p':
		*len = strlen(name);
		return name;
	case '1':
		*len = strlen(name) - (strlen(pool->name) - 1);
		return name + pool->star;
	}
	*len = 1;
	return text + 1;
}

int
conf_expand(char *buf, size_t size, const char *template, const struct conf_pool *pool, const char *name)
{
	const char *text;
	size_t used = 0, len;

	while ((text = next_piece(&template, pool, name, &len)) != NULL) {
		if (used + len >= size)
			return -1;
		memcpy(buf + used, text, len);
		used += len;
	}
	if (used >= size)
		return -1;
	buf[used] = '\0';
	return 0;
}

/* ---- fingerprints ---------------------------------------------------------------------------
 * FNV-1a with 64 bits over fields that each begin with a tag; a text ends with
 * its NUL, a number has 8 bytes, so two different lists of fields are never the
 * same bytes. What is not set is left out. Where the order of the file has no
 * meaning another order still is another number: then a worker is replaced in vain.
 */

static void
mix(uint64_t *h, const char *s, size_t len)
{
	while (len-- > 0)
		*h = (*h ^ (uint8_t)*s++) * 1099511628211U;
}

static void
mix_text(uint64_t *h, char tag, const char *text)
{
	if (text == NULL)
		return;
	mix(h, &tag, 1);
	mix(h, text, strlen(text) + 1);
}

static void
mix_template(uint64_t *h, char tag, const char *template, const struct conf_pool *pool, const char *name)
{
	const char *text;
	size_t len;

	if (template == NULL)
		return;
	mix(h, &tag, 1);
	while ((text = next_piece(&template, pool, name, &len)) != NULL)
		mix(h, text, len);
	mix(h, "", 1);
}

static void
mix_number(uint64_t *h, char tag, uint64_t n)
{
	char byte;
	int i;

	mix(h, &tag, 1);
	for (i = 0; i < 64; i += 8) {
		byte = (char)(n >> i & 0xff);
		mix(h, &byte, 1);
	}
}

uint64_t
conf_fingerprint(const struct conf_pool *pool, const struct conf_app *app, const char *name)
{
	uint64_t h = 14695981039346656037U;
	const struct conf_rlimit *rl;
	const struct conf_cgroup *cg;
	const struct conf_env *e;
	char **s;

	mix_template(&h, 'u', pool->user, pool, name);
	mix_template(&h, 'g', pool->group, pool, name);
	for (s = pool->groups; s != NULL && *s != NULL; s++)
		mix_text(&h, 'G', *s);
	mix_template(&h, 'd', pool->directory, pool, name);
	mix_template(&h, 'c', pool->chroot, pool, name);
	mix_number(&h, 'm', pool->umask);
	mix_number(&h, 'n', (uint64_t)pool->nice);
	for (rl = pool->rlimits; rl != NULL; rl = rl->next) {
		mix_number(&h, 'r', (uint64_t)rl->resource);
		mix_number(&h, 's', rl->limit.rlim_cur);
		mix_number(&h, 'h', rl->limit.rlim_max);
	}
	for (cg = pool->cgroups; cg != NULL; cg = cg->next) {
		mix_text(&h, 'k', cg->key);
		mix_template(&h, 'v', cg->value, pool, name);
	}
	mix_template(&h, 'l', pool->error_log, pool, name);
	for (s = app->argv; *s != NULL; s++)
		mix_text(&h, 'a', *s);
	mix_number(&h, 'C', (uint64_t)app->connections);
	mix_text(&h, 'f', app->library);
	/* In spawn.c's order, in which a later one wins: what is the same here becomes the same environment. */
	for (e = app->env; e != NULL; e = e->next) {
		mix_text(&h, 'E', e->name);
		mix_text(&h, '=', e->value);
	}
	for (e = pool->env; e != NULL; e = e->next) {
		mix_text(&h, 'E', e->name);
		mix_template(&h, '=', e->value, pool, name);
	}
	return h;
}

/* ---- zfpm -t ------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void
warn_at(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s:%d: warning: ", file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	putc('\n', stderr);
}

static void
summarize_listen(const struct conf_listen *l)
{
	const struct conf_net *net;
	const struct passwd *pw;
	const struct group *gr;
	char text[INET6_ADDRSTRLEN];
	int i;

	printf("listen %s:", l->address);
	if (l->sa.ss_family == AF_UNIX) {
		if (l->uid != (uid_t)-1 && (pw = getpwuid(l->uid)) != NULL)
			printf(" owner %s,", pw->pw_name);
		if (l->gid != (gid_t)-1 && (gr = getgrgid(l->gid)) != NULL)
			printf(" group %s,", gr->gr_name);
		printf(" mode %04o,", (unsigned)l->mode);
		for (i = 0; i < l->nallow_uids; i++)
			printf("%s %lu%s", i == 0 ? " allow_user" : "", (unsigned long)l->allow_uids[i], i == l->nallow_uids - 1 ? "," : "");
	}
	for (net = l->allow; net != NULL; net = net->next)
		printf("%s %s/%d%s", net == l->allow ? " allow" : "", inet_ntop(net->family, net->addr, text, sizeof(text)),
		    net->prefix_len, net->next == NULL ? "," : "");
	printf(" %s\n", l->key != NULL ? "key" : "no key");
}

static void
warn_of_listen(const struct conf_listen *l)
{
	const struct conf_net *net;

	if (l->key == NULL)
		warn_at(l->file, l->line, "listen %s: no key: whoever can connect can name any pool", l->address);
	if (l->sa.ss_family == AF_UNIX && (l->mode & S_IWOTH) != 0 && l->nallow_uids == 0)
		warn_at(l->file, l->line, "listen %s: mode %04o lets everybody on this machine connect", l->address, (unsigned)l->mode);
	for (net = l->allow; net != NULL; net = net->next)
		if (net->prefix_len == 0)
			warn_at(l->file, l->line, "listen %s: allow %s lets everybody connect", l->address,
			    net->family == AF_INET6 ? "::/0" : "0.0.0.0/0");
}

/* An app server is not replaced for a file at a path that is wrong; but one that may come later is no mistake. */
static void
warn_of_watch(const struct conf_app *app)
{
	struct stat st;
	char **watch;

	for (watch = app->watch; watch != NULL && *watch != NULL; watch++)
		if (stat(*watch, &st) == -1)
			warn_at(app->file, app->line, "app %s: watch: %s: %s", app->name, *watch, strerror(errno));
}

/* What is right, but hardly meant so. */
static void
warn_of_app(const struct app_draft *draft)
{
	const struct conf_app *app = &draft->app;
	const struct conf_env *e;

	if (draft->npools == 0)
		warn_at(app->file, app->line, "app %s: no pool uses it", app->name);
	if (!app->fork_server) {
		if (app->watch != NULL)
			warn_at(app->file, app->line, "app %s: watch: has no meaning without 'fork_server on'", app->name);
		return;
	}
	for (e = app->env; e != NULL; e = e->next)
		if (strcmp(e->name, "PHP_FCGI_CHILDREN") == 0 && strcmp(e->value, "0") != 0)
			warn_at(app->file, app->line, "app %s: env: %s: with 'fork_server on' zfpm has the workers forked, not PHP",
			    app->name, e->name);
	warn_of_watch(app);
}

/* All names that match b match a, which stands before it. */
static bool
shadows(const struct conf_pool *a, const struct conf_pool *b)
{
	const char *a_tail = a->name + a->star + 1, *b_tail = b->name + b->star + 1;
	size_t a_len = strlen(a_tail), b_len = strlen(b_tail);

	return a->star <= b->star && a_len <= b_len && memcmp(a->name, b->name, (size_t)a->star) == 0 &&
	    strcmp(a_tail, b_tail + b_len - a_len) == 0 && b->name[a->star] != '.';
}

static int
min_workers_of_all(const struct conf *conf)
{
	int i, n = 0;

	for (i = 0; i < conf->npools; i++)
		n += conf->pools[i]->min_workers;
	return n;
}

static void
warn_of_pools(const struct conf *conf)
{
	struct conf_pool *const *a, *const *b, *const *patterns = conf->hash + conf->hash_size;
	const struct conf_pool *pool;
	int i;

	for (i = 0; i < conf->npools; i++) {
		pool = conf->pools[i];
		if (pool->max_workers > conf->max_workers)
			warn_at(pool->file, pool->line, "pool %s: max_workers %d is more than the %d of all pools together",
			    pool->name, pool->max_workers, conf->max_workers);
	}
	for (b = patterns; *b != NULL; b++) {
		for (a = patterns; a != b && !shadows(*a, *b); a++)
			;
		if (a != b)
			warn_at((*b)->file, (*b)->line, "pool %s: is never used: pool %s at %s:%d matches all its names",
			    (*b)->name, (*a)->name, (*a)->file, (*a)->line);
	}
	if (min_workers_of_all(conf) == conf->max_workers)
		fprintf(stderr, "%s: warning: min_workers of the pools leave nothing of max_workers %d: any other process is in "
		    "the place of one of them\n", conf->file, conf->max_workers);
	if (conf->npools == 0)
		fprintf(stderr, "%s: warning: there is no pool\n", conf->file);
}

static const char *
plural(int n)
{
	return n == 1 ? "" : "s";
}

void
conf_summary(const struct conf *conf)
{
	const struct conf_listen *l;
	const struct app_draft *app;
	int i, nlistens = 0, npatterns = 0, nfork_servers = 0;

	for (l = conf->listens; l != NULL; l = l->next)
		nlistens++;
	for (i = 0; i < conf->npools; i++)
		npatterns += conf->pools[i]->star != -1;
	for (i = 0; i < conf->napps; i++)
		nfork_servers += conf->apps[i]->fork_server;
	printf("%s: ok: %d pool%s", conf->file, conf->npools, plural(conf->npools));
	if (npatterns > 0)
		printf(" (%d pattern%s)", npatterns, plural(npatterns));
	printf(", %d app%s", conf->napps, plural(conf->napps));
	if (nfork_servers > 0)
		printf(" (%d with a fork server)", nfork_servers);
	printf(", %d listen%s\n", nlistens, plural(nlistens));
	for (l = conf->listens; l != NULL; l = l->next)
		summarize_listen(l);
	printf("control %s\n", conf->control);
	if (min_workers_of_all(conf) > 0)
		printf("min_workers: %d of max_workers %d are started ahead\n", min_workers_of_all(conf), conf->max_workers);
	for (i = 0; i < conf->napps; i++) {
		app = (const struct app_draft *)conf->apps[i];
		printf("app %s: %s,%s %d pool%s\n", app->app.name, app->app.argv[0], app->app.fork_server ? " fork server," : "",
		    app->npools, plural(app->npools));
	}
	fflush(stdout);

	for (l = conf->listens; l != NULL; l = l->next)
		warn_of_listen(l);
	for (i = 0; i < conf->napps; i++)
		warn_of_app((const struct app_draft *)conf->apps[i]);
	warn_of_pools(conf);
}
