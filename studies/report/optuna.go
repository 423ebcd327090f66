package report

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"

	"peftsearch/studies/store"
)

// Operations of Optuna's journal (optuna.storages.journal, JournalOperation).
const (
	optunaCreateStudy      = 0
	optunaStudySystemAttrs = 3
	optunaCreateTrial      = 4
)

// optunaStates are those of optuna.trial.TrialState.
var optunaStates = map[store.State]int{
	store.Running:  0,
	store.Complete: 1,
	store.Pruned:   2,
	store.Failed:   3,
	store.Waiting:  4,
}

// optunaTrial is a line of the journal that creates a trial with all that it has.
type optunaTrial struct {
	Operation     int                `json:"op_code"`
	Worker        string             `json:"worker_id"`
	Study         int                `json:"study_id"`
	Started       *string            `json:"datetime_start"`
	Completed     *string            `json:"datetime_complete,omitempty"`
	State         int                `json:"state"`
	Value         *float64           `json:"value"`
	Values        []float64          `json:"values"` // score and parameters, of complete trials
	Distributions map[string]string  `json:"distributions"`
	Params        map[string]float64 `json:"params"`
	User          map[string]any     `json:"user_attrs"`
	System        struct{}           `json:"system_attrs"`
	Intermediate  map[string]float64 `json:"intermediate_values"`
}

// WriteOptuna writes a study as a journal file of Optuna 4 and 5, which maximises the score and minimises the
// parameters. A trial's parameters are the sizes of its modules, "L03.lora", 0 for none, so that plans outside of the
// search space have them too, and the learning rate where it differs. A pruned trial has its curve among the
// attributes: Optuna's TPE fails for pruned trials with intermediate values in a study of two objectives.
// trials is gone through twice, with curves.
func WriteOptuna(w io.Writer, record *store.Record, trials iter.Seq2[store.Trial, error]) error {
	buffered := bufio.NewWriter(w)
	encoder := json.NewEncoder(buffered) // a line for each
	const worker = "peftsearch"
	for _, line := range []map[string]any{
		{"op_code": optunaCreateStudy, "worker_id": worker, "study_name": record.Name, "directions": []int{2, 1}},
		{"op_code": optunaStudySystemAttrs, "worker_id": worker, "study_id": 0,
			"system_attr": map[string]any{"study:metric_names": []string{record.Metric, "trainable parameters"}}},
	} {
		if err := encoder.Encode(line); err != nil {
			return err
		}
	}
	dimensions, rates, err := optunaDimensions(trials)
	if err != nil {
		return err
	}
	for t, err := range trials {
		if err != nil {
			return err
		}
		line := optunaTrial{Operation: optunaCreateTrial, Worker: worker, Started: optunaTime(t.Started),
			Completed: optunaTime(t.Finished), State: optunaStates[t.State], Distributions: map[string]string{},
			Params: map[string]float64{}, User: optunaAttributes(t), Intermediate: map[string]float64{}}
		if t.State == store.Complete {
			line.Values = []float64{t.Result.Score, float64(t.Params)}
		}
		for name, distribution := range dimensions {
			line.Params[name], line.Distributions[name] = 0, distribution
		}
		for layer, module := range modules(t.Candidate.Plan) {
			line.Params[optunaName(layer, string(module.Method()))] = float64(module.Size())
		}
		if len(rates) > 1 {
			line.Params[optunaRate] = float64(slices.Index(rates, t.Candidate.Training.LearningRate))
		}
		for _, p := range t.Curve {
			if t.State != store.Pruned {
				line.Intermediate[strconv.Itoa(p.Step)] = p.Score
			}
		}
		if err := encoder.Encode(line); err != nil {
			return fmt.Errorf("trial %d: %w", t.Number, err)
		}
	}
	return buffered.Flush()
}

// optunaRate names the learning rate among the parameters.
const optunaRate = "learning_rate"

// optunaDimensions are the distributions of the modules that trials have and of the learning rate, where there are
// several; and the rates, ascending.
func optunaDimensions(trials iter.Seq2[store.Trial, error]) (dimensions map[string]string, rates []float64, err error) {
	largest := map[string]int{}
	for t, err := range trials {
		if err != nil {
			return nil, nil, err
		}
		for layer, module := range modules(t.Candidate.Plan) {
			name := optunaName(layer, string(module.Method()))
			largest[name] = max(largest[name], module.Size())
		}
		if rate := t.Candidate.Training.LearningRate; !slices.Contains(rates, rate) {
			rates = append(rates, rate)
		}
	}
	dimensions = map[string]string{}
	for name, size := range largest {
		dimensions[name] = marshal(map[string]any{"name": "IntDistribution",
			"attributes": map[string]any{"log": false, "step": 1, "low": 0, "high": size}})
	}
	if slices.Sort(rates); len(rates) > 1 {
		dimensions[optunaRate] = marshal(map[string]any{"name": "CategoricalDistribution",
			"attributes": map[string]any{"choices": rates}})
	}
	return dimensions, rates, nil
}

func optunaName(layer int, method string) string {
	if layer < 0 {
		return "input." + method
	}
	return fmt.Sprintf("L%02d.%s", layer, method) // names are shown in the order of their letters
}

func optunaTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC().Format("2006-01-02T15:04:05.000000+00:00"))
}

func optunaAttributes(t store.Trial) map[string]any {
	user := map[string]any{
		"origin": t.Origin,
		"reason": t.Reason,
		"seed":   t.Seed,
		"params": t.Params,
		"plan":   t.Candidate.Plan.String(),
	}
	if t.State == store.Complete || t.State == store.Pruned {
		user["score"], user["seconds"] = t.Result.Score, t.Result.WallS
	}
	if t.State == store.Pruned {
		user["forecast"], user["curve"] = t.Forecast.Score, t.Curve
	}
	if t.Failure != nil {
		user["failure"] = t.Failure.Error()
	}
	if t.Host != "" {
		user["host"] = t.Host
	}
	return user
}

func marshal(v any) string {
	encoded, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers and strings of ours
	}
	return string(encoded)
}
