package discover

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/internal/logging"
	"devlxd/source"
)

// Keeper keeps containers by name; the embedded store is one. Safe for concurrent use.
type Keeper interface {
	// BindFound binds a container that runs, see [source.Found].
	BindFound(source.Found) error
	// ForgetFound drops a container that was found, is kept nowhere and does not run any more; any other stays.
	ForgetFound(name string) error
}

// Options of a Discovery.
type Options struct {
	// Runtimes are those whose containers are looked for.
	Runtimes []Runtime
	// Tree is the path of the root of the cgroup v2 tree.
	Tree string
	// Proc is the path of proc(5); "": /proc.
	Proc string
	// Log tells what is found and what cannot be bound; nil: nothing.
	Log *slog.Logger
}

// Discovery follows the containers of some runtimes. [Discovery.Stopped] and the metrics are safe for concurrent use;
// everything else belongs to one goroutine.
type Discovery struct {
	opts   Options
	log    *slog.Logger
	rules  []rules
	tree   *os.Root
	owner  uint32 // of the tree
	keeper Keeper // set by Scan
	procs  *procs
	notes  *notifier
	counts counts

	places     map[string]int        // path: its watch
	candidates map[string]*candidate // path of a payload: what is known of it
	watches    map[int]string        // watch: the path of a place, or of a payload whose cgroup.events it is on
	left       map[string]time.Time  // names that are to be forgotten, and when that is tried again
	holding    bool                  // see Scan

	mu      sync.Mutex
	stopped map[string]bool // names
	wake    chan struct{}
}

// candidate is the cgroup of a container.
type candidate struct {
	dir   string
	rules *rules
	inode uint64
	watch int    // on its cgroup.events; 0: none
	name  string // "": not bound yet
	bound bool

	wait  time.Duration // before the next try
	next  time.Time     // zero: none is due
	since time.Time     // of the first try that failed
	told  string        // what the log says already
}

// How long is waited before something that could not be bound is tried again, and after which time the log says so: what
// starts is not ready at first.
const (
	firstWait = 5 * time.Millisecond
	lastWait  = 5 * time.Second
	patience  = 3 * time.Second
)

// New opens the tree; nothing is watched yet. Error: [ErrTree].
func New(o Options) (*Discovery, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	d := &Discovery{
		opts: o, log: o.Log, procs: &procs{dir: o.Proc}, places: make(map[string]int), candidates: make(map[string]*candidate),
		watches: make(map[int]string), left: make(map[string]time.Time), stopped: make(map[string]bool), wake: make(chan struct{}, 1),
	}
	all := allRules()
	for _, r := range o.Runtimes {
		d.rules = append(d.rules, all[r])
	}
	// The root stays open, so that the tree is there also when its mount is taken away and comes back.
	var err error
	if d.tree, err = os.OpenRoot(o.Tree); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTree, err)
	}
	var st unix.Stat_t
	if err = unix.Stat(o.Tree, &st); err == nil {
		d.owner = st.Uid
		d.notes, err = newNotifier()
	}
	if err != nil {
		_ = d.tree.Close()
		return nil, err
	}
	return d, nil
}

// Close ends the watches. Bindings go on. It must not be called while Run is under way.
func (d *Discovery) Close() error {
	err := d.notes.close()
	if cerr := d.tree.Close(); err == nil {
		err = cerr
	}
	return err
}

// Scan watches the places and has the keeper bind what runs in them; it comes before Run. With hold the keeper writes nothing down, as in an upgrade before
// the new process has taken over; the containers that it would have to write down are bound by Run.
func (d *Discovery) Scan(keeper Keeper, hold bool) error {
	d.keeper, d.holding = keeper, hold
	defer func() { d.holding = false }()
	err := d.rescan()
	d.log.Info("containers discovered", "runtimes", fmt.Sprint(d.opts.Runtimes), "running", d.running(), "found", len(d.candidates))
	return err
}

// running counts the candidates that are bound.
func (d *Discovery) running() (n int) {
	for _, c := range d.candidates {
		if c.bound {
			n++
		}
	}
	return n
}

// Stopped says that the binding of a container has ended because its init process has. It returns at once.
func (d *Discovery) Stopped(name string) {
	d.mu.Lock()
	d.stopped[name] = true
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run follows the tree until ctx ends.
func (d *Discovery) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case list, ok := <-d.notes.events:
			if !ok {
				return
			}
			d.handle(list)
		case <-d.wake:
			d.handleStopped()
		case <-timer.C:
			d.retry()
		}
		d.arm(timer)
	}
}

