package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"devlxd/internal/daemontest"
	"devlxd/internal/sandbox"
)

// recipe is a program of docs/recipes, and how it is run in a container. All take the same arguments and print the same lines.
type recipe struct {
	name string
	argv []string
}

// recipes shares docs/recipes, and the Go program among them, with the containers of a daemon.
func recipes(t *testing.T, d *daemon) []recipe {
	t.Helper()
	need(t, "curl")
	need(t, "python3")
	need(t, "node")
	dir := d.share(filepath.Join("..", "docs", "recipes"), "recipes")
	program := filepath.Join(d.RunDir, "guest", "recipes", "guest-go")
	if out, err := exec.Command("go", "build", "-o", program, "devlxd/docs/recipes/go").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return []recipe{
		{name: "go", argv: []string{dir + "/guest-go"}},
		{name: "python", argv: []string{"python3", dir + "/guest.py"}},
		{name: "node", argv: []string{"node", dir + "/guest.mjs"}},
		{name: "shell", argv: []string{"sh", dir + "/guest.sh"}},
	}
}

// started is a recipe that runs.
type started struct {
	recipe
	t      *testing.T
	cmd    *sandbox.Cmd
	stdout daemontest.Buffer
	stderr daemontest.Buffer
	wait   func() error
}

func (r recipe) start(t *testing.T, c *sandbox.Container, args ...string) *started {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	s := &started{recipe: r, t: t, cmd: c.Command(ctx, append(slices.Clone(r.argv), args...)...)}
	s.wait = sync.OnceValue(s.cmd.Wait)
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	// What a careless environment would have a client do.
	s.cmd.Env = []string{"http_proxy=http://127.0.0.1:9", "HTTP_PROXY=http://127.0.0.1:9", "all_proxy=http://127.0.0.1:9"}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = s.wait()
	})
	return s
}

// awaitLine waits until a line is printed.
func (s *started) awaitLine(line string) {
	s.t.Helper()
	for end := time.Now().Add(patience); !slices.Contains(strings.Split(s.stdout.String(), "\n"), line); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s has not printed %q:\n%s%s", s.name, line, s.stdout.String(), s.stderr.String())
		}
	}
}

// TestRecipes: each recipe of docs/guest.md reads the configuration, waits for a key, and follows what happens over an upgrade, where it
// goes on in the middle, and over a restart, where it reads again.
func TestRecipes(t *testing.T) {
	d := upgradable(t)
	web := d.Bound("web", "user.n=0", "user.text=a=b \"c\" d")
	list := recipes(t, d)
	var waiting, following []*started
	for _, r := range list {
		waiting = append(waiting, r.start(t, web, "wait", "user.late"))
		following = append(following, r.start(t, web, "follow"))
	}
	for _, r := range list {
		want := "user.n 0\nuser.text a=b \"c\" d\n"
		lines := strings.SplitAfter(in(t, web, append(slices.Clone(r.argv), "read")...), "\n")
		slices.Sort(lines)
		if got := strings.Join(lines, ""); got != want {
			t.Errorf("%s read %q; want %q", r.name, got, want)
		}
	}
	n := 0
	change := func(times int) {
		for range times {
			n++
			d.CLI("config", "set", "web", fmt.Sprintf("user.n=%d", n))
		}
	}
	for _, s := range following {
		s.awaitLine("read user.n 0")
	}
	d.awaitSubscribers(2 * len(list))
	change(3)
	d.upgrade()
	change(3)
	for _, s := range following {
		s.awaitLine(fmt.Sprintf("changed user.n %d", n))
		if strings.Count(s.stdout.String(), "read user.n") != 1 {
			t.Errorf("%s has read the configuration again after an upgrade:\n%s", s.name, s.stdout.String())
		}
	}
	d.Stop()
	d.Start()
	change(3) // before or after they are back
	d.awaitSubscribers(2 * len(list))
	change(2)
	d.CLI("config", "set", "web", "user.late=at last")
	for _, s := range following {
		s.awaitLine("changed user.late at last")
		s.checkFollowed(n)
	}
	for _, s := range waiting {
		s.awaitLine("at last")
		if err := s.wait(); err != nil || s.stdout.String() != "at last\n" {
			t.Errorf("%s waited and ended with %v: %s%s", s.name, err, s.stdout.String(), s.stderr.String())
		}
	}
}

// checkFollowed wants user.n to grow by one with each change, from what was read last, up to last.
func (s *started) checkFollowed(last int) {
	s.t.Helper()
	at, reads := -1, 0
	for line := range strings.Lines(s.stdout.String()) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		value, ok := strings.CutPrefix(rest, "user.n ")
		if !ok {
			continue
		}
		n, err := strconv.Atoi(value)
		switch {
		case err != nil:
			s.t.Errorf("%s printed %q", s.name, line)
		case kind == "read":
			reads++
			if n < at {
				s.t.Errorf("%s read %d after it knew %d", s.name, n, at)
			}
			at = n
		case n <= at && reads > 1: // happened between the subscription and the reading
		case n != at+1:
			s.t.Errorf("%s was told of %d after %d", s.name, n, at)
			fallthrough
		default:
			at = n
		}
	}
	if at != last || reads != 2 {
		s.t.Errorf("%s is at %d after reading %d times; want %d and 2:\n%s%s", s.name, at, reads, last, s.stdout.String(), s.stderr.String())
	}
}

// awaitSubscribers waits until so many guests follow events.
func (d *daemon) awaitSubscribers(n int) {
	d.t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(d.CLI("status", "-f", "json"), fmt.Sprintf("\"subscribers\":%d,", n)) &&
		!strings.Contains(d.CLI("status", "-f", "json"), fmt.Sprintf("\"subscribers\": %d,", n)); {
		if time.Now().After(end) {
			d.t.Fatalf("%d do not subscribe: %s", n, d.CLI("status", "-f", "json"))
		}
	}
}

// TestGuideShowsTheRecipes: what docs/guest.md shows is what is run.
func TestGuideShowsTheRecipes(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "guest.md"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"go": "go/main.go", "python": "guest.py", "js": "guest.mjs"}
	shown := make(map[string]int)
	parts := strings.Split(string(text), "\n```")
	for i := 1; i < len(parts); i += 2 {
		language, block, _ := strings.Cut(parts[i], "\n")
		file, ok := files[language]
		if !ok {
			continue
		}
		shown[language]++
		program, err := os.ReadFile(filepath.Join("..", "docs", "recipes", file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(program), block) {
			t.Errorf("this is not in %s:\n%s", file, block)
		}
	}
	for language := range files {
		if shown[language] == 0 {
			t.Errorf("docs/guest.md shows nothing of %s", language)
		}
	}
}
