package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sys/unix"
)

const (
	connections = 2                // of a Store: one writes, one reads
	idleTime    = 30 * time.Second // after which an unused connection is closed
	deadTime    = 30 * time.Second // without an answer of the server's machine: the connection is lost
)

// ServerFile is the name of the file in a directory that describes the private server whose studies --db DIR means.
const ServerFile = "server.json"

// Server is where a private PostgreSQL server listens.
type Server struct {
	Host     string `json:"host"`
	Port     int    `json:"port"`
	User     string `json:"user"`
	Password string `json:"password"`
	Database string `json:"database"`
	Machine  string `json:"machine"`       // by its own name
	PID      int    `json:"pid"`           // of the peftsearch that runs it, on its host
	Job      string `json:"job,omitempty"` // of Slurm that it runs in
}

// ReadServer reads the description of a directory's private server.
func ReadServer(dir string) (s Server, err error) {
	path := filepath.Join(dir, ServerFile)
	info, err := os.Stat(path)
	if err != nil {
		return s, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return s, &Error{Doing: "opening", Path: dir, Err: fmt.Errorf("others may read the password in %s", path),
			Advice: "chmod 600 " + path}
	}
	content, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(content, &s)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// server is how a database on a server is reached.
func server(name string) (*pgx.ConnConfig, error) {
	address, password := name, ""
	if !isAddress(name) {
		s, err := ReadServer(name)
		if errors.Is(err, os.ErrNotExist) {
			return nil, &Error{Doing: "opening", Err: fmt.Errorf("it is a directory without a %s", ServerFile), Busy: true,
				Advice: "peftsearch db start " + name + " starts a server there; for a file, name it with --db"}
		}
		if err != nil {
			return nil, err
		}
		at := url.URL{Scheme: "postgres", User: url.User(s.User), Host: net.JoinHostPort(s.Host, strconv.Itoa(s.Port)),
			Path: s.Database, RawQuery: "sslmode=disable"}
		address, password = at.String(), s.Password
	}
	c, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	if password != "" {
		c.Password = password
	}
	for key, value := range map[string]string{"application_name": "peftsearch",
		// A process that was stopped in the middle of a transaction holds up the others no longer than that.
		"lock_timeout": "10s", "idle_in_transaction_session_timeout": "60s"} {
		c.RuntimeParams[key] = cmp.Or(c.RuntimeParams[key], value)
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = busyTime
	}
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadTime.Milliseconds()))
		})
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOPROTOOPT) { // a socket file
			err = nil
		}
		return cmp.Or(err, controlErr)
	}}
	c.DialFunc = dialer.DialContext
	return c, nil
}

// openServer opens a database on a server. view says for reading only.
func openServer(name string, view bool) (*Store, error) {
	s := &Store{LeaseTime: leaseTime, path: name, dialect: postgres, readOnly: view, unsure: map[string]bool{}}
	c, err := server(name)
	if err != nil {
		return nil, s.problem("opening", err)
	}
	again := func(_ context.Context, at *pgx.ConnConfig) error {
		now, err := server(name)
		if err == nil {
			at.Host, at.Port, at.Password = now.Host, now.Port, now.Password
		}
		return err
	}
	var options []stdlib.OptionOpenDB
	if !isAddress(name) { // a private server may start again elsewhere
		options = append(options, stdlib.OptionBeforeConnect(again))
	}
	s.db = sql.OpenDB(stdlib.GetConnector(*c, options...))
	s.db.SetMaxOpenConns(connections)
	s.db.SetMaxIdleConns(connections)
	s.db.SetConnMaxIdleTime(idleTime)
	if err := s.latest(context.Background(), view); err != nil {
		return nil, errors.Join(s.problem("opening", err), s.db.Close())
	}
	return s, nil
}

// latest brings the schema up to date, or of a viewer refuses one that is not. Of many processes that start at once
// one does it, and the others wait: for longer than for a lock while a search runs.
func (s *Store) latest(ctx context.Context, view bool) error {
	for start := time.Now(); ; {
		version := 0
		err := s.dialect.moment(ctx, s.db, func(q querier) (err error) {
			version, err = s.dialect.version(ctx, q)
			return err
		})
		switch {
		case err != nil || version == schemaVersion:
			return err
		case view && version == 0:
			return empty()
		case view:
			return &Error{Doing: "opening", Err: errOld, Advice: "peftsearch run STUDY.yaml brings it up to date"}
		}
		var waited *pgconn.PgError
		err = s.migrate(ctx, true)
		if !errors.As(err, &waited) || waited.Code != lockTimeout || time.Since(start) > patience {
			return err
		}
	}
}
