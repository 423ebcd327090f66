package train

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/tokenizer"
	"peftsearch/evaluator"
	"peftsearch/evaluator/model"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// Session is a loaded backbone with a loaded task.
type Session struct {
	hello      evaluator.Hello
	checkpoint *checkpoint.Checkpoint
	tokenizer  *tokenizer.Tokenizer
	backbone   *model.Backbone
	others     map[string]*model.Backbone // in other precisions, for predictions
	ready      evaluator.Ready
	cache      *hiddenCache
	lanes      *lanes

	dataset          *data.Dataset // nil without a task
	train, dev, test *split
	subsets          map[int]*split // of train, by size
}

// split is the rows of a data split as the model reads them.
type split struct {
	inputs   []data.Input
	lengths  []int          // tokens of each
	examples []data.Example // nil if nothing is known of the rows but themselves
	// Targets that are values are trained as (target-mean)/scale of the rows; 0 and 1 for classes.
	mean, scale float64
}

// Open loads what a hello names, and tells what it does, unless tell is nil. Without a task (no training file) the
// session can only predict.
func Open(hello evaluator.Hello, tell func(evaluator.Doing)) (*Session, error) {
	s := &Session{hello: hello, subsets: map[int]*split{}, others: map[string]*model.Backbone{}}
	if err := s.load(&teller{tell: tell}); err != nil {
		s.Close()
		return nil, err
	}
	debug.FreeOSMemory() // loading the weights left as much garbage as there are weights
	return s, nil
}

func (s *Session) load(t *teller) (err error) {
	t.begin("reading the model", 0)
	if s.checkpoint, err = checkpoint.Open(s.hello.Model); err != nil {
		return err
	}
	if s.tokenizer, err = tokenizer.Load(s.hello.Model); err != nil {
		return err
	}
	if s.backbone, err = model.Load(s.checkpoint, s.hello.Settings); err != nil {
		return err
	}
	s.lanes = newLanes(laneCount(s.hello.Settings), s.hello.Settings.Threads)
	s.ready = evaluator.Ready{Type: evaluator.TypeReady, Protocol: evaluator.ProtocolVersion,
		Geometry: s.backbone.Geometry(), Precision: s.backbone.Precision()}
	if s.ready.Fingerprint.Model, err = s.checkpoint.Fingerprint(); err != nil {
		return err
	}
	s.cache = &hiddenCache{backbone: s.backbone, lanes: s.lanes, memory: s.hello.Settings.CacheMemory,
		files: s.stateFiles()}
	if s.hello.Task.Train == "" {
		return nil
	}
	t.begin("reading the data", 0)
	if s.dataset, err = data.Load(s.hello.Task); err != nil {
		return err
	}
	s.ready.Fingerprint.Data = s.dataset.Fingerprint
	if err := s.checkLength(); err != nil {
		return err
	}
	t.begin("tokenising", len(s.dataset.Train)+len(s.dataset.Dev)+len(s.dataset.Test))
	for _, load := range []struct {
		examples []data.Example
		into     **split
		count    *evaluator.Split
	}{
		{s.dataset.Train, &s.train, &s.ready.Splits.Train},
		{s.dataset.Dev, &s.dev, &s.ready.Splits.Dev},
		{s.dataset.Test, &s.test, &s.ready.Splits.Test},
	} {
		sp, err := s.encode(s.hello.Task, load.examples, t)
		if err != nil {
			return err
		}
		sp.examples = load.examples
		*load.into, *load.count = sp, evaluator.Split{Rows: len(load.examples), Truncated: sp.truncated()}
	}
	if len(s.train.lengths) == 0 || len(s.dev.lengths) == 0 {
		return fmt.Errorf("%d training rows and %d dev rows: at least one of each", len(s.train.lengths), len(s.dev.lengths))
	}
	low, high := s.hello.Task.Metric.Range()
	s.ready.Maps = true
	s.ready.Metric = &evaluator.Metric{Name: s.hello.Task.Metric, Low: low, High: high}
	s.standardise(s.train)
	return nil
}

