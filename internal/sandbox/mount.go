package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// scratch is where the new root is put together. Only the container's own mount
// namespace sees that.
const scratch = "/tmp"

// hostDirs are the parts of the host's root that programs need to run. Directories
// with data of people or of services are not among them.
var hostDirs = [...]string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt", "nix", "gnu"}

// devices are the nodes of /dev, bound from the host because a user namespace may
// not make any.
var devices = [...]string{"null", "zero", "full", "random", "urandom", "tty"}

// stepError says which step of the setup failed.
type stepError struct {
	step string
	err  error
}

func (e *stepError) Error() string { return "cannot " + e.step + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

func step(name string, err error) error {
	if err == nil {
		return nil
	}
	return &stepError{name, err}
}

// root puts a container's root together, in a mount namespace of its own.
type root struct {
	setup
	tree  int // of a detached mount of the guest directory, or -1
	notes []string
}

func (r *root) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// build makes the root and moves the process there.
func (r *root) build() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return step("make the mounts private", err)
	}
	// Opened before scratch covers what may lie below it.
	guest := -1
	if r.Guest != "" {
		fd, err := unix.Open(r.Guest, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return step("open the guest directory "+r.Guest, err)
		}
		defer unix.Close(fd)
		guest = fd
	}
	if err := unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=16m"); err != nil {
		return step("mount a tmpfs on "+scratch, err)
	}
	if err := os.Chdir(scratch); err != nil {
		return step("enter the new root", err)
	}
	for _, part := range []func() error{r.hostParts, r.plainDirs, r.dev, func() error { return r.guestDir(guest) }, r.proc, r.cgroup} {
		if err := part(); err != nil {
			return err
		}
	}
	return r.enter()
}

// hostParts binds what programs need, read-only.
func (r *root) hostParts() error {
	for _, name := range hostDirs {
		info, err := os.Lstat("/" + name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return step("look at /"+name, err)
		}
		switch {
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink("/" + name)
			if err == nil {
				err = os.Symlink(target, name)
			}
			if err != nil {
				return step("copy the link /"+name, err)
			}
		case info.IsDir():
			if err := r.bindDir("/"+name, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// bindDir binds a directory with all that is mounted below it, read-only.
func (r *root) bindDir(from, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return step("make "+to, err)
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return step("bind "+from, err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err := unix.MountSetattr(unix.AT_FDCWD, to, unix.AT_RECURSIVE, &attr)
	if errors.Is(err, unix.ENOSYS) {
		// mount_setattr(2) came with Linux 5.12. Permissions still protect the host's files.
		r.note("%s is not read-only: that needs Linux 5.12", from)
		return nil
	}
	return step("make "+from+" read-only", err)
}

func (r *root) plainDirs() error {
	for _, dir := range [...]struct {
		name string
		mode os.FileMode
	}{
		{"dev", 0o755}, {"proc", 0o555}, {"sys", 0o555}, {"run", 0o755}, {"root", 0o700},
		{"var", 0o755}, {"var/tmp", 0o777 | os.ModeSticky}, {"tmp", 0o777 | os.ModeSticky},
	} {
		if err := os.Mkdir(dir.name, dir.mode); err != nil {
			return step("make /"+dir.name, err)
		}
		if err := os.Chmod(dir.name, dir.mode); err != nil { // whatever the umask
			return step("make /"+dir.name, err)
		}
	}
	return nil
}

// dev makes /dev. A node that the host does not have is left out.
func (r *root) dev() error {
	if err := unix.Mount("tmpfs", "dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755,size=64k"); err != nil {
		return step("mount a tmpfs on /dev", err)
	}
	for _, name := range devices {
		from, to := "/dev/"+name, "dev/"+name
		if _, err := os.Stat(from); err != nil {
			continue
		}
		if err := os.WriteFile(to, nil, 0o666); err != nil {
			return step("make "+from, err)
		}
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			return step("bind "+from, err)
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, "dev/"+name); err != nil {
			return step("make /dev/"+name, err)
		}
	}
	return nil
}

// guestDir puts the guest directory at /dev/lxd: bound from fd, or moved there from
// the detached tree that the caller gave.
func (r *root) guestDir(fd int) error {
	if fd < 0 && r.tree < 0 {
		return nil
	}
	const to = "dev/lxd"
	if err := os.Mkdir(to, 0o755); err != nil {
		return step("make /dev/lxd", err)
	}
	var err error
	if r.tree >= 0 {
		err = unix.MoveMount(r.tree, "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH)
	} else {
		err = unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), to, "", unix.MS_BIND, "")
	}
	if err != nil {
		return step("bind the guest directory at /dev/lxd", err)
	}
	flags, err := mountFlags(to)
	if err == nil {
		err = unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, "")
	}
	return step("make /dev/lxd read-only", err)
}

// mountFlags returns the flags of a mount that a remount in a user namespace has to
// repeat, because it may not take them away.
func mountFlags(path string) (uintptr, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	var flags uintptr
	for _, f := range [...]struct{ st, ms uintptr }{
		{unix.ST_NOSUID, unix.MS_NOSUID}, {unix.ST_NODEV, unix.MS_NODEV}, {unix.ST_NOEXEC, unix.MS_NOEXEC},
		{unix.ST_NOATIME, unix.MS_NOATIME}, {unix.ST_NODIRATIME, unix.MS_NODIRATIME}, {unix.ST_RELATIME, unix.MS_RELATIME},
	} {
		if uintptr(st.Flags)&f.st != 0 {
			flags |= f.ms
		}
	}
	return flags, nil
}

// proc mounts a /proc of the new pid namespace. The kernel refuses that where the
// /proc at hand has parts covered, as container runtimes do; then that one is bound.
func (r *root) proc() error {
	err := unix.Mount("proc", "proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return step("mount /proc", err)
	}
	if err := unix.Mount("/proc", "proc", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return step("bind /proc", err)
	}
	r.note("/proc shows the host's processes: parts of the host's /proc are covered, so no new one may be mounted")
	return nil
}

// cgroup mounts the container's own cgroup tree. The calling thread gets a cgroup
// namespace, whose root is the cgroup that the container was started in.
func (r *root) cgroup() error {
	if !r.Cgroup {
		return nil
	}
	for _, dir := range [...]string{"sys/fs", "sys/fs/cgroup"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return step("make /"+dir, err)
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return step("make a cgroup namespace", err)
	}
	if err := unix.Mount("cgroup2", "sys/fs/cgroup", "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		r.note("the cgroup tree is not shown at /sys/fs/cgroup: %v", err)
	}
	return nil
}

// enter makes the current directory the root and drops the old one.
func (r *root) enter() error {
	// pivot_root(2): with "." twice the old root is stacked on the new one.
	if err := unix.PivotRoot(".", "."); err != nil {
		return step("change the root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return step("detach the host's root", err)
	}
	return step("enter the new root", os.Chdir("/"))
}

// lookPath finds a program like exec.LookPath, in the PATH of env.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	search := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	for _, dir := range filepath.SplitList(search) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: not found in PATH=%s", name, search)
}
