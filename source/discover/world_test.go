package discover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"devlxd/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is an emulated host: directories and files in the place of the cgroup tree and of /proc. The processes are real ones, so that
// they can be held, but what is said of them is invented.
type world struct {
	t          *testing.T
	tree, proc string
	keeper     *fakeKeeper
	d          *Discovery
	logs       *lockedBuffer
}

func newWorld(t *testing.T, runtimes ...Runtime) *world {
	t.Helper()
	w := &world{t: t, tree: t.TempDir(), proc: t.TempDir(), logs: new(lockedBuffer)}
	w.keeper = &fakeKeeper{bound: make(map[string]source.Found), refuse: make(map[string]error)}
	w.cgroup("")
	var err error
	w.d, err = New(Options{
		Runtimes: runtimes, Tree: w.tree, Proc: w.proc, Log: slog.New(slog.NewTextHandler(w.logs, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.d.Close() })
	return w
}

// run scans, and follows the tree until the test ends.
func (w *world) run() {
	w.t.Helper()
	w.scan()
	w.follow()
}

func (w *world) scan() {
	w.t.Helper()
	if err := w.d.Scan(w.keeper, false); err != nil {
		w.t.Fatal(err)
	}
}

// follow returns what ends it.
func (w *world) follow() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.d.Run(ctx) }()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop
}

// cgroup makes a cgroup, and those above it, without a process.
func (w *world) cgroup(dir string) {
	w.t.Helper()
	at := w.tree
	for _, part := range append([]string{""}, parts(dir)...) {
		if at = filepath.Join(at, part); part != "" {
			w.must(ignoreExists(os.Mkdir(at, 0o755)))
		}
		for name, text := range map[string]string{"cgroup.procs": "", "cgroup.events": "populated 0\nfrozen 0\n"} {
			if _, err := os.Stat(filepath.Join(at, name)); err != nil {
				w.must(os.WriteFile(filepath.Join(at, name), []byte(text), 0o644))
			}
		}
	}
}

func (w *world) remove(dir string) {
	w.t.Helper()
	w.must(os.RemoveAll(filepath.Join(w.tree, dir)))
}

// enter puts processes into a cgroup, and has cgroup.events tell of it as the kernel does.
func (w *world) enter(dir string, pids ...int) {
	w.t.Helper()
	w.write(dir, pids...)
	w.must(os.WriteFile(filepath.Join(w.tree, dir, "cgroup.events"), []byte(fmt.Sprintf("populated %d\n", min(len(pids), 1))), 0o644))
}

// write puts processes into a cgroup that has some already, so that nothing is told.
func (w *world) write(dir string, pids ...int) {
	w.t.Helper()
	text := ""
	for _, pid := range pids {
		text += strconv.Itoa(pid) + "\n"
	}
	w.must(os.WriteFile(filepath.Join(w.tree, dir, "cgroup.procs"), []byte(text), 0o644))
}

// process starts a process that is said to have this parent and these pids in the namespaces below, and to be in that cgroup.
func (w *world) process(parent int, dir string, args []string, ns ...int) int {
	w.t.Helper()
	cmd := exec.Command("sleep", "3600")
	w.must(cmd.Start())
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	w.say(cmd.Process.Pid, parent, dir, args, ns...)
	return cmd.Process.Pid
}

func (w *world) say(pid, parent int, dir string, args []string, ns ...int) {
	w.t.Helper()
	at := filepath.Join(w.proc, strconv.Itoa(pid))
	w.must(os.MkdirAll(at, 0o755))
	list := strings.Trim(fmt.Sprint(append([]int{pid}, ns...)), "[]")
	w.must(os.WriteFile(filepath.Join(at, "cgroup"), []byte("12:pids:/\n0::/"+dir+"\n"), 0o644))
	w.must(os.WriteFile(filepath.Join(at, "cmdline"), []byte(strings.Join(args, "\x00")+"\x00"), 0o644))
	w.must(os.WriteFile(filepath.Join(at, "status"), []byte(fmt.Sprintf("Name:\tx\nPPid:\t%d\nNSpid:\t%s\n", parent, list)), 0o644))
}

// init starts a process that is said to be the init of a container.
func (w *world) init() int { return w.process(1, "", nil, 1) }

// lxc makes a container of LXC that runs.
func (w *world) lxc(cgroup string) (pid int) {
	w.t.Helper()
	pid = w.init()
	w.cgroup(cgroup)
	w.enter(cgroup, pid)
	return pid
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func ignoreExists(err error) error {
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// eventually waits for what the Discovery does by itself.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s: it never came to that; bound: %v\n%s", what, w.keeper.pids(), w.logs.String())
		}
	}
}

// wants waits until exactly these containers run, by name and pid.
func (w *world) wants(want map[string]int) {
	w.t.Helper()
	w.eventually(fmt.Sprint("want ", want), func() bool { return maps.Equal(w.keeper.pids(), want) })
}

// has makes sure of it now, after a scan.
func (w *world) has(want map[string]int) {
	w.t.Helper()
	if got := w.keeper.pids(); !maps.Equal(got, want) {
		w.t.Fatalf("bound are %v; want %v\n%s", got, want, w.logs.String())
	}
}

// fakeKeeper keeps what is bound, and refuses what it is told to.
type fakeKeeper struct {
	mu     sync.Mutex
	bound  map[string]source.Found
	refuse map[string]error
	keep   error           // ForgetFound fails with it
	runs   map[string]bool // bindings whose end is not known yet: not forgotten
	tries  int
}

func (k *fakeKeeper) BindFound(f source.Found) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tries++
	if err := k.refuse[f.Name]; err != nil {
		return err
	}
	if old, ok := k.bound[f.Name]; ok && old.Request.PID != f.Request.PID {
		return fmt.Errorf("%w: %s runs", source.ErrConflict, f.Name)
	}
	if err := f.Request.Check(); err != nil {
		return err
	}
	k.bound[f.Name] = f
	return nil
}

func (k *fakeKeeper) ForgetFound(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keep == nil && !k.runs[name] {
		delete(k.bound, name)
	}
	return k.keep
}

// stop ends the binding of a container, as when its init exits.
func (k *fakeKeeper) stop(d *Discovery, name string) {
	_ = k.ForgetFound(name)
	d.Stopped(name)
}

func (k *fakeKeeper) deny(name string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse[name] = err
}

func (k *fakeKeeper) tried() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tries
}

func (k *fakeKeeper) pids() map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	pids := make(map[string]int)
	for name, f := range k.bound {
		pids[name] = f.Request.PID
	}
	return pids
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
