package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"peftsearch/studies/store"
	"peftsearch/studies/store/storetest"
)

// writeFakeStudy writes a study file for the worker of these tests into a new directory.
func writeFakeStudy(t *testing.T, trials int) string {
	t.Helper()
	model, err := filepath.Abs("../../models/bert-tiny")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(model); err != nil {
		t.Skip("models/bert-tiny is not there: make models/bert-tiny fetches it")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/study")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(model, filepath.Join(dir, "model")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "fake.yaml")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(content), "trials: 4", fmt.Sprint("trials: ", trials), 1) +
		"evaluator: {command: [peftsearch-worker]}\n" // nobody knows how long its trials take
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

var finishedLine = regexp.MustCompile(`(?m) msg=finished trial=(\d+) `)

// A study on a cluster whose jobs are drained, cancelled and requeued and whose nodes die is done by itself: every
// trial is complete, and none is stored twice.
func TestAStudyOnACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	const trials = 40
	path := writeFakeStudy(t, trials)
	db := storetest.Postgres(t)
	t.Setenv("FAKE_SECONDS", "1")
	c := startCluster(t, 3)

	if said := c.command("peftsearch", "doctor", path, "--db", db, "--slurm"); strings.Count(said, "✓ database") != 2 {
		t.Errorf("not checked from here and from a node: %s", said)
	}
	said := c.command("peftsearch", "submit", path, "--db", db, "--workers", "4", "--time", "10:00", "--",
		"--cpus-per-task=1")
	found := regexp.MustCompile(`(?m)^job +(\d+)$`).FindStringSubmatch(said)
	if found == nil {
		t.Fatal(said)
	}
	job, logs := found[1], filepath.Join(filepath.Dir(path), "small.slurm")
	log := func(life int) string {
		content, _ := os.ReadFile(filepath.Join(logs, fmt.Sprintf("%s_%d.log", job, life)))
		return string(content)
	}
	has := func(life int, word string) func() bool {
		return func() bool { return strings.Contains(log(life), word) }
	}
	tally := func() (tally store.Tally) {
		s, err := store.View(db)
		if err != nil {
			return tally
		}
		defer s.Close()
		if record, err := s.Study(t.Context(), "small"); err == nil {
			tally, err = s.Tally(t.Context(), record)
			c.must(err)
		}
		return tally
	}
	for life := 1; life <= 4; life++ {
		c.wait(fmt.Sprintf("life %d finishes a trial", life), has(life, "msg=finished"))
	}
	nodeOf := func(life int) string {
		return strings.TrimSpace(c.command("squeue", "-h", "-j", fmt.Sprintf("%s_%d", job, life), "-o", "%N"))
	}
	node := nodeOf(4)
	var others []int // at least two, of two processors a node
	for life := 1; life <= 3; life++ {
		if nodeOf(life) != node {
			others = append(others, life)
		}
	}
	c.killNode(node)
	signal := func(life int, options ...string) { // scancel may repeat what was done, and then fail
		exec.Command("scancel", append(options, fmt.Sprintf("%s_%d", job, life))...).Run()
	}
	signal(others[0], "--signal=USR1", "--batch")
	signal(others[1])
	c.wait("a life drains", has(others[0], "drained; "))
	c.wait("a life returns its trial", has(others[1], "interrupted; "))
	c.wait("another life follows", has(5, "msg=finished"))
	c.command("scontrol", "requeue", job+"_5")
	c.wait("life 5 returns its trial", has(5, "interrupted; "))
	c.startNode(node)
	c.wait("the study is done", func() bool { return tally().Complete == trials })

	if got := tally(); got.Total() != trials {
		t.Errorf("%+v", got)
	}
	times := map[string]int{}
	files, err := filepath.Glob(filepath.Join(logs, "*.log"))
	c.must(err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		c.must(err)
		for _, match := range finishedLine.FindAllStringSubmatch(string(content), -1) {
			times[match[1]]++
		}
	}
	for trial, n := range times {
		if n > 1 {
			t.Errorf("trial %s was stored %d times", trial, n)
		}
	}
	if len(times) < trials-1 { // the killed node's process may have said nothing of its last one
		t.Errorf("the logs say of %d trials that they were stored", len(times))
	}
	t.Logf("%d lives, %d trials", len(files), len(times))
}
