package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"peftsearch/studies/server"
	"peftsearch/studies/slurm"
	"peftsearch/studies/store"
)

func newDB(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "db",
		Short: "A PostgreSQL server of your own, for studies on many machines",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDBStart(g), newDBStop(), newDBStatus())
	return cmd
}

// dbOptions is what db start is told.
type dbOptions struct {
	data       string
	slurm      bool
	foreground bool
}

func newDBStart(g *globals) *cobra.Command {
	var o dbOptions
	cmd := &cobra.Command{
		Use:   "start DIR [-- SBATCH-OPTION...]",
		Short: "Start the server of a directory",
		Long: `Start a PostgreSQL server on this machine, or with --slurm as a job. Every command finds it by --db DIR,
from every machine that sees the directory: DIR/server.json says where it listens and has its password, for your eyes
alone. What goes over the network is not encrypted.

The database itself must lie on a disk of the machine that serves it: --data names a directory there if DIR is on a
network disk. Two servers on one shared database would destroy it, and on such disks they cannot see each other. Every
10 minutes and at the end all studies are copied to DIR/dump.db, a file for --db like any other. A server begins with
what is newer of each study, on its --data or in dump.db, so that it may start on another machine each time: with a lost
machine, what was stored since the last copy is lost, and its trials run again.`,
		Example: "  peftsearch db start ~/peft-db --data /scratch/$USER/peft-db\n" +
			"  peftsearch db start ~/peft-db --slurm --data /tmp/peft-db -- --time=2-00:00:00 --partition=cpu",
		Args: func(cmd *cobra.Command, args []string) error {
			return cobra.ExactArgs(1)(cmd, args[:own(cmd, args)])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			switch {
			case len(args) > 1 && !o.slurm:
				return usage("", "what follows -- is for --slurm")
			case o.slurm:
				return startJob(cmd, dir, o.data, args[1:])
			case o.foreground:
				return serve(cmd.Context(), dir, o.data)
			}
			return startServer(cmd, dir, o.data)
		},
	}
	cmd.Flags().StringVar(&o.data, "data", "",
		"directory of the database itself, on a disk of the machine that serves it (default DIR/data)")
	cmd.Flags().BoolVar(&o.slurm, "slurm", false, "start it as a Slurm job; what follows -- goes to sbatch")
	cmd.Flags().BoolVar(&o.foreground, "foreground", false, "serve until a signal")
	cmd.Flags().MarkHidden("foreground")
	return cmd
}