// checkLength refuses rows that are longer than what the model reads.
func (s *Session) checkLength() error {
	task, limit := s.hello.Task, s.backbone.MaxLength()
	if task.Longest() <= limit {
		return nil
	}
	if task.Kind.Writes() {
		return fmt.Errorf("max_length %d and generation.max_new_tokens %d: the model reads and writes at most %d tokens",
			task.MaxLength, task.Generation.MaxNewTokens, limit)
	}
	return fmt.Errorf("max_length %d: the model reads at most %d tokens", task.MaxLength, limit)
}

// laneCount is one lane for each thread of a CPU; a GPU computes whole batches.
func laneCount(settings evaluator.Settings) int {
	if settings.Device != torch.CPU.String() {
		return 1
	}
	return settings.Threads
}

// stateFiles is where hidden states are kept on disk; nil if they are not.
func (s *Session) stateFiles() *stateFiles {
	if s.hello.Settings.CacheDisk == 0 {
		return nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		slog.Warn("hidden states are not kept on disk", "error", err)
		return nil
	}
	return &stateFiles{
		dir:   filepath.Join(dir, "peftsearch", "hidden-states"),
		limit: s.hello.Settings.CacheDisk,
		spare: 1 << 30,
		computed: fmt.Sprintf("forward %d, model %s, %s on %s with %s, %d threads, libtorch %s", model.ForwardVersion,
			s.ready.Fingerprint.Model, s.ready.Precision, s.hello.Settings.Device, torch.CPUCapability(),
			s.hello.Settings.Threads, torch.Version()),
	}
}

// encodeRows is how many rows are encoded before it is told how many are done.
const encodeRows = 4096

// encode turns rows into what the model reads, and is to write.
func (s *Session) encode(task data.Task, rows []data.Example, t *teller) (*split, error) {
	sp := &split{inputs: make([]data.Input, len(rows)), lengths: make([]int, len(rows)), scale: 1}
	parts := s.lanes.count()
	for first := 0; first < len(rows); first += encodeRows {
		last := min(first+encodeRows, len(rows))
		if err := s.lanes.run(parts, func(part int) error {
			for i := first + part; i < last; i += parts {
				sp.inputs[i] = task.Encode(s.tokenizer, rows[i])
				sp.lengths[i] = sp.inputs[i].Tokens()
			}
			return nil
		}); err != nil {
			return nil, err
		}
		t.add(last - first)
	}
	return sp, nil
}

// truncated counts the rows that max_length cuts.
func (sp *split) truncated() int {
	count := 0
	for _, in := range sp.inputs {
		if in.Truncated {
			count++
		}
	}
	return count
}

// subset is n random rows of train, all of them if n is 0: the same rows for every job, so that scores
// can be compared.
func (s *Session) subset(n int) *split {
	if n <= 0 || n >= len(s.train.lengths) {
		return s.train
	}
	if sp := s.subsets[n]; sp != nil {
		return sp
	}
	sp := s.train.some(newRand(s.hello.Task.SplitSeed, "training rows", 0).Perm(len(s.train.lengths))[:n])
	s.standardise(sp)
	s.subsets[n] = sp
	return sp
}

// some is the split of those rows.
func (sp *split) some(rows []int) *split {
	out := &split{scale: 1}
	for _, i := range rows {
		out.inputs = append(out.inputs, sp.inputs[i])
		out.lengths = append(out.lengths, sp.lengths[i])
		out.examples = append(out.examples, sp.examples[i])
	}
	return out
}

// standardise finds mean and standard deviation of targets that are values.
func (s *Session) standardise(sp *split) {
	if !s.hello.Task.Kind.Numeric() {
		return
	}
	var values []float64
	for _, e := range sp.examples {
		values = append(values, e.Target...)
	}
	mean, deviation := stat.PopMeanStdDev(values, nil)
	sp.mean = mean
	if deviation > 0 {
		sp.scale = deviation
	}
}

