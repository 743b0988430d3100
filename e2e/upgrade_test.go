package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/admin"
	adminclient "devlxd/admin/client"
	"devlxd/internal/daemontest"
	"devlxd/internal/fdpass"
	"devlxd/internal/sandbox"
	"devlxd/server"
)

// upgradable is a daemon whose successors are ended with the test. Its log goes on over them.
func upgradable(t *testing.T) *daemon {
	t.Helper()
	d := newDaemon(t)
	makeUpgradable(t, d)
	d.Start()
	return d
}

// makeUpgradable has the successors of a daemon that is yet to be started ended with the test.
func makeUpgradable(t *testing.T, d *daemon) {
	t.Helper()
	// Successors become children of this process when their parent ends, so that they can be waited for.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	d.Change = func(cmd *exec.Cmd) { // each process has a log of its own
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.Close() })
		cmd.Stderr = w
		go copyLog(d.Log, r)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
}

func copyLog(log *daemontest.Buffer, r *os.File) {
	b := make([]byte, 64<<10)
	for {
		n, err := r.Read(b)
		_, _ = log.Write(b[:n])
		if err != nil {
			return
		}
	}
}

// upgrade runs "devlxd upgrade", waits for the end of the old process, and makes the new one that of d.
func (d *daemon) upgrade(args ...string) admin.Upgraded {
	d.t.Helper()
	var u admin.Upgraded
	if err := json.Unmarshal([]byte(d.CLI(append([]string{"upgrade", "-f", "json"}, args...)...)), &u); err != nil {
		d.t.Fatal(err)
	}
	select {
	case err := <-d.Exited:
		if err != nil {
			d.t.Fatalf("the old process ended with %v", err)
		}
	case <-time.After(patience):
		d.t.Fatal("the old process goes on")
	}
	d.follow(u.PID)
	return u
}

// follow makes a process that was started by the last one that of d.
func (d *daemon) follow(pid int) {
	d.t.Helper()
	p, err := os.FindProcess(pid)
	if err != nil {
		d.t.Fatal(err)
	}
	d.Cmd = &exec.Cmd{Process: p}
	exited := make(chan error, 1)
	d.Exited = exited
	go func() {
		state, err := p.Wait()
		if err == nil && !state.Success() {
			err = fmt.Errorf("%v", state)
		}
		exited <- err
	}()
}

