package store_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"peftsearch/studies/store"
	"peftsearch/studies/store/storetest"
)

func TestConformanceOfPostgreSQL(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() *store.Store {
		address := storetest.Postgres(t)
		return func() *store.Store { return open(t, address) }
	})
}

// proxy forwards connections to a server. It cuts one in which the client has said the word, after the server has
// heard it and before the client hears the answer: cut counts down such words.
type proxy struct {
	address string
	word    []byte
	cut     atomic.Int64
}

func newProxy(t *testing.T, address, word string) *proxy {
	t.Helper()
	at, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	server := at.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	at.Host = l.Addr().String()
	query := at.Query()
	query.Set("sslmode", "disable")
	at.RawQuery = query.Encode()
	p := &proxy{address: at.String(), word: []byte(word)}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			go p.forward(client, upstream)
		}
	}()
	return p
}

func (p *proxy) forward(client, server net.Conn) {
	defer client.Close()
	defer server.Close()
	var deaf atomic.Bool
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := server.Read(buffer)
			if deaf.Load() || err != nil {
				client.Close()
				return
			}
			client.Write(buffer[:n])
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if bytes.Contains(bytes.ToLower(buffer[:n]), p.word) && p.cut.Add(-1) == 0 {
			deaf.Store(true)
		}
		server.Write(buffer[:n])
	}
}

// Whatever answer is lost: what is repeated happens once.
func TestALostAnswerIsNoLostTrial(t *testing.T) {
	const trials = 3
	for lost := int64(1); ; lost++ {
		address := storetest.Postgres(t)
		p := newProxy(t, address, "commit")
		s, me, ctx := open(t, p.address), store.ThisProcess(), t.Context()
		r, _, err := s.Ensure(ctx, &store.Record{Name: "s"})
		if err != nil {
			t.Fatal(err)
		}
		p.cut.Store(lost)
		repeat := func(step func() error) error {
			t.Helper()
			for {
				err := step()
				if !store.IsBusy(err) {
					return err
				}
			}
		}
		var trial store.Trial
		var lease, right store.Lease
		for {
			err := repeat(func() (err error) { trial, lease, err = s.Pop(ctx, r, me); return err })
			if errors.Is(err, store.ErrNothing) {
				err = repeat(func() (err error) { right, err = s.Propose(ctx, r, trials, me); return err })
				if errors.Is(err, store.ErrEnough) {
					break
				}
				if err == nil {
					lease = right
					err = repeat(func() (err error) {
						trial, err = s.Add(ctx, r, right, storetest.Proposal(int(right.Trial())), me)
						return err
					})
				}
			}
			if err != nil {
				t.Fatalf("answer %d is lost: %v", lost, err)
			}
			if trial.Attempts == 1 && trial.Number == 1 {
				err = repeat(func() error { return s.Release(ctx, lease, false) })
			} else {
				trial.State = store.Complete
				err = repeat(func() error { return s.Finish(ctx, r, lease, trial) })
			}
			if err != nil {
				t.Fatalf("answer %d is lost: %v", lost, err)
			}
		}
		tally, err := s.Tally(ctx, r)
		if err != nil || tally.Complete != trials || tally.Total() != trials {
			t.Errorf("answer %d is lost: %+v, %v", lost, tally, err)
		}
		if p.cut.Load() > 0 { // there were not so many
			if lost < 3*trials {
				t.Errorf("only %d answers", lost)
			}
			return
		}
	}
}

func TestServersThatCannotBeUsed(t *testing.T) {
	address := storetest.Postgres(t)
	_, err := store.View(address)
	refused(t, err, "it is empty", "peftsearch run")
	s := open(t, address)
	_, err = store.Open(strings.Replace(address, "/postgres?", "/none?", 1))
	refused(t, err, "does not exist", "createdb")
	_, err = store.Open("postgres://u@127.0.0.1:1/d")
	refused(t, err, "refused", "the server runs")
	if !store.IsBusy(err) {
		t.Error("a server that is away may come back")
	}
	store.Exec(s, "UPDATE peftsearch SET version = 1000")
	for _, open := range []func(string) (*store.Store, error){store.Open, store.View} {
		_, err = open(address)
		refused(t, err, "newer peftsearch (schema 1000", "update peftsearch")
	}
	store.Exec(s, "DROP TABLE peftsearch")
	_, err = store.Open(address)
	refused(t, err, "tables of another application", "--db")
}

func TestAViewerOfAServerWritesNothing(t *testing.T) {
	address := storetest.Postgres(t)
	put(t, open(t, address), 1)
	v, err := store.View(address)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if _, _, err := v.Ensure(context.Background(), &store.Record{Name: "n"}); err == nil {
		t.Error("it wrote")
	}
	if records, err := v.Studies(context.Background()); err != nil || len(records) != 1 {
		t.Errorf("%d studies, %v", len(records), err)
	}
}

// An array of jobs starts all of its processes in one second, on a database that none has used before.
func TestManyOpenANewDatabaseAtOnce(t *testing.T) {
	for range 5 {
		address := storetest.Postgres(t)
		var group sync.WaitGroup
		for range 12 {
			group.Go(func() {
				s, err := store.Open(address)
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
}
