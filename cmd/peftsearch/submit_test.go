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
	tally := func() store.Tally { return tallyOf(t, db, "small") }
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

// The commands of the page on clusters lead from a server that is queued to a report, on the study and the data of the
// repository.
func TestTheClusterPage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	models, err := filepath.Abs("../../models")
	if err != nil || !exists(t, filepath.Join(models, "all-MiniLM-L6-v2")) {
		t.Skipf("models/all-MiniLM-L6-v2 is not there: make models/all-MiniLM-L6-v2 fetches it (%v)", err)
	}
	home, repository := serverDir(t), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("FAKE_SECONDS", "0.2")
	c := startCluster(t, 2)
	c.must(os.CopyFS(filepath.Join(repository, "examples"), os.DirFS("../../examples")))
	c.must(os.Mkdir(filepath.Join(repository, "bin"), 0o777))
	c.must(os.Symlink(models, filepath.Join(repository, "models")))
	program, err := exec.LookPath("peftsearch")
	c.must(err)
	c.must(os.Symlink(program, filepath.Join(repository, "bin", "peftsearch")))
	run := func(line string) {
		t.Helper()
		cmd := exec.Command("bash", "-c", line)
		cmd.Dir = repository
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, said)
		}
	}
	db := filepath.Join(home, "peft-db")
	t.Cleanup(func() { exec.Command("peftsearch", "db", "stop", db).Run() })
	ran := 0
	for line := range strings.Lines(firstBlock(pages(t)["../../"+clusters])) {
		if strings.HasPrefix(line, "git ") || strings.HasPrefix(line, "make ") {
			continue
		}
		line = strings.ReplaceAll(line, "/tmp/peft-db", filepath.Join(home, "disk"))
		run(strings.ReplaceAll(line, "sleep 10", "sleep 0.2"))
		if ran++; strings.Contains(line, "peftsearch submit") {
			c.wait("the study is done", func() bool { return tallyOf(t, db, "stsb-demo").Complete == 12 })
		}
	}
	if ran != 9 || !exists(t, filepath.Join(repository, "stsb.html")) {
		t.Errorf("%d commands ran, and there is no report", ran)
	}
}

// tallyOf counts a study's trials, none while there is no such study.
func tallyOf(t *testing.T, db, study string) (tally store.Tally) {
	t.Helper()
	s, err := store.View(db)
	if err != nil {
		return tally
	}
	defer s.Close()
	if record, err := s.Study(t.Context(), study); err == nil {
		tally, _ = s.Tally(t.Context(), record)
	}
	return tally
}
