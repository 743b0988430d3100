package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"devlxd/internal/sandbox"
)

// limit bounds a tour. An undisturbed one takes a few seconds.
const limit = 50 * time.Second

// Options say which server is shown, and where to.
type Options struct {
	// RunDir is the run directory of the daemon; guests see RunDir/guest.
	RunDir string
	// Dialect is the daemon's: document, lxd or incus.
	Dialect string
	// Command runs a command of devlxd against that daemon and returns what it prints.
	Command func(ctx context.Context, args ...string) (string, error)
	// Out is written to as the tour goes on.
	Out io.Writer
	// Style is how it is written.
	Style Style
}

// Tour is one showing of the guest API.
type Tour struct {
	options Options
	texts   texts
	p       *printer
	took    time.Duration // of Run
	boxes   map[string]*sandbox.Container
	secrets map[string]string // container -> what no other may see
	web, db *subscription     // nil until the events are shown
}

// names are those of the containers, in the order in which they are started.
var names = [...]string{"web", "db", "cache"}

// New prepares a tour; nothing is started yet.
func New(o Options) (*Tour, error) {
	t, ok := dialects()[o.Dialect]
	if !ok {
		return nil, fmt.Errorf("unknown dialect %q: use document, lxd or incus", o.Dialect)
	}
	return &Tour{
		options: o, texts: t, p: newPrinter(o.Out, o.Style),
		boxes: make(map[string]*sandbox.Container), secrets: make(map[string]string),
	}, nil
}

// Run shows everything. It stops at the first check that fails, and when ctx is done.
// What was started keeps running until Close.
//
// Errors: that of the check, sandbox.ErrUnavailable where containers cannot be made,
// the cause of ctx's end, or that of the writer.
func (t *Tour) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the demo is not through after %v: is this machine very busy?", limit))
	defer cancel()
	started := time.Now()
	defer func() { t.took = time.Since(started) }()
	for _, part := range [...]struct {
		title string
		show  func(context.Context) error
	}{
		{"A server and three containers", t.showStart},
		{"Every path of the API, asked in web", t.showPaths},
		{"The same questions in web, db and cache", t.showSeparation},
		{"Events as they happen", t.showEvents},
		{"A container that poses as another", t.showImpostors},
		{"An image for a nested LXD", t.showImage},
		{"Switched off while it runs", t.showSwitch},
	} {
		t.p.heading(part.title)
		if err := part.show(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause // the rest is what follows from it
			}
			return err
		}
		if t.p.err != nil {
			return t.p.err
		}
	}
	return nil
}

// Close ends the containers. It may be called more than once.
func (t *Tour) Close() error {
	var errs []error
	for _, name := range names {
		if c, ok := t.boxes[name]; ok {
			errs = append(errs, c.Stop())
		}
	}
	for _, s := range [...]*subscription{t.web, t.db} {
		if s != nil {
			s.close()
		}
	}
	t.web, t.db = nil, nil
	return errors.Join(errs...)
}

// Summary prints how it went. Call it after Run has returned nil.
func (t *Tour) Summary(end string) error {
	leftOut := ""
	if t.p.leftOut > 0 {
		leftOut = fmt.Sprintf(", %d left out", t.p.leftOut)
	}
	t.p.gap()
	t.p.ok("%d checks in %.1f s%s; %s", t.p.checks, t.took.Seconds(), leftOut, end)
	return t.p.err
}

func (t *Tour) guestDir() string { return filepath.Join(t.options.RunDir, "guest") }

// command prints a command of the operator and runs it.
func (t *Tour) command(ctx context.Context, args ...string) error {
	t.p.command("", append([]string{"devlxd"}, args...)...)
	return t.quietly(ctx, args...)
}

// quietly runs a command that is printed otherwise.
func (t *Tour) quietly(ctx context.Context, args ...string) error {
	_, err := t.options.Command(ctx, args...)
	return err
}
