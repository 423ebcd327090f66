package studies

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"peftsearch/evaluator"
	"peftsearch/space"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// Map is what is known of the plans of a backbone, to be carried to other databases and tasks: which module helps
// where is a property of the backbone and of how plans are trained far more than of the task.
type Map struct {
	Version         int                `json:"version"` // of this format, 1
	Name            string             `json:"name"`    // of the backbone, for people
	Model           string             `json:"model"`   // fingerprint
	Training        evaluator.Training `json:"training"`
	TrainingVersion int                `json:"training_version"`
	Dimensions      []MapDimension     `json:"dimensions"` // of the points
	Points          []space.Point      `json:"points"`     // of the plans
	Tasks           []MapTask          `json:"tasks"`
}

// MapDimension is one coordinate of a map's points.
type MapDimension struct {
	Name   string   `json:"name"`
	Levels []string `json:"levels"`
}

// MapTask is the scores of plans on one task.
type MapTask struct {
	Name   string     `json:"name"`
	Metric string     `json:"metric"`
	Scores []*float64 `json:"scores"` // by point; null where the plan was not tried
}

// MapVersion is that of the format of maps.
const MapVersion = 1

//go:embed all:maps
var shipped embed.FS

// Maps are those that come with peftsearch and those that were imported.
func Maps() (maps []*Map, err error) {
	add := func(files fs.FS) error {
		names, err := fs.Glob(files, "*.json")
		for _, name := range names {
			content, err := fs.ReadFile(files, name)
			if err != nil {
				return err
			}
			m, err := ReadMap(bytes.NewReader(content))
			if err != nil {
				return fmt.Errorf("map %s: %w", name, err)
			}
			maps = append(maps, m)
		}
		return err
	}
	ours, err := fs.Sub(shipped, "maps")
	if err == nil {
		err = add(ours)
	}
	if dir, ok := mapDir(); ok && err == nil {
		err = add(os.DirFS(dir))
	}
	return maps, err
}

// mapDir is where imported maps are; false where the user has no directory for such things.
func mapDir() (dir string, ok bool) {
	dir, err := os.UserConfigDir()
	return filepath.Join(dir, "peftsearch", "maps"), err == nil
}

// ReadMap reads a map and checks it.
func ReadMap(r io.Reader) (*Map, error) {
	var m Map
	if err := json.NewDecoder(r).Decode(&m); err != nil {
		return nil, fmt.Errorf("it is no map: %w", err)
	}
	return &m, m.check()
}

func (m *Map) check() error {
	if m.Version != MapVersion {
		return fmt.Errorf("it is of version %d, this peftsearch reads %d", m.Version, MapVersion)
	}
	if m.Name == "" || m.Model == "" || m.Name != filepath.Base(m.Name) {
		return errors.New("it names no model")
	}
	for i, p := range m.Points {
		if len(p) != len(m.Dimensions) {
			return fmt.Errorf("point %d has %d coordinates for %d dimensions", i, len(p), len(m.Dimensions))
		}
		for d, level := range p {
			if level < 0 || level >= len(m.Dimensions[d].Levels) {
				return fmt.Errorf("point %d has level %d of dimension %s", i, level, m.Dimensions[d].Name)
			}
		}
	}
	for _, t := range m.Tasks {
		if len(t.Scores) != len(m.Points) {
			return fmt.Errorf("task %s has %d scores for %d plans", t.Name, len(t.Scores), len(m.Points))
		}
	}
	return nil
}

// MapError says why studies make no map.
type MapError struct{ Reason string }

func (e *MapError) Error() string { return e.Reason }

