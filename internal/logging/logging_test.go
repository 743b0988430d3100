package logging

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// hostile are texts that a guest may choose.
var hostile = map[string]string{
	"line ends":   "a\n{\"level\":\"ERROR\",\"msg\":\"forged\"}\r\nb",
	"escapes":     "\x1b]0;title\x07\x1b[2J\x1b[31m",
	"not UTF-8":   "a\xff\xfe\xc3",
	"NUL":         "a\x00b",
	"right-left":  "a\u202egnp\u2066",
	"separators":  "a\u2028b\u2029c\u0085d",
	"1 MiB":       strings.Repeat("x", 1<<20),
	"1 MiB of it": strings.Repeat("\n\x1b[31m\xff", 1<<20/7),
	"cut in two":  strings.Repeat("é", 100),
	"backslashes": `\n \x1b`,
	"plain":       `a "b" c`,
}

// sink is a Sink to a buffer.
func sink(f Format) (*Sink, *bytes.Buffer) {
	var b bytes.Buffer
	s := &Sink{out: &b}
	s.SetFormat(f)
	return s, &b
}

// TestHostileText: whatever a guest sends, in a value that is given as Guest and in one that is forgotten to, stays one line of printable
// characters and of bounded length, and what JSON makes of it is printable too.
func TestHostileText(t *testing.T) {
	for name, text := range hostile {
		for _, format := range []Format{FormatText, FormatJSON} {
			for kind, value := range map[string]any{
				"Guest": Guest(text), "GuestError": GuestError(errors.New(text)), "forgotten": text, "forgotten error": fmt.Errorf("wrapped: %w", errors.New(text)),
			} {
				t.Run(fmt.Sprint(name, " ", format, " ", kind), func(t *testing.T) {
					s, out := sink(format)
					s.Logger().With("before", value).Info("said", "guest", value)
					line := out.String()
					if n := strings.Count(line, "\n"); n != 1 || !strings.HasSuffix(line, "\n") {
						t.Fatalf("%d line ends", n)
					}
					if len(line) > 64<<10 {
						t.Errorf("%d bytes", len(line))
					}
					if line = strings.TrimSuffix(line, "\n"); !utf8.ValidString(line) || !printable(line) {
						t.Errorf("not printable: %.200q", line)
					}
					if format == FormatJSON {
						var v map[string]any
						if err := json.Unmarshal([]byte(line), &v); err != nil {
							t.Fatal(err)
						}
						if got, _ := v["guest"].(string); !printable(got) || v["msg"] != "said" {
							t.Errorf("decoded: %.200q", got)
						}
					}
				})
			}
		}
	}
}

// TestGuest: what is logged can be read, and cannot be confused with another text.
func TestGuest(t *testing.T) {
	for text, want := range map[string]string{
		"":                          ``,
		"/1.0/config/user.a":        `/1.0/config/user.a`,
		`say "hi"`:                  `say "hi"`,
		"a\nb":                      `a\nb`,
		`a\nb`:                      `a\\nb`,
		"\xff":                      `\xff`,
		"grüße":                     `grüße`,
		strings.Repeat("x", 129):    strings.Repeat("x", 128) + `... (129 bytes)`,
		strings.Repeat("é", 65):     strings.Repeat("é", 64) + `... (130 bytes)`,
		"x" + hostile["cut in two"]: "x" + strings.Repeat("é", 63) + `... (201 bytes)`,
	} {
		if got := Guest(text).LogValue().String(); got != want {
			t.Errorf("%.40q is logged as %s; want %s", text, got, want)
		}
	}
}

// TestSinkChanges: level and format change for loggers that were derived before.
func TestSinkChanges(t *testing.T) {
	s, out := sink(FormatAuto)
	log := s.Logger().With("a", 1)
	log.Debug("no")
	log.Info("one")
	s.SetLevel(slog.LevelDebug)
	s.SetFormat(FormatText)
	log.Debug("two")
	s.SetLevel(slog.LevelError)
	log.Warn("no")
	got := out.String()
	first, rest, _ := strings.Cut(got, "\n")
	if !strings.Contains(first, `"msg":"one","a":1}`) || !strings.Contains(rest, "level=DEBUG msg=two a=1\n") || strings.Contains(got, "no") {
		t.Errorf("logged\n%s", got)
	}
}

// TestSinkOfLevelIsOff: a line that is not written costs nothing but the look at the level.
func TestSinkOfLevelIsOff(t *testing.T) {
	s, _ := sink(FormatJSON)
	log, l := s.Logger(), (*Limiter)(nil)
	l = NewLimiter(log, nil)
	var q Quota
	if n := testing.AllocsPerRun(100, func() { l.Log(&q, slog.LevelDebug, "no") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestJournal: only the stream that JOURNAL_STREAM names by device and inode is taken for the journal, and lines to it begin with their priority.
func TestJournal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(w.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	stream := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	for _, other := range []string{"", ":", "x", stream + "0", fmt.Sprintf("%d:%d", st.Dev+1, st.Ino)} {
		if toJournal(w, other) {
			t.Errorf("the pipe %s is taken for the stream %q", stream, other)
		}
	}
	log := NewSink(w, stream).Logger()
	log.Info("a")
	log.Error("b")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(bufio.NewReader(r))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(all), "\n")
	if !strings.HasPrefix(lines[0], `<6>{"time":`) || !strings.HasPrefix(lines[1], `<3>{"time":`) {
		t.Errorf("the journal is sent\n%s", all)
	}
}

// TestLimiter: a container that causes many lines has its burst and then one a second, others are not affected, and what was left out is
// counted and told of in one line.
func TestLimiter(t *testing.T) {
	s, out := sink(FormatJSON)
	now := time.Now()
	l := NewLimiter(s.Logger(), func() time.Time { return now })
	loud, other, quiet := new(Quota), new(Quota), new(Quota)
	count := func(msg string) int { return strings.Count(out.String(), `"msg":"`+msg+`"`) }
	for range 1000 {
		l.Log(loud, slog.LevelInfo, "loud")
	}
	for range 15 {
		l.Log(other, slog.LevelWarn, "other")
	}
	l.Log(quiet, slog.LevelInfo, "quiet")
	if count("loud") != lineBurst || count("other") != lineBurst || count("quiet") != 1 {
		t.Errorf("%d, %d and %d lines", count("loud"), count("other"), count("quiet"))
	}
	now = now.Add(3 * time.Second)
	for range 100 {
		l.Log(loud, slog.LevelInfo, "loud")
	}
	if n := count("loud"); n != lineBurst+3*lineRate {
		t.Errorf("%d lines after 3 s", n)
	}
	want := uint64(1000 - lineBurst + 15 - lineBurst + 100 - 3)
	if got := l.Dropped(); got != want {
		t.Errorf("%d lines are counted; want %d", got, want)
	}
	l.Sum()
	l.Sum() // there is nothing more to tell
	sums := strings.Count(out.String(), fmt.Sprintf(`"lines":%d,"containers":2}`, want))
	if sums != 1 || count("lines left out that guests caused too often") != 1 {
		t.Errorf("%d sums in\n%s", sums, out)
	}
	if l.behind != nil || l.timer != nil {
		t.Error("a quota is held although there is nothing to sum up")
	}
}
