#!/usr/bin/python3
"""
fcgi_wsgi.py: serve a WSGI application (Django, Flask ...) over FastCGI on descriptor 0, as zfpm starts it.

    fcgi_wsgi.py [-t THREADS] MODULE[:CALLABLE]

MODULE is looked for in the working directory first, which is the pool's "directory"; CALLABLE is "application" unless
given. THREADS requests run at the same time (1): the same number as "connections" of zfpm.conf(5), and 1 with
"fork_server on". Copy it to /usr/local/bin, root's, mode 755. Python 3.7 or newer, and its own library alone.

What the application writes to wsgi.errors, sys.stderr or sys.stdout while it serves a request goes to the web server's
error log, all else to zfpm's. On SIGTERM the requests that run are finished, then the process ends with status 0.
"""
import argparse
import ctypes
import errno
import importlib
import io
import os
import signal
import socket
import struct
import sys
import threading
import time
import traceback

BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT, STDERR = range(1, 8)
GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE = range(9, 12)
REQUEST_COMPLETE, CANT_MPX_CONN, UNKNOWN_ROLE = 0, 1, 3
RESPONDER = 1
KEEP_CONN = 1
HEADER = struct.Struct('>BBHHBx')       # version, type, request, length of the content and of the padding

MAX_CONTENT = 65535
MAX_PARAMS = 64 << 20
MAX_AHEAD = 65536       # bytes of a body that the application has not asked for
LINGER = 1              # seconds in which the other side may take in the end of a connection

application = None
threads = 1
gate = None             # lets as many requests run
stopping = False
connections = set()
local = threading.local()       # .request: what this thread serves


class Gone(ConnectionError):
    """The other side has left, or wants no response any more, or a body does not come to its end."""


def complain(what):
    """A line of our own for zfpm's log."""
    sys.__stderr__.write('fcgi_wsgi: %s\n' % what)
    sys.__stderr__.flush()


