package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Role is a function that [Container.Guest] runs inside of a container, in a process of
// its own. What it returns is the exit code. It inherits standard input and
// output, and nothing of the caller's memory.
type Role func(args []string) int

// controlFD is where the init finds its end of the control socket.
const controlFD = 3

// Exit codes of the processes that Main makes.
const (
	exitSetup = 70 // EX_SOFTWARE of sysexits.h
	exitRole  = 64 // EX_USAGE
)

// Main takes over, and never returns, in a process that this package started: it
// becomes the init of a container, or runs one of the roles. In any other process it
// returns at once. It must be called before the program does anything else, from main, an
// init function or TestMain.
func Main(roles map[string]Role) {
	text, ok := os.LookupEnv(stageEnv)
	if !ok {
		return
	}
	var s stage
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		fmt.Fprintf(os.Stderr, "%s is for internal use: unset it\n", stageEnv)
		os.Exit(exitRole)
	}
	os.Unsetenv(stageEnv)
	switch s.Stage {
	case stageSetup:
		os.Exit(setupMain())
	case stageInit:
		os.Exit(initMain())
	case stageGuest:
		role, ok := roles[s.Role]
		if !ok {
			fmt.Fprintf(os.Stderr, "%s: %v\n", s.Role, errNoRole)
			os.Exit(exitRole)
		}
		os.Exit(role(s.Args))
	}
	fmt.Fprintf(os.Stderr, "%s is for internal use: unset it\n", stageEnv)
	os.Exit(exitRole)
}

// setupMain builds the container and executes the program once more. It runs on one
// thread, because unshare(2) of a cgroup namespace concerns only the calling one; execve(2)
// then makes that thread the whole process.
func setupMain() int {
	runtime.LockOSThread()
	// A second descriptor stays in use across execve.
	keep, err := unix.FcntlInt(controlFD, unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		return exitSetup // there is nobody to tell
	}
	ctl, err := newControl(os.NewFile(controlFD, "control"))
	if err != nil {
		return exitSetup
	}
	if err := setUp(ctl); err != nil {
		fail(ctl, err)
		return exitSetup
	}
	if err := unix.Dup3(keep, controlFD, 0); err != nil {
		fail(ctl, step("pass the control socket on", err))
		return exitSetup
	}
	// The signal for the caller's death is that of a thread, and that which was started with it need not be this one. A caller that has
	// died already has closed the control socket.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		fail(ctl, step("ask for the signal at the caller's death", err))
		return exitSetup
	}
	env := append(baseEnv(), stage{Stage: stageInit}.env())
	err = syscall.Exec("/proc/self/exe", []string{"[init]"}, env)
	fail(ctl, step("execute /proc/self/exe in the new root", err))
	return exitSetup
}

// setUp waits for the order, builds the root and sends notes.
func setUp(ctl *control) error {
	m, files, err := ctl.recv()
	if err != nil {
		return err
	}
	if m.Kind != msgSetup || m.Setup == nil || len(files) > 1 {
		closeFiles(files)
		return errProtocol
	}
	r := &root{setup: *m.Setup, tree: -1}
	if len(files) == 1 {
		r.tree = int(files[0].Fd())
	}
	err = r.build()
	closeFiles(files)
	if err == nil {
		err = step("set the host name", unix.Sethostname([]byte(r.Name)))
	}
	for _, n := range r.notes {
		if err == nil {
			err = ctl.send(message{Kind: msgNote, Text: n})
		}
	}
	return err
}

// fail tells the caller why there will be no container.
func fail(ctl *control, err error) {
	m := message{Kind: msgFailed, Text: err.Error()}
	var errno unix.Errno
	if errors.As(err, &errno) {
		m.Errno = int(errno)
	}
	_ = ctl.send(m) // the caller also sees the end of the socket
}

// baseEnv is the environment of every process in a container. Settings of the Go
// runtime are handed on.
func baseEnv() []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8",
	}
	for _, name := range [...]string{"GODEBUG", "GORACE", "GOTRACEBACK"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
