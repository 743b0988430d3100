package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The main thread is kept for the main goroutine: what "within" does to a thread must not be done to the one that /proc/self is
// about.
func init() { runtime.LockOSThread() }

// launchVariable holds the launch of a process that this package starts again.
const launchVariable = "DEVLXD_FAULTS_LAUNCH"

// launch says in what world a daemon runs. Whatever is not the zero value is done by this binary in the daemon's process, before
// it becomes devlxd. Mounts are made in a mount namespace of its own.
type launch struct {
	Detach    []string  // mount points that are unmounted
	Proc      string    // options of a new /proc
	NoPtrace  bool      // without CAP_SYS_PTRACE
	Files     uint64    // RLIMIT_NOFILE
	Somaxconn int       // in a network namespace of its own
	Filter    []uintptr // system calls that the test decides about

	listener *os.File // our end of the socket on which the descriptor of the filter comes
}

// change makes cmd a process of this binary that becomes what cmd was.
func (l *launch) change(cmd *exec.Cmd) {
	text, err := json.Marshal(l)
	if err != nil {
		panic(err) // a struct of strings and numbers
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd.Path, cmd.Env = self, append(os.Environ(), launchVariable+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	if l.Somaxconn > 0 {
		cmd.SysProcAttr.Unshareflags |= unix.CLONE_NEWNET
	}
	if len(l.Filter) > 0 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		l.listener = os.NewFile(uintptr(pair[0]), "filter")
		cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(pair[1]), "filter")}
	}
}

// launchMain takes over in a process that change has made.
func launchMain() {
	text, ok := os.LookupEnv(launchVariable)
	if !ok {
		return
	}
	os.Unsetenv(launchVariable)
	var l launch
	err := json.Unmarshal([]byte(text), &l)
	if err == nil {
		err = l.prepare()
	}
	if err == nil {
		err = syscall.Exec(os.Args[0], os.Args, os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func (l *launch) prepare() error {
	for _, path := range l.Detach {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	if l.Proc != "" {
		if err := unix.Mount("proc", "/proc", "proc", 0, l.Proc); err != nil {
			return fmt.Errorf("proc with %s: %w", l.Proc, err)
		}
	}
	if l.Somaxconn > 0 {
		if err := os.WriteFile("/proc/sys/net/core/somaxconn", fmt.Append(nil, l.Somaxconn), 0); err != nil {
			return err
		}
	}
	if l.NoPtrace {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_PTRACE, 0, 0, 0); err != nil {
			return fmt.Errorf("drop CAP_SYS_PTRACE: %w", err)
		}
	}
	if l.Files > 0 {
		// syscall, not unix: the runtime would put its own limit back in exec.
		if err := syscall.Setrlimit(unix.RLIMIT_NOFILE, &syscall.Rlimit{Cur: l.Files, Max: l.Files}); err != nil {
			return fmt.Errorf("RLIMIT_NOFILE: %w", err)
		}
	}
	if len(l.Filter) > 0 {
		return installFilter(l.Filter, 3)
	}
	return nil
}

// within runs f in the mount namespace of the daemon, on a thread that comes back from there: one that ended would take along the
// processes that it has started (PR_SET_PDEATHSIG is about the thread).
func (d *daemon) within(f func() error) {
	d.T.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := d.visit(f)
		if err == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		d.T.Fatal(err)
	}
}

// visit is within for a locked thread. After an error the thread may be anywhere.
func (d *daemon) visit(f func() error) error {
	var fds [3]int
	for i, path := range [...]string{"/proc/thread-self/ns/mnt", fmt.Sprintf("/proc/%d/ns/mnt", d.Cmd.Process.Pid), "."} {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(fds[1], unix.CLONE_NEWNS); err != nil {
		return err
	}
	return errors.Join(f(), unix.Setns(fds[0], unix.CLONE_NEWNS), unix.Fchdir(fds[2]))
}

// limitFiles sets RLIMIT_NOFILE of the daemon.
func (d *daemon) limitFiles(n uint64) {
	d.T.Helper()
	if err := unix.Prlimit(d.Cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: 20_000}, nil); err != nil {
		d.T.Fatal(err)
	}
}

// files counts the descriptors of the daemon.
func (d *daemon) files() int {
	d.T.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.Cmd.Process.Pid))
	if err != nil {
		d.T.Fatal(err)
	}
	return len(names)
}

// receiveFD takes one descriptor off a Unix socket.
func receiveFD(f *os.File) (int, error) {
	conn, err := net.FileConn(f)
	if err != nil {
		return -1, err
	}
	defer conn.Close()
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, errors.Join(err, errors.New("no descriptor came"))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.Join(err, errors.New("no descriptor came"))
	}
	return fds[0], nil
}

// private runs this binary once more in a mount namespace of its own, unless it is in one: what the tests mount is gone with
// them, however they end. It returns false in that one.
func private() (code int, outside bool) {
	if os.Getenv(privateVariable) != "" || os.Getuid() != 0 {
		return 0, false
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), privateVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return cmd.ProcessState.ExitCode(), true
}

// privateVariable is set in the mount namespace of the tests.
const privateVariable = "DEVLXD_FAULTS_PRIVATE"

// mountTmpfs puts a tmpfs of size bytes on a directory.
func mountTmpfs(t *testing.T, dir string, size int) {
	t.Helper()
	need(t, os.Getuid() == 0, "root: mounts a small tmpfs to fill it up")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("devlxd-faults", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// need skips what this machine cannot do.
func need(t *testing.T, ok bool, what string) {
	t.Helper()
	if !ok {
		t.Skip("needs " + what)
	}
}
