/*
 * What conf.c asks of others, for a program of a test's that has conf.c and no more (cc -I. program.c conf.c). It is for
 * zfpm -t alone: here nothing can be found, and nothing is checked.
 */
#include "zfpm.h"

int cgroup_check(const struct conf *c, char *e, size_t n) { (void)c, (void)e, (void)n; return -1; }
int spawn_check_command(const char *p, uid_t u, struct spawn_error *e) { (void)p, (void)u, (void)e; return -1; }
int spawn_check_fork_server(const char *c, const char *l, uid_t u, struct spawn_error *e)
{ (void)c, (void)l, (void)u, (void)e; return -1; }
int spawn_check_error_log(const char *p, char *w, size_t n) { (void)p, (void)w, (void)n; return 0; }
int spawn_find_user(const struct conf *c, const char *u, const char *g, struct spawn_user *s, struct spawn_error *e)
{ (void)c, (void)u, (void)g, (void)s, (void)e; return -1; }