// Ready says what is loaded.
func (s *Session) Ready() evaluator.Ready { return s.ready }

// Close frees everything.
func (s *Session) Close() {
	if s.cache != nil {
		s.cache.close()
	}
	if s.lanes != nil {
		s.lanes.close()
	}
	if s.backbone != nil {
		s.backbone.Close()
	}
	for _, b := range s.others {
		b.Close()
	}
	if s.checkpoint != nil {
		s.checkpoint.Close()
	}
}

// batch gathers examples of a split, and hidden states if there are any. A decoder reads tokens beside an encoder's.
func batch(scope *torch.Scope, sp *split, examples []int, hidden *hiddenStates) model.Batch {
	var b model.Batch
	for _, example := range examples {
		b = gather(b, sp.inputs[example])
	}
	if hidden != nil {
		b.Hidden = hidden.gather(scope, examples)
	}
	return b
}

// gather adds an input to a batch.
func gather(b model.Batch, in data.Input) model.Batch {
	b.Sequences = append(b.Sequences, len(in.Sequences))
	for _, sequence := range in.Sequences {
		b.Lengths = append(b.Lengths, len(sequence.IDs))
		b.IDs = append(b.IDs, sequence.IDs...)
		b.TypeIDs = append(b.TypeIDs, sequence.TypeIDs...)
	}
	if in.Marked != nil {
		b.Marked = append(b.Marked, in.Marked)
	}
	if in.Next != nil {
		b.Next = append(b.Next, in.Next)
	}
	if in.Spans != nil {
		b.Spans = append(b.Spans, in.Spans)
	}
	return b
}

// outputs computes the head's outputs for every row of a split, row by row, checking stop between
// batches; stopped says that it ended early. The lowest so many layers are bare. gates, if it is not nil, receives the
// values of the gates for every row.
func (s *Session) outputs(m *model.Model, sp *split, hidden *hiddenStates, bare int, gates []map[string]float64,
	stop func() bool) (rows [][]float64, stopped bool, err error) {
	rows = make([][]float64, len(sp.lengths))
	for batches := range slices.Chunk(evalBatches(sp.lengths, s.backbone.BatchTokens()/s.lanes.count()), s.lanes.count()) {
		if stop() {
			return nil, true, nil
		}
		err := s.lanes.run(len(batches), func(part int) error {
			scope := m.Scope()
			defer scope.Free()
			b := batch(scope, sp, batches[part], hidden)
			how := model.Pass{Bare: bare}
			if gates != nil {
				how.Gates = map[string][]float32{}
			}
			values := scope.Float32s(m.LogitsOf(scope, b, how))
			if err := scope.Err(); err != nil {
				return err
			}
			for name, opened := range how.Gates {
				deal(gates, name, opened, batches[part], b.Sequences)
			}
			counts := m.Counts(b)
			for i, example := range batches[part] {
				row := make([]float64, counts[i])
				for j, v := range values[:counts[i]] {
					row[j] = float64(v)
					if math.IsNaN(row[j]) || math.IsInf(row[j], 0) {
						return &evaluator.Failure{Kind: evaluator.FailureDiverged, Message: "the model's output is not finite"}
					}
				}
				rows[example], values = row, values[counts[i]:]
			}
			return nil
		})
		if err != nil {
			return nil, false, err
		}
	}
	return rows, false, nil
}

// deal gives examples the values of a gate for their rows: the mean of those with several.
func deal(gates []map[string]float64, name string, values []float32, examples, sequences []int) {
	for i, example := range examples {
		sum := 0.0
		for _, v := range values[:sequences[i]] {
			sum += float64(v)
		}
		if gates[example] == nil {
			gates[example] = map[string]float64{}
		}
		gates[example][name], values = sum/float64(sequences[i]), values[sequences[i]:]
	}
}

// Predictor is a trained model of a session.
type Predictor struct {
	session *Session
	info    peft.Info
	model   *model.Model
}

