package systemd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The main thread is kept for the main goroutine: a cgroup namespace is that of a thread, which becomes the process by execve(2).
func init() { runtime.LockOSThread() }

// bootVariable holds the plan of a machine, for the process that becomes its pid 1.
const bootVariable = "DEVLXD_SYSTEMD_BOOT"

// bootReport is the descriptor on which that process says why it does not become pid 1.
const bootReport = 3

// What the tests put into a machine, and the target that it boots to.
const (
	installed  = "/usr/bin/devlxd"
	installedE = "/usr/lib/devlxd-e2e"
	target     = "devlxd-e2e.target"
)

// plan is a machine: the root file system of the host, on which whatever is written is in memory and gone with it.
type plan struct {
	Dir     string // of the host, empty
	Systemd string
	Binary  string // devlxd; "": none is installed
	Self    string // this program
	Units   string // folder of units
	// Checkout is a folder that is there under its path, with a layer in memory over it; "": none. Shared are those that are there as
	// they are.
	Checkout string
	Shared   []string
}

// bootMain takes over in a process that startMachine has made.
func bootMain() {
	text, ok := os.LookupEnv(bootVariable)
	if !ok {
		return
	}
	unix.CloseOnExec(bootReport)
	var p plan
	err := json.Unmarshal([]byte(text), &p)
	if err == nil {
		err = p.boot()
	}
	fmt.Fprint(os.NewFile(bootReport, "report"), err)
	os.Exit(1)
}

// boot makes this process, which is pid 1 in namespaces of its own, systemd. It returns on error only.
func (p *plan) boot() error {
	// The cgroup that this process is in becomes the root of the machine's tree.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	root := filepath.Join(p.Dir, "root")
	for _, step := range []func(string) error{p.mountRoot, mountAPI, p.mountCheckout, makeDevices, p.install, quieten} {
		if err := step(root); err != nil {
			return err
		}
	}
	if err := enter(root); err != nil {
		return err
	}
	// What is the kernel's own, and not of a namespace, is the host's.
	for _, capability := range []uintptr{unix.CAP_SYS_MODULE, unix.CAP_SYS_TIME, unix.CAP_SYS_RAWIO} {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
			return os.NewSyscallError("prctl", err)
		}
	}
	// systemd does without what a container lacks when it is told that it is in one ("container_system_manager" of its documentation).
	env := []string{"container=devlxd-e2e", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return os.NewSyscallError("execve", syscall.Exec(p.Systemd, []string{p.Systemd, "--unit=" + target, "--show-status=0"}, env))
}

func mount(source, at, kind string, flags uintptr, options string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, at, kind, flags, options); err != nil {
		return &os.PathError{Op: "mount " + kind, Path: at, Err: err}
	}
	return nil
}

func (p *plan) mountRoot(root string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	if err := mount("tmpfs", p.Dir, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	upper, work := filepath.Join(p.Dir, "upper"), filepath.Join(p.Dir, "work")
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
		return err
	}
	return mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir="+upper+",workdir="+work)
}

// mountAPI mounts what systemd expects. What is there to change the kernel is read-only, as in a container.
func mountAPI(root string) error {
	at := func(path string) string { return filepath.Join(root, path) }
	for _, m := range []struct {
		kind, at string
		flags    uintptr
		options  string
	}{
		{"proc", "proc", 0, ""}, {"sysfs", "sys", unix.MS_RDONLY, ""}, {"cgroup2", "sys/fs/cgroup", 0, ""},
		{"tmpfs", "run", 0, "mode=755"}, {"tmpfs", "tmp", 0, "mode=1777"}, {"tmpfs", "etc/systemd/system", 0, "mode=755"},
		{"tmpfs", "var/log/journal", 0, "mode=755"}, {"tmpfs", "dev", 0, "mode=755"}, {"tmpfs", "dev/shm", 0, "mode=1777"},
		{"devpts", "dev/pts", 0, "newinstance,ptmxmode=0666"},
	} {
		if m.kind == "cgroup2" { // sysfs is read-only by now, and its directory is there
			if err := unix.Mount("cgroup2", at(m.at), "cgroup2", 0, ""); err != nil {
				return &os.PathError{Op: "mount cgroup2", Path: at(m.at), Err: err}
			}
			continue
		}
		if err := mount(m.kind, at(m.at), m.kind, m.flags, m.options); err != nil {
			return err
		}
	}
	for _, path := range []string{"proc/sys", "proc/sysrq-trigger"} {
		if _, err := os.Stat(at(path)); err != nil {
			continue // a kernel without it
		}
		if err := unix.Mount(at(path), at(path), "", unix.MS_BIND, ""); err != nil {
			return &os.PathError{Op: "bind", Path: path, Err: err}
		}
		if err := unix.Mount("", at(path), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return &os.PathError{Op: "remount", Path: path, Err: err}
		}
	}
	return nil
}

// mountCheckout mounts what a machine has of the host besides its root file system.
func (p *plan) mountCheckout(root string) error {
	for _, dir := range p.Shared {
		if err := mount(dir, filepath.Join(root, dir), "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	if p.Checkout == "" {
		return nil
	}
	upper, work := filepath.Join(p.Dir, "checkout"), filepath.Join(p.Dir, "checkout-work")
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
		return err
	}
	return mount("overlay", filepath.Join(root, p.Checkout), "overlay", 0, "lowerdir="+p.Checkout+",upperdir="+upper+",workdir="+work)
}

func makeDevices(root string) error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		path := filepath.Join(root, "dev", name)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, path, "", unix.MS_BIND, ""); err != nil {
			return &os.PathError{Op: "bind", Path: path, Err: err}
		}
	}
	return os.Symlink("pts/ptmx", filepath.Join(root, "dev/ptmx"))
}

// install puts devlxd and its units where a package would.
func (p *plan) install(root string) error {
	files := map[string]string{p.Self: installedE}
	if p.Binary != "" {
		files[p.Binary] = installed
		for _, unit := range []string{"devlxd.service", "devlxd.socket"} {
			files[filepath.Join(p.Units, unit)] = filepath.Join("/usr/lib/systemd/system", unit)
		}
	}
	for from, to := range files {
		if err := copyFile(from, filepath.Join(root, to)); err != nil {
			return err
		}
	}
	const unit = "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n"
	// What the host mounts is nothing to the machine.
	if err := os.WriteFile(filepath.Join(root, "etc/fstab"), nil, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "usr/lib/systemd/system", target), []byte(unit), 0o644)
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// quieten leaves the journal alone of all that the host's systemd would start.
func quieten(root string) error {
	dirs, err := filepath.Glob(filepath.Join(root, "usr/lib/systemd/system/*.wants"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "systemd-journald") {
				continue
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// enter makes a directory the root of this process's mount namespace, and lets go of the host's.
func enter(root string) error {
	if err := unix.Chdir(root); err != nil {
		return os.NewSyscallError("chdir", err)
	}
	// "." twice: the old root lies over the new one, and is taken away there (pivot_root(2), NOTES).
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount", err)
	}
	return os.NewSyscallError("chdir", unix.Chdir("/"))
}
