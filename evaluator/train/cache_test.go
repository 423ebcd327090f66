package train

import (
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"peftsearch/data"
	"peftsearch/evaluator"
	"peftsearch/evaluator/model"
	"peftsearch/peft"
)

// upper is the frontier of smallJob: the attention of the second layer.
var upper = model.Frontier{Step: 2}

// smallJob has its frontier above the first layer.
func smallJob() evaluator.Job {
	job := upperLayer()
	job.Budget.TrainRows, job.Budget.Rungs = 96, []float64{1}
	return job
}

// openSmall opens a session with few dev rows.
func openSmall(t *testing.T, cacheMemory int64) *Session {
	t.Helper()
	s := openTiny(t, cacheMemory)
	const rows = 100
	s.dev = &split{encodings: s.dev.encodings[:rows], lengths: s.dev.lengths[:rows], labels: s.dev.labels[:rows]}
	return s
}

// onDisk opens a session that keeps hidden states in files only, and gives their directory.
func onDisk(t *testing.T) (*Session, string) {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	return reopenOnDisk(t)
}

// reopenOnDisk opens another session with the same directory, as a later process does.
func reopenOnDisk(t *testing.T) (*Session, string) {
	t.Helper()
	s := openSmall(t, 0)
	s.hello.Settings.CacheDisk = 1 << 30
	s.cache.files = s.stateFiles()
	return s, s.cache.files.dir
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func score(t *testing.T, s *Session, job evaluator.Job) float64 {
	t.Helper()
	result, err := s.Train(job, free())
	if err != nil {
		t.Fatal(err)
	}
	return result.Score
}

// warnings collects what is logged until the test ends.
func warnings(t *testing.T) *strings.Builder {
	t.Helper()
	var log strings.Builder
	previous := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(previous) })
	return &log
}

func TestTheCacheStaysWithinItsMemory(t *testing.T) {
	s := openSmall(t, 1<<30)
	s.cache.memory = s.cache.layout(s.subset(96), upper).size + s.cache.layout(s.dev, upper).size
	for _, plan := range [][]peft.Layer{{{}, {Serial: &peft.Adapter{Width: 4}}}, {{}, {}}, {{}, {Serial: &peft.Adapter{Width: 8}}}} {
		job := smallJob()
		job.Candidate.Plan.Layers = plan
		score(t, s, job)
		var used int64
		for _, entry := range s.cache.entries {
			used += int64(len(entry.mapped))
		}
		if used == 0 || used > s.cache.memory {
			t.Errorf("%d bytes of at most %d", used, s.cache.memory)
		}
	}
}

func TestHiddenStatesAreTheSameInMemoryAndOnDisk(t *testing.T) {
	memory := openSmall(t, 1<<30)
	disk, dir := onDisk(t)
	job := smallJob()
	want := score(t, memory, job)
	if got := score(t, disk, job); got != want {
		t.Errorf("%g with files, %g in memory", got, want)
	}
	if n := len(files(t, dir)); n != 2 {
		t.Errorf("%d files for two splits", n)
	}
	// What does not fit beside other states goes to disk; what fits stays in memory.
	mixed, _ := onDisk(t)
	mixed.cache.memory = mixed.cache.layout(mixed.subset(job.Budget.TrainRows), upper).size
	if got := score(t, mixed, job); got != want {
		t.Errorf("%g with memory and files, %g in memory", got, want)
	}
	for i, inFile := range []bool{false, true} {
		if entry := mixed.cache.entries[i]; entry.file != inFile {
			t.Errorf("entry %d is in a file: %t", i, entry.file)
		}
	}
}

func TestALaterProcessReadsTheFiles(t *testing.T) {
	first, dir := onDisk(t)
	job := smallJob()
	want := score(t, first, job)
	before := files(t, dir)
	stats := make([]os.FileInfo, len(before))
	for i, path := range before {
		stats[i], _ = os.Stat(path)
	}
	second, _ := reopenOnDisk(t)
	if got := score(t, second, job); got != want {
		t.Errorf("%g from files, %g when they were written", got, want)
	}
	for i, path := range before {
		if now, err := os.Stat(path); err != nil || !os.SameFile(now, stats[i]) {
			t.Errorf("%s was written again (%v)", path, err)
		}
	}
}

func TestDamagedFilesAreComputedAgain(t *testing.T) {
	s, dir := onDisk(t)
	job := smallJob()
	for name, damage := range map[string]func(content []byte) []byte{
		"a bit":         func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"the end":       func(b []byte) []byte { return b[:len(b)-100] },
		"everything":    func([]byte) []byte { return nil },
		"another model": func(b []byte) []byte { b[len(stateMagic)] ^= 1; return b },
		"a version":     func(b []byte) []byte { b[len(stateMagic)-1]++; return b },
	} {
		log := warnings(t)
		want := score(t, s, job)
		s.cache.close()
		for _, path := range files(t, dir) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := score(t, s, job); got != want {
			t.Errorf("%s is damaged: the score is %g, want %g", name, got, want)
		}
		if got := strings.Count(log.String(), "computed again"); got != 2 {
			t.Errorf("%s is damaged: %d files are reported:\n%s", name, got, log)
		}
		s.cache.close()
		if score(t, s, job); strings.Count(log.String(), "computed again") != 2 {
			t.Errorf("%s is damaged: it is not mended", name)
		}
	}
}