func newDBStop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop DIR",
		Short: "Stop the server of a directory",
		Long: `Stop the server of a directory: what was stored is on disk. Searches wait for it to come back, and keep
meanwhile what is to be stored.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return stopServer(cmd.Context(), args[0]) },
	}
}

// serve runs the server of a directory until a signal.
func serve(ctx context.Context, dir, data string) error {
	data = cmp.Or(data, filepath.Join(dir, "data"))
	if err := os.MkdirAll(data, 0o711); err != nil {
		return err
	}
	kind, err := store.NetworkDisk(data)
	if err != nil {
		return err
	}
	if kind != "" && os.Getenv(store.AllowNetworkDisk) == "" {
		return environment("name a directory on a disk of this machine with --data",
			fmt.Errorf("%s lies on %s, where two servers on one database cannot see each other", data, kind))
	}
	ctx, stop := signal.NotifyContext(ctx, append(endings(), syscall.SIGUSR1)...)
	defer stop()
	return server.Run(ctx, server.Options{Dir: dir, Data: data, Host: reachableName(), Listen: "*", Log: os.Stderr})
}

// reachableName is this machine's name, or its address where the name is known to nobody.
func reachableName() string {
	if host, err := os.Hostname(); err == nil {
		if _, err := net.LookupHost(host); err == nil {
			return host
		}
	}
	addresses, _ := net.InterfaceAddrs() // none is as good as an error
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			return ip.IP.String()
		}
	}
	return "127.0.0.1"
}

// serverLog is the file in the directory that gets what the server says.
const serverLog = "server.log"

// startServer starts a process that serves, and returns when it answers.
func startServer(cmd *cobra.Command, dir, data string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, serverLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	start, err := log.Seek(0, 2)
	if err != nil {
		return err
	}
	program, err := ownPath()
	if err != nil {
		return err
	}
	serving := exec.Command(program, "db", "start", dir, "--data", data, "--foreground")
	serving.Stdout, serving.Stderr, serving.SysProcAttr = log, log, &syscall.SysProcAttr{Setsid: true}
	serving.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { // inside a job it is a process, not that job
		return strings.HasPrefix(v, "SLURM_JOB_ID=")
	})
	if err := serving.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- serving.Wait() }()
	for {
		if s, err := store.ReadServer(dir); err == nil && s.PID == serving.Process.Pid && answers(dir) {
			fmt.Fprintf(cmd.OutOrStdout(), "server  %s:%d\nlog     %s\nuse     --db %s\nstop    peftsearch db stop %[4]s\n",
				s.Host, s.Port, log.Name(), commandLine(dir))
			return nil
		}
		select {
		case <-ended:
			said, _ := os.ReadFile(log.Name())
			return environment("", fmt.Errorf("the server did not start: %s", said[min(int64(len(said)), start):]))
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// answers reports whether a directory's server does.
func answers(dir string) bool {
	db, err := store.View(dir)
	if err == nil {
		db.Close()
	}
	return err == nil || errors.Is(err, store.ErrEmpty)
}

// startJob submits the server as a job.
func startJob(cmd *cobra.Command, dir, data string, options []string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	name, err := serverJob(dir)
	if err != nil {
		return err
	}
	program, err := ownPath()
	if err != nil {
		return err
	}
	words := []string{program, "db", "start", dir, "--foreground"}
	if data != "" {
		words = append(words, "--data", data)
	}
	script := filepath.Join(dir, "server.sh")
	service := slurm.Service{Name: name, Log: filepath.Join(dir, serverLog),
		Command: commandLine(words...)}
	if err := os.WriteFile(script, []byte(service.Script()), 0o700); err != nil {
		return err
	}
	job, err := slurm.Submit(cmd.Context(), script, options...)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), `job     %s
log     %s
use     --db %s, when the job runs: searches wait for it
status  peftsearch db status %[3]s
stop    peftsearch db stop %[3]s
`, job, service.Log, commandLine(dir))
	return nil
}

// stopPatience is how long a server may take to copy its studies and to end.
const stopPatience = 2 * time.Minute

func stopServer(ctx context.Context, dir string) error {
	s, err := store.ReadServer(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return usage("peftsearch db start "+commandLine(dir), "no server runs for %s", dir)
	}
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	switch {
	case err != nil:
		return err
	case s.Job != "":
		// Unlike a plain scancel, after which Slurm kills what is left, this gives the last copy the time that it takes.
		said, err := exec.CommandContext(ctx, "scancel", "--batch", "--signal=USR1", s.Job).CombinedOutput()
		if err != nil {
			return environment("", fmt.Errorf("scancel --batch --signal=USR1 %s: %w: %s", s.Job, err, said))
		}
	case s.Machine != host:
		return usage("peftsearch db stop there", "the server of %s runs on %s", dir, s.Machine)
	default:
		err := syscall.Kill(s.PID, syscall.SIGTERM)
		if errors.Is(err, syscall.ESRCH) {
			return os.Remove(filepath.Join(dir, store.ServerFile)) // it was killed
		}
		if err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(stopPatience); ; time.Sleep(50 * time.Millisecond) {
		if now, err := store.ReadServer(dir); errors.Is(err, fs.ErrNotExist) || err == nil && now != s {
			return nil
		}
		if time.Now().After(deadline) {
			return environment("see "+filepath.Join(dir, serverLog),
				fmt.Errorf("the server has not ended for %s", stopPatience))
		}
	}
}
