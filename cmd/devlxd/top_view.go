package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"devlxd/admin"
)

// look is how a piece of text stands out.
type look uint8

const (
	lookPlain look = iota
	lookBold
	lookTitle  // the line of column names
	lookSorted // in it, the column that is sorted by
	lookGood
	lookBad
)

// span is a piece of a line.
type span struct {
	text string
	look look
}

// topView is what "devlxd top" shows: a pure function of the last answer and the size of the window.
type topView struct {
	sort   admin.TopSort
	top    *admin.Top // nil: nothing was heard yet
	err    string     // why there is no newer one; "": there is
	offset int        // containers that are scrolled out of the window
	help   bool
}

// column is a column of the list.
type column struct {
	name  string
	key   rune // that sorts by it
	sort  admin.TopSort
	width int
	cell  func(*admin.TopContainer) string
}

// nameWidth is that of the names at least, where the window has it.
const nameWidth = 16

// topColumns are those behind the name; where they do not fit, the last are left out.
func topColumns() []column {
	return []column{
		{"REQ/S", 'r', admin.SortRequests, 8, func(c *admin.TopContainer) string { return figure(c.RequestsRate, 1000) }},
		{"CONNS", 'c', admin.SortConnections, 7, func(c *admin.TopContainer) string { return strconv.FormatInt(c.Connections, 10) }},
		{"SUBS", 's', admin.SortSubscribers, 7, func(c *admin.TopContainer) string { return strconv.FormatInt(c.Subscribers, 10) }},
		{"EVENTS/S", 'e', admin.SortEvents, 9, func(c *admin.TopContainer) string { return figure(c.EventsRate, 1000) }},
		{"BYTES/S", 'b', admin.SortBytes, 8, func(c *admin.TopContainer) string { return figure(c.BytesRate, 1024) }},
		{"WAITS/S", 'w', admin.SortWaits, 8, func(c *admin.TopContainer) string { return figure(c.WaitsRate, 1000) }},
		{"LAG", 'l', admin.SortLag, 7, func(c *admin.TopContainer) string { return figure(float64(c.Lag), 1000) }},
		{"LOST", 'o', admin.SortLost, 7, func(c *admin.TopContainer) string { return figure(float64(c.Lost), 1000) }},
	}
}

