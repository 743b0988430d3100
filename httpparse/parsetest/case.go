package parsetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Case is what one client sends on one connection. It is immutable.
type Case struct {
	File, Title string
	Raw         []byte
	Verdicts    []Verdict // one for each request
	Served      Served
}

// Name is unique among all cases.
func (c *Case) Name() string { return strings.TrimSuffix(c.File, ".http") + "/" + c.Title }

// Verdict is what the parser must say about one request.
type Verdict struct {
	Kind   string // accept, refuse or partial
	Status int    // of a refusal
	Words  string // that the reason of a refusal contains
	Want   []Expectation
}

// Expectation is something that must be found in an accepted request.
type Expectation struct{ Key, Value string }

// Get returns the value of the first expectation with that key, "" if there is none.
func (v *Verdict) Get(key string) string {
	for _, e := range v.Want {
		if e.Key == key {
			return e.Value
		}
	}
	return ""
}

// Served is what a live server must do.
type Served struct {
	Statuses []int // of all answers, in order
	End      End
}

// End is what has become of the connection after the last byte of the case.
type End string

// The ends of a case.
const (
	Open     End = "open"     // the next request is answered
	Close    End = "close"    // the server has closed, whatever else was sent
	Wait     End = "wait"     // the request is incomplete: nothing is answered before more bytes
	Upgraded End = "upgraded" // another protocol is spoken now
)

// Load reads all *.http files of a folder. Anything that it does not understand is an error.
func Load(dir string) ([]Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.http"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no cases in %s: %w", dir, errors.Join(os.ErrNotExist, err))
	}
	var cases []Case
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		_, parts, _ := strings.Cut(string(text), "\n## ")
		for part := range strings.SplitSeq(parts, "\n## ") {
			c, err := parse(part)
			if err != nil {
				return nil, fmt.Errorf("%s: %q: %w", file, c.Title, err)
			}
			c.File = filepath.Base(file)
			cases = append(cases, c)
		}
	}
	return cases, nil
}

func parse(text string) (c Case, err error) {
	lines := strings.Split(text, "\n")
	c.Title = lines[0]
	began := false
	for _, line := range lines[1:] {
		if raw, ok := strings.CutPrefix(line, "    "); ok {
			b, err := unescape(raw)
			if err != nil {
				return c, err
			}
			c.Raw, began = append(c.Raw, b...), true
			continue
		}
		if !began || line == "" {
			continue // prose
		}
		if err := c.addLine(line); err != nil {
			return c, err
		}
	}
	if len(c.Verdicts) == 0 || c.Served.End == "" {
		return c, errors.New("want a verdict and a line that begins with served")
	}
	return c, nil
}

func (c *Case) addLine(line string) error {
	kind, rest, _ := strings.Cut(line, " ")
	switch kind {
	case "accept", "partial":
		c.Verdicts = append(c.Verdicts, Verdict{Kind: kind})
		return nil
	case "refuse":
		status, words, _ := strings.Cut(rest, " ")
		code, err := strconv.Atoi(status)
		if err != nil || words == "" {
			return fmt.Errorf("want refuse STATUS words: %q", line)
		}
		c.Verdicts = append(c.Verdicts, Verdict{Kind: kind, Status: code, Words: words})
		return nil
	case "served":
		return c.addServed(strings.Fields(rest))
	case "-":
		key, value, ok := strings.Cut(rest, ":")
		b, err := unescape(strings.TrimPrefix(value, " "))
		if !ok || err != nil || len(c.Verdicts) == 0 {
			return fmt.Errorf("want - key: value: %q: %v", line, err)
		}
		v := &c.Verdicts[len(c.Verdicts)-1]
		v.Want = append(v.Want, Expectation{key, string(b)})
		return nil
	}
	return fmt.Errorf("not a verdict: %q", line)
}

// addServed reads the status codes and the end of the connection.
func (c *Case) addServed(words []string) error {
	if len(words) == 0 || c.Served.End != "" {
		return errors.New("want one line: served STATUS... END")
	}
	last := len(words) - 1
	for _, word := range words[:last] {
		status, err := strconv.Atoi(word)
		if err != nil {
			return fmt.Errorf("not a status code: %q", word)
		}
		c.Served.Statuses = append(c.Served.Statuses, status)
	}
	c.Served.End = End(words[last])
	if !slices.Contains([]End{Open, Close, Wait, Upgraded}, c.Served.End) {
		return fmt.Errorf("not an end: %q", words[last])
	}
	return nil
}

// unescape decodes the notation of a line.
func unescape(s string) (out []byte, err error) {
	for s != "" {
		if s[0] != '\\' {
			out, s = append(out, s[0]), s[1:]
			continue
		}
		if len(s) < 2 {
			return nil, errors.New("backslash at the end")
		}
		switch s[1] {
		case 'r', 'n', 't', 's', '\\':
			out = append(out, map[byte]byte{'r': '\r', 'n': '\n', 't': '\t', 's': ' ', '\\': '\\'}[s[1]])
			s = s[2:]
		case 'x':
			if len(s) < 4 {
				return nil, fmt.Errorf("want \\xHH: %q", s)
			}
			c, err := strconv.ParseUint(s[2:4], 16, 8)
			if err != nil {
				return nil, err
			}
			out, s = append(out, byte(c)), s[4:]
		default:
			inner, rest, ok := strings.Cut(s, "}")
			inner, ok2 := strings.CutPrefix(inner, `\{`)
			count, text, ok3 := strings.Cut(inner, " ")
			n, err := strconv.Atoi(count)
			if !ok || !ok2 || !ok3 || err != nil {
				return nil, fmt.Errorf("unknown escape: %q", s)
			}
			b, err := unescape(text)
			if err != nil {
				return nil, err
			}
			out, s = append(out, strings.Repeat(string(b), n)...), rest
		}
	}
	return out, nil
}
