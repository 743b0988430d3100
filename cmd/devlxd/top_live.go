package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/color"
	"golang.org/x/sys/unix"

	"devlxd/admin"
	"devlxd/admin/client"
)

// answerTime bounds the wait for an answer of a daemon that may be stopped.
const answerTime = 10 * time.Second

// topAnswer is what came of a look at the daemon.
type topAnswer struct {
	top   admin.Top
	limit int // of containers, that was asked for
	err   error
	panic any // of the goroutine that looked; the one that restores the terminal panics with it
}

// topScreen is a running "devlxd top". Owned by one goroutine.
type topScreen struct {
	o       topOptions
	client  *client.Client
	screen  tcell.Screen
	view    topView
	answers chan topAnswer
	asking  bool
	again   bool      // what was asked for has changed meanwhile
	heard   time.Time // of the last answer
}

// topLive shows the view until the user or a signal (ctx) ends it. The terminal is as it was before when it returns or panics.
func topLive(ctx context.Context, c *client.Client, o topOptions) error {
	screen, err := tcell.NewScreen()
	if err == nil {
		err = screen.Init()
	}
	if err != nil {
		return fmt.Errorf("cannot use the terminal: %w: try --once, or TERM=dumb for plain lists", err)
	}
	defer screen.Fini()
	screen.HideCursor()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &topScreen{o: o, client: c, screen: screen, view: topView{sort: o.sort}, answers: make(chan topAnswer, 1)}
	return t.run(ctx)
}

func (t *topScreen) run(ctx context.Context) error {
	tick := time.NewTicker(t.o.interval)
	defer tick.Stop()
	t.ask(ctx)
	for {
		t.draw()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.ask(ctx)
		case a := <-t.answers:
			t.answered(ctx, a)
		case ev, ok := <-t.screen.EventQ():
			if !ok {
				return nil // the terminal is gone
			}
			quit, ask := t.event(ev)
			if quit {
				return nil
			}
			if ask {
				t.again = t.asking
				t.ask(ctx)
			}
		}
	}
}

// ask looks at the daemon, unless a look is under way.
func (t *topScreen) ask(ctx context.Context) {
	if t.asking {
		return
	}
	t.asking = true
	by, limit := t.view.sort, t.wanted()
	go func() {
		a := topAnswer{limit: limit}
		defer func() {
			a.panic = recover()
			t.answers <- a
		}()
		ctx, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		a.top, a.err = t.client.Top(ctx, by, limit)
	}()
}

// wanted is how many containers have to be known to fill the window.
func (t *topScreen) wanted() int {
	if t.o.limit > 0 {
		return t.o.limit
	}
	return min(max(t.rows(), 1)+t.view.offset, admin.MaxTop)
}

// rows is how many containers the window has room for.
func (t *topScreen) rows() int {
	_, height := t.screen.Size()
	return max(height-headLines, 0)
}

func (t *topScreen) answered(ctx context.Context, a topAnswer) {
	if a.panic != nil {
		panic(a.panic)
	}
	t.asking = false
	switch {
	case a.err == nil:
		t.view.top, t.view.err, t.heard = &a.top, "", time.Now()
		if known := len(a.top.Containers); known < a.limit { // there are no more; else it may have been scrolled further meanwhile
			t.view.offset = min(t.view.offset, max(known-1, 0))
		}
	case t.view.top == nil:
		t.view.err = oneLine(a.err)
	default:
		t.view.err = fmt.Sprintf("as of %s ago: %s", time.Since(t.heard).Round(time.Second), oneLine(a.err))
	}
	if t.again {
		t.again = false
		t.ask(ctx)
	}
}

// event handles what the terminal says. ask: the daemon is to be looked at now.
func (t *topScreen) event(ev tcell.Event) (quit, ask bool) {
	switch ev := ev.(type) {
	case *tcell.EventResize:
		t.screen.Sync()
		return false, true
	case *tcell.EventKey:
		return t.key(ev)
	}
	return false, false
}

func (t *topScreen) key(ev *tcell.EventKey) (quit, ask bool) {
	v := &t.view
	switch ev.Key() {
	case tcell.KeyCtrlC:
		return true, false
	case tcell.KeyEscape:
		quit, v.help = !v.help, false
		return quit, false
	case tcell.KeyCtrlZ:
		t.suspend()
		return false, true
	case tcell.KeyUp:
		return false, t.scroll(v.offset - 1)
	case tcell.KeyDown:
		return false, t.scroll(v.offset + 1)
	case tcell.KeyPgUp:
		return false, t.scroll(v.offset - t.rows())
	case tcell.KeyPgDn:
		return false, t.scroll(v.offset + t.rows())
	case tcell.KeyHome:
		return false, t.scroll(0)
	case tcell.KeyRune:
		return t.letter(ev.Str())
	}
	return false, false
}

// letter handles a key with a character.
func (t *topScreen) letter(s string) (quit, ask bool) {
	v := &t.view
	switch s {
	case "q":
		quit, v.help = !v.help, false
		return quit, false
	case "h", "?":
		v.help = !v.help
		return false, false
	case " ":
		return false, true
	case "n":
		return false, t.sortBy(admin.SortName)
	}
	for _, c := range topColumns() {
		if s == string(c.key) {
			return false, t.sortBy(c.sort)
		}
	}
	return false, false
}

func (t *topScreen) sortBy(by admin.TopSort) bool {
	t.view.sort, t.view.offset, t.view.help = by, 0, false
	return true
}

// scroll moves the list; it goes on with what is asked for then.
func (t *topScreen) scroll(to int) bool {
	if t.view.top == nil {
		return false
	}
	last := min(t.view.top.Daemon.Containers, admin.MaxTop) - 1
	if t.o.limit > 0 {
		last = min(last, t.o.limit-1)
	}
	t.view.offset = max(min(to, last), 0)
	return true
}

// suspend gives the terminal back and stops the process, as the terminal does by itself where nobody has made it raw (Ctrl-Z), until the shell
// goes on with it.
func (t *topScreen) suspend() {
	if t.screen.Suspend() != nil {
		return
	}
	// To this thread: a signal to the process may come a moment after the call.
	runtime.LockOSThread()
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGTSTP)
	runtime.UnlockOSThread()
	_ = t.screen.Resume()
	t.screen.Sync()
}

// draw shows the view.
func (t *topScreen) draw() {
	width, height := t.screen.Size()
	t.screen.Clear()
	for y, line := range t.view.lines(width, height) {
		x := 0
		for _, s := range line {
			t.screen.PutStrStyled(x, y, s.text, styleOf(s.look))
			x += len([]rune(s.text))
		}
	}
	t.screen.Show()
}

// styleOf is how a look is shown; each works without colours too (NO_COLOR, which tcell goes by).
func styleOf(l look) tcell.Style {
	s := tcell.StyleDefault
	switch l {
	case lookBold:
		return s.Bold(true)
	case lookTitle:
		return s.Reverse(true)
	case lookSorted:
		return s.Reverse(true).Bold(true).Underline(true)
	case lookGood:
		return s.Foreground(color.Green)
	case lookBad:
		return s.Foreground(color.Red).Bold(true)
	}
	return s
}
