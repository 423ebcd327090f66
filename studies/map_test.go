package studies

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"peftsearch/evaluator"
	"peftsearch/space"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// asIfTrained makes the study file one whose plans peftsearch-worker trains.
func asIfTrained(t *testing.T, path, name string) (*config.Config, *config.Inputs) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("{analytic: true}", "{}\ntraining: {learning_rate: 1e-3}", "study: trial-run",
		"study: "+name,
		"sampler: tpe",
		"sampler: gp").Replace(string(content))
	path = filepath.Join(filepath.Dir(path), name+".yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := config.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	inputs, err := file.Open()
	if err != nil {
		t.Fatal(err)
	}
	return file, inputs
}

// A study learns by itself from the others of its model and training, and from imported maps; what it learned stays
// what it was. A map that was exported knows what its studies know.
func TestStudiesLearnFromTheirModelsOthers(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	dir := t.TempDir()
	path := writeStudy(t, dir, 15)
	db, err := store.Open(filepath.Join(dir, "studies.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	begin := func(name string) *Study {
		t.Helper()
		file, inputs := asIfTrained(t, path, name)
		s, err := Start(t.Context(), db, file, inputs)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := begin("first")
	if first.record.WarmStart != nil {
		t.Fatalf("it learns from %s", first.record.WarmStart.Study)
	}
	mustRun(t, first)
	second := begin("second")
	if w := second.record.WarmStart; w == nil || w.Study != "first" || len(w.Trials) < 14 {
		t.Fatalf("it learns from %+v", w)
	}
	trials := mustRun(t, second)
	transferred := 0
	for _, trial := range trials {
		if trial.Origin == "transfer" {
			transferred++
		}
	}
	if transferred == 0 {
		t.Error("nothing that the first study promises is tried")
	}
	if w := begin("second").record.WarmStart; w == nil || w.Study != "first" {
		t.Errorf("continued, it learns from %+v", w)
	}

	m, err := NewMap(t.Context(), db, "tiny", []string{"first", "second"})
	if err != nil {
		t.Fatal(err)
	}
	var written bytes.Buffer
	if err := m.Write(&written); err != nil {
		t.Fatal(err)
	}
	read, err := ReadMap(&written)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read.Import(); err != nil {
		t.Fatal(err)
	}
	elsewhere, err := store.Open(filepath.Join(t.TempDir(), "studies.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	db = elsewhere
	if w := begin("third").record.WarmStart; w == nil || w.Study != "map tiny/first, map tiny/second" ||
		len(priorOf(w)) != 2 {
		t.Errorf("with a map, it learns from %+v", w)
	}
	file, inputs := asIfTrained(t, path, "fourth")
	inputs.Training.BatchSize++
	if s, err := Start(t.Context(), db, file, inputs); err != nil || s.record.WarmStart != nil {
		t.Errorf("with other trainings, it learns from %+v, %v", s.record.WarmStart, err)
	}
}

func TestDamagedMapsAreRefused(t *testing.T) {
	whole := func() *Map {
		return &Map{Version: MapVersion, Name: "tiny", Model: "abc", Training: evaluator.Training{LearningRate: 1},
			TrainingVersion: 2,
			Dimensions:      []MapDimension{{"a", []string{"0", "1"}}}, Points: []space.Point{{1}},
			Tasks: []MapTask{{"t", "accuracy", []*float64{new(float64)}}}}
	}
	for name, damage := range map[string]func(m *Map){
		"version": func(m *Map) { m.Version = 9 }, "name": func(m *Map) { m.Name = "../x" },
		"model":       func(m *Map) { m.Model = "" },
		"coordinates": func(m *Map) { m.Points[0] = nil }, "level": func(m *Map) { m.Points[0][0] = 2 },
		"scores": func(m *Map) { m.Tasks[0].Scores = nil },
	} {
		m := whole()
		damage(m)
		var written bytes.Buffer
		if err := m.Write(&written); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadMap(&written); err == nil {
			t.Errorf("a map with a wrong %s is read", name)
		}
	}
	if _, err := ReadMap(strings.NewReader("{")); err == nil {
		t.Error("half a map is read")
	}
	if maps, err := Maps(); err != nil {
		t.Errorf("%d maps, %v", len(maps), err)
	}
}