// arm sets the timer to the next try that is due.
func (d *Discovery) arm(timer *time.Timer) {
	var next time.Time
	for _, c := range d.candidates {
		if !c.next.IsZero() && (next.IsZero() || c.next.Before(next)) {
			next = c.next
		}
	}
	for _, at := range d.left {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	timer.Stop()
	if !next.IsZero() {
		timer.Reset(time.Until(next))
	}
}

// retry tries again what is due.
func (d *Discovery) retry() {
	now := time.Now()
	for _, c := range d.candidates {
		if !c.next.IsZero() && !c.next.After(now) {
			d.examine(c)
		}
	}
	for name, at := range d.left {
		if !at.After(now) {
			d.forgetName(name)
		}
	}
}

func (d *Discovery) handle(list []event) {
	for _, e := range list {
		if e.mask&unix.IN_Q_OVERFLOW != 0 {
			d.counts.overflows.Add(1)
			d.log.Warn("the kernel has dropped events of the cgroup tree; reading it again")
			if err := d.rescan(); err != nil {
				d.log.Error("cannot read the cgroup tree", "error", err)
			}
			return
		}
		dir, ok := d.watches[e.wd]
		if !ok {
			continue // it was ended while the event was under way
		}
		switch {
		case e.mask&unix.IN_IGNORED != 0:
			d.lose(e.wd, dir)
		case e.mask&unix.IN_ISDIR != 0 && e.mask&unix.IN_CREATE != 0:
			d.visit(below(dir, e.name))
		case e.mask&unix.IN_ISDIR != 0 && e.mask&unix.IN_DELETE != 0:
			d.drop(below(dir, e.name))
		case e.mask&unix.IN_MODIFY != 0:
			if c := d.candidates[dir]; c != nil {
				d.examine(c)
			}
		}
	}
}

// handleStopped looks again at the containers whose init has exited: another may be there already.
func (d *Discovery) handleStopped() {
	d.mu.Lock()
	names := d.stopped
	d.stopped = make(map[string]bool)
	d.mu.Unlock()
	for _, c := range d.candidates {
		if c.bound && names[c.name] {
			delete(names, c.name)
			c.bound = false
			d.examine(c)
		}
	}
	for name := range names { // the cgroup was gone before the exit was seen
		d.forgetName(name)
	}
}

// lose forgets a watch that the kernel has ended.
func (d *Discovery) lose(wd int, dir string) {
	delete(d.watches, wd)
	if d.places[dir] == wd {
		delete(d.places, dir)
	}
	if c := d.candidates[dir]; c != nil && c.watch == wd {
		c.watch = 0
	}
}

// rescan reads all places.
func (d *Discovery) rescan() error {
	d.counts.scans.Add(1)
	for _, dir := range slices.Concat(slices.Collect(maps.Keys(d.candidates)), slices.Collect(maps.Keys(d.places))) {
		if _, err := d.tree.Stat(orDot(dir)); err != nil {
			d.drop(dir)
		}
	}
	if err := d.enter(""); err != nil {
		return fmt.Errorf("%w: %w", ErrTree, err)
	}
	return nil
}

// visit looks at a directory that has appeared.
func (d *Discovery) visit(dir string) {
	place := false
	for i := range d.rules {
		switch r := &d.rules[i]; r.kind(dir) {
		case kindPayload:
			d.meet(dir, r)
			return
		case kindPlace:
			place = true
		}
	}
	if place {
		if err := d.enter(dir); err != nil && missing(err) != nil {
			d.log.Warn("cannot look into a cgroup", "cgroup", logging.Guest("/"+dir), "error", logging.GuestError(err))
		}
	}
}

// enter watches a place and then reads it, so that nothing which appears meanwhile is overlooked.
func (d *Discovery) enter(dir string) error {
	f, err := d.tree.Open(orDot(dir))
	if err != nil {
		return err
	}
	defer f.Close()
	wd, err := d.notes.add(f, watchPlace)
	if err != nil {
		return err
	}
	d.places[dir], d.watches[wd] = wd, dir
	for _, sub := range subdirs(d.tree, dir) {
		d.visit(sub)
	}
	return nil
}

// drop forgets a directory that has vanished, and all that was below.
func (d *Discovery) drop(dir string) {
	within := func(other string) bool { return other == dir || strings.HasPrefix(other, dir+"/") }
	for other, wd := range d.places {
		if within(other) {
			delete(d.places, other)
			d.unwatch(wd)
		}
	}
	for other, c := range d.candidates {
		if within(other) {
			delete(d.candidates, other)
			d.unwatch(c.watch)
			d.counts.found[c.rules.runtime].Add(-1)
			d.forget(c)
		}
	}
}

func (d *Discovery) unwatch(wd int) {
	if wd != 0 {
		delete(d.watches, wd)
		d.notes.remove(wd)
	}
}

// forget gives the name of a container back that does not run any more.
func (d *Discovery) forget(c *candidate) {
	if c.name != "" {
		d.forgetName(c.name)
		c.name = ""
	}
}

// forgetName has the keeper drop a container, now or, where it cannot be changed at the moment, as during an upgrade, later.
func (d *Discovery) forgetName(name string) {
	if err := d.keeper.ForgetFound(name); err == nil {
		delete(d.left, name)
		return
	}
	d.left[name] = time.Now().Add(lastWait)
}