func TestHiddenStatesOfOtherInputsAreNotShared(t *testing.T) {
	s, _ := onDisk(t)
	rows, other := s.subset(64), s.subset(65)
	path := func(change func(f *stateFiles, h *hiddenStates)) string {
		f, h := *s.cache.files, *s.cache.layout(rows, upper)
		change(&f, &h)
		return f.path(f.key(&h))
	}
	seen := []string{path(func(*stateFiles, *hiddenStates) {})}
	for name, change := range map[string]func(f *stateFiles, h *hiddenStates){
		"rows": func(_ *stateFiles, h *hiddenStates) { h.split = other },
		"step": func(_ *stateFiles, h *hiddenStates) { h.at.Step = 3 },
		"read": func(_ *stateFiles, h *hiddenStates) { h.at.Rows = model.First },
		"length": func(_ *stateFiles, h *hiddenStates) {
			var texts []data.Row
			for _, e := range s.dataset.Train[:64] {
				texts = append(texts, e.Row)
			}
			h.split, _ = s.encode(texts, 8)
		},
		"model": func(f *stateFiles, _ *hiddenStates) {
			s.ready.Fingerprint.Model = "x"
			f.computed = s.stateFiles().computed
		},
		"precision": func(f *stateFiles, _ *hiddenStates) { s.ready.Precision = "x"; f.computed = s.stateFiles().computed },
		"device": func(f *stateFiles, _ *hiddenStates) {
			s.hello.Settings.Device = "x"
			f.computed = s.stateFiles().computed
		},
		"threads": func(f *stateFiles, _ *hiddenStates) {
			s.hello.Settings.Threads = 9
			f.computed = s.stateFiles().computed
		},
	} {
		changed := path(change)
		if slices.Contains(seen, changed) {
			t.Errorf("other %s have the same file", name)
		}
		seen = append(seen, changed)
	}
}

func TestFilesStayWithinTheirLimit(t *testing.T) {
	s, dir := onDisk(t)
	job := smallJob()
	s.cache.files.limit = s.cache.layout(s.subset(96), upper).size + s.cache.layout(s.dev, upper).size + 200 // of headers
	score(t, s, job)
	first := files(t, dir)
	job.Candidate.Plan.Layers = make([]peft.Layer, 2) // another boundary
	want := score(t, s, job)
	var used int64
	for _, path := range files(t, dir) {
		if info, err := os.Stat(path); err == nil {
			used += info.Size()
		}
	}
	if used > s.cache.files.limit {
		t.Errorf("%d bytes of at most %d", used, s.cache.files.limit)
	}
	if now := files(t, dir); len(now) == 0 || slices.Equal(now, first) {
		t.Errorf("the files are still %v", now)
	}
	tooMuch := smallJob()
	tooMuch.Budget.TrainRows = 200
	if score(t, s, tooMuch); len(s.cache.entries) != 4 {
		t.Errorf("%d entries", len(s.cache.entries))
	}
	if got := score(t, s, job); got != want {
		t.Errorf("%g, before %g", got, want)
	}
}

func TestADiskThatCannotBeWrittenCostsOnlyTheCache(t *testing.T) {
	s, dir := onDisk(t)
	job := smallJob()
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the directory should be
		t.Fatal(err)
	}
	log := warnings(t)
	want := score(t, openSmall(t, 0), job)
	if got := score(t, s, job); math.Abs(got-want) > 1e-4 {
		t.Errorf("%g, without cache %g", got, want)
	}
	if !strings.Contains(log.String(), dir) {
		t.Errorf("the log does not name the directory: %s", log)
	}
	if score(t, s, job); strings.Count(log.String(), "WARN") != 1 {
		t.Errorf("it is reported more than once: %s", log)
	}
}

func TestTwoWorkersWriteTheSameFile(t *testing.T) {
	first, dir := onDisk(t)
	second, _ := reopenOnDisk(t)
	layouts := [2]*hiddenStates{first.cache.layout(first.dev, upper), second.cache.layout(second.dev, upper)}
	var wait sync.WaitGroup
	for i, s := range []*Session{first, second} {
		content := make([]byte, layouts[i].size)
		for j := range content {
			content[j] = byte(j)
		}
		wait.Go(func() {
			for range 20 {
				h := *layouts[i]
				err := s.cache.files.create(&h, func(out io.Writer) error { _, err := out.Write(content); return err })
				if err != nil || !slices.Equal(h.values, content) {
					t.Errorf("writing beside another worker: %v", err)
				}
				h.close()
			}
		})
	}
	wait.Wait()
	if found := files(t, dir); len(found) != 1 {
		t.Errorf("files %v", found)
	}
}
