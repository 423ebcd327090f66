package store

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// networkDisks are the file systems on which SQLite's locks cannot be trusted, by the type that statfs reports.
// Source: linux/magic.h, and the headers of the file systems that are no part of Linux.
var networkDisks = map[uint32]string{
	unix.NFS_SUPER_MAGIC:   "nfs",
	unix.SMB_SUPER_MAGIC:   "smb",
	unix.CIFS_SUPER_MAGIC:  "cifs",
	unix.SMB2_SUPER_MAGIC:  "smb2",
	unix.CEPH_SUPER_MAGIC:  "ceph",
	unix.AFS_SUPER_MAGIC:   "afs",
	unix.AFS_FS_MAGIC:      "afs",
	unix.CODA_SUPER_MAGIC:  "coda",
	unix.V9FS_MAGIC:        "9p",
	unix.OCFS2_SUPER_MAGIC: "ocfs2",
	unix.FUSE_SUPER_MAGIC:  "fuse",
	0x0BD00BD0:             "lustre",
	0x47504653:             "gpfs",
	0x19830326:             "beegfs",
	0x01161970:             "gfs2",
	0xAAD7AAEA:             "panfs",
	0x20030528:             "orangefs",
}

// localFuse are the disks of this machine among those that a program serves, as the table of mounts names them.
var localFuse = []string{"fuseblk", "fuse.fuse-overlayfs", "fuse.ntfs-3g"}

// AllowNetworkDisk is the environment variable that, when it is not empty, lets a database be written on a network
// file system. It is for one machine at a time, with a file system that is known to keep POSIX locks.
const AllowNetworkDisk = "PEFTSEARCH_ALLOW_NETWORK_DISK"

// localDisk refuses a file or directory on a network file system.
func localDisk(path string) error {
	name, err := NetworkDisk(path)
	if err != nil || name == "" || os.Getenv(AllowNetworkDisk) != "" {
		return err
	}
	return &Error{Doing: "opening", Err: fmt.Errorf("it lies on %s, where SQLite's locks cannot be trusted", name),
		Advice: "--db on a local disk of the machine that searches; copy the file here when no search runs"}
}

// NetworkDisk names the network file system of a file, "" if it is on none.
func NetworkDisk(path string) (string, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(path, &stat); err != nil {
		return "", &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	kind := uint32(stat.Type)
	name := networkDisks[kind]
	if kind != unix.FUSE_SUPER_MAGIC { // which stands for everything that a program serves
		return name, nil
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return name, nil
	}
	defer mounts.Close()
	if mounted, err := mountedType(path, bufio.NewScanner(mounts)); err == nil {
		name = mounted
	}
	if slices.Contains(localFuse, name) {
		return "", nil
	}
	return name, nil
}

// mountedType finds the type of the mount that holds a path, in the format of /proc/self/mountinfo.
func mountedType(path string, mounts *bufio.Scanner) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	found, longest := "", -1
	for mounts.Scan() {
		before, after, ok := strings.Cut(mounts.Text(), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) < 1 {
			continue
		}
		point := unescape.Replace(fields[4])
		inside := real == point || strings.HasPrefix(real, strings.TrimSuffix(point, "/")+"/")
		if inside && len(point) >= longest { // of two on one point the later one counts
			found, longest = kind[0], len(point)
		}
	}
	if found == "" {
		return "", errors.Join(mounts.Err(), fmt.Errorf("no mount holds %s", path))
	}
	return found, nil
}