// figure is a number in at most five characters; base is 1000, or 1024 for bytes.
func figure(f, base float64) string {
	const units = " KMGTPE"
	unit := 0
	for unit < len(units)-1 && f >= 999.5 && (unit > 0 || f >= 9999.5) {
		f /= base
		unit++
	}
	text := strconv.FormatFloat(f, 'f', 0, 64)
	if f < 9.95 && f != float64(int64(f)) || unit > 0 && f < 99.95 {
		text = strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strings.TrimSpace(text + units[unit:unit+1])
}

// harmless is a name or message that cannot do anything to a terminal.
func harmless(s string) string {
	if strings.ContainsFunc(s, unprintable) {
		return strconv.Quote(s)
	}
	return s
}

// uptime is "3d 04:05" or "04:05:06".
func uptime(seconds int64) string {
	d := time.Duration(seconds) * time.Second
	h, m, s := int(d.Hours()), int(d.Minutes())%60, seconds%60
	if h >= 24 {
		return fmt.Sprintf("%dd %02d:%02d", h/24, h%24, m)
	}
	return fmt.Sprintf("%02d:%02d:%02d", h, m, s)
}

// head is what is said of the daemon as a whole.
func (v *topView) head() [][]span {
	d := &v.top.Daemon
	health := span{string(d.Health), lookGood}
	if d.Health != admin.HealthOK {
		health = span{string(d.Health) + " (see devlxd status)", lookBad}
	}
	return [][]span{
		{{"devlxd " + harmless(d.Version), lookBold}, {fmt.Sprintf("  pid %d  up %s  health ", d.PID, uptime(d.Uptime)), lookPlain}, health},
		{{fmt.Sprintf("%d containers, %d running  %d connections  %d subscribers", d.Containers, d.Bound, d.Connections, d.Subscribers), lookPlain}},
		{{fmt.Sprintf("%s requests/s  %s events/s  %s bytes/s  CPU %.1f%%  memory %s", figure(d.RequestsRate, 1000), figure(d.EventsRate, 1000),
			figure(d.BytesRate, 1024), d.CPUPercent, figure(float64(d.RSS), 1024)), lookPlain}},
	}
}

// title is the line of column names, and how many columns fit.
func (v *topView) title(width int) (line []span, columns []column) {
	left := width - nameWidth
	for _, c := range topColumns() {
		if left -= c.width; left < 0 {
			break
		}
		columns = append(columns, c)
	}
	look := func(by admin.TopSort) look {
		if v.sort == by {
			return lookSorted
		}
		return lookTitle
	}
	line = append(line, span{fmt.Sprintf("%-*s", v.nameRoom(width, columns), "NAME"), look(admin.SortName)})
	for _, c := range columns {
		line = append(line, span{fmt.Sprintf("%*s", c.width, c.name), look(c.sort)})
	}
	return line, columns
}

// nameRoom is how wide names may be.
func (v *topView) nameRoom(width int, columns []column) int {
	for _, c := range columns {
		width -= c.width
	}
	return max(width, 1)
}

// row is the line of a container.
func (v *topView) row(c *admin.TopContainer, room int, columns []column) []span {
	name := []rune(harmless(c.Name))
	if len(name) > room {
		name = append(name[:max(room-1, 0)], '~')
	}
	line := []span{{fmt.Sprintf("%-*s", room, string(name)), lookPlain}}
	for _, k := range columns {
		s := span{text: fmt.Sprintf("%*s", k.width, k.cell(c))}
		if k.sort == admin.SortLost && c.Lost > 0 || k.sort == admin.SortLag && c.Lag > 0 {
			s.look = lookBad
		}
		line = append(line, s)
	}
	return line
}

// lines are those of a window; there are at most height.
func (v *topView) lines(width, height int) (lines [][]span) {
	switch {
	case v.help:
		lines = v.helpLines()
	case v.top == nil && v.err == "":
		lines = [][]span{{{"asking devlxd ...", lookPlain}}}
	case v.top == nil:
		lines = [][]span{{{harmless(v.err), lookBad}}}
	default:
		lines = v.head()
		last := span{"sorted by " + string(v.sort) + "; h help, q quit", lookPlain}
		if v.err != "" {
			last = span{harmless(v.err), lookBad}
		}
		title, columns := v.title(width)
		lines = append(lines, []span{last}, title)
		list := v.top.Containers[min(v.offset, len(v.top.Containers)):]
		for i := range list {
			lines = append(lines, v.row(&list[i], v.nameRoom(width, columns), columns))
		}
	}
	return lines[:min(len(lines), max(height, 0))]
}

// headLines is how many lines of a window are not containers.
const headLines = 5

func (v *topView) helpLines() [][]span {
	lines := [][]span{{{"devlxd top", lookBold}}, nil, {{"sort the containers by", lookPlain}}}
	for _, c := range topColumns() {
		lines = append(lines, []span{{fmt.Sprintf("  %c  ", c.key), lookBold}, {string(c.sort), lookPlain}})
	}
	lines = append(lines, []span{{"  n  ", lookBold}, {"name", lookPlain}}, nil)
	for _, k := range [][2]string{
		{"Up, Down", "go through the list, Page Up, Page Down, Home too"}, {"Space", "look now"},
		{"Ctrl-Z", "suspend"}, {"q, Esc, Ctrl-C", "quit"}, {"h", "close this help"},
	} {
		lines = append(lines, []span{{fmt.Sprintf("  %-16s", k[0]), lookBold}, {k[1], lookPlain}})
	}
	return lines
}

// print writes all of it as lines of text.
func (v *topView) print(out io.Writer) error {
	var b strings.Builder
	longest := nameWidth
	for i := range v.top.Containers {
		longest = max(longest, len([]rune(harmless(v.top.Containers[i].Name))))
	}
	width := longest
	for _, c := range topColumns() {
		width += c.width
	}
	lines := v.head()
	title, columns := v.title(width)
	lines = append(lines, nil, title)
	for i := range v.top.Containers {
		lines = append(lines, v.row(&v.top.Containers[i], longest, columns))
	}
	for _, line := range lines {
		for _, s := range line {
			b.WriteString(s.text)
		}
		b.WriteByte('\n')
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("cannot write the output: %w", err)
	}
	return nil
}
