package target

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestReadUsage(t *testing.T) {
	before, err := ReadUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.RSS < 1<<20 || before.RSS > 1<<40 {
		t.Errorf("resident memory is %d bytes", before.RSS)
	}
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
	}
	after, err := ReadUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// The CPU may be shared with others: any growth of the right kind will do.
	if used := after.CPU - before.CPU; used < time.Millisecond || used > time.Minute {
		t.Errorf("50 ms of work took %v of CPU time", used)
	}
	if _, err := ReadUsage(1 << 30); err == nil {
		t.Error("a process that is not there has used something")
	}
}

func TestPin(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if err := Pin(cmd.Process.Pid, 0); err != nil {
		t.Fatal(err)
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(cmd.Process.Pid, &set); err != nil {
		t.Fatal(err)
	}
	if set.Count() != 1 || !set.IsSet(0) {
		t.Errorf("%d CPUs are left, the first one %v", set.Count(), set.IsSet(0))
	}
}

// TestWorkDir: a directory goes with its owner; one whose owner was killed is removed by the next.
func TestWorkDir(t *testing.T) {
	parent := t.TempDir()
	living := filepath.Join(parent, dirPattern+"living")
	stale := filepath.Join(parent, dirPattern+"stale")
	making := filepath.Join(parent, dirPattern+"making")
	other := filepath.Join(parent, "other")
	for _, dir := range []string{living, stale, making, other} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := os.Create(filepath.Join(living, dirLock))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stale, dirLock), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	sweep(parent)
	for dir, want := range map[string]bool{living: true, stale: false, making: true, other: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s is there: %v; want %v", filepath.Base(dir), err == nil, want)
		}
	}
	d, err := newWorkDir()
	if err != nil {
		t.Fatal(err)
	}
	sweep(filepath.Dir(d.path))
	if _, err := os.Stat(d.path); err != nil {
		t.Errorf("a directory in use was removed: %v", err)
	}
	if err := d.remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(d.path); err == nil {
		t.Error("the directory is left")
	}
}

func TestScrape(t *testing.T) {
	dir, err := os.MkdirTemp("", "dxs-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`# TYPE a_total counter
a_total{code="200"} 3
a_total{code="404"} 4
# TYPE b gauge
b 5
# TYPE c_seconds histogram
c_seconds_bucket{le="1"} 1
c_seconds_bucket{le="+Inf"} 6
c_seconds_sum 9
c_seconds_count 6
# TYPE d_seconds summary
d_seconds{quantile="0"} 1
d_seconds{quantile="1"} 8
d_seconds_sum 9
d_seconds_count 2
`))
	})}
	go func() { _ = server.Serve(ln) }()
	defer server.Close()
	client := unixClient(ln.Addr().String())
	defer client.CloseIdleConnections()
	got, err := scrape(context.Background(), client, "http://devlxd/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"a_total": 7, "b": 5, "c_seconds": 6, "d_seconds": 8} {
		if got[name] != want {
			t.Errorf("%s = %v; want %v", name, got[name], want)
		}
	}
}

// TestProcess: what a server says last is in the error when it ends too early.
func TestProcess(t *testing.T) {
	p, err := startProcess(exec.Command("sh", "-c", "echo first >&2; echo no such option >&2; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	err = p.awaitSocket(context.Background(), filepath.Join(t.TempDir(), "none"))
	if !errors.Is(err, ErrExited) || !strings.Contains(err.Error(), "no such option") {
		t.Errorf("error = %v; want %v with the last line", err, ErrExited)
	}
	p, err = startProcess(exec.Command("sleep", "60"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stop = %v", err)
	}
	if err := p.stop(); !errors.Is(err, ErrExited) {
		t.Errorf("the second stop = %v; want %v", err, ErrExited)
	}
	if _, err := startProcess(exec.Command("/no/such/program")); err == nil {
		t.Error("a program that is not there was started")
	}
}

// TestParallel: all are done, or the first failure is returned.
func TestParallel(t *testing.T) {
	var sum atomic.Int64
	most := 0
	if err := parallel(context.Background(), 100, func(n int) { most = max(most, n) }, func(_ context.Context, i int) error {
		sum.Add(int64(i))
		return nil
	}); err != nil || sum.Load() != 4950 || most != 100 {
		t.Errorf("sum %d, %d done, %v", sum.Load(), most, err)
	}
	boom := errors.New("boom")
	if err := parallel(context.Background(), 100, nil, func(_ context.Context, i int) error {
		if i == 7 {
			return boom
		}
		return nil
	}); !errors.Is(err, boom) {
		t.Errorf("error = %v; want %v", err, boom)
	}
}
