package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"peftsearch/studies"
	"peftsearch/studies/report"
	"peftsearch/studies/store"
)

// Server serves the page of the studies of a database, and what becomes of them while it is open. It reads the
// database and nothing else, and knows no request that changes anything. It is safe for concurrent use.
type Server struct {
	db    *store.Store
	names []string // nil: all studies

	mu      sync.Mutex
	watched []*watched
	log     []message     // the latest
	next    int64         // number of the message that comes next
	changed chan struct{} // closed when there is another one
	trouble string        // why the database cannot be read, "" if it can
}

// watched is a study that is shown.
type watched struct {
	watcher *studies.Watcher
	report.Seen
	told      *studies.Overview // whose changed trials pages know
	insightOf int               // trials with an outcome that the insight is of
	computing bool              // an insight
}

// message is what a page is told, in the form of server-sent events.
type message struct {
	number int64
	text   string
}

const (
	pollTime  = time.Second
	aliveTime = 15 * time.Second // between signs of life, so that what stands between the page and us keeps the line
	sendTime  = 30 * time.Second // for a page to take a message
	logged    = 32               // messages that a slow page may be behind; one that is farther gets everything anew
)

// NewServer serves the named studies; without names all of the database, those to come too.
func NewServer(db *store.Store, names []string) *Server {
	return &Server{db: db, names: names, changed: make(chan struct{})}
}

// Watch looks at the database every second until the context ends. While it cannot be read, the page says so.
func (s *Server) Watch(ctx context.Context) {
	var computing sync.WaitGroup
	defer computing.Wait()
	for ctx.Err() == nil {
		s.look(ctx, &computing)
		select {
		case <-ctx.Done():
		case <-time.After(pollTime):
		}
	}
}

// look tells the pages what has changed.
func (s *Server) look(ctx context.Context, computing *sync.WaitGroup) {
	records, err := s.records(ctx)
	var fresh []*studies.Overview
	for i := 0; err == nil && i < len(records); i++ {
		w := s.find(records[i])
		var o *studies.Overview
		if o, err = w.watcher.Look(ctx); err == nil && o != w.Overview {
			s.mu.Lock()
			w.Overview = o
			s.mu.Unlock()
			fresh = append(fresh, o)
		}
		s.compute(w, computing)
	}
	if ctx.Err() != nil {
		return
	}
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	over := s.trouble != "" && trouble == ""
	if trouble != s.trouble && !over {
		s.say(event("trouble", trouble))
	}
	s.trouble = trouble
	if len(fresh) > 0 || over || trouble == "" && s.next == 0 {
		s.say(event("", s.views(func(o *studies.Overview) bool { return slices.Contains(fresh, o) }, false)))
	}
}

