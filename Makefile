# POSIX make. CFLAGS, LDFLAGS, HARDEN, CC, APXS, PREFIX, sysconfdir and DESTDIR are yours: the same for make and make install.
CC = cc
CFLAGS = -O2 -g
APXS = apxs
PREFIX = /usr/local
sysconfdir = /etc

WARN = -Wall -Wextra
HARDEN = -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong
PIE = -fPIE -pie -Wl,-z,relro -Wl,-z,now
C11 = -std=c11 -D_POSIX_C_SOURCE=200809L
ZCFLAGS = $(C11) $(WARN) $(HARDEN) -fPIE $(CFLAGS)
MODFLAGS = -std=gnu11 $(WARN) $(HARDEN) -fPIC -fvisibility=hidden $(CFLAGS) \
	`$(APXS) -q EXTRA_CPPFLAGS` -I`$(APXS) -q INCLUDEDIR` -I`$(APXS) -q APR_INCLUDEDIR`

OBJS = zfpm.o conf.o control.o master.o listen.o upgrade.o spawn.o cgroup.o guard.o router.o handover.o status.o \
	request.o pool.o server.o timeout.o fcgi.o ipc.o log.o os.o

all: zfpm zfpm-forkserver.so module

zfpm: $(OBJS)
	$(CC) $(ZCFLAGS) $(PIE) $(LDFLAGS) -o $@ $(OBJS)

$(OBJS): zfpm.h fcgi.h forkserver.h
.c.o:
	$(CC) $(ZCFLAGS) -c -o $@ $<
zfpm.o: zfpm.c
	$(CC) $(ZCFLAGS) -DCONF_FILE='"$(sysconfdir)/zfpm/zfpm.conf"' -c -o $@ zfpm.c
conf.o: conf.c
	$(CC) $(ZCFLAGS) -DFORKSERVER_FILE='"$(PREFIX)/lib/zfpm/zfpm-forkserver.so"' -c -o $@ conf.c
os.o: os.c
	$(CC) $(ZCFLAGS) -D_GNU_SOURCE -c -o $@ os.c

# Loaded into applications: nothing of it is to be seen there but accept() and accept4().
zfpm-forkserver.so: forkserver.c forkserver.h
	$(CC) $(C11) -D_GNU_SOURCE $(WARN) $(HARDEN) -fPIC -fvisibility=hidden $(CFLAGS) \
	-shared -Wl,-z,relro -Wl,-z,now $(LDFLAGS) -o $@ forkserver.c -ldl

# The compiler is called with apxs's directories, not by apxs: no libtool, and no second fcgi.o.
module:
	@if command -v $(APXS) >/dev/null; then $(MAKE) mod_zfpm.so; \
	else echo 'mod_zfpm.so is left out: no $(APXS) here (Debian: apt-get install apache2-dev)'; fi
mod_zfpm.so: mod_zfpm.c fcgi.c fcgi.h
	$(CC) $(MODFLAGS) -shared -Wl,-z,relro -Wl,-z,now $(LDFLAGS) -o $@ mod_zfpm.c fcgi.c

# The tests' own programs; each is one file of t/ and fcgi.c. Moved into place whole: tests may be running.
tests:
	@mkdir -p t/bin; for c in t/*.c; do b=t/bin/$$(basename $$c .c); \
	[ -e $$b ] && [ -z "$$(find $$c t/*.h fcgi.c *.h -newer $$b)" ] && continue; \
	$(CC) -D_GNU_SOURCE -std=c11 $(WARN) $(CFLAGS) $(LDFLAGS) -I. -o $$b.$$$$ $$c fcgi.c -pthread && mv $$b.$$$$ $$b || exit 1; done

install: all
	sh dist/install '$(PREFIX)' '$(sysconfdir)' '$(DESTDIR)' "$$(command -v $(APXS) >/dev/null && $(APXS) -q LIBEXECDIR)"
uninstall:
	sh dist/install -u '$(PREFIX)' '$(sysconfdir)' '$(DESTDIR)' "$$(command -v $(APXS) >/dev/null && $(APXS) -q LIBEXECDIR)"

# check: needs root, for users and Apache. SANITIZE=1: with AddressSanitizer and UBSan. T: the tests to run.
check:
	sh dist/packages check
	@CC='$(CC)' MAKE='$(MAKE)' sh t/check $(T)
strict:
	sh dist/packages strict
	@C11='$(C11)' WARN='$(WARN)' HARDEN='$(HARDEN)' MODFLAGS="$(MODFLAGS)" sh t/strict $(OBJS:.o=.c) forkserver.c
demo:
	sh dist/packages demo
	$(MAKE) all
	sh dist/demo
bench:
	sh dist/packages bench
	$(MAKE) all
	sh bench/run

clean:
	rm -rf zfpm zfpm-forkserver.so mod_zfpm.so $(OBJS) t/bin build

.PHONY: all module tests install uninstall check strict demo bench clean
