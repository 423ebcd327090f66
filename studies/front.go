package studies

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"peftsearch/data/quote"
	"peftsearch/search"
	"peftsearch/studies/store"
)

// Front is the non-dominated complete trials of a study, by ascending parameters.
type Front struct {
	Members     []store.Trial
	Hypervolume float64
}

// ReadFront reads the front of a study, and nothing of its other trials.
func ReadFront(ctx context.Context, db *store.Store, record *store.Record) (front Front, err error) {
	err = db.Snapshot(ctx, func(at *store.Store) error {
		_, members, err := latestFront(ctx, at, record)
		front = FrontOf(members, record.Reference)
		return err
	})
	return front, err
}

// latestFront is the stored front with its trials.
func latestFront(ctx context.Context, at *store.Store, r *store.Record) (store.FrontPoint, []store.Trial, error) {
	front, err := at.Front(ctx, r)
	if err != nil {
		return front, nil, err
	}
	members, err := at.Select(ctx, r, front.Members)
	if errors.Is(err, store.ErrNoTrial) {
		err = fmt.Errorf("study %s: %w: of its front, %v", quote.Text(r.Name), store.ErrDamaged, err)
	}
	for _, m := range members {
		if err == nil && m.State != store.Complete {
			err = fmt.Errorf("study %s: %w: trial %d of its front is %s", quote.Text(r.Name), store.ErrDamaged, m.Number,
				m.State)
		}
	}
	return front, members, err
}

// outcomes lists the complete trials for package search.
func outcomes(trials []store.Trial) []search.Outcome {
	var out []search.Outcome
	for _, t := range trials {
		if t.State == store.Complete {
			out = append(out, search.Outcome{Number: t.Number, Params: t.Params, Score: t.Result.Score})
		}
	}
	return out
}

// FrontOf computes the front of trials.
func FrontOf(trials []store.Trial, ref search.Reference) Front {
	all := outcomes(trials)
	members := search.Front(all)
	byNumber := make(map[int64]store.Trial, len(trials))
	for _, t := range trials {
		byNumber[t.Number] = t
	}
	f := Front{Hypervolume: search.Hypervolume(members, ref)}
	for _, m := range members {
		f.Members = append(f.Members, byNumber[m.Number])
	}
	return f
}

// staircase is a front that grows trial by trial.
type staircase []search.Outcome

// add adds a complete trial. It takes O(log n) for one that changes nothing, and then returns false.
func (s *staircase) add(o search.Outcome) bool {
	before := *s
	larger := sort.Search(len(before), func(i int) bool { return before[i].Params > o.Params })
	if larger > 0 {
		best := before[larger-1] // of its size or less
		if best.Score > o.Score || best.Score == o.Score && (best.Params < o.Params || best.Number < o.Number) {
			return false
		}
	}
	*s = search.Front(append(before, o))
	return true
}