// Predictor loads a directory that a job wrote with this session's model. With the precision auto it computes in
// the one that the directory was trained in. The caller closes it, before the session.
func (s *Session) Predictor(dir string) (*Predictor, error) {
	trained, err := peft.ReadTrained(dir)
	if err != nil {
		return nil, err
	}
	if trained.Info.ModelFingerprint != s.ready.Fingerprint.Model {
		return nil, fmt.Errorf("%s was trained on another model than %s: their fingerprints differ", dir, s.hello.Model)
	}
	backbone := s.backbone
	if s.hello.Settings.Precision == model.PrecisionAuto && trained.Info.Precision != "" {
		if backbone, err = s.in(trained.Info.Precision); err != nil {
			return nil, err
		}
	}
	m, err := model.New(backbone, model.Spec{Plan: trained.Plan, Task: trained.Info.Task.Kind,
		Head: evaluator.Head(trained.Info.Head), Outputs: trained.Info.Outputs(),
		Training: evaluator.Training{Backbone: trained.Backbone != nil}})
	if err != nil {
		return nil, err
	}
	if err := m.SetTensors(joinTensors(trained)); err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return &Predictor{s, trained.Info, m}, nil
}

// Close frees the model.
func (p *Predictor) Close() { p.model.Close() }

// Predict scores rows.
func (p *Predictor) Predict(rows []data.Row) ([]evaluator.Prediction, error) {
	task, labels := p.info.Task, p.info.Labels
	for i, row := range rows {
		if err := task.CheckRow(row); err != nil {
			return nil, fmt.Errorf("row %d: %w", i+1, err)
		}
	}
	examples := make([]data.Example, len(rows))
	for i, row := range rows {
		examples[i].Row = row
	}
	encoded, err := p.session.encode(task, examples, &teller{})
	if err != nil {
		return nil, err
	}
	if task.Kind.Writes() {
		return p.write(task, encoded)
	}
	gates := make([]map[string]float64, len(rows))
	outputs, _, err := p.session.outputs(p.model, encoded, nil, 0, gates, func() bool { return false })
	if err != nil {
		return nil, err
	}
	predictions := make([]evaluator.Prediction, len(rows))
	for i, row := range rows {
		said := task.Say(row, task.Answer(encoded.inputs[i], outputs[i], labels), labels)
		predictions[i] = evaluator.Prediction{Logits: outputs[i], Label: strings.Join(said, " "),
			Gates: gates[i]}
		if task.Kind.Several() {
			predictions[i].Parts = said
		}
	}
	return predictions, nil
}

// write predicts texts.
func (p *Predictor) write(task data.Task, rows *split) ([]evaluator.Prediction, error) {
	texts, _, err := p.session.generate(p.model, rows, task.Generation, 0, func() bool { return false })
	if err != nil {
		return nil, err
	}
	predictions := make([]evaluator.Prediction, len(texts))
	for i, text := range texts {
		predictions[i].Label = text
	}
	return predictions, nil
}

// in is the backbone in a precision, which is loaded if it is not the session's.
func (s *Session) in(precision string) (*model.Backbone, error) {
	if precision == s.ready.Precision {
		return s.backbone, nil
	}
	if s.others[precision] == nil {
		settings := s.hello.Settings
		settings.Precision = precision
		b, err := model.Load(s.checkpoint, settings)
		if err != nil {
			return nil, err
		}
		s.others[precision] = b
	}
	return s.others[precision], nil
}

// asFailure marks an error that concerns one job alone.
func asFailure(err error) error {
	var failure *evaluator.Failure
	switch {
	case err == nil || errors.As(err, &failure):
		return err
	case errors.Is(err, torch.ErrDevice): // no later job can succeed
		return err
	case errors.Is(err, torch.ErrOutOfMemory):
		return &evaluator.Failure{Kind: evaluator.FailureOutOfMemory, Message: err.Error()}
	default:
		return &evaluator.Failure{Kind: evaluator.FailureInternal, Message: err.Error()}
	}
}
