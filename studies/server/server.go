// Package server runs a private PostgreSQL server for people who have none.
package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"peftsearch/studies/store"
)

// ErrNotInstalled is the error of a machine without PostgreSQL.
var ErrNotInstalled = errors.New("PostgreSQL is not installed here: neither PATH, nor PEFTSEARCH_POSTGRES, nor the " +
	"usual places have initdb and postgres")

// Options says how a server runs.
type Options struct {
	Dir      string   // gets the description of the server, which store.Open reads
	Data     string   // the database's own directory, on a disk of this machine
	Host     string   // the name or address by which others reach it
	Listen   string   // addresses of this machine, as PostgreSQL's listen_addresses
	Settings []string // more settings of PostgreSQL, as name=value
	Log      *os.File // what the server says
	// Prepare is called, with a name for store.Open, before anybody else can find the server. Nil does nothing.
	Prepare func(ctx context.Context, name string) error
}

// Server is a running PostgreSQL server. It ends with this process, whatever becomes of that.
type Server struct {
	store.Server
	dir   string
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // of the process; after ended
}

// userName is the server's only user, and owns everything in it; database is the only database for studies.
const (
	userName = "peftsearch"
	database = "postgres"
)

// Start starts a server, makes its database if there is none, and returns when it answers.
func Start(ctx context.Context, o Options) (*Server, error) {
	bin, err := Binaries()
	if err != nil {
		return nil, err
	}
	as, err := unprivileged()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{o.Dir, o.Data} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
	}
	if as != nil {
		if err := os.Chown(o.Data, int(as.Uid), int(as.Gid)); err != nil {
			return nil, err
		}
	}
	password, err := initialise(ctx, bin, o.Data, as)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	machine, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	s := &Server{dir: o.Dir, ended: make(chan struct{}), Server: store.Server{Host: o.Host, Port: port, User: userName,
		Password: password, Database: database, Machine: machine, PID: os.Getpid(), Job: os.Getenv("SLURM_JOB_ID")}}
	arguments := []string{"-D", o.Data, "-c", "listen_addresses=" + o.Listen, "-c", fmt.Sprintf("port=%d", port),
		"-c", "unix_socket_directories=", "-c", "max_connections=500"}
	for _, setting := range o.Settings {
		arguments = append(arguments, "-c", setting)
	}
	s.cmd = exec.Command(filepath.Join(bin, "postgres"), arguments...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = o.Data, o.Log, o.Log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the server ends with the thread that started it
		err := s.cmd.Start()
		started <- err
		if err == nil {
			s.err = s.cmd.Wait()
		}
		close(s.ended)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	if err := s.publish(ctx, o.Prepare); err != nil {
		s.Kill()
		return nil, err
	}
	return s, nil
}

// publish waits until the server answers and is prepared, and then tells others where it is.
func (s *Server) publish(ctx context.Context, prepare func(ctx context.Context, name string) error) (err error) {
	private, err := os.MkdirTemp(s.dir, ".starting-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(private)) }()
	if err := errors.Join(s.describe(private), s.answers(ctx, private)); err != nil {
		return err
	}
	if prepare != nil {
		if err := prepare(ctx, private); err != nil {
			return err
		}
	}
	return s.describe(s.dir)
}

// initialise makes the database's own files if there are none. It returns the user's password, which stands in a
// file beside them.
func initialise(ctx context.Context, bin, data string, as *syscall.Credential) (password string, err error) {
	secret := filepath.Join(data, "peftsearch-password")
	known, err := os.ReadFile(secret)
	if err == nil {
		return string(known), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	entries, err := os.ReadDir(data)
	if err != nil || len(entries) > 0 {
		return "", errors.Join(err, fmt.Errorf("%s is not empty, and is no database of peftsearch db", data))
	}
	password = rand.Text()
	file, err := os.CreateTemp("", "peftsearch-db-*") // which only its owner may read
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(password + "\n")
	if as != nil {
		err = errors.Join(err, file.Chown(int(as.Uid), int(as.Gid)))
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", userName, "--pwfile", file.Name(),
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C")
	cmd.Dir = data
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w: %s", err, said)
	}
	hosts, err := os.OpenFile(filepath.Join(data, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	_, err = hosts.WriteString("host all all all scram-sha-256\n")
	return password, errors.Join(err, hosts.Close(), os.WriteFile(secret, []byte(password), 0o600))
}

// unprivileged is the user that runs the server: the calling one (nil), or for root, which PostgreSQL refuses, one
// that may do nothing else.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
}

// Binaries is the directory of PostgreSQL's programs, of the newest version.
func Binaries() (string, error) {
	candidates := []string{os.Getenv("PEFTSEARCH_POSTGRES")}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"} {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		slices.SortFunc(found, byVersion)
		slices.Reverse(found)
		candidates = append(candidates, found...)
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			candidates = append(candidates, filepath.Dir(path))
		}
	}
	for _, dir := range candidates {
		if dir == "" {
			continue
		}
		_, err := os.Stat(filepath.Join(dir, "initdb"))
		if _, serverErr := os.Stat(filepath.Join(dir, "postgres")); err == nil && serverErr == nil {
			return dir, nil
		}
	}
	return "", ErrNotInstalled
}

// byVersion compares paths that differ in a number: 9 comes before 15.
func byVersion(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	if a < b {
		return -1
	}
	return 1
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// answerTime is how long a server may take to answer: after a crash it repeats what it had written last.
const answerTime = 2 * time.Minute

// answers waits until the server does.
func (s *Server) answers(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for {
		db, err := store.View(name)
		if err == nil {
			return db.Close()
		}
		if !store.IsBusy(err) { // it answers; there is no study yet
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("the PostgreSQL server ended at its start: %w", s.err)
		case <-ctx.Done():
			return fmt.Errorf("the PostgreSQL server does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// describe writes the description of the server into a directory, where others read it whole or not at all.
func (s *Server) describe(dir string) error {
	content, err := json.MarshalIndent(s.Server, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+store.ServerFile+"-*") // which only the owner may read
	if err != nil {
		return err
	}
	_, err = f.Write(append(content, '\n'))
	return errors.Join(err, f.Sync(), f.Close(), os.Rename(f.Name(), filepath.Join(dir, store.ServerFile)))
}

// Ended is closed when the server has ended.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// Stop ends the server; it disconnects its clients. What was committed is on disk.
func (s *Server) Stop() error { return errors.Join(s.halt(), s.forget()) }

func (s *Server) halt() error {
	s.cmd.Process.Signal(syscall.SIGINT) // it may have ended
	<-s.ended
	return s.err
}

// Kill ends the server as a crash does.
func (s *Server) Kill() {
	s.cmd.Process.Signal(syscall.SIGQUIT) // it may have ended
	<-s.ended
}

// forget removes the description, unless it is another server's by now.
func (s *Server) forget() error {
	if now, err := store.ReadServer(s.dir); err != nil || now != s.Server {
		return err
	}
	return os.Remove(filepath.Join(s.dir, store.ServerFile))
}

// Process is the id of the server's process.
func (s *Server) Process() int { return s.cmd.Process.Pid }
