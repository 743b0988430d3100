package fault

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// newTestBoard is a board whose log has no time, and whose clock stands still.
func newTestBoard() (b *Board, lines func() []string, clock *time.Time) {
	var buf bytes.Buffer
	now := time.Unix(1000, 0)
	log := slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	lines = func() []string {
		defer buf.Reset()
		return strings.Split(strings.TrimSuffix(buf.String(), "\n"), "\n")
	}
	return NewBoard(log, func() time.Time { return now }), lines, &now
}

func wantLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s: the log says\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const (
	full = `level=ERROR msg="changes are refused: free some space for the state directory" `
	free = `level=INFO msg="changes are written again" fault=state_full `
)

// TestBoard: a condition is told once while it holds, and once when it has passed.
func TestBoard(t *testing.T) {
	b, lines, now := newTestBoard()
	b.Leave(StateFull, StateError)
	wantLines(t, "left before it was entered", lines(), "")
	for range 3 {
		b.Enter(StateFull, "error", "no space")
		*now = now.Add(2 * Interval)
	}
	wantLines(t, "entered", lines(), full+`error="no space" fault=state_full`)
	if !b.Active(StateFull) || b.Total(StateFull) != 1 || b.Active(StateError) {
		t.Errorf("active %v, total %d; want it once, and no other", b.Active(StateFull), b.Total(StateFull))
	}
	b.Leave(StateError, StateFull)
	b.Leave(StateFull)
	wantLines(t, "left", lines(), free+"lasted=1m0s")
	if b.Active(StateFull) || b.Total(StateFull) != 1 {
		t.Errorf("active %v, total %d after it was left", b.Active(StateFull), b.Total(StateFull))
	}
}

// TestBoardThrottle: what comes and goes says so once in a while, and what stays after that is told in the end.
func TestBoardThrottle(t *testing.T) {
	b, lines, now := newTestBoard()
	for range 100 {
		b.Enter(StateFull)
		b.Leave(StateFull)
	}
	wantLines(t, "a hundred times", lines(), full+"fault=state_full", free+"lasted=0s")
	*now = now.Add(Interval - time.Millisecond)
	b.Enter(StateFull)
	wantLines(t, "too early", lines(), "")
	*now = now.Add(time.Millisecond)
	b.Enter(StateFull)
	wantLines(t, "it stays", lines(), full+"fault=state_full times=100")
	b.Leave(StateFull)
	wantLines(t, "it has passed", lines(), free+"lasted=1ms")
	if got := b.Total(StateFull); got != 101 {
		t.Errorf("total = %d; want 101", got)
	}
}

// TestBoardClockJumps: the time of the throttle may go back.
func TestBoardClockJumps(t *testing.T) {
	b, lines, now := newTestBoard()
	b.Enter(StateFull)
	*now = now.Add(-time.Hour)
	b.Leave(StateFull)
	if got := lines(); len(got) != 2 {
		t.Errorf("the log says %q; want both lines", got)
	}
}

// TestTable: each kind has a label of its own and says something; those that can be left say so.
func TestTable(t *testing.T) {
	seen := make(map[string]bool)
	for _, k := range All() {
		x := table[k]
		if x.label == "" || x.enter == "" || seen[x.label] {
			t.Errorf("kind %d: %+v", k, x)
		}
		seen[x.label] = true
	}
	if got := Kind(numKinds).String(); got != "unknown" {
		t.Errorf("a kind that does not exist is %q", got)
	}
	if numKinds > 32 {
		t.Errorf("%d kinds do not fit into the mask", numKinds)
	}
}

// TestMetrics: every kind is there from the start.
func TestMetrics(t *testing.T) {
	b, _, _ := newTestBoard()
	problems, err := testutil.CollectAndLint(b.Collector())
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if n := testutil.CollectAndCount(b.Collector()); n != 2*int(numKinds) {
		t.Errorf("%d series; want two for each of %d kinds", n, numKinds)
	}
	b.Enter(Memory)
	b.Leave(Memory)
	b.Enter(Memory)
	var want strings.Builder
	want.WriteString("# HELP devlxd_faults_total Times that a condition of the host began to keep devlxd from some of its work.\n# TYPE devlxd_faults_total counter\n")
	for _, k := range All() {
		n := 0
		if k == Memory {
			n = 2
		}
		fmt.Fprintf(&want, "devlxd_faults_total{fault=%q} %d\n", k, n)
	}
	if err := testutil.CollectAndCompare(b.Collector(), strings.NewReader(want.String()), "devlxd_faults_total"); err != nil {
		t.Error(err)
	}
}

// TestBoardRace: anyone may call anything at any time; in the end the board agrees with the last word.
func TestBoardRace(t *testing.T) {
	b := NewBoard(nil, nil)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 1000 {
				b.Enter(Kind(i % 2))
				b.Leave(Kind(i%2), Kind(2))
			}
		})
	}
	all.Wait()
	for _, k := range All() {
		if b.Active(k) {
			t.Errorf("%s is still active", k)
		}
	}
}