// NewMap makes a map of studies on one model that trained plans in one way. The error is a *MapError if they are not.
func NewMap(ctx context.Context, db *store.Store, name string, names []string) (*Map, error) {
	m := &Map{Version: MapVersion, Name: name, TrainingVersion: evaluator.TrainingVersion}
	refuse := func(format string, args ...any) error { return &MapError{fmt.Sprintf(format, args...)} }
	var first *store.Record
	var inputs config.Inputs
	at := map[string]int{}
	for _, study := range names {
		record, err := db.Study(ctx, study)
		if err != nil {
			return nil, err
		}
		file, err := StudyFile(record)
		if err != nil {
			return nil, err
		}
		if first == nil {
			first = record
			if inputs.Space, err = file.SpaceOn(record.Geometry); err != nil {
				return nil, err
			}
			inputs.Training, m.Training, m.Model = file.TrialTraining(), file.TrialTraining(), record.Identity[modelKey]
			for _, d := range inputs.Space.Dimensions() {
				m.Dimensions = append(m.Dimensions, MapDimension{d.Name, d.Levels})
			}
		}
		if !file.Builtin() || TrainedOtherwise(record, file) {
			return nil, refuse("the trials of study %s were not trained by this version of peftsearch-worker", record.Name)
		}
		if !trainsAlike(record, first.Identity, "training.", "evaluator.") {
			return nil, refuse("study %s has another model or training than study %s", record.Name, first.Name)
		}
		trials, err := warmTrials(ctx, db, record, file, &inputs, 0)
		if err != nil {
			return nil, err
		}
		if len(trials) < leastTrained {
			return nil, refuse("study %s has %d finished trials in the space of study %s, it takes %d", record.Name, len(trials),
				first.Name, leastTrained)
		}
		task := MapTask{Name: record.Name, Metric: record.Metric}
		for _, t := range trials {
			key := inputs.Space.Key(t.Point)
			i, known := at[key]
			if !known {
				i, at[key] = len(m.Points), len(m.Points)
				m.Points = append(m.Points, t.Point)
			}
			for len(task.Scores) <= i {
				task.Scores = append(task.Scores, nil)
			}
			task.Scores[i] = &t.Score
		}
		m.Tasks = append(m.Tasks, task)
	}
	for i := range m.Tasks {
		for len(m.Tasks[i].Scores) < len(m.Points) {
			m.Tasks[i].Scores = append(m.Tasks[i].Scores, nil)
		}
	}
	return m, m.check()
}

// Write writes the map.
func (m *Map) Write(w io.Writer) error { return json.NewEncoder(w).Encode(m) }

// Import keeps the map for the studies of this user, in the place of an earlier one of its name and model.
func (m *Map) Import() (path string, err error) {
	dir, ok := mapDir()
	if !ok {
		return "", errors.New("there is no directory for a user's settings: set HOME or XDG_CONFIG_HOME")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	var content bytes.Buffer
	if err := m.Write(&content); err != nil {
		return "", err
	}
	path = filepath.Join(dir, fmt.Sprintf("%s-%.12s.json", m.Name, m.Model))
	return path, os.WriteFile(path, content.Bytes(), 0o644)
}

// fits reports whether plans of the map were those of the study's model, and trained as the study trains them.
func (m *Map) fits(file *config.Config, inputs *config.Inputs) bool {
	return file.Builtin() && m.Model == inputs.Fingerprint.Model && m.TrainingVersion == evaluator.TrainingVersion &&
		reflect.DeepEqual(m.Training, inputs.Training)
}

// trials are the plans of a task at the points that they have in a space; none where the space has other dimensions.
func (m *Map) trials(task MapTask, s *space.Space, source int) (out []store.WarmTrial) {
	dimensions := s.Dimensions()
	if !slices.EqualFunc(dimensions, m.Dimensions, func(a space.Dimension,
		b MapDimension) bool {
		return a.Name == b.Name
	}) {
		return nil
	}
	for i, p := range m.Points {
		point := make(space.Point, len(p))
		known := task.Scores[i] != nil
		for d, level := range p {
			point[d] = slices.Index(dimensions[d].Levels, m.Dimensions[d].Levels[level])
			known = known && point[d] >= 0
		}
		if known && s.Feasible(point) {
			out = append(out, store.WarmTrial{Source: source, Point: point, Params: s.Params(point), Score: *task.Scores[i]})
		}
	}
	return out
}
