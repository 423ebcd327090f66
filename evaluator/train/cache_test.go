package train

import (
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

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
	s.dev = &split{inputs: s.dev.inputs[:rows], lengths: s.dev.lengths[:rows], examples: s.dev.examples[:rows], scale: 1}
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
	found, err := filepath.Glob(filepath.Join(dir, "*"+stateSuffix+"*"))
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
	for _, plan := range [][]peft.Layer{{{}, {peft.Serial{Width: 4}}}, {{}, {}}, {{}, {peft.Serial{Width: 8}}}} {
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
	// What is too much for the files is kept in memory.
	little, _ := onDisk(t)
	little.cache.files.limit, little.cache.memory = 1<<10, 1<<30
	if got := score(t, little, job); got != want {
		t.Errorf("%g with little disk, %g in memory", got, want)
	}
	for _, entry := range little.cache.entries {
		if entry.file != nil || entry.values == nil {
			t.Errorf("the states at step %d are not in memory", entry.at.Step)
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
	key := func(change func(f *stateFiles, h *hiddenStates)) [32]byte {
		f, h := *s.cache.files, *s.cache.layout(rows, upper)
		change(&f, &h)
		return f.key(&h)
	}
	seen := [][32]byte{key(func(*stateFiles, *hiddenStates) {})}
	for name, change := range map[string]func(f *stateFiles, h *hiddenStates){
		"rows": func(_ *stateFiles, h *hiddenStates) { h.split = other },
		"step": func(_ *stateFiles, h *hiddenStates) { h.at.Step = 3 },
		"read": func(_ *stateFiles, h *hiddenStates) { h.at.Rows = model.First },
		"length": func(_ *stateFiles, h *hiddenStates) {
			short := s.hello.Task
			short.MaxLength = 8
			h.split, _ = s.encode(short, s.dataset.Train[:64], &teller{})
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
		changed := key(change)
		if slices.Contains(seen, changed) {
			t.Errorf("other %s have the same file", name)
		}
		seen = append(seen, changed)
	}
}

// used is the size of all files of a directory; there must be none that is gone but still takes space.
func used(t *testing.T, dir string) (size int64) {
	t.Helper()
	for _, path := range files(t, dir) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, dir) && strings.Contains(line, "(deleted)") {
			t.Errorf("a removed file is mapped: %s", line)
		}
	}
	return size
}

func TestFilesStayWithinTheirLimit(t *testing.T) {
	s, dir := onDisk(t)
	job := smallJob()
	s.cache.files.limit = fileSize(s.cache.layout(s.subset(96), upper)) + fileSize(s.cache.layout(s.dev, upper))
	score(t, s, job)
	first := files(t, dir)
	job.Candidate.Plan.Layers = make([]peft.Layer, 2) // another frontier
	want := score(t, s, job)
	if size := used(t, dir); size > s.cache.files.limit {
		t.Errorf("%d bytes of at most %d", size, s.cache.files.limit)
	}
	if now := files(t, dir); len(now) == 0 || slices.Equal(now, first) {
		t.Errorf("the files are still %v", now)
	}
	tooMuch := smallJob()
	tooMuch.Budget.TrainRows = 200
	if score(t, s, tooMuch); len(s.cache.entries) != 0 {
		t.Errorf("%d entries of a job that does not fit", len(s.cache.entries))
	}
	if got := score(t, s, job); got != want {
		t.Errorf("%g, before %g", got, want)
	}
}

func TestWhatAnotherWorkerUsesIsNotRemoved(t *testing.T) {
	first, dir := onDisk(t)
	second, _ := reopenOnDisk(t)
	job, other := smallJob(), smallJob()
	other.Candidate.Plan.Layers = make([]peft.Layer, 2)
	limit := fileSize(first.cache.layout(first.subset(96), upper)) + fileSize(first.cache.layout(first.dev, upper))
	first.cache.files.limit, second.cache.files.limit = limit, limit

	score(t, first, job)
	mapped := files(t, dir)
	log := warnings(t)
	want := score(t, openSmall(t, 0), other)
	if got := score(t, second, other); math.Abs(got-want) > 1e-4 {
		t.Errorf("%g, without cache %g", got, want)
	}
	if now := files(t, dir); !slices.Equal(now, mapped) || used(t, dir) > limit {
		t.Errorf("files %v, before %v", now, mapped)
	}
	if !strings.Contains(log.String(), "other workers use") {
		t.Errorf("the log does not say why nothing is kept: %s", log)
	}
	if len(second.cache.entries) != 0 {
		t.Errorf("%d entries of a job that does not fit beside another worker's", len(second.cache.entries))
	}

	first.cache.close()
	score(t, second, other)
	if now := files(t, dir); slices.Equal(now, mapped) || used(t, dir) > limit {
		t.Errorf("files %v, when nobody used those before", now)
	}
}

func TestADiskThatIsNearlyFull(t *testing.T) {
	s, dir := onDisk(t)
	score(t, s, smallJob())
	s.cache.close()
	s.cache.files.spare = 1 << 62
	other := smallJob()
	other.Candidate.Plan.Layers = make([]peft.Layer, 2)
	log := warnings(t)
	score(t, s, other)
	if found := files(t, dir); len(found) != 0 {
		t.Errorf("files %v on a disk that is to stay free", found)
	}
	if !strings.Contains(log.String(), "to stay free") {
		t.Errorf("the log does not say why nothing is kept: %s", log)
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

// Two workers want the same states at the same time: one computes them, the other waits for it.
func TestOneFillServesAllWorkers(t *testing.T) {
	first, dir := onDisk(t)
	second, _ := reopenOnDisk(t)
	layouts := [2]*hiddenStates{first.cache.layout(first.dev, upper), second.cache.layout(second.dev, upper)}
	content := make([]byte, layouts[0].size)
	for i := range content {
		content[i] = byte(i)
	}
	waiting := make(chan struct{})
	var fills atomic.Int32
	var once sync.Once
	fill := func(out io.Writer) error {
		fills.Add(1)
		<-waiting
		_, err := out.Write(content)
		return err
	}
	stop := func() bool { // is asked by who waits
		once.Do(func() { close(waiting) })
		return false
	}
	var wait sync.WaitGroup
	for i, s := range []*Session{first, second} {
		wait.Go(func() {
			if err := s.cache.files.get(layouts[i], fill, stop); err != nil || !slices.Equal(layouts[i].values, content) {
				t.Errorf("beside another worker: %v", err)
			}
		})
	}
	wait.Wait()
	if n := fills.Load(); n != 1 {
		t.Errorf("the states were computed %d times", n)
	}
	if found := files(t, dir); len(found) != 1 {
		t.Errorf("files %v", found)
	}
	layouts[0].close()
	layouts[1].close()
}

func TestWaitingForAnotherWorkerCanBeStopped(t *testing.T) {
	s, _ := onDisk(t)
	h := s.cache.layout(s.dev, upper)
	key := s.cache.files.key(h)
	if err := os.MkdirAll(s.cache.files.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	part, err := lock(filepath.Join(s.cache.files.dir, hex.EncodeToString(key[:])+stateSuffix+partSuffix),
		os.O_RDWR|os.O_CREATE, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	fill := func(io.Writer) error { t.Error("it computes what another worker computes"); return nil }
	if err := s.cache.files.get(h, fill, func() bool { return true }); !errors.Is(err, errStopped) {
		t.Errorf("the error is %v", err)
	}
	// A worker that is killed leaves its part file without a lock.
	part.WriteString("half")
	part.Close()
	score(t, s, smallJob())
	if found := files(t, s.cache.files.dir); len(found) != 2 || strings.HasSuffix(found[0], partSuffix) {
		t.Errorf("files %v", found)
	}
}
