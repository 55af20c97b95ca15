/* count.c: says what it was asked, and counts. cc -O2 -o count count.c -lfcgi */
#include <fcgi_stdio.h>		/* before stdio.h: printf(), stdin and stderr are the request's from here on */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *
var(const char *name)
{
	const char *value = getenv(name);

	return value != NULL ? value : "";
}

int
main(void)
{
	unsigned long served = 0, bytes, sum;
	char buf[8192];
	size_t i, n;

	while (FCGI_Accept() >= 0) {
		if (strcmp(var("REQUEST_METHOD"), "GET") != 0 && strcmp(var("REQUEST_METHOD"), "POST") != 0) {
			fprintf(stderr, "method %s\n", var("REQUEST_METHOD"));	/* to the virtual host's error log */
			printf("Status: 405 Method Not Allowed\r\nAllow: GET, POST\r\nContent-Type: text/plain\r\n\r\nGET or POST\n");
			continue;
		}
		bytes = sum = 0;
		while ((n = fread(buf, 1, sizeof(buf), stdin)) > 0)
			for (bytes += n, i = 0; i < n; i++)
				sum += (unsigned char)buf[i];
		printf("Content-Type: text/plain\r\n\r\n");
		printf("request %lu of process %ld, user %ld\n", ++served, (long)getpid(), (long)getuid());
		printf("%s %s path '%s' query '%s'\n", var("REQUEST_METHOD"), var("SCRIPT_NAME"), var("PATH_INFO"), var("QUERY_STRING"));
		printf("body of %lu bytes, sum %lu\n", bytes, sum);
	}
	return 0;
}
