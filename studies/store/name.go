package store

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
)

const passwordAdvice = "put the password in ~/.pgpass, as HOST:PORT:DATABASE:USER:PASSWORD with chmod 0600, " +
	"or in PGPASSWORD"

// IsServer reports whether a database's name is of one on a PostgreSQL server: its address, or the directory of a
// private one. All others are files.
func IsServer(name string) bool {
	info, err := os.Stat(name)
	return isAddress(name) || err == nil && info.IsDir()
}

func isAddress(name string) bool {
	return strings.HasPrefix(name, "postgres://") || strings.HasPrefix(name, "postgresql://")
}

const host = `(\[[^\]]*\]|[^:,\[\]]*)(:\d{1,5})?`

var (
	// passwordKey is where a password follows.
	passwordKey = regexp.MustCompile(`(?i)(password|passwd|pwd)\s*=`)
	// hosts are those of an address, with ports.
	hosts = regexp.MustCompile("^" + host + "(," + host + ")*$")
	// addressLike is what the name of a file has that means a server in a spelling which is not the address of one:
	// another scheme or a misspelt one, a user with a password, or keywords and values.
	addressLike = regexp.MustCompile(`(?is)://|^\W*postgres\w*:|:.*@|` +
		`(^|[\s;?&])(host|hostaddr|port|dbname|database|user|username|uid|service)\s*=`)
)

// CheckName refuses a name that holds a password: other users can read it in the list of processes, and it would
// stand in logs and scripts. It also refuses what looks like an address and is none, since a password in it cannot be
// told from the rest; the error then wraps ErrPath. No error shows any part of such a name.
func CheckName(name string) error {
	if !isAddress(name) {
		local := strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../") ||
			strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "//")
		if passwordKey.MatchString(name) || !local && addressLike.MatchString(name) {
			return fmt.Errorf("%w: this name is neither, but looks like an address", ErrPath)
		}
		return nil
	}
	malformed := fmt.Errorf("%w: it is no address of the form postgres://USER@HOST:PORT/DATABASE", ErrPath)
	address, err := url.Parse(name) // the error has the name's text
	if err != nil {
		return malformed
	}
	options, err := url.ParseQuery(address.RawQuery)
	if err != nil || !hosts.MatchString(address.Host) || address.Fragment != "" ||
		strings.Contains(address.Path+address.RawQuery, "@") {
		return malformed // a / or ? or # of a password may have ended the part that has it
	}
	_, password := address.User.Password()
	password = password || strings.Contains(address.User.Username(), ":") || passwordKey.MatchString(address.Path)
	for key, values := range options {
		password = password || strings.Contains(strings.ToLower(key), "password") ||
			passwordKey.MatchString(strings.Join(values, " "))
	}
	if password {
		return &Error{Doing: "opening", Path: address.Scheme + "://…",
			Err: errors.New("its address has a password, which others could read"), Advice: passwordAdvice}
	}
	return nil
}
