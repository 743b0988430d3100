package privilege

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// childEnv makes the test binary a process that drops its privileges, which cannot be undone.
const childEnv = "DEVLXD_PRIVILEGE_TEST"

// Values of childEnv.
const (
	childDrops  = "drops"
	childIsNext = "successor" // what childDrops replaces itself with
)

// report is what a child prints.
type report struct {
	Before, After State
	Dumpable      int
	Err           string
}

func TestMain(m *testing.M) {
	switch stage := os.Getenv(childEnv); stage {
	case "":
		os.Exit(m.Run())
	default:
		child(stage)
	}
}

// child drops its privileges while some of its threads are busy and others come up, and then does so again as its own successor.
func child(stage string) {
	var r report
	var err error
	if r.Before, err = Of(os.Getpid()); err != nil {
		r.Err = err.Error()
	}
	stop, wait := busyThreads()
	if err := Drop(Needs(1 << 20)); err != nil {
		r.Err = err.Error()
	}
	if err := Drop(Needs(1 << 20)); err != nil {
		r.Err = "again: " + err.Error()
	}
	_, more := busyThreads()
	if r.After, err = Of(os.Getpid()); err != nil {
		r.Err = err.Error()
	}
	r.Dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		os.Exit(1)
	}
	stop()
	wait()
	_ = more
	if stage == childDrops {
		_ = os.Setenv(childEnv, childIsNext)
		err := syscall.Exec("/proc/self/exe", os.Args, os.Environ())
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// busyThreads holds eight threads in system calls.
func busyThreads() (stop, wait func()) {
	var up, down sync.WaitGroup
	pipe := make([]int, 2)
	if err := unix.Pipe2(pipe, unix.O_CLOEXEC); err != nil {
		panic(err)
	}
	for range 8 {
		up.Add(1)
		down.Go(func() {
			runtime.LockOSThread()
			up.Done()
			var b [1]byte
			for {
				if _, err := unix.Read(pipe[0], b[:]); err != unix.EINTR {
					return
				}
			}
		})
	}
	up.Wait()
	return func() { _ = unix.Close(pipe[1]) }, down.Wait
}

// drop runs a child and returns the reports of it and of its successor.
func drop(t *testing.T, attr *syscall.SysProcAttr, before func() error) (reports [2]report) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+childDrops)
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() { // on a thread that is not used again
		runtime.LockOSThread()
		if before != nil {
			if err := before(); err != nil {
				started <- err
				return
			}
		}
		started <- cmd.Start()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(out)
	for i := range reports {
		if err := d.Decode(&reports[i]); err != nil {
			t.Fatalf("report %d: %v", i, err)
		}
		if reports[i].Err != "" {
			t.Errorf("report %d: %s", i, reports[i].Err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	return reports
}

// TestDrop: all threads of a process, and of what it is replaced with, keep what is needed of what they had, whoever the user is.
func TestDrop(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, which has something to give up")
	}
	needs := []string{"CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	everything, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		attr     *syscall.SysProcAttr
		before   func() error
		want     []string
		bounding []string // nil: as it was
	}{
		{"root", nil, nil, needs, needs},
		{"another user", &syscall.SysProcAttr{Credential: nobody}, nil, []string{}, nil},
		{"another user who was given one capability of need, and one of none", &syscall.SysProcAttr{
			Credential: nobody, AmbientCaps: []uintptr{unix.CAP_SYS_PTRACE, unix.CAP_CHOWN},
		}, nil, []string{"CAP_SYS_PTRACE"}, nil},
		{"root with less than it takes", nil, boundTo(unix.CAP_DAC_READ_SEARCH, unix.CAP_CHOWN), []string{"CAP_DAC_READ_SEARCH"}, []string{"CAP_CHOWN", "CAP_DAC_READ_SEARCH"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for i, r := range drop(t, tt.attr, tt.before) {
				if !slices.Equal(r.After.Capabilities, tt.want) || !r.After.NoNewPrivs || r.Dumpable != 0 {
					t.Errorf("process %d: %+v, want %v, no_new_privs and no core dumps", i, r, tt.want)
				}
				bounding := tt.bounding
				if bounding == nil {
					bounding = everything.Bounding
				}
				if !slices.Equal(r.After.Bounding, bounding) {
					t.Errorf("process %d: bounding set %v, want %v", i, r.After.Bounding, bounding)
				}
				if i == 1 && !slices.Equal(r.Before.Capabilities, tt.want) {
					t.Errorf("the successor began with %v, want %v", r.Before.Capabilities, tt.want)
				}
			}
		})
	}
}

// boundTo takes everything else out of the bounding set of the calling thread.
func boundTo(keep ...uintptr) func() error {
	return func() error {
		for v := uintptr(0); v < uintptr(cap.MaxBits()); v++ {
			if slices.Contains(keep, v) {
				continue
			}
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, v, 0, 0, 0); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestNeeds(t *testing.T) {
	var few, many []string
	for _, n := range Needs(manyFiles - 1) {
		few = append(few, n.Name())
	}
	for _, n := range Needs(manyFiles) {
		many = append(many, n.Name())
	}
	if want := []string{"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"}; !slices.Equal(many, want) || !slices.Equal(few, append(want, "CAP_SETUID", "CAP_SYS_RESOURCE")) {
		t.Errorf("%v with many files, %v with few", many, few)
	}
}

func TestOf(t *testing.T) {
	if _, err := Of(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a process that does not exist: %v", err)
	}
	const all = "CapPrm:\t0000000000000004\nCapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\nNoNewPrivs:\t1\n"
	got, err := parseStatus(all)
	if want := (threadStatus{4, 0, 1<<41 - 1, true}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{
		"", strings.Replace(all, "NoNewPrivs", "Other", 1), strings.Replace(all, "CapBnd", "Other", 1), strings.Replace(all, "0000000000000004", "four", 1),
	} {
		if _, err := parseStatus(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
	if got := names(1<<unix.CAP_CHOWN | 1<<63); !slices.Equal(got, []string{"CAP_CHOWN", "63"}) {
		t.Errorf("names = %v", got)
	}
}
