package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/internal/daemontest"
)

// refused runs a client command that must fail with exit code 1 and one line that says text.
func (d *daemon) refused(text string, args ...string) {
	d.T.Helper()
	_, err := d.TryCLI(args...)
	if err == nil {
		d.T.Fatalf("devlxd %.80q succeeded; want it to be refused", args)
	}
	if msg := err.Error(); !strings.HasPrefix(msg, "exit status 1: ") || strings.Count(msg, "\n") != 1 || !strings.Contains(msg, text) {
		d.T.Errorf("devlxd %.80q: %s; want exit status 1 and one line with %q", args, msg, text)
	}
}

// fill takes up the rest of a file system, and returns the file to be removed.
func fill(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return path
}

// big is a value that does not fit into free pages of the state file.
func big(c string) string { return "user.big=" + strings.Repeat(c, 100_000) }

// TestDiskFull: the disk of the state directory is full. A change is refused whole, guests are served what was acknowledged, after SIGKILL on the
// full disk as well, and the next change after there is space succeeds.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, launch{})
	mountTmpfs(t, d.StateDir, 2<<20)
	d.Start()
	g := d.guest(d.Bound("web", "user.a=1"))
	d.wantNoFault()
	ballast := fill(t, d.StateDir)
	const advice = "no space left on device; free some space and try again"
	d.refused(advice, "config", "set", "web", big("x"), "user.a=2")
	d.wantHeld("state_full", "free some space for the state directory")
	for range 3 {
		d.refused(advice, "config", "set", "web", big("x"), "user.a=2")
	}
	d.refused(advice, "device", "add", "web", "eth0", "nic", big("y")[:60_000])
	if got := d.total("state_full"); got != 1 || len(d.lines("state_full")) != 1 {
		t.Errorf("entered %v times, %d lines in the log; want one", got, len(d.lines("state_full")))
	}
	g.wantConfig("user.a", "1")
	if got := g.get("/1.0/config/user.big"); !strings.HasPrefix(got, "404 ") {
		t.Errorf("a change that was refused is shown: %.80q", got)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	d.CLI("config", "set", "web", big("x"), "user.a=3")
	d.wantPassed("state_full", "changes are written again")
	g.wantConfig("user.a", "3")

	ballast = fill(t, d.StateDir)
	d.refused(advice, "config", "set", "web", big("z"), "user.a=4", "user.more="+strings.Repeat("z", 100_000))
	d.Kill()
	d.Start()
	g.wantConfig("user.a", "3") // bound again, too
	g.wantConfig("user.big", strings.TrimPrefix(big("x"), "user.big="))
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	d.CLI("config", "set", "web", "user.a=5")
	d.Stop()
	d.Start()
	g.wantConfig("user.a", "5")
}

