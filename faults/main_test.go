// Package faults takes away from the built devlxd what it needs of its host, and
// gives it back: descriptors, memory, the disk, the view of cgroups and of
// processes, and the processor while a hundred thousand guests connect. Each time
// the daemon has to go on, say so once in its log and in a metric, lose nothing that
// it has acknowledged, and recover by itself.
//
// The faults are the kernel's own where one can be had on a machine that goes on
// working: limits, mounts in a namespace of the daemon, attributes of a file. Where
// it cannot (a kernel without memory), seccomp makes the kernel answer the system call
// with the error.
package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"devlxd/internal/daemontest"
	"devlxd/internal/sandbox"
)

// patience bounds every wait for something that must come.
const patience = 60 * time.Second

// binary is the devlxd under test, built once.
var binary string

func TestMain(m *testing.M) {
	launchMain()
	sandbox.Main(roles)
	if code, outside := private(); outside {
		os.Exit(code)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "devlxd-faults-")
	if err == nil {
		defer os.RemoveAll(dir)
		binary, err = daemontest.Build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// daemon is a devlxd from which something is taken.
type daemon struct {
	*daemontest.Daemon
	host  launch // how its process is made
	admin *http.Client
}

// newDaemon makes a daemon that is yet to be started, in a world as l says.
func newDaemon(t *testing.T, l launch) *daemon {
	t.Helper()
	d := &daemon{Daemon: daemontest.New(t, binary), host: l}
	d.Change = d.host.change
	// One guest stands for many.
	d.Args = append(d.Args, "--limits", "connections=unlimited,requests=unlimited")
	// One kept connection, which is there before descriptors run out.
	transport := &http.Transport{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", filepath.Join(d.RunDir, "admin.sock"))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	d.admin = &http.Client{Transport: transport, Timeout: patience}
	return d
}

// serve is newDaemon that is started.
func serve(t *testing.T, l launch) *daemon {
	t.Helper()
	d := newDaemon(t, l)
	d.Start()
	return d
}

// metric is the value of a series, summed over the labels that are not given as
// NAME, VALUE.
func (d *daemon) metric(name string, labels ...string) float64 {
	d.T.Helper()
	resp, err := d.admin.Get("http://devlxd/metrics")
	if err != nil {
		d.T.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		d.T.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	family := families[name]
	if family == nil {
		d.T.Fatalf("there is no metric %s", name)
	}
	sum := 0.0
	for _, m := range family.GetMetric() {
		if has(m, labels) {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return sum
}

func has(m *dto.Metric, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		found := false
		for _, l := range m.GetLabel() {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}

// active and total are the metrics of a fault.
func (d *daemon) active(fault string) bool {
	return d.metric("devlxd_fault_active", "fault", fault) == 1
}
func (d *daemon) total(fault string) float64 {
	return d.metric("devlxd_faults_total", "fault", fault)
}

// lines are those of the log that are about a fault.
func (d *daemon) lines(fault string) (list []string) {
	for line := range strings.Lines(d.Log.String()) {
		var entry struct{ Msg, Fault, Level string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Fault == fault {
			list = append(list, entry.Level+" "+entry.Msg)
		}
	}
	return list
}

// wantHeld checks that a fault is told of while it holds: in the metric, and once in the log.
func (d *daemon) wantHeld(fault, line string) {
	d.T.Helper()
	eventually(d.T, "the fault "+fault+" is told of", func() bool { return d.active(fault) && len(d.lines(fault)) > 0 })
	if got := d.lines(fault); len(got) != 1 || !strings.HasPrefix(got[0], "ERROR ") || !strings.Contains(got[0], line) {
		d.T.Errorf("the log says %q; want one line with %q", got, line)
	}
}

// wantPassed checks that a fault is over: it was entered once, and left once.
func (d *daemon) wantPassed(fault, line string) {
	d.T.Helper()
	eventually(d.T, "the fault "+fault+" is over", func() bool { return !d.active(fault) })
	if got := d.lines(fault); len(got) != 2 || !strings.HasPrefix(got[1], "INFO ") || !strings.Contains(got[1], line) {
		d.T.Errorf("the log says %q; want a second line with %q", got, line)
	}
	if n := d.total(fault); n < 1 {
		d.T.Errorf("it was entered %v times; want once at least", n)
	}
}

// wantNoFault checks that no fault holds and none was ever entered.
func (d *daemon) wantNoFault() {
	d.T.Helper()
	if n := d.metric("devlxd_faults_total"); n != 0 {
		d.T.Errorf("%v faults were entered; want none", n)
	}
}

// eventually waits for a condition that another process brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// guest is a role that runs in a container and does as it is told, a line at a time.
type guest struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Reader
}

// guest starts the role in a container; it ends with the test.
func (d *daemon) guest(c *sandbox.Container) *guest {
	d.T.Helper()
	in, writer, err := os.Pipe()
	if err != nil {
		d.T.Fatal(err)
	}
	reader, out := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := c.Guest(ctx, "guest")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &stderr
	if err := cmd.Start(); err != nil {
		d.T.Fatal(err)
	}
	in.Close()
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		out.CloseWithError(fmt.Errorf("the guest has ended: %v %s", err, &stderr))
		ended <- err
	}()
	d.T.Cleanup(func() {
		writer.Close()
		select {
		case <-ended:
		case <-time.After(patience):
			d.T.Error("a guest does not end")
		}
		cancel()
	})
	return &guest{d.T, writer, bufio.NewReader(reader)}
}

// tell gives the guest an order, and returns when it has begun or been carried out: see
// the roles.
func (g *guest) tell(order string, args ...any) {
	g.t.Helper()
	if _, err := fmt.Fprintln(g.in, append([]any{order}, args...)...); err != nil {
		g.t.Fatal(err)
	}
}

// hears is the guest's next line.
func (g *guest) hears() string {
	g.t.Helper()
	type result struct {
		line string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		line, err := g.out.ReadString('\n')
		got <- result{strings.TrimSuffix(line, "\n"), err}
	}()
	select {
	case r := <-got:
		if r.err != nil {
			g.t.Fatalf("%q: %v", r.line, r.err)
		}
		return r.line
	case <-time.After(patience):
		g.t.Fatal("the guest says nothing")
	}
	return ""
}

// says checks the guest's next line.
func (g *guest) says(want string) {
	g.t.Helper()
	if got := g.hears(); got != want {
		g.t.Fatalf("the guest says %q; want %q", got, want)
	}
}

// get asks on a new connection and returns "CODE BODY".
func (g *guest) get(path string) string {
	g.t.Helper()
	g.tell("get", path)
	return g.hears()
}

func (g *guest) wantConfig(key, value string) {
	g.t.Helper()
	if got, want := g.get("/1.0/config/"+key), "200 "+value; got != want {
		g.t.Errorf("%s = %.80q; want %.80q", key, got, want)
	}
}
