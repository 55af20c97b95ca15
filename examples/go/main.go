// A chat: what one says goes to all who are listening. Those who listen are requests that do not end, all of them in one
// process. serve.go is the part for zfpm.
package main

import (
	"fmt"
	"html"
	"log"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const page = `<!DOCTYPE html>
<title>Chat</title>
<form method=post action=/say>Name <input name=name value="%s"> Text <input name=text autofocus> <input type=submit></form>
<ul id=said></ul>
<script>
new EventSource("/listen").onmessage = function(e) {
	var said = document.createElement("li");
	said.textContent = e.data;
	document.getElementById("said").appendChild(said);
};
</script>
`

var chat = struct {
	sync.Mutex
	listeners map[chan string]bool
	last      string // what was said last, for those who come back from /say
}{listeners: make(map[chan string]bool)}

func show(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	name := ""
	if c, err := r.Cookie("name"); err == nil {
		name, _ = url.QueryUnescape(c.Value)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, page, html.EscapeString(name))
}

func say(w http.ResponseWriter, r *http.Request) {
	name, text := r.PostFormValue("name"), r.PostFormValue("text")
	if name == "" || text == "" {
		http.Error(w, "Your name, and what you want to say, please.", http.StatusBadRequest)
		return
	}
	chat.Lock()
	chat.last = strings.Join(strings.Fields(name+": "+text), " ") // one line
	for l := range chat.listeners {
		select {
		case l <- chat.last:
		default: // its client is slow, and nobody waits for it
		}
	}
	chat.Unlock()
	http.SetCookie(w, &http.Cookie{Name: "name", Value: url.QueryEscape(name), HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func listen(w http.ResponseWriter, r *http.Request) {
	l := make(chan string, 16)
	chat.Lock()
	chat.listeners[l] = true
	if chat.last != "" {
		l <- chat.last
	}
	chat.Unlock()
	defer func() {
		chat.Lock()
		delete(chat.listeners, l)
		chat.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, ": welcome\n\n")
	// The browser comes back after a minute, to another process if zfpm is to replace this one.
	end := time.After(time.Minute)
	for {
		w.(http.Flusher).Flush()
		select {
		case said := <-l:
			fmt.Fprintf(w, "data: %s\n\n", said)
		case <-r.Context().Done():
			log.Printf("%s has left", r.RemoteAddr)
			return
		case <-end:
			return
		}
	}
}

func main() {
	log.SetFlags(0) // zfpm's log, or the pool's error_log, has the time
	http.HandleFunc("/", show)
	http.HandleFunc("/say", say)
	http.HandleFunc("/listen", listen)
	log.Fatal(serve(http.DefaultServeMux))
}
