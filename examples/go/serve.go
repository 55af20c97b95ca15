// What net/http's own server does for a handler, and net/http/fcgi does not: its context is cancelled when the client
// leaves, and a panic ends its request and not the process. Copy this file into your program, and call serve().
package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
	"runtime/debug"
	"sync"
)

// A connection from zfpm, which has one request at a time. zfpm closes it when it gives that up.
type conn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A listener that has this connection and no other, so that its handler knows whose it is.
type single struct {
	net.Listener
	c net.Conn
}

func (s *single) Accept() (net.Conn, error) {
	c := s.c
	s.c = nil
	if c == nil {
		return nil, io.EOF
	}
	return c, nil
}

type response struct {
	http.ResponseWriter
	begun bool
}

func (w *response) WriteHeader(status int)      { w.begun = true; w.ResponseWriter.WriteHeader(status) }
func (w *response) Write(b []byte) (int, error) { w.begun = true; return w.ResponseWriter.Write(b) }
func (w *response) Flush()                      { w.begun = true; w.ResponseWriter.(http.Flusher).Flush() }

func (c *conn) handle(h http.Handler, w *response, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-c.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() {
		if p := recover(); p != nil {
			log.Printf("panic: %v (%s %s)\n%s", p, r.Method, r.URL.Path, debug.Stack())
			if w.begun {
				c.Close() // the client shall see that this is not all of it
			} else {
				http.Error(w, "Internal Server Error", http.StatusInternalServerError)
			}
		}
	}()
	h.ServeHTTP(w, r.WithContext(ctx))
}

// Serve on descriptor 0, where zfpm has put the listening socket.
func serve(h http.Handler) error {
	l, err := net.FileListener(os.Stdin)
	if err != nil {
		return err
	}
	for {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		c := &conn{Conn: nc, closed: make(chan struct{})}
		fcgi.Serve(&single{l, c}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c.handle(h, &response{ResponseWriter: w}, r)
		}))
	}
}
