package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// confineEnv makes the test binary a process that gives up what a confinement says and then becomes the program of its arguments.
const confineEnv = "DEVLXD_E2E_CONFINE"

// confineAllEnv, when it is set, has all tests of this package run their daemons as confined as the unit does.
const confineAllEnv = "DEVLXD_TEST_CONFINED"

// confinement is what systemd does to a service before it is started.
type confinement struct {
	Bounding []string        // CapabilityBoundingSet=; nil: as it is
	Writable []string        // directories, all others are read-only, as of ProtectSystem=strict; nil: as they are
	Filter   *seccomp.Policy // system calls; nil: all
}

// confined makes cmd start under a confinement.
func confined(cmd *exec.Cmd, c confinement) {
	// Not JSON, in which the actions of a policy have names that are not read back.
	var text bytes.Buffer
	if err := gob.NewEncoder(&text).Encode(c); err != nil {
		panic(err)
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, confineEnv+"="+base64.StdEncoding.EncodeToString(text.Bytes()))
	cmd.Args = append([]string{"confined", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/proc/self/exe"
}

// becomeConfined returns at once, unless this process is to become another one.
func becomeConfined() {
	text, ok := os.LookupEnv(confineEnv)
	if !ok {
		return
	}
	runtime.LockOSThread()
	fmt.Fprintln(os.Stderr, confine(text))
	os.Exit(125)
}

// confine does not return, but with an error.
func confine(text string) error {
	var c confinement
	if err := gob.NewDecoder(base64.NewDecoder(base64.StdEncoding, strings.NewReader(text))).Decode(&c); err != nil {
		return err
	}
	if err := os.Unsetenv(confineEnv); err != nil {
		return err
	}
	if c.Writable != nil {
		if err := protect(c.Writable); err != nil {
			return err
		}
	}
	for v := cap.Value(0); c.Bounding != nil && v < cap.MaxBits(); v++ {
		if slices.ContainsFunc(c.Bounding, func(name string) bool { n, err := cap.FromName(strings.ToLower(name)); return err == nil && n == v }) {
			continue
		}
		if err := cap.DropBound(v); err != nil {
			return err
		}
	}
	if c.Filter != nil {
		if err := seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: *c.Filter}); err != nil {
			return err
		}
	}
	return errors.Join(errors.New("cannot become "+os.Args[1]), syscall.Exec(os.Args[1], os.Args[1:], os.Environ()))
}

// protect gives the thread a mount namespace in which only the given directories can be written to.
func protect(writable []string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	for _, dir := range writable {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return &os.PathError{Op: "mount", Path: dir, Err: err}
		}
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	for _, dir := range writable {
		if err := unix.MountSetattr(unix.AT_FDCWD, dir, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return os.NewSyscallError("mount_setattr", err)
		}
	}
	return nil
}

// asUser is the attribute of a process of an ordinary user with some capabilities.
func asUser(uid uint32, caps ...uintptr) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, AmbientCaps: caps}
}

// chown gives the directories of a daemon to a user, before it is started.
func (d *daemon) chown(uid int) {
	d.t.Helper()
	for _, dir := range d.directories() {
		if err := os.Chown(dir, uid, uid); err != nil {
			d.t.Fatal(err)
		}
	}
}

// directories makes the run directory and the state directory, as RuntimeDirectory= and StateDirectory= do, and returns them.
func (d *daemon) directories() []string {
	d.t.Helper()
	list := []string{d.RunDir, d.StateDir}
	for _, dir := range list {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			d.t.Fatal(err)
		}
	}
	return list
}
