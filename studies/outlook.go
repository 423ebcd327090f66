package studies

import (
	"sync"

	"peftsearch/search"
)

// outlooks works out what a pruner needs at the rungs before trials reach them, and keeps it while the history does not
// change.
type outlooks struct {
	pruner  search.Pruner
	history *History

	mu        sync.Mutex
	latest    map[float64]*outlook // by the share of the budget, of rungs that a trial has reached
	preparing bool
	closed    bool
	ended     sync.WaitGroup
}

// outlook is one that is worked out, or is being worked out.
type outlook struct {
	outcomes int // the history had, at least
	done     chan struct{}
	search.Outlook
}

// at is the outlook at a rung by a history with at least so many outcomes. A trial asks for those that there were when
// it started, so that with one worker its verdict depends on nothing else.
func (o *outlooks) at(share float64, outcomes int) search.Outlook {
	o.mu.Lock()
	latest := o.latest[share]
	if latest == nil || latest.outcomes < outcomes {
		latest = o.begin(share)
		o.mu.Unlock()
		o.work(latest, share)
	} else {
		o.mu.Unlock()
		<-latest.done
	}
	return latest.Outlook
}

// begin notes that an outlook is being worked out, for one that holds the lock.
func (o *outlooks) begin(share float64) *outlook {
	l := &outlook{outcomes: o.history.Outcomes(), done: make(chan struct{})}
	o.latest[share] = l
	return l
}

func (o *outlooks) work(l *outlook, share float64) {
	l.Outlook = o.pruner.Outlook(o.history.past.Observations(), share)
	close(l.done)
}

// prepare brings the outlooks up to date, behind the trials that go on.
func (o *outlooks) prepare() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.preparing || o.closed {
		return
	}
	o.preparing = true
	o.ended.Go(func() {
		for {
			l, share := o.stale()
			if l == nil {
				return
			}
			o.work(l, share)
		}
	})
}

// stale begins an outlook that is not up to date, nil if all are.
func (o *outlooks) stale() (*outlook, float64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.history.Outcomes()
	for share, l := range o.latest {
		if l.outcomes < now && !o.closed {
			return o.begin(share), share
		}
	}
	o.preparing = false
	return nil, 0
}

// close ends the work behind the trials.
func (o *outlooks) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.ended.Wait()
}
