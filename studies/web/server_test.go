package web

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"peftsearch/studies"
	"peftsearch/studies/report"
	"peftsearch/studies/store"
)

// database is one that a search writes.
type database struct {
	*testing.T
	*store.Store
	record *store.Record
	path   string
}

func newDatabase(t *testing.T, name string) *database {
	t.Helper()
	path := filepath.Join(t.TempDir(), "studies.db")
	db, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	d := &database{T: t, Store: db, path: path}
	d.add(name)
	return d
}

// add begins a study.
func (d *database) add(name string) {
	d.Helper()
	want := *sample(name, 0, 1).Record
	want.Identity = store.Identity{"version": "2"}
	record, _, err := d.Ensure(d.Context(), &want)
	if err != nil {
		d.Fatal(err)
	}
	d.record = record
}

// trial runs a trial of a study that sample makes, and returns how it ends.
func (d *database) trial(t store.Trial) (end func()) {
	d.Helper()
	me := store.ThisProcess()
	right, err := d.Propose(d.Context(), d.record, 1000, me)
	if err != nil {
		d.Fatal(err)
	}
	trial, err := d.Add(
		d.Context(),
		d.record,
		right,
		store.Proposal{Origin: t.Origin, Candidate: t.Candidate, Params: t.Params},
		me,
	)
	if err != nil {
		d.Fatal(err)
	}
	lease := right
	if err := d.Beat(d.Context(), lease, store.Progress{Step: 75, Steps: 300, Loss: 0.5}, t.Curve[:1]); err != nil {
		d.Fatal(err)
	}
	return func() {
		trial.State, trial.Result, trial.Curve = store.Complete, t.Result, t.Curve
		if err := d.Finish(d.Context(), d.record, lease, trial); err != nil {
			d.Fatal(err)
		}
	}
}

// serve serves a database until the test ends.
func serve(t *testing.T, path string, names []string) string {
	t.Helper()
	db, err := store.View(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	page := NewServer(db, names)
	server := httptest.NewServer(page)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		page.Watch(t.Context())
	}()
	t.Cleanup(func() { <-watching })
	return server.URL
}

func TestRequestsThatAreNotAnswered(t *testing.T) {
	d := newDatabase(t, "first")
	page := NewServer(d.Store, nil)
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, host string
		status             int
	}{
		{"GET", "/", "127.0.0.1:8765", 200}, {"HEAD", "/", "localhost", 200}, {"GET", "/", "[::1]:80", 200},
		{"GET", "/", "evil.example", 421}, {"GET", "/events", "evil.example:8765", 421},
		{"GET", "/", "127.0.0.1.evil.example", 421}, {"GET", "/", machine + ":80", 200},
		{"GET", "/events", machine + ".evil.example", 421},
		{"POST", "/", "localhost", 405}, {"DELETE", "/events", "localhost", 405}, {"PUT", "/x", "localhost", 405},
		{"GET", "/studies.db", "localhost", 404}, {"GET", "/../../etc/passwd", "localhost", 404},
	} {
		request := httptest.NewRequest(c.method, "http://localhost"+c.path, nil)
		request.Host = c.host
		recorder := httptest.NewRecorder()
		page.ServeHTTP(recorder, request)
		if recorder.Code != c.status {
			t.Errorf("%s %s on %s: %d, want %d", c.method, c.path, c.host, recorder.Code, c.status)
		}
		if policy := recorder.Header().Get("Content-Security-Policy"); c.status == 200 &&
			!strings.HasPrefix(policy, "default-src 'none'; ") {
			t.Errorf("the policy is %q", policy)
		}
	}
}

// What a page is told piece by piece is what another one is told that comes later.
func TestPiecesMakeTheWhole(t *testing.T) {
	d := newDatabase(t, "first")
	page := NewServer(d.Store, nil)
	response, err := http.Get(serve(t, d.path, nil) + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	states := map[int64]store.State{}
	next := func() report.Views {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var v report.Views
				if err := json.Unmarshal([]byte(data), &v); err != nil {
					t.Log(data)
					t.Fatal(err)
				}
				return v
			}
		}
		t.Fatal("the events ended: ", lines.Err())
		return report.Views{}
	}
	want := trials(4, 1)
	rows := 0
	for i, trial := range want {
		for _, step := range []func(){func() {}, d.trial(trial)} {
			step()
			for state := store.Running; ; {
				for _, s := range next().Studies {
					rows += len(s.Trials.Number)
					for k, number := range s.Trials.Number {
						states[number] = s.Trials.State[k]
					}
				}
				if states[int64(i)] == store.Complete || states[int64(i)] == state && len(states) == i+1 {
					break
				}
			}
		}
	}
	if rows > 20 {
		t.Errorf("%d rows were sent for 4 trials", rows)
	}
	texts, _, _ := page.since(-1)
	if len(texts) != 1 {
		t.Errorf("a page that begins is told %q", texts)
	}
}

func TestPageFollowsASearch(t *testing.T) {
	b := browse(t)
	d := newDatabase(t, "first")
	url := serve(t, d.path, nil)
	b.open(url)
	b.is(`document.querySelector('#facts').textContent.includes('0 complete')`)
	five := trials(5, 1)
	for _, trial := range five[:4] {
		d.trial(trial)()
	}
	b.is(`document.querySelectorAll('#table tbody tr').length === 4 && !figures.front.box.hidden`)
	end := d.trial(five[4])
	b.is(`!running.hidden && running.textContent.includes('75')`)
	end()
	b.is(`running.hidden && document.querySelector('#table .note').textContent === '5 of 5'`)

	// Another study comes up by itself; a filter that was typed before stays.
	b.do(chromedp.SendKeys("#filter", "trial<2"))
	d.add("second")
	d.trial(five[1])()
	b.is(
		`document.querySelectorAll('nav button').length === 2 && document.querySelector('h1').textContent === '2 studies'`,
	)
	b.is(`document.querySelectorAll('#table tbody tr').length === 2 && search.value === 'trial<2'`)

	// A database that cannot be read is said to be one, and is read again when it can be.
	hidden := d.path + ".away"
	if err := os.Rename(d.path, hidden); err != nil {
		t.Fatal(err)
	}
	b.is(`byId('status').textContent.includes('there is none')`)
	if err := os.Rename(hidden, d.path); err != nil {
		t.Fatal(err)
	}
	b.is(`byId('status').textContent === 'live'`)
	b.quiet(url)
}

func TestTenThousandTrialsLive(t *testing.T) {
	b := browse(t)
	s := sample("long", 10_000, 3)
	page := NewServer(nil, nil)
	page.watched = []*watched{{Seen: s}}
	server := httptest.NewServer(page)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	b.open(server.URL)
	b.is(`document.querySelector('#table .note').textContent === '10,000 of 10,000'`)
	t.Logf("shown after %.0f ms", eval[float64](b, "performance.now()"))
	for i := range 20 { // one trial after the other changes
		next := *s.Overview
		next.Changed = []int64{int64(i)}
		page.mu.Lock()
		page.watched[0].Overview = &next
		page.say(event("", page.views(func(*studies.Overview) bool { return true }, false)))
		page.mu.Unlock()
	}
	b.is(`(window.drawn ??= performance.now()) && made !== ''`)
	response, err := http.Get(server.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || len(body) > 100<<10 {
		t.Errorf("the page has %d bytes, %v", len(body), err)
	}
	b.quiet(server.URL)
}