// records lists the studies that are shown.
func (s *Server) records(ctx context.Context) ([]*store.Record, error) {
	if s.names == nil {
		return s.db.Studies(ctx)
	}
	var records []*store.Record
	for _, name := range s.names {
		r, err := s.db.Study(ctx, name)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

func (s *Server) find(r *store.Record) *watched {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watched {
		if w.Record.Name == r.Name {
			return w
		}
	}
	w := &watched{Seen: report.Seen{Overview: &studies.Overview{Record: r}, Columns: report.NewColumns(r)}}
	w.watcher = studies.Watch(s.db, r, func(t store.Trial) {
		s.mu.Lock()
		defer s.mu.Unlock()
		w.Put(t)
	})
	s.watched = append(s.watched, w)
	return w
}

// compute works out what mattered and which plan to use, beside everything else, when there are a tenth more trials
// than the last time, and when none runs.
func (s *Server) compute(w *watched, computing *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := w.Overview
	ended := o.Tally.Finished()
	few := ended*10 < w.insightOf*11 && o.Tally.Running > 0
	if w.computing || few || ended == w.insightOf {
		return
	}
	w.computing = true
	computing.Go(func() {
		insight := report.NewInsight(o)
		s.mu.Lock()
		defer s.mu.Unlock()
		w.computing, w.insightOf = false, ended
		w.Insight = insight
		s.say(event("", s.views(func(other *studies.Overview) bool { return other == w.Overview }, false)))
	})
}

// views is what pages are told of some studies: of all trials, or of those that they do not know as they are. The
// caller holds the lock.
func (s *Server) views(which func(*studies.Overview) bool, whole bool) any {
	var overviews []*studies.Overview
	for _, w := range s.watched {
		overviews = append(overviews, w.Overview)
	}
	v := report.NewViews(nil, time.Now())
	v.Scale = report.NewScale(overviews)
	for _, w := range s.watched {
		if !which(w.Overview) {
			continue
		}
		numbers := []int64{}
		switch {
		case whole:
			numbers = nil
		case w.told != w.Overview:
			numbers, w.told = append(numbers, w.Changed...), w.Overview
		}
		v.Studies = append(v.Studies, report.NewView(w.Seen, numbers))
	}
	return v
}

// say adds a message. The caller holds the lock.
func (s *Server) say(text string) {
	s.log = append(s.log, message{s.next, text})
	s.log = s.log[max(0, len(s.log)-logged):]
	s.next++
	close(s.changed)
	s.changed = make(chan struct{})
}

// event writes a server-sent event, which is one line since JSON has no line ends of its own.
func event(kind string, data any) string {
	encoded, err := json.Marshal(data)
	if err != nil {
		kind, encoded = "trouble", []byte(`"this is a bug: the page's data cannot be encoded"`)
	}
	if kind != "" {
		kind = "event: " + kind + "\n"
	}
	return fmt.Sprintf("%sdata: %s\n\n", kind, encoded)
}

// since is what a page is to be told that knows the messages before a number, and the number that it knows then. wait
// is closed when there is more.
func (s *Server) since(number int64) (texts []string, next int64, wait <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number < 0 || number < s.next && (len(s.log) == 0 || number < s.log[0].number) {
		texts = append(texts, event("", s.views(func(*studies.Overview) bool { return true }, true)))
		if s.trouble != "" {
			texts = append(texts, event("trouble", s.trouble))
		}
		return texts, s.next, s.changed
	}
	for _, m := range s.log {
		if m.number >= number {
			texts = append(texts, m.text)
		}
	}
	return texts, s.next, s.changed
}

// ServeHTTP answers GET / with the page and GET /events with what it shows. Requests for another host are refused,
// since a page of somebody else's could have its name lead here.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	switch {
	case !ours(r.Host):
		http.Error(w, "this is not "+r.Host, http.StatusMisdirectedRequest)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "the page only shows", http.StatusMethodNotAllowed)
	case r.URL.Path == "/":
		style, script, policy := parts()
		header.Set("Content-Type", "text/html; charset=utf-8")
		header.Set("Content-Security-Policy", policy+"; connect-src 'self'; frame-ancestors 'none'")
		write(w, style, script, "", func(io.Writer) error { return nil }) // a page that was closed needs no answer
	case r.URL.Path == "/events" && r.Method == http.MethodGet:
		header.Set("Content-Type", "text/event-stream")
		s.follow(w, r)
	default:
		http.NotFound(w, r)
	}
}

// ours reports whether a request is meant for us: by an address, as localhost, or by this machine's own name. With a
// domain behind it, it may be anybody's, who leads it here.
func ours(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil || name == "localhost" {
		return true
	}
	machine, err := os.Hostname()
	return err == nil && name == machine
}

// follow tells a page what happens until it is closed.
func (s *Server) follow(w http.ResponseWriter, r *http.Request) {
	line := http.NewResponseController(w)
	send := func(text string) bool {
		line.SetWriteDeadline(time.Now().Add(sendTime))
		_, err := w.Write([]byte(text))
		return err == nil && line.Flush() == nil
	}
	for number := int64(-1); ; {
		texts, next, wait := s.since(number)
		number = next
		for _, text := range texts {
			if !send(text) {
				return
			}
		}
		select {
		case <-r.Context().Done():
			return
		case <-wait:
		case <-time.After(aliveTime):
			if !send(": alive\n\n") {
				return
			}
		}
	}
}
