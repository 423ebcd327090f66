package config

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/hub"
	"peftsearch/data/tokenizer"
	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/space"
)

// TrialSeconds estimates what a trial takes on two cores, from the study file and its rows alone; 0 if it cannot be
// told. A step takes the forward pass through the frozen layers and the way back to their inputs, 2 operations each
// for every weight and token.
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
			total += min(float64(e.Bytes())/bytesOfToken, float64(c.Task.MaxLength))
		}
		return total
	}
	trained := tokens(in.Dataset.Train) * float64(c.Budget.Epochs)
	if rows := c.Budget.TrainRows; rows > 0 && rows < len(in.Dataset.Train) {
		trained *= float64(rows) / float64(len(in.Dataset.Train))
	}
	scored := tokens(in.Dataset.Dev) * float64(len(c.Budget.Rungs))
	g := in.Geometry
	weights := float64(g.Layers) * float64(4*g.Hidden*g.Hidden+2*g.Hidden*g.FFN)
	return weights * (4*trained + 2*scored) / operations
}

// TrainRows is how many rows a trial is trained on.
func (c *Config) TrainRows(in *Inputs) int {
	rows := in.Splits.Train.Rows
	if limit := c.Budget.TrainRows; limit > 0 {
		rows = min(rows, limit)
	}
	return rows
}

// Trainings is how many trainings the budget allows, by an estimate where it is one of time.
func (c *Config) Trainings(in *Inputs) float64 {
	trainings := float64(c.Budget.Trials)
	if seconds := c.TrialSeconds(in); c.Budget.Hours > 0 && seconds > 0 {
		trainings = min(trainings, 3600*c.Budget.Hours*float64(max(1, c.Evaluator.Workers))/seconds)
	}
	return trainings
}

// Inputs is what a study file names, opened.
type Inputs struct {
	Model       string // directory
	Geometry    peft.Geometry
	Fingerprint evaluator.Fingerprint
	Dataset     *data.Dataset
	Splits      evaluator.Splits // rows that are trained and scored on
	Space       *space.Space
	Training    evaluator.Training // of plans outside the space; the space may search some of it
	AutoEpochs  string             // why budget.epochs is what auto became; "" where the file says it
}

// Expect is what a worker with these inputs must have loaded.
func (c *Config) Expect(in *Inputs) evaluator.Expect {
	e := evaluator.Expect{Geometry: in.Geometry, Fingerprint: in.Fingerprint}
	if p := c.Evaluator.Precision; p != AutoPrecision {
		e.Precision = p
	}
	return e
}

// Open opens the model, the data and the space. It reads all of them, and trains nothing. The error
// joins every problem.
func (c *Config) Open() (*Inputs, error) { return c.OpenLoaded(evaluator.Ready{}) }

