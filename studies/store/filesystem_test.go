package store

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNetworkDisksAreKnown(t *testing.T) {
	for kind, want := range map[uint32]string{ // of statfs(2) where it names them
		0x6969: "nfs", 0x517b: "smb", 0xff534d42: "cifs", 0xfe534d42: "smb2", 0x0bd00bd0: "lustre",
		0x47504653: "gpfs", 0x19830326: "beegfs",
		0x00c36400: "ceph", 0x5346414f: "afs", 0x01021997: "9p", 0x7461636f: "ocfs2", 0x65735546: "fuse",
		unix.EXT4_SUPER_MAGIC: "", unix.TMPFS_MAGIC: "", unix.XFS_SUPER_MAGIC: "", unix.BTRFS_SUPER_MAGIC: "",
		unix.OVERLAYFS_SUPER_MAGIC: "", 0x2fc12fc1: "", // zfs
	} {
		if got := networkDisks[kind]; got != want {
			t.Errorf("%x: %q, want %q", kind, got, want)
		}
	}
}

func TestTheMountOfAPathIsFound(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(dir, "my disk", "x")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(inside, link); err != nil {
		t.Fatal(err)
	}
	table := `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:40 / ` + dir + `/my rw - fuse.sshfs host: rw
24 22 0:41 / ` + dir + `/my\040disk rw shared:2 master:3 - fuseblk /dev/sdb1 rw
25 22 0:42 / ` + dir + `/my\040disk/x/y rw - nfs host:/ rw
`
	for path, want := range map[string]string{inside: "fuseblk", link: "fuseblk", dir: "ext4", "/": "ext4"} {
		if got, err := mountedType(path, bufio.NewScanner(strings.NewReader(table))); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
	// The system's own table names the disk of a path as statfs does.
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Skip(err)
	}
	defer file.Close()
	if kind, err := mountedType("/proc", bufio.NewScanner(file)); err != nil || kind != "proc" {
		t.Errorf("/proc is %q, %v", kind, err)
	}
}

func TestNetworkDisksAreRefused(t *testing.T) {
	name := networkDisks[unix.TMPFS_MAGIC]
	defer func() {
		if delete(networkDisks, unix.TMPFS_MAGIC); name != "" {
			t.Error("tmpfs is a network disk")
		}
	}()
	networkDisks[unix.TMPFS_MAGIC] = "nfs" // as if
	dir, err := os.MkdirTemp("/dev/shm", "peftsearch-test-")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(dir)
	if kind, err := NetworkDisk(dir); err != nil || kind != "nfs" {
		t.Skipf("/dev/shm is no tmpfs: %q, %v", kind, err)
	}
	path := filepath.Join(dir, "x.db")
	_, err = Open(path)
	if err == nil || !strings.Contains(err.Error(), "it lies on nfs, where SQLite's locks cannot be trusted") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("it is made all the same")
	}
	t.Setenv(AllowNetworkDisk, "1")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Ensure(t.Context(), &Record{Name: "s"}); err != nil {
		t.Fatal(err)
	}
	os.Unsetenv(AllowNetworkDisk)
	v, err := View(path) // beside a -wal file it reads a copy
	if err != nil {
		t.Fatal(err)
	}
	if all, err := v.Studies(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%d studies, %v", len(all), err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
