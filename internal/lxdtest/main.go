package lxdtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/internal/cgroup2"
)

// stageEnv says what a process that Main has started is to be, and dirEnv which directory belongs to it.
const (
	stageEnv = "DEVLXD_LXDTEST_STAGE"
	dirEnv   = "DEVLXD_LXDTEST_DIR"
	stageOne = "init"  // pid 1 of the namespaces
	stageRun = "tests" // where the tests run
)

// exitSetup is EX_OSERR of sysexits.h.
const exitSetup = 71

// cgroupTime bounds the removal of cgroups whose processes were killed.
const cgroupTime = 60 * time.Second

// Main runs the tests in namespaces of their own and returns the exit code. prepare, unless nil, is called before, outside of
// them and once, with a directory that is removed at the end (see [Dir]): for what needs the network, such as a build.
// Without root the tests are run where they are, and [Start] skips them.
func Main(m *testing.M, prepare func(dir string) error) int {
	switch os.Getenv(stageEnv) {
	case stageOne:
		return initMain()
	case stageRun:
		return m.Run()
	}
	if os.Getuid() != 0 {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "dx-") // short: a socket path has 107 bytes
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err == nil && prepare != nil {
		err = prepare(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.RemoveAll(dir)
		return 1
	}
	code := runInside(dir)
	if err := errors.Join(removeCgroups(prefix(dir)), os.RemoveAll(dir)); err != nil {
		fmt.Fprintln(os.Stderr, "left behind:", err)
		return 1
	}
	return code
}

// Dir is the directory that Main made, "" where the tests do not run in namespaces of their own.
func Dir() string {
	if os.Getenv(stageEnv) != stageRun {
		return ""
	}
	return os.Getenv(dirEnv)
}

// prefix begins the name of each container, so that its cgroups can be told from those of others.
func prefix(dir string) string { return "dx" + strings.TrimPrefix(filepath.Base(dir), "dx-") + "-" }

// runInside runs this program again as pid 1 of new namespaces. PR_SET_PDEATHSIG follows the thread, so it is kept.
func runInside(dir string) int {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	// What tests and daemons leave in TMPDIR goes with dir.
	cmd.Env = append(os.Environ(), stageEnv+"="+stageOne, dirEnv+"="+dir, "TMPDIR="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		Pdeathsig:  unix.SIGKILL,
	}
	// Who ends the tests ends what is inside, and then there is still something to remove.
	end := make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP)
	defer signal.Stop(end)
	if err := cmd.Start(); err != nil {
		return exitCode(err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-end:
			_ = cmd.Process.Kill()
		case <-ended:
		}
	}()
	return exitCode(cmd.Wait())
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// initMain is pid 1: it runs the tests, reaps what they leave, and by its end ends everything.
func initMain() int {
	if err := enter(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot set up namespaces for the tests:", err)
		return exitSetup
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageEnv+"="+stageRun)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitSetup
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return exitSetup
		case pid == cmd.Process.Pid && status.Exited():
			return status.ExitStatus()
		case pid == cmd.Process.Pid:
			fmt.Fprintln(os.Stderr, "the tests ended with", status.Signal())
			return 1
		}
	}
}

// enter makes the new namespaces usable.
func enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return os.NewSyscallError("mount /proc", err)
	}
	if err := mountSys(filepath.Join(os.Getenv(dirEnv), "cgroup")); err != nil {
		return os.NewSyscallError("mount /sys", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("SIOCSIFFLAGS", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo))
}

// mountSys shows the network devices of the new network namespace in /sys/class/net, where the daemons look for them. The cgroups
// stay where they were; they are kept at a new directory meanwhile.
func mountSys(keep string) error {
	const cgroups = "/sys/fs/cgroup"
	if err := os.Mkdir(keep, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(cgroups, keep, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	return unix.Mount(keep, cgroups, "", unix.MS_MOVE, "")
}

// removeCgroups removes the cgroups of containers whose name has a prefix, in all hierarchies: liblxc makes
// lxc.payload.NAME and lxc.monitor.NAME at the root, or where the daemon is.
func removeCgroups(prefix string) error {
	var dirs []string
	for _, root := range cgroupRoots() {
		for _, pattern := range [...]string{"lxc.payload.", "lxc.monitor."} {
			found, err := filepath.Glob(filepath.Join(root, pattern+"*"+prefix+"*"))
			if err != nil {
				return err
			}
			dirs = append(dirs, found...)
		}
	}
	deadline := time.Now().Add(cgroupTime)
	for {
		var errs []error
		for _, dir := range dirs {
			errs = append(errs, cgroup2.RemoveTree(dir))
		}
		// A killed process leaves its cgroup a little after it has been reaped.
		if err := errors.Join(errs...); err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// cgroupRoots are the roots of all hierarchies and where in them this process is.
func cgroupRoots() (roots []string) {
	own, _ := os.ReadFile("/proc/self/cgroup")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		left, right, ok := strings.Cut(line, " - ")
		f := strings.Fields(left)
		if !ok || !strings.HasPrefix(right, "cgroup") || len(f) < 5 {
			continue
		}
		roots = append(roots, f[4])
		for group := range strings.Lines(string(own)) {
			parts := strings.SplitN(strings.TrimSpace(group), ":", 3)
			if len(parts) == 3 && parts[2] != "/" {
				roots = append(roots, filepath.Join(f[4], parts[2]))
			}
		}
	}
	return roots
}
