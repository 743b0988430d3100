package main

import (
	"fmt"
	"strings"
	"testing"

	"devlxd/admin"
	"devlxd/server"
)

// windowText is what a window shows.
func windowText(lines [][]span) string {
	var b strings.Builder
	for _, line := range lines {
		for _, s := range line {
			b.WriteString(s.text)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func someTop() *admin.Top {
	top := &admin.Top{Daemon: admin.TopDaemon{
		Version: "1.2.3", PID: 7, Uptime: 93784, Health: admin.HealthDegraded, Containers: 3, Bound: 2, Connections: 12345, Subscribers: 3,
		TopCounters: admin.TopCounters{RequestsRate: 30123.4, EventsRate: 0.5, BytesRate: 3.5 * 1024 * 1024}, CPUPercent: 12.34, RSS: 123 << 20,
	}}
	for i, name := range []string{"web", "a-name-that-is-longer-than-its-column", "evil\x1b[2J\x07\n\u202e"} {
		top.Containers = append(top.Containers, admin.TopContainer{
			Name: name, Connections: int64(i), Lag: uint64(i) * 1000, TopCounters: admin.TopCounters{RequestsRate: 1234.5 * float64(i)},
		})
	}
	return top
}

func TestTopView(t *testing.T) {
	v := topView{sort: admin.SortRequests, top: someTop()}
	const want = `devlxd 1.2.3  pid 7  up 1d 02:03  health degraded (see devlxd status)
3 containers, 2 running  12345 connections  3 subscribers
30.1K requests/s  0.5 events/s  3.5M bytes/s  CPU 12.3%  memory 123M
sorted by requests; h help, q quit
NAME               REQ/S  CONNS   SUBS EVENTS/S BYTES/S WAITS/S    LAG   LOST
web                    0      0      0        0       0       0      0      0
a-name-that-is-~    1234      1      0        0       0       0   1000      0
"evil\x1b[2J\a\~    2469      2      0        0       0       0   2000      0
`
	if got := windowText(v.lines(77, 20)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var printed strings.Builder
	if err := v.print(&printed); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"\na-name-that-is-longer-than-its-column  ", "\n" + `"evil\x1b[2J\a\n\u202e"  `} {
		if !strings.Contains(printed.String(), name) {
			t.Errorf("no %q in\n%s", name, &printed)
		}
	}
	v.err = "cannot reach\x1b[31m devlxd"
	if got := windowText(v.lines(77, 4)); !strings.HasSuffix(got, "\n"+`"cannot reach\x1b[31m devlxd"`+"\n") {
		t.Errorf("an error is shown as\n%s", got)
	}
}

// TestTopViewOfAnyWindow: there is always something to show, never more than the window has lines, and nothing that a terminal would obey.
func TestTopViewOfAnyWindow(t *testing.T) {
	for width := range 90 {
		for height := range 12 {
			for _, v := range []topView{
				{top: someTop()}, {top: someTop(), offset: 2}, {top: someTop(), offset: 99}, {top: &admin.Top{}}, {}, {err: "no\x1b"}, {help: true},
			} {
				lines := v.lines(width, height)
				if len(lines) > height || height > 0 && len(lines) == 0 {
					t.Fatalf("%d lines in a window of %d", len(lines), height)
				}
				if s := windowText(lines); strings.ContainsFunc(strings.ReplaceAll(s, "\n", ""), unprintable) {
					t.Fatalf("%d x %d: %q", width, height, s)
				}
			}
		}
	}
}

func TestFigure(t *testing.T) {
	for _, c := range []struct {
		f, base float64
		want    string
	}{
		{0, 1000, "0"}, {0.04, 1000, "0.0"}, {1.25, 1000, "1.2"}, {3, 1000, "3"}, {9.96, 1000, "10"}, {999.6, 1000, "1000"}, {9999, 1000, "9999"}, {10000, 1000, "10.0K"},
		{123456, 1000, "123K"}, {999499, 1000, "999K"}, {999999, 1000, "1.0M"}, {1.5e18, 1000, "1.5E"}, {1024, 1024, "1024"}, {10240, 1024, "10.0K"},
		{4 << 30, 1024, "4.0G"}, {1.8e19, 1000, "18.0E"},
	} {
		if got := figure(c.f, c.base); got != c.want {
			t.Errorf("figure(%v, %v) = %q; want %q", c.f, c.base, got, c.want)
		}
	}
}

// TestTopSorts: the words of the admin API are those of the server, and all columns can be sorted by.
func TestTopSorts(t *testing.T) {
	sorts := make(map[admin.TopSort]bool)
	for _, by := range admin.TopSorts() {
		rank, ok := server.ParseRank(string(by))
		if sorts[by] = true; !ok || rank.String() != string(by) {
			t.Errorf("the server knows no order by %q", by)
		}
	}
	keys := make(map[rune]string)
	for _, c := range append(topColumns(), column{name: "NAME", key: 'n', sort: admin.SortName}) {
		if keys[c.key] != "" || c.key == 'q' || c.key == 'h' {
			t.Errorf("key %q of %s is taken", c.key, c.name)
		}
		keys[c.key] = c.name
		delete(sorts, c.sort)
	}
	if len(sorts) > 0 {
		t.Errorf("no column is sorted by %v", sorts)
	}
}

func TestHealthError(t *testing.T) {
	if err := healthError(&admin.Health{State: admin.HealthOK}); err != nil {
		t.Error(err)
	}
	h := admin.Health{State: admin.HealthFailing, Reasons: []admin.HealthReason{{Name: "a", Detail: "b: do c"}, {Name: "d", Detail: "e"}}}
	if got := fmt.Sprint(healthError(&h)); got != "health is failing: a: b: do c; d: e" {
		t.Errorf("%s", got)
	}
}

// TestTopScroll: an answer to what was asked before the list was scrolled leaves it where it is; one that says that there are fewer
// containers does not.
func TestTopScroll(t *testing.T) {
	look := func(containers, limit int) topAnswer {
		a := topAnswer{limit: limit, top: admin.Top{Daemon: admin.TopDaemon{Containers: containers}}}
		a.top.Containers = make([]admin.TopContainer, min(containers, limit))
		return a
	}
	s := &topScreen{}
	steps := []struct {
		what string
		do   func()
		want int
	}{
		{"nothing is known yet", func() { s.scroll(1) }, 0},
		{"the first answer", func() { s.answered(t.Context(), look(9, 2)) }, 0},
		{"scrolled", func() { s.scroll(5) }, 5},
		{"an answer of before", func() { s.answered(t.Context(), look(9, 2)) }, 5},
		{"one of after", func() { s.answered(t.Context(), look(9, 7)) }, 5},
		{"to the end", func() { s.scroll(99) }, 8},
		{"containers have gone", func() { s.answered(t.Context(), look(3, 10)) }, 2},
		{"above the first", func() { s.scroll(-1) }, 0},
		{"with a limit", func() {
			s.o.limit = 2
			s.scroll(99)
		}, 1},
	}
	for _, step := range steps {
		if step.do(); s.view.offset != step.want {
			t.Fatalf("%s: %d containers are scrolled out; want %d", step.what, s.view.offset, step.want)
		}
	}
}