class Connection(threading.Thread):
    """One connection and its thread: records, and one request after the other."""

    def __init__(self, sock):
        super().__init__()
        self.sock = sock
        self.input = bytearray()        # what has come of the next record
        self.request = None             # the active one
        connections.add(self)

    def run(self):
        with self.sock:
            try:
                while not stopping and self.serve():
                    pass
            except Gone:
                pass
            self.request = None
            self.linger()
        connections.discard(self)

    def serve(self):
        """One request. False: the connection is at its end."""
        while self.request is None:
            self.receive()
        request = self.request
        try:
            whole = request.respond()
        finally:
            request.gone = True         # also for threads of the application that outlive it
        if whole:
            self.put(END_REQUEST, request.id, struct.pack('>IB3x', 0, REQUEST_COMPLETE))
        self.request = None
        return whole and request.keep

    def linger(self):
        """If it were closed with bytes unread, the other side might lose what it has not read yet."""
        end = time.monotonic() + LINGER
        try:
            self.sock.shutdown(socket.SHUT_WR)
            self.sock.settimeout(LINGER)
            while self.sock.recv(MAX_CONTENT) and time.monotonic() < end:
                pass
        except OSError:
            pass

    def put(self, kind, request, content):
        try:
            self.sock.sendall(HEADER.pack(1, kind, request, len(content), 0) + content)
        except OSError:
            raise Gone('the connection is closed') from None

    def receive(self, wait=True):
        """Take in one record. Without wait only if it is there already; False: it is not."""
        while True:
            if len(self.input) >= HEADER.size:
                version, kind, request, length, padding = HEADER.unpack_from(self.input)
                if version != 1:
                    self.broken('this is not FastCGI')
                end = HEADER.size + length + padding
                if len(self.input) >= end:
                    break
            try:
                data = self.sock.recv(MAX_CONTENT, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                data = b''
            if not data and wait:
                raise Gone('the connection is closed')
            if not data:
                return False    # the other side says nothing more; it may still listen
            self.input += data
        content = bytes(self.input[HEADER.size:HEADER.size + length])
        del self.input[:end]
        self.take(kind, request, content)
        return True

    def take(self, kind, request, content):
        if kind == BEGIN_REQUEST:
            self.begin(request, content)
        elif request == 0 and kind == GET_VALUES:
            known = {b'FCGI_MAX_CONNS': threads, b'FCGI_MAX_REQS': threads, b'FCGI_MPXS_CONNS': 0}
            values = {name: b'%d' % known[name] for name, _ in self.pairs(content) if name in known}
            answer = b''.join(bytes((len(n), len(v))) + n + v for n, v in values.items())
            self.put(GET_VALUES_RESULT, 0, answer)
        elif request == 0:
            self.put(UNKNOWN_TYPE, 0, bytes((kind, 0, 0, 0, 0, 0, 0, 0)))
        elif self.request is not None and request == self.request.id:
            self.request.take(kind, content)
        # else it is what is left of a request that is over

    def begin(self, request, content):
        if len(content) != 8 or request == 0 or (self.request is not None and self.request.id == request):
            self.broken('a BEGIN_REQUEST that is none')
        role, flags = struct.unpack('>HB5x', content)
        if self.request is not None:
            self.put(END_REQUEST, request, struct.pack('>IB3x', 0, CANT_MPX_CONN))
        elif role != RESPONDER:
            self.put(END_REQUEST, request, struct.pack('>IB3x', 0, UNKNOWN_ROLE))
            if not flags & KEEP_CONN:
                self.broken('role %d is not served' % role)
        else:
            self.request = Request(self, request, flags & KEEP_CONN != 0)

    def pairs(self, data):
        """The names and values of PARAMS or GET_VALUES. No length is believed."""
        at = 0
        while at < len(data):
            sizes = []
            for _ in range(2):
                size = 4 if at < len(data) and data[at] & 0x80 else 1
                sizes.append(int.from_bytes(data[at:at + size], 'big') & 0x7fffffff)
                at += size
            middle, end = at + sizes[0], at + sizes[0] + sizes[1]
            if end > len(data):
                self.broken('parameters that are cut off')
            yield data[at:middle], data[middle:end]
            at = end

    def broken(self, why):
        complain(why)
        if self.request is not None:
            self.request.gone = True
        raise Gone(why)


class Request:
    """One request, and what PEP 3333 wants of a server."""

    def __init__(self, connection, number, keep):
        self.connection = connection
        self.id = number
        self.keep = keep
        self.params = bytearray()
        self.params_ended = False
        self.body = bytearray()         # what has come and not been read
        self.body_ended = False
        self.body_left = None           # of CONTENT_LENGTH, where there is one
        self.head = None                # of the response
        self.head_sent = False
        self.gone = False               # nobody wants the response, or it is over
        self.aborted = False            # and ABORT_REQUEST has said so

    # ---- what comes

    def take(self, kind, content):
        if kind == ABORT_REQUEST:
            self.gone = self.aborted = True
            raise Gone('the request is aborted')
        if kind == PARAMS and not self.params_ended:
            self.params += content
            self.params_ended = not content
            if len(self.params) > MAX_PARAMS:
                self.connection.broken('more than %d bytes of parameters' % MAX_PARAMS)
        elif kind == STDIN and not self.body_ended:
            if not self.params_ended:
                self.connection.broken('a body before the end of the parameters')
            self.body += content
            self.body_ended = not content

    def receive(self, wait=True):
        if self.gone:
            raise Gone('nobody wants the response any more')
        try:
            return self.connection.receive(wait)
        except Gone:
            self.gone = True
            raise

    def read(self):
        """The next bytes of the body, none at its end. One that is cut off is an error, never an end."""
        while not self.body and not self.body_ended and self.body_left != 0:
            self.receive()
        data = bytes(self.body[:self.body_left])
        self.body.clear()
        if self.body_left is not None:
            self.body_left -= len(data)
            if self.body_left > 0 and not data:
                raise Gone('%d bytes of the request body are missing' % self.body_left)
        return data

    # ---- what goes

    def send(self, kind, content):
        """Content of any length, as records; none of no length, for that would be the end."""
        view = memoryview(content)
        try:
            for at in range(0, len(view), MAX_CONTENT):
                if self.gone:
                    raise Gone('nobody wants the response any more')
                self.connection.put(kind, self.id, view[at:at + MAX_CONTENT])
        except Gone:
            self.gone = True
            raise

    def start_response(self, status, headers, exc_info=None):
        if exc_info:
            try:
                if self.head_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None         # it refers to this very frame
        elif self.head is not None:
            raise AssertionError('start_response() is called twice')
        lines = ['Status: ' + status] + ['%s: %s' % header for header in headers]
        for line in lines:
            if any(c in line for c in '\r\n\0'):
                raise ValueError('a header is more than a line: %r' % line)
        self.head = '\r\n'.join(lines + ['', '']).encode('latin-1')
        return self.write

    def write(self, data):
        if not isinstance(data, bytes):
            raise TypeError('a response is made of bytes, not of %s' % type(data).__name__)
        if data:
            # An ABORT_REQUEST is looked for before anything is sent.
            while len(self.body) < MAX_AHEAD and self.receive(wait=False):
                pass
            self.flush(data)

    def flush(self, data=b''):
        if self.head_sent:
            self.send(STDOUT, data)
            return
        if self.head is None:
            raise AssertionError('start_response() has not been called')
        self.head_sent = True
        self.send(STDOUT, self.head + data)

    # ---- between the two

    def respond(self):
        """All of it but END_REQUEST. False: the response has an end where it should not, and must look so."""
        try:
            while not self.params_ended:
                self.receive()
            environ = self.environ()
            local.request = self
            try:
                with gate:
                    self.run(environ)
            finally:
                environ['wsgi.input'].close()
        except (Exception, SystemExit):
            if not self.gone:
                sys.stderr.write(traceback.format_exc())
                if self.head_sent:
                    return False
                self.send(STDOUT, b'Status: 500 Internal Server Error\r\n\r\n')
        finally:
            local.request = None
        if self.gone and not self.aborted:
            raise Gone
        return True

    def environ(self):
        environ = {}
        for name, value in self.connection.pairs(bytes(self.params)):
            environ[name.decode('latin-1')] = value.decode('latin-1')
        length = environ.get('CONTENT_LENGTH', '')
        if length.isascii() and length.isdigit() and len(length) < 20:
            self.body_left = int(length)
        environ.setdefault('SCRIPT_NAME', '')
        environ.setdefault('PATH_INFO', '')
        environ['wsgi.version'] = (1, 0)
        environ['wsgi.url_scheme'] = 'https' if environ.get('HTTPS', '').lower() in ('on', '1') else 'http'
        environ['wsgi.input'] = io.BufferedReader(Body(self), MAX_CONTENT)
        environ['wsgi.errors'] = sys.stderr
        environ['wsgi.multithread'] = threads > 1
        environ['wsgi.multiprocess'] = True
        environ['wsgi.run_once'] = False
        return environ

    def run(self, environ):
        result = application(environ, self.start_response)
        try:
            for block in result:
                self.write(block)
            if not self.head_sent:
                self.flush()
        finally:
            if hasattr(result, 'close'):
                result.close()


class Body(io.RawIOBase):
    """What is below the buffer of wsgi.input."""

    def __init__(self, request):
        self.request = request
        self.data = memoryview(b'')

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self.data:
            self.data = memoryview(self.request.read())
        n = min(len(buffer), len(self.data))
        buffer[:n] = self.data[:n]
        self.data = self.data[n:]
        return n


class Errors(io.TextIOBase):
    """sys.stderr, sys.stdout and wsgi.errors: to the web server's error log in a thread that serves a request."""

    def writable(self):
        return True

    def write(self, text):
        request = getattr(local, 'request', None)
        try:
            if request is None:
                raise Gone
            request.send(STDERR, text.encode('utf-8', 'backslashreplace'))
        except Gone:
            sys.__stderr__.write(text)
            sys.__stderr__.flush()
        return len(text)


def stop(_signal, _frame):
    """SIGTERM: connections without a request end here, the others with theirs. Python waits for its threads."""
    global stopping
    stopping = True
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for connection in list(connections):
        if connection.request is None:
            try:
                connection.sock.shutdown(socket.SHUT_RD)
            except OSError:
                pass
    sys.exit(0)


def main():
    global application, gate, threads
    parser = argparse.ArgumentParser(description='Serve a WSGI application over FastCGI on descriptor 0.')
    parser.add_argument('-t', '--threads', type=int, default=1, help='requests at the same time (1)')
    parser.add_argument('application', metavar='MODULE[:CALLABLE]')
    args = parser.parse_args()
    if args.threads < 1:
        parser.error('THREADS is at least 1')
    try:
        listener = socket.socket(fileno=0)
        listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        listening = False
    if not listening:
        parser.error('descriptor 0 is no listening socket: it is zfpm that starts this program')

    threads = args.threads
    gate = threading.BoundedSemaphore(threads)
    sys.path[0] = os.getcwd()
    sys.stderr = sys.stdout = Errors()
    module, _, name = args.application.partition(':')
    application = getattr(importlib.import_module(module), name or 'application')
    signal.signal(signal.SIGTERM, stop)

    # There is no thread before the first accept(): with "fork_server on" it returns in processes that were forked from
    # this one without Python's knowledge. It is told of it then, or all of them would have the same random numbers.
    before_fork, after_fork = ctypes.pythonapi.PyOS_BeforeFork, ctypes.pythonapi.PyOS_AfterFork_Child
    process = os.getpid()
    while True:
        try:
            sock, _ = listener.accept()
        except OSError as error:
            if error.errno == errno.ESHUTDOWN:
                break           # the fork server: there will be no other
            complain('accept: %s' % error)
            time.sleep(0.1)
            continue
        if process != os.getpid():
            process = os.getpid()
            before_fork()
            after_fork()
        try:
            Connection(sock).start()
        except RuntimeError as error:
            complain(error)
            sock.close()


if __name__ == '__main__':
    main()
