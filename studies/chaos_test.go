package studies

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"peftsearch/studies/server"
	"peftsearch/studies/store"
)

// Supervisors are killed and replaced all the time, and the server crashes and comes back at another port, again and
// again: every trial ends, each once, and no supervisor that lives gives up.
func TestChaosOnAServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	if _, err := server.Binaries(); err != nil {
		t.Skip(err)
	}
	trials, supervisors, kills, crashes, delay := 40, 4, 6, 1, 20*time.Millisecond
	if long {
		trials, supervisors, kills, crashes, delay = 200, 8, 40, 2, 100*time.Millisecond
	}
	dir, err := os.MkdirTemp("", "peftsearch-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // the server may run as another user
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	up := func() *server.Server {
		t.Helper()
		s, err := server.Start(context.Background(), server.Options{Dir: dir, Data: filepath.Join(dir, "data"),
			Host: "127.0.0.1", Listen: "127.0.0.1", Settings: []string{"shared_buffers=16MB"}, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	running := up()
	defer func() { running.Stop() }()
	path := writeStudy(t, t.TempDir(), trials)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), addressFile), []byte(dir), 0o644); err != nil {
		t.Fatal(err)
	}
	if db, err := store.Open(dir); err != nil { // so that all find a schema
		t.Fatal(err)
	} else if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	type end struct {
		err    error
		killed bool
		log    string
	}
	ends := make(chan end)
	rng := rand.New(rand.NewPCG(3, 4))
	launch := func(kill bool) {
		spec := childSpec{Path: path, Delay: delay}
		if kill { // at one of the first trials' starts, rungs and ends
			spec.Kill = 1 + rng.IntN(15)
		}
		cmd, log := child(t, spec), &strings.Builder{}
		cmd.Stderr = log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			err := cmd.Wait()
			status := cmd.ProcessState.Sys().(syscall.WaitStatus)
			ends <- end{err, status.Signaled() && status.Signal() == syscall.SIGKILL, log.String()}
		}()
	}
	for range supervisors {
		launch(true)
	}
	killed, launched := 0, supervisors
	for alive := supervisors; alive > 0; {
		e := <-ends
		if !e.killed {
			if alive--; e.err != nil {
				t.Errorf("a supervisor that was not killed: %v: %s", e.err, e.log)
			}
			continue
		}
		if killed++; killed%(kills/(crashes+1)) == 0 && killed < kills {
			running.Kill()
			time.Sleep(5 * delay)
			running = up()
		}
		launch(launched < kills)
		launched++
	}
	if killed == 0 { // some may find the study at its end before it is their turn
		t.Error("no supervisor was killed")
	}
	attempts := 0
	done := stored(t, path)
	for _, trial := range done {
		if attempts += trial.Attempts; trial.State != store.Complete {
			t.Errorf("trial %d is %s", trial.Number, trial.State)
		}
	}
	if len(done) != trials {
		t.Errorf("%d trials", len(done))
	}
	t.Logf("%d trials in %d attempts, %d of %d killed", len(done), attempts, killed, kills)
}
