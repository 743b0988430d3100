package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"devlxd/admin"
	adminclient "devlxd/admin/client"
)

const (
	// manyEnv says how many containers TestDiscoverMany starts.
	manyEnv     = "DEVLXD_TEST_LXC_COUNT"
	manyDefault = 20
	// manyAtOnce is how many containers are started, asked or stopped at a time.
	manyAtOnce = 4
	// manyPatience bounds the wait for all of them to be found or let go of.
	manyPatience = 60 * time.Second
)

// lxcCrowd is many containers of plain LXC.
type lxcCrowd struct {
	*lxcRuntime
	t     *testing.T
	names []string

	mu sync.Mutex
}

// TestDiscoverMany: of many containers half run before the daemon and half start while it runs. Each is found and told its own name and config
// through its mount; those that stop are let go of, and those that start again are what they were. DEVLXD_TEST_LXC_COUNT sets how many.
func TestDiscoverMany(t *testing.T) {
	count := manyDefault
	if text := os.Getenv(manyEnv); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil || count < 4 {
			t.Fatalf("%s=%q is no number of containers", manyEnv, text)
		}
	}
	d := discovering(t, "lxc")
	c := &lxcCrowd{lxcRuntime: newLXC(t, d.RunDir), t: t}
	for i := range count {
		c.names = append(c.names, fmt.Sprintf("dx%d-m%04d", os.Getpid(), i))
	}
	for _, err := range []error{os.MkdirAll(filepath.Join(d.RunDir, "guest"), 0o755), os.Chmod(d.RunDir, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { c.each("stop", c.names, c.kill) })
	before, later := c.names[:count/2], c.names[count/2:]
	took := c.each("start", before, func(name string) error { return c.tryStart(t, name) })
	t.Logf("%d containers started in %v", len(before), took)
	begin := time.Now()
	d.Start()
	if s := d.status(); s.Bound != len(before) {
		t.Fatalf("a daemon that serves has found %d of %d containers", s.Bound, len(before))
	}
	t.Logf("%d containers found, and served, %v after the daemon was started; it has %s", len(before), since(begin), rss(t, d.pid()))

	api := adminclient.InRunDir(d.RunDir)
	c.each("set the config of", before, func(name string) error { return c.configure(api, name) })
	c.startWatched(d, later)
	t.Logf("the daemon has %s with %d containers found", rss(t, d.pid()), count)
	took = c.each("set the config of", later, func(name string) error { return c.configure(api, name) })
	t.Logf("config set in %d, one transaction each, in %v", len(later), took)
	took = c.each("ask in", c.names, c.toldItsOwn)
	t.Logf("asked in %d containers in %v; the daemon has %s", count, took, rss(t, d.pid()))

	begin = time.Now()
	c.each("stop", before, c.kill)
	c.await(d, "let go of", len(later))
	t.Logf("%d containers stopped, and let go of, in %v", len(before), since(begin))
	again := before[:min(len(before), 20)]
	c.each("start", again, func(name string) error { return c.tryStart(t, name) })
	c.await(d, "found", len(later)+len(again))
	c.each("ask in", again, c.toldItsOwn)
}

// startWatched starts containers and looks how long after that of each the daemon has it.
func (c *lxcCrowd) startWatched(d *daemon, names []string) {
	c.t.Helper()
	api := adminclient.InRunDir(d.RunDir)
	var found []time.Duration
	took := c.each("start", names, func(name string) error {
		if err := c.tryStart(c.t, name); err != nil {
			return err
		}
		begin := time.Now()
		for {
			got, err := api.Container(c.t.Context(), name)
			if err == nil && strings.EqualFold(got.Status, "running") {
				break
			}
			if time.Since(begin) > manyPatience {
				return fmt.Errorf("%s was not found: %w", name, err)
			}
			time.Sleep(time.Millisecond)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		found = append(found, time.Since(begin))
		return nil
	})
	slices.Sort(found)
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	c.t.Logf("%d started beside the daemon in %v; known to it %v / %v / %v after lxc-start has returned (least, median, greatest)",
		len(names), took, round(found[0]), round(found[len(found)/2]), round(found[len(found)-1]))
}

func (c *lxcCrowd) configure(api *adminclient.Client, name string) error {
	return api.UpdateConfig(c.t.Context(), name, admin.Change{Set: map[string]string{"user.me": name}})
}

// toldItsOwn asks from inside, with one process for both questions.
func (c *lxcCrowd) toldItsOwn(name string) error {
	out, err := c.attach(c.t.Context(), name, "curl", "-sS", "--unix-socket", "/dev/lxd/sock", "http://lxd/1.0/config/user.me", "http://lxd/1.0/meta-data").Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if text := string(out); !strings.HasPrefix(text, name+"#cloud-config") || !strings.Contains(text, "local-hostname: "+name+"\n") {
		return fmt.Errorf("%s is told %q", name, text)
	}
	return nil
}

// kill stops a container, running or not.
func (c *lxcCrowd) kill(name string) error {
	_, _ = tryCommand(c.t, "lxc-stop", "-P", c.path, "-n", name, "-k") // fails where it does not run
	_, err := tryCommand(c.t, "lxc-wait", "-P", c.path, "-n", name, "-s", "STOPPED", "-t", "20")
	return err
}

// await waits until the daemon has so many containers bound.
func (c *lxcCrowd) await(d *daemon, what string, want int) {
	c.t.Helper()
	for deadline := time.Now().Add(manyPatience); ; time.Sleep(5 * time.Millisecond) {
		s := d.status()
		if s.Bound == want {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("not all are %s: %d are bound, want %d", what, s.Bound, want)
		}
	}
}

// each does something to several containers at a time.
func (c *lxcCrowd) each(what string, names []string, do func(name string) error) time.Duration {
	c.t.Helper()
	begin := time.Now()
	var group sync.WaitGroup
	errs := make([]error, manyAtOnce)
	for w := range manyAtOnce {
		group.Go(func() {
			for i := w; i < len(names) && errs[w] == nil; i += manyAtOnce {
				errs[w] = do(names[i])
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		c.t.Fatalf("cannot %s a container: %v", what, err)
	}
	return since(begin)
}

func since(begin time.Time) time.Duration { return time.Since(begin).Round(time.Millisecond) }

// rss is the resident memory of a process.
func rss(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return "RSS " + string(vmRSS.FindSubmatch(text)[1])
}

var vmRSS = regexp.MustCompile(`VmRSS:\s*(\d+ kB)`)
