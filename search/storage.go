package search

import (
	"sync"
	"time"

	"github.com/c-bata/goptuna"
)

// storage is goptuna's storage of one ask. The trial that asks is in memory, as goptuna makes it; those of the history
// are copied when a sampler reads them, which goptuna's own do and ours do not.
type storage struct {
	goptuna.Storage
	trials func() []goptuna.FrozenTrial
}

func newStorage(o *Optimizer, l *lists) storage {
	return storage{goptuna.NewInMemoryStorage(), sync.OnceValue(func() []goptuna.FrozenTrial { return o.frozen(l) })}
}

// GetAllTrials are the trials of the history by number, and the one that asks, for the goroutine that asks. They must
// not be changed.
func (s storage) GetAllTrials(study int) ([]goptuna.FrozenTrial, error) {
	asking, err := s.Storage.GetAllTrials(study)
	if err != nil {
		return nil, err
	}
	return append(s.trials(), asking...), nil // there is room
}

// goptunaStates has pruned trials as complete ones with the score that was forecast: goptuna ranks what it
// calls pruned below everything that is complete.
var goptunaStates = map[State]goptuna.TrialState{
	Running: goptuna.TrialStateRunning, Complete: goptuna.TrialStateComplete,
	Pruned: goptuna.TrialStateComplete, Failed: goptuna.TrialStateFail,
}

// frozen copies the trials at points of the space. goptuna holds one objective, the score.
func (o *Optimizer) frozen(l *lists) []goptuna.FrozenTrial {
	out := make([]goptuna.FrozenTrial, 0, len(l.all)+1)
	for _, observation := range l.all {
		if observation.Point == nil {
			continue
		}
		out = append(out, goptuna.FrozenTrial{ID: 1 + len(out), Number: 1 + len(out), // 0 asks
			State: goptunaStates[observation.State], Value: observation.Score,
			InternalParams: o.params(observation.Point), Distributions: o.dists, DatetimeStart: time.Unix(0, 0)})
	}
	return out
}
