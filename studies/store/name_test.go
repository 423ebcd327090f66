package store_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"peftsearch/studies/store"
)

// spellings are how people write an address with a password, with places for the password and the host: as PostgreSQL
// means it, as other programs do, and misspelt.
var spellings = []string{
	"postgres://ada:%[1]s@%[2]s/peft", "postgresql://ada:%[1]s@%[2]s:5432/peft?sslmode=disable",
	"postgres://:%[1]s@%[2]s", "postgres://ada:%[1]s", "postgres://ada:%[1]s:", "postgres://ada:5%[1]s:5",
	"postgres://%[2]s/peft?user=ada&password=%[1]s", "postgres://%[2]s/peft?pass%%77ord=%[1]s",
	"postgres://ada@%[2]s/peft?sslpassword=%[1]s", "postgres://ada%%3A%[1]s@%[2]s/peft",
	"postgres://ada:%[1]s@%[2]s:54 32/peft", "postgres://ada:%[1]s@%[2]s/peft?x=%%zz",
	"postgres://ada:5/%[1]s@%[2]s/peft", "postgres://ada:5?%[1]s@%[2]s/peft", "postgres://ada:#%[1]s@%[2]s/peft",
	"postgres://ada@%[2]s/peft?sslmode=disable;password=%[1]s", "postgres://ada@%[2]s/peft password=%[1]s",
	"postgres://ada@%[2]s/peft?options=PWD=%[1]s", "postgres://ada@%[2]s/peft#password=%[1]s",
	"POSTGRES://ada:%[1]s@%[2]s/peft", " postgres://ada:%[1]s@%[2]s/peft", "'postgres://ada:%[1]s@%[2]s/peft'",
	"postgres:/ada:%[1]s@%[2]s/peft", "postgres:ada:%[1]s", "postgresql//ada:%[1]s@%[2]s/peft", "//ada:%[1]s@%[2]s/peft",
	"postgresql+psycopg2://ada:%[1]s@%[2]s/peft", "jdbc:postgresql://%[2]s/peft?user=ada&password=%[1]s",
	"mysql://ada:%[1]s@%[2]s/peft", "ada:%[1]s@%[2]s/peft", "ada:%[1]s@%[2]s:5432",
	"host=%[2]s user=ada password=%[1]s dbname=peft", "host=%[2]s user=ada password = '%[1]s'", "password=%[1]s",
	"dbname=peft\nPASSWORD=%[1]s", "Server=%[2]s;Database=peft;Uid=ada;Pwd=%[1]s;", "hostaddr=%[2]s,passwd=%[1]s",
}

// No error shows a password, however the address is spelt that has it, and no file of such a name is made.
func FuzzPasswords(f *testing.F) {
	for i := range spellings {
		for _, password := range []string{"", "p@ss", "a/b", "a?b#c", "%zz", "a:b", "it's", "two words", "a&b=c", "\n"} {
			f.Add(i, password, "db.example.org")
		}
	}
	f.Fuzz(func(t *testing.T, spelling int, password, host string) {
		const secret = "sEcReT"
		name := fmt.Sprintf(spellings[max(0, spelling)%len(spellings)], secret+password+secret, host)
		_, openErr := store.Open(name)
		_, viewErr := store.View(name)
		for _, err := range []error{store.CheckName(name), openErr, viewErr} {
			if err == nil {
				t.Fatalf("%q is taken", name)
			}
			var known *store.Error
			if errors.As(err, &known) && strings.Contains(known.Advice+known.Path, secret) ||
				strings.Contains(err.Error(), secret) {
				t.Fatalf("%q: %v", name, err)
			}
		}
		if _, err := os.Lstat(name); err == nil {
			t.Fatalf("%q was made", name)
		}
	})
}

func TestNamesWithoutAPassword(t *testing.T) {
	for _, name := range []string{"postgres://u@h/d", "postgres://u@h:5432/d?search_path=ada&sslmode=verify-full",
		"postgresql://ada@a:1,b:2/peft?target_session_attrs=read-write", "postgres:///peft?host=/tmp", "studies.db",
		"./a:b@c.db", "../user=ada.db", "/scratch/job:3@node/studies.db", "lr=1e-3.db", "run@2.db", "postgres/x.db",
		"12:30.db", "a b.db"} {
		if err := store.CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"a:b@c.db", "user=ada.db", "https://h/d", "sqlite:///studies.db"} {
		if err := store.CheckName(name); !errors.Is(err, store.ErrPath) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