func (d *daemon) status() (s admin.Status) {
	d.t.Helper()
	s, err := adminclient.InRunDir(d.RunDir).Status(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// upgradeLoad is how large TestUpgradeUnderLoad is: DEVLXD_TEST_UPGRADE_LOAD=CONTAINERS,SUBSCRIBERS,REQUESTS,EVENTS, all of it in all, the last
// two each second.
func upgradeLoad(t *testing.T) (containers, subscribers, requests, events int) {
	t.Helper()
	value := os.Getenv("DEVLXD_TEST_UPGRADE_LOAD")
	if value == "" {
		return 4, 500, 500, 200
	}
	if n, err := fmt.Sscanf(value, "%d,%d,%d,%d", &containers, &subscribers, &requests, &events); n != 4 || err != nil {
		t.Fatalf("DEVLXD_TEST_UPGRADE_LOAD=%q: give CONTAINERS,SUBSCRIBERS,REQUESTS,EVENTS", value)
	}
	return containers, subscribers, requests, events
}

// TestUpgradeUnderLoad: two upgrades, one after the other, while guests ask, connect and follow events, and an operator makes changes. No request
// or connect or change fails, and no event is lost or comes twice.
func TestUpgradeUnderLoad(t *testing.T) {
	containers, subscribers, requests, events := upgradeLoad(t)
	d := upgradable(t)
	guests := make([]*running, containers)
	for i := range guests {
		name := fmt.Sprint("u", i)
		c := d.Bound(name, "user.name="+name, "limits.devlxd.subscribers=unlimited", "limits.devlxd.connections=unlimited")
		guests[i] = background(t, func(ctx context.Context) *sandbox.Cmd {
			return c.Guest(ctx, "load", strconv.Itoa(subscribers/containers), strconv.Itoa(requests/containers))
		})
	}
	stop := make(chan struct{})
	counts := make([]int, containers)
	var publishers sync.WaitGroup
	for i := range containers {
		publishers.Go(func() {
			counts[i] = publish(t, d.RunDir, fmt.Sprint("u", i), time.Second*time.Duration(containers)/time.Duration(events), stop)
		})
	}
	finish := sync.OnceFunc(func() {
		close(stop)
		publishers.Wait()
	})
	defer finish()
	last, began := d.pid(), time.Now()
	for round := range 2 {
		time.Sleep(time.Second) // of load before, between and after
		u := d.upgrade()
		s := d.status()
		if u.PID == last || s.PID != u.PID || s.TakenOver == nil || s.TakenOver.PID != last || u.Connections < subscribers {
			t.Errorf("round %d: %+v, then %+v, %+v", round, u, s, s.TakenOver)
		}
		t.Logf("round %d: %d connections, guests waited for %.1f ms", round, u.Connections, u.Pause)
		last = u.PID
	}
	time.Sleep(time.Second)
	finish()
	took, sum := time.Since(began), loadResult{}
	changes := 0
	for i, g := range guests {
		var got loadResult
		g.result(&got)
		for _, f := range got.Failures {
			t.Errorf("u%d: %s", i, f)
		}
		if want := uint64((counts[i] + 1) * (subscribers / containers)); got.Events != want {
			t.Errorf("u%d: %d events were read; want %d", i, got.Events, want)
		}
		sum.Events += got.Events
		sum.Requests += got.Requests
		changes += counts[i]
		if got.Requests == 0 || counts[i] == 0 {
			t.Errorf("u%d: there was no load", i)
		}
	}
	t.Logf("in %.1f s: %d changes, %d events delivered, %d requests", took.Seconds(), changes, sum.Events, sum.Requests)
	metrics := d.CLI("status")
	if !strings.Contains(metrics, "slow_readers: 0") {
		t.Errorf("there were slow readers:\n%s", metrics)
	}
}

// publish sets user.n to 0, 1, 2 and so on until it is stopped, then user.end, and returns how many numbers there were.
func publish(t *testing.T, runDir, name string, interval time.Duration, stop <-chan struct{}) (n int) {
	c := adminclient.InRunDir(runDir)
	set := func(key, value string) {
		if err := c.UpdateConfig(context.Background(), name, admin.Change{Set: map[string]string{key: value}}); err != nil {
			t.Errorf("a change failed: %v", err)
		}
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ; ; n++ {
		select {
		case <-stop:
			set("user.end", "1")
			return n
		case <-tick.C:
			set("user.n", strconv.Itoa(n))
		}
	}
}

// TestUpgradeBySignal: SIGUSR2 does what the command does.
func TestUpgradeBySignal(t *testing.T) {
	need(t, "curl")
	d := upgradable(t)
	web := d.Bound("web", "user.a=1")
	old := d.Cmd.Process.Pid
	if err := d.Cmd.Process.Signal(unix.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.Exited:
	case <-time.After(2 * patience):
		t.Fatalf("the old process goes on:\n%s", d.Log)
	}
	d.follow(d.pid())
	if d.pid() == old {
		t.Error("the old process answers")
	}
	if got := parseAnswer(in(t, web, curlArgs("/1.0/config/user.a")...)); got.body != "1" {
		t.Errorf("a guest is answered %+v", got)
	}
	d.CLI("config", "set", "web", "user.a=2")
	if got := parseAnswer(in(t, web, curlArgs("/1.0/config/user.a")...)); got.body != "2" {
		t.Errorf("a guest is answered %+v", got)
	}
	// The new process is the one of the run directory, and its end leaves nothing.
	if said := d.second(); !strings.Contains(said, fmt.Sprintf("another devlxd (pid %d)", d.pid())) {
		t.Errorf("a second daemon said %s", said)
	}
	d.Stop()
	for _, path := range []string{d.Socket(), filepath.Join(d.RunDir, "admin.sock")} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
}

// Names under which this test binary is a successor that does not take over, see badSuccessor.
const (
	succeedExit    = "succeed-exit"    // ends at once
	succeedHang    = "succeed-hang"    // says nothing
	succeedVersion = "succeed-version" // has another state format
	succeedDie     = "succeed-die"     // ends when it has the store
	succeedRefuse  = "succeed-refuse"  // does not want to
	succeedStall   = "succeed-stall"   // takes everything and does not serve
)

// TestUpgradeFails: whatever is wrong with the new binary, the old process says so and goes on, its event streams too; then a good one takes
// over.
func TestUpgradeFails(t *testing.T) {
	need(t, "curl")
	d := upgradable(t)
	web := d.Bound("web", "user.a=0")
	sub := background(t, func(ctx context.Context) *sandbox.Cmd { return web.Guest(ctx, "events", "", "9") })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	n := 0
	change := func() {
		t.Helper()
		n++
		d.CLI("config", "set", "web", fmt.Sprint("user.a=", n))
		if got := parseAnswer(in(t, web, curlArgs("/1.0/config/user.a")...)); got.body != strconv.Itoa(n) {
			t.Errorf("a guest is answered %+v", got)
		}
	}
	change()
	for _, tt := range []struct{ binary, want string }{
		{filepath.Join(dir, "missing"), "could not be started"},
		{succeedExit, "could not be started"},
		{succeedVersion, "versions do not fit"},
		{succeedDie, "ended before it took over"},
		{succeedRefuse, "refused to take over: no disk"},
		{succeedStall, "did not answer in time"},
		{succeedHang, "did not answer in time"},
	} {
		binary := filepath.Join(dir, filepath.Base(tt.binary))
		if !filepath.IsAbs(tt.binary) {
			if err := os.Symlink(self, binary); err != nil {
				t.Fatal(err)
			}
		}
		before := d.pid()
		out, err := d.TryCLI("upgrade", "--binary", binary)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("%s = %q, %v; want one line with %q", tt.binary, out, err, tt.want)
		}
		if d.pid() != before {
			t.Fatalf("%s: another process serves", tt.binary)
		}
		change()
	}
	d.upgrade()
	change()
	var got eventsResult
	sub.result(&got)
	for i, e := range got.Events {
		if e.Metadata["value"] != strconv.Itoa(i+1) {
			t.Errorf("event %d is %v", i, e)
		}
	}
}

// badSuccessor plays a new devlxd where this test binary is started as one.
func badSuccessor() {
	name := filepath.Base(os.Args[0])
	if !strings.HasPrefix(name, "succeed-") {
		return
	}
	switch name {
	case succeedExit:
		os.Exit(1)
	case succeedHang:
		time.Sleep(time.Minute)
		os.Exit(1)
	}
	conn, err := fdpass.New(os.NewFile(3, "predecessor"))
	if err != nil {
		os.Exit(fail(err))
	}
	send := func(step uint16, v any) {
		body, _ := json.Marshal(v)
		_ = conn.Send(fdpass.Message{Kind: step, Body: body}, patience)
	}
	receive := func() {
		if _, err := conn.Receive(patience); err != nil {
			os.Exit(fail(err))
		}
	}
	format := server.HandoverVersion
	if name == succeedVersion {
		format = 1 << 20
	}
	send(1, map[string]any{"format": format, "version": "other", "pid": os.Getpid()})
	receive() // the greeting
	if name == succeedRefuse {
		send(8, map[string]string{"reason": "no disk"})
		time.Sleep(time.Minute)
	}
	send(2, nil)
	receive() // the store is free
	if name == succeedDie {
		os.Exit(1)
	}
	send(4, nil)
	for {
		receive()
	}
}

// TestUpgradeUnderSystemd: what a service manager is told in an upgrade, and in one that fails.
func TestUpgradeUnderSystemd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	told := func(want string) {
		t.Helper()
		b := make([]byte, 4096)
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		n, err := conn.Read(b)
		if got, _, _ := strings.Cut(string(b[:n]), "\nMONOTONIC_USEC="); err != nil || got != want {
			t.Errorf("systemd is told %q, %v; want %q", b[:n], err, want)
		}
	}
	t.Setenv("NOTIFY_SOCKET", path)
	d := upgradable(t)
	told("READY=1")
	if out, err := d.TryCLI("upgrade", "--binary", filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Errorf("it was upgraded: %s", out)
	}
	told("RELOADING=1")
	told("READY=1")
	u := d.upgrade()
	told("RELOADING=1")
	told(fmt.Sprintf("MAINPID=%d\nREADY=1\nWATCHDOG=1", u.PID))
	d.Stop()
	told("STOPPING=1")
}