// tarball is the beginning of an image file of some size.
func tarball(t *testing.T, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar.gz")
	if err := os.WriteFile(path, append([]byte("\x1f\x8b"), bytes.Repeat([]byte("i"), size-2)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantImages checks what is in the images directory, as the daemon sees it.
func (d *daemon) wantImages(n int) {
	d.T.Helper()
	d.within(func() error {
		files, err := os.ReadDir(filepath.Join(d.StateDir, "images"))
		if err == nil && len(files) != n {
			err = fmt.Errorf("%d files in the images directory; want %d: %v", len(files), n, files)
		}
		return err
	})
}

// TestImageImportFails: an image does not fit on the disk, or its directory is read-only. Nothing of it is left, changes of the configuration go
// on, and the next import succeeds.
func TestImageImportFails(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, launch{})
	mountTmpfs(t, d.StateDir, 2<<20)
	d.Start()
	g := d.guest(d.Bound("web", "user.a=1"))
	small, large := tarball(t, 10_000), tarball(t, 4<<20)
	d.refused("no space left on device; free some space and try again", "image", "import", large)
	d.wantHeld("images_full", "free some space for the state directory")
	d.wantImages(0)
	d.CLI("config", "set", "web", "user.a=2")
	g.wantConfig("user.a", "2")
	d.CLI("image", "import", small)
	d.wantPassed("images_full", "images are received again")
	d.wantImages(1)

	images := filepath.Join(d.StateDir, "images")
	d.within(func() error {
		if err := unix.Mount(images, images, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return unix.Mount("", images, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	})
	other := tarball(t, 20_000)
	d.refused("read-only file system; remount the file system writable and try again", "image", "import", other)
	d.wantHeld("images_read_only", "remount the state directory writable")
	d.CLI("config", "set", "web", "user.a=3")
	g.wantConfig("user.a", "3")
	d.within(func() error { return unix.Unmount(images, unix.MNT_DETACH) })
	d.CLI("image", "import", other)
	d.wantPassed("images_read_only", "images are received again")
	d.wantImages(2)
}

// immutable sets or clears the attribute of chattr +i.
func immutable(path string, on bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	if flags &^= unix.STATX_ATTR_IMMUTABLE; on { // FS_IMMUTABLE_FL has the same value
		flags |= unix.STATX_ATTR_IMMUTABLE
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
}

// immutableHolds finds out whether the attribute keeps a file that is open already from being written.
func immutableHolds(t *testing.T, dir string) bool {
	t.Helper()
	f, err := os.CreateTemp(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if err := immutable(f.Name(), true); err != nil {
		return false
	}
	_, err = f.Write([]byte("x"))
	return err != nil && immutable(f.Name(), false) == nil
}

// TestStateImmutable: somebody sets chattr +i on the state file of the running daemon.
func TestStateImmutable(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, launch{})
	need(t, immutableHolds(t, filepath.Dir(d.StateDir)), "a file system for TMPDIR, such as ext4, where chattr +i keeps an open file from being written")
	d.Start()
	g := d.guest(d.Bound("web", "user.a=1"))
	state := filepath.Join(d.StateDir, "state.db")
	t.Cleanup(func() { _ = immutable(state, false) })
	if err := immutable(state, true); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d.refused("operation not permitted; run devlxd as the owner of the state directory, and take chattr +i off", "config", "set", "web", "user.a=2", big("x"))
	}
	d.wantHeld("state_denied", "chattr")
	g.wantConfig("user.a", "1")
	if err := immutable(state, false); err != nil {
		t.Fatal(err)
	}
	d.CLI("config", "set", "web", "user.a=3")
	d.wantPassed("state_denied", "changes are written again")
	g.wantConfig("user.a", "3")
}

// TestStateFileFails: the kernel answers each step of a commit with an error, as it does when a file system was remounted read-only for damage, a quota
// is reached, or the disk is ill. What failed was not done, and the next change is.
func TestStateFileFails(t *testing.T) {
	t.Parallel()
	d, v := serveFiltered(t, unix.SYS_PWRITE64, unix.SYS_FTRUNCATE, unix.SYS_FDATASYNC, unix.SYS_FSYNC)
	g := d.guest(d.Bound("web", "user.a=0"))
	state := d.descriptors(filepath.Join(d.StateDir, "state.db"))
	n := 0
	for _, tc := range []struct {
		name          string
		nr            uintptr
		errno         syscall.Errno
		fault, advice string
	}{
		{"grow, denied", unix.SYS_FTRUNCATE, unix.EPERM, "state_denied", "take chattr +i off"},
		{"write, read-only", unix.SYS_PWRITE64, unix.EROFS, "state_read_only", "remount the file system writable and try again"},
		{"sync, disk error", unix.SYS_FDATASYNC, unix.EIO, "state_error", "check the disk that holds the state directory"},
		{"write, quota", unix.SYS_PWRITE64, unix.EDQUOT, "state_full", "free some space and try again"},
	} {
		v.fail(tc.errno, func(nr uintptr, fd int) bool { return nr == tc.nr && state[fd] })
		change := func(a any) []string {
			args := []string{"config", "set", "web", fmt.Sprint("user.a=", a)}
			for i := range 8 { // at first the file has to grow for it
				args = append(args, fmt.Sprintf("user.v%d=%s", i, strings.Repeat(fmt.Sprint(n), 100_000)))
			}
			return args
		}
		for range 2 {
			d.refused(tc.advice, change("lost")...)
		}
		d.wantHeld(tc.fault, "changes are refused")
		g.wantConfig("user.a", fmt.Sprint(n))
		if v.mend() == 0 {
			t.Errorf("%s: no system call failed", tc.name)
		}
		n++
		d.CLI(change(n)...)
		d.wantPassed(tc.fault, "changes are written again")
		g.wantConfig("user.a", fmt.Sprint(n))
	}
	d.Kill()
	d.Change = nil
	d.Start()
	g.wantConfig("user.a", fmt.Sprint(n))
}

// TestCommitUnconfirmed: the last sync of a commit fails, so that nobody knows what the disk holds. The store writes no more, guests are served what
// was acknowledged, and a restart reads either what was before or the change, and goes on.
func TestCommitUnconfirmed(t *testing.T) {
	t.Parallel()
	d, v := serveFiltered(t, unix.SYS_FDATASYNC)
	g := d.guest(d.Bound("web", "user.a=1"))
	state := d.descriptors(filepath.Join(d.StateDir, "state.db"))
	var syncs atomic.Int32
	v.fail(unix.EIO, func(_ uintptr, fd int) bool { return state[fd] && syncs.Add(1) == 2 })
	d.refused("restart devlxd", "config", "set", "web", "user.a=2")
	v.mend()
	d.wantHeld("state_stopped", "restart devlxd")
	d.refused("restart devlxd", "config", "set", "web", "user.a=3")
	g.wantConfig("user.a", "1")
	d.Stop()
	d.Change = nil
	d.Start()
	if got := g.get("/1.0/config/user.a"); got != "200 1" && got != "200 2" {
		t.Errorf("after a restart user.a is %q", got)
	}
	d.CLI("config", "set", "web", "user.a=4")
	g.wantConfig("user.a", "4")
}

// TestStartOnReadOnlyDisk: a daemon that could not keep what it acknowledges does not start, and says in one line why.
func TestStartOnReadOnlyDisk(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, launch{})
	mountTmpfs(t, d.StateDir, 2<<20)
	d.Start()
	g := d.guest(d.Bound("web", "user.a=1"))
	d.Stop()
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("devlxd-faults", d.StateDir, "tmpfs", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	d.Launch()
	err := <-d.Exited
	d.Cmd = nil
	last := lastLine(d.Log)
	if err == nil || err.Error() != "exit status 1" || !strings.Contains(last, "remount the file system writable") {
		t.Errorf("the daemon ended with %v and said %q", err, last)
	}
	remount(0)
	d.Start()
	g.wantConfig("user.a", "1")
}

func lastLine(log *daemontest.Buffer) string {
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	return lines[len(lines)-1]
}