// OpenLoaded is Open for the worker of evaluator.command: what it says that it has loaded replaces what the
// files say, so that it may know models that this program cannot read.
func (c *Config) OpenLoaded(ready evaluator.Ready) (*Inputs, error) {
	in := &Inputs{Training: c.TrialTraining()}
	var errs []error
	if err := c.openModel(in, ready); err != nil {
		errs = append(errs, c.file.errorAt("model.path", "", "%v", err))
	} else if in.Space, err = c.SpaceOn(in.Geometry); err != nil {
		errs = append(errs, flatten(err)...)
	}
	var err error
	if in.Dataset, err = data.Load(c.task()); err != nil {
		errs = append(errs, c.file.errorAt("task", "", "%v", err))
	} else {
		d := in.Dataset
		in.Fingerprint.Data = cmp.Or(ready.Fingerprint.Data, d.Fingerprint)
		in.Splits = cmp.Or(ready.Splits, evaluator.Splits{Train: evaluator.Split{Rows: len(d.Train)},
			Dev: evaluator.Split{Rows: len(d.Dev)}, Test: evaluator.Split{Rows: len(d.Test)}})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if c.Budget.Epochs == AutoEpochs {
		c.Budget.Epochs, in.AutoEpochs = c.enoughEpochs(in)
	}
	return in, nil
}

// What auto makes of budget.epochs. Scores after fewer steps are those of plans that learn fast, not of good ones: of
// two plans with rising curves the one that starts faster looks better.
const (
	leastEpochs = 3
	leastSteps  = 300
)

// enoughEpochs is what auto makes of budget.epochs, and why.
func (c *Config) enoughEpochs(in *Inputs) (epochs Epochs, why string) {
	perEpoch := (c.TrainRows(in) + c.Training.BatchSize - 1) / c.Training.BatchSize
	epochs = Epochs(max(leastEpochs, (leastSteps+perEpoch-1)/perEpoch))
	reason := "enough for data as large"
	if epochs > leastEpochs {
		reason = fmt.Sprintf("fewer than %d steps show which plans learn fast, not which are good", leastSteps)
	}
	return epochs, fmt.Sprintf("budget.epochs is %g: %d steps of %d rows; %s", float64(epochs), int(epochs)*perEpoch,
		c.Training.BatchSize, reason)
}

// SpaceOn is the search space on a backbone. The error joins one *Error for every mistake.
func (c *Config) SpaceOn(g peft.Geometry) (*space.Space, error) {
	s, err := space.New(c.Space, c.TrialTraining(), g)
	if err == nil {
		return s, nil
	}
	var errs []error
	for _, problem := range flatten(err) {
		var key *space.KeyError
		if errors.As(problem, &key) {
			problem = c.file.errorAt(key.Key, "", "%s: %s", key.Key, key.Message)
		}
		errs = append(errs, problem)
	}
	return nil, errors.Join(errs...)
}

// model is the model's directory. Where there is none it is what model.path says, which the worker of
// evaluator.command may know.
func (c *Config) model() (dir string, err error) {
	path := c.resolve(c.Model.Path)
	if dir, err = hub.Directory(path, c.Model.Path); err != nil {
		return path, err
	}
	return dir, nil
}

func (c *Config) openModel(in *Inputs, ready evaluator.Ready) (err error) {
	var missing error
	in.Model, missing = c.model()
	if ready.Geometry != (peft.Geometry{}) {
		in.Geometry, in.Fingerprint.Model = ready.Geometry, ready.Fingerprint.Model
		return nil
	}
	defer func() {
		if err != nil && len(c.Evaluator.Command) > 0 {
			err = fmt.Errorf("%w; a worker that says its geometry when it is ready may have any model", err)
		}
	}()
	if missing != nil {
		return missing
	}
	checkpoint, err := checkpoint.Open(in.Model)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, checkpoint.Close()) }()
	if err := c.checkFit(checkpoint); err != nil {
		return err
	}
	if _, err := tokenizer.Load(in.Model); err != nil {
		return err
	}
	in.Geometry = peft.GeometryOf(checkpoint)
	if err := in.Geometry.Reads(c.Task.Kind); err != nil {
		return err
	}
	if in.Fingerprint.Model = ready.Fingerprint.Model; in.Fingerprint.Model == "" {
		in.Fingerprint.Model, err = checkpoint.Fingerprint()
	}
	return err
}

// checkFit refuses a task that the model's architecture cannot have.
func (c *Config) checkFit(checkpoint *checkpoint.Checkpoint) error {
	limit, writes := checkpoint.Config.MaxLength(), c.Task.Kind == data.KindText
	switch longest := c.task().Longest(); {
	case writes && (!checkpoint.Config.Causal || checkpoint.Config.DecoderLayers > 0):
		return fmt.Errorf("task.kind is %s, and a model of type %s writes none: choose GPT-2",
			data.KindText, checkpoint.Config.ModelType)
	case writes && longest > limit:
		return fmt.Errorf("task.max_length is %d and task.generation.max_new_tokens %d, the model reads and writes at "+
			"most %d tokens", c.Task.MaxLength, c.Task.Generation.MaxNewTokens, limit)
	case longest > limit:
		return fmt.Errorf("task.max_length is %d, the model reads at most %d tokens", c.Task.MaxLength, limit)
	case writes:
		_, err := checkpoint.Generation()
		return err
	}
	return nil
}

// Stall is evaluator.stall.
func (c *Config) Stall() time.Duration {
	return time.Duration(c.Evaluator.Stall * float64(time.Minute))
}

// Dir is the directory of the file.
func (c *Config) Dir() string { return filepath.Dir(c.File()) }

// Hello is the greeting for a worker of this study; cores are shared among the workers unless threads
// are given.
func (c *Config) Hello(cores int) evaluator.Hello {
	e := c.Evaluator
	threads := e.Threads
	if threads == 0 {
		threads = max(1, cores/max(1, int(e.Workers)))
	}
	gib := func(n float64) int64 { return int64(n * (1 << 30)) }
	model, _ := c.model() // Open says what is wrong with it
	return evaluator.Hello{Model: model, Head: c.Model.Head, Task: c.task(),
		Settings: evaluator.Settings{Device: e.Device, Precision: e.Precision, Threads: threads,
			CacheMemory: gib(e.CacheMemory), CacheDisk: gib(e.CacheDisk)}}
}
