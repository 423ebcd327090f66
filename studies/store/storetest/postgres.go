package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"peftsearch/studies/server"
)

// throwaway is the server of the test binary, which ends with it.
var throwaway = sync.OnceValues(func() (*server.Server, error) {
	dir, err := os.MkdirTemp("", "peftsearch-test-")
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil { // the server may run as another user
		return nil, err
	}
	s, err := server.Start(context.Background(), server.Options{Dir: dir, Data: filepath.Join(dir, "data"),
		Host: "127.0.0.1", Listen: "127.0.0.1", Settings: []string{"fsync=off", "shared_buffers=16MB"}, Log: log})
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	// The directory goes when this process does.
	janitor := exec.Command("sh", "-c", `cat; while kill -0 "$1"; do sleep 0.1; done; rm -rf "$0"`, dir,
		strconv.Itoa(s.Process()))
	if _, err := janitor.StdinPipe(); err != nil {
		return nil, err
	}
	return s, janitor.Start()
})

var schemas atomic.Int64

// Postgres makes a database on a throw-away PostgreSQL server, and returns its address. It skips the test where
// PostgreSQL is not installed.
func Postgres(t testing.TB) (address string) {
	t.Helper()
	if _, err := server.Binaries(); err != nil {
		t.Skip(err)
	}
	s, err := throwaway()
	if err != nil {
		t.Fatal(err)
	}
	// The password is known to processes that the tests start, too.
	os.Setenv("PGPASSWORD", s.Password)
	at := url.URL{Scheme: "postgres", User: url.User(s.User), Host: net.JoinHostPort(s.Host, strconv.Itoa(s.Port)),
		Path: s.Database}
	db, err := sql.Open("pgx", at.String())
	if err != nil {
		t.Fatal(err)
	}
	schema := fmt.Sprintf("test_%d", schemas.Add(1))
	if _, err := db.Exec("CREATE SCHEMA " + schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.Exec("DROP SCHEMA " + schema + " CASCADE"); err != nil {
			t.Error(err)
		}
		db.Close()
	})
	at.RawQuery = "search_path=" + schema
	return at.String()
}
