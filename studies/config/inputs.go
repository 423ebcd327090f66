package config

import (
	"errors"
	"fmt"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/tokenizer"
	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/space"
)

// TrialSeconds estimates what a trial takes on two cores, from the study file and its rows alone; 0 if it cannot be told.
// A step takes the forward pass through the frozen layers and the way back to their inputs, 2 operations each for every
// weight and token.
func (c *Config) TrialSeconds(in *Inputs) float64 {
	const (
		operations   = 1e11 // in a second
		bytesOfToken = 4.5  // of English text
	)
	switch {
	case c.Evaluator.Analytic:
		return 1e-3
	case len(c.Evaluator.Command) > 0:
		return 0
	}
	tokens := func(examples []data.Example) float64 {
		total := 0.0
		for _, e := range examples {
			total += min(float64(len(e.Text)+len(e.TextPair))/bytesOfToken, float64(c.Task.MaxLength))
		}
		return total
	}
	trained := tokens(in.Dataset.Train) * c.Budget.Epochs
	if rows := c.Budget.TrainRows; rows > 0 && rows < len(in.Dataset.Train) {
		trained *= float64(rows) / float64(len(in.Dataset.Train))
	}
	scored := tokens(in.Dataset.Dev) * float64(len(c.Budget.Rungs))
	g := in.Geometry
	weights := float64(g.Layers) * float64(4*g.Hidden*g.Hidden+2*g.Hidden*g.FFN)
	return weights * (4*trained + 2*scored) / operations
}

// Inputs is what a study file names, opened.
type Inputs struct {
	Model       string // directory
	Geometry    peft.Geometry
	Fingerprint evaluator.Fingerprint
	Dataset     *data.Dataset
	Space       *space.Space
	Training    evaluator.Training // of plans outside the space; the space may search some of it
}

// Open opens the model, the data and the space. It reads all of them, and trains nothing. The error
// joins every problem.
func (c *Config) Open() (*Inputs, error) {
	in := &Inputs{Model: c.resolve(c.Model.Path), Training: c.training()}
	var errs []error
	if err := c.openModel(in); err != nil {
		errs = append(errs, c.file.errorAt("model.path", "", "%v", err))
	} else if in.Space, err = space.New(c.Space, in.Training, in.Geometry); err != nil {
		for _, problem := range flatten(err) {
			var key *space.KeyError
			if errors.As(problem, &key) {
				errs = append(errs, c.file.errorAt(key.Key, "", "%s", key.Message))
			} else {
				errs = append(errs, problem)
			}
		}
	}
	var err error
	if in.Dataset, err = data.Load(c.task()); err != nil {
		errs = append(errs, c.file.errorAt("task", "", "%v", err))
	} else {
		in.Fingerprint.Data = in.Dataset.Fingerprint
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return in, nil
}

func (c *Config) openModel(in *Inputs) (err error) {
	checkpoint, err := checkpoint.Open(in.Model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, checkpoint.Close()) }()
	if limit := checkpoint.Config.MaxLength(); c.Task.MaxLength > limit {
		return fmt.Errorf("task.max_length is %d, the model reads at most %d tokens", c.Task.MaxLength, limit)
	}
	if _, err := tokenizer.Load(in.Model); err != nil {
		return err
	}
	in.Geometry = peft.GeometryOf(checkpoint)
	in.Fingerprint.Model, err = checkpoint.Fingerprint()
	return err
}

// Hello is the greeting for a worker of this study; cores are shared among the workers unless threads
// are given.
func (c *Config) Hello(cores int) evaluator.Hello {
	e := c.Evaluator
	threads := e.Threads
	if threads == 0 {
		threads = max(1, cores/max(1, int(e.Workers)))
	}
	gib := func(n float64) int64 { return int64(n * (1 << 30)) }
	return evaluator.Hello{Model: c.resolve(c.Model.Path), Head: c.Model.Head, Task: c.task(), Settings: evaluator.Settings{
		Device: e.Device, Precision: e.Precision, Threads: threads, CacheMemory: gib(e.CacheMemory), CacheDisk: gib(e.CacheDisk)}}
}
