package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Cmd is a process to run in a container. Fields are set before Start. It is used
// once, by one goroutine.
type Cmd struct {
	// Args are the process's arguments with its name first. The name of a guest is free
	// to choose: what runs does not depend on it.
	Args []string
	// Env is added to PATH, HOME and LANG.
	Env []string
	// Dir is the working directory in the container. Empty: "/".
	Dir string
	// UID and GID are those of the process, as numbered in the container. Any other
	// than 0 needs [Container.IDs] to reach that far.
	UID, GID uint32
	// PidNS puts the process into one more pid namespace, nested in the container's.
	PidNS bool
	// UserNS puts the process into one more user namespace, nested in the container's, as
	// its root. UID and GID are then what that root is in the container.
	UserNS bool
	// Stdin is passed as it is, Stdout and Stderr work as in os/exec. Nil: the host's
	// /dev/null.
	Stdin          *os.File
	Stdout, Stderr io.Writer

	c       *Container
	ctx     context.Context
	path    string
	stage   string
	id      uint64
	exited  chan message
	copying sync.WaitGroup
	ours    []*os.File // to be closed when the process has ended
	stopCtx func() bool
}

// ExitError says that a process did not end with exit code 0.
type ExitError struct {
	Name   string // Args[0]
	Code   int    // exit code, -1 after a signal
	Signal unix.Signal
	Stderr string // what [Cmd.Output] collected
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("%s: exit code %d", e.Name, e.Code)
	if e.Code < 0 {
		text = fmt.Sprintf("%s: %v", e.Name, e.Signal)
	}
	if s := strings.TrimSpace(e.Stderr); s != "" {
		text += ": " + s
	}
	return text
}

// Command prepares a program of the container's root file system. It is killed when
// ctx is done.
func (c *Container) Command(ctx context.Context, argv ...string) *Cmd {
	cmd := &Cmd{Args: argv, c: c, ctx: ctx}
	if len(argv) > 0 {
		cmd.path = argv[0]
	}
	return cmd
}

// Guest prepares a role that was registered with [Main]. It is killed when ctx is done.
func (c *Container) Guest(ctx context.Context, role string, args ...string) *Cmd {
	return &Cmd{
		Args: []string{role}, c: c, ctx: ctx, path: "/proc/self/exe",
		stage: stage{Stage: stageGuest, Role: role, Args: args}.env(),
	}
}

// Run starts the process and waits for it.
func (m *Cmd) Run() error {
	if err := m.Start(); err != nil {
		return err
	}
	return m.Wait()
}

// Output runs the process and returns what it wrote to standard output. Stdout must be
// nil; without Stderr an [ExitError] has what was written there.
func (m *Cmd) Output() ([]byte, error) {
	var out, errs bytes.Buffer
	m.Stdout = &out
	collect := m.Stderr == nil
	if collect {
		m.Stderr = &errs
	}
	err := m.Run()
	var exit *ExitError
	if collect && errors.As(err, &exit) {
		exit.Stderr = errs.String()
	}
	return out.Bytes(), err
}

// Start starts the process. Wait must be called after it.
//
// Errors: [ErrStopped], [ErrStarted], or what made the arguments impossible to send. That
// the program does not exist, or may not be started as that user, is told by Wait.
func (m *Cmd) Start() error {
	if m.exited != nil || len(m.Args) == 0 {
		return ErrStarted
	}
	if err := m.ctx.Err(); err != nil {
		return err
	}
	theirs, borrowed, err := m.files()
	if err == nil {
		err = m.register()
	}
	if err != nil {
		m.abandon(theirs, borrowed)
		return err
	}
	env := append(baseEnv(), m.Env...)
	if m.stage != "" {
		env = append(env, m.stage)
	}
	dir := m.Dir
	if dir == "" {
		dir = "/"
	}
	err = m.c.ctl.send(message{Kind: msgExec, ID: m.id, Exec: &execMsg{
		Path: m.path, Args: m.Args, Env: env, Dir: dir, UID: m.UID, GID: m.GID, PidNS: m.PidNS, UserNS: m.UserNS,
	}}, theirs...)
	if err != nil {
		m.unregister()
		m.abandon(theirs, borrowed)
		return m.c.gone(err)
	}
	closeAllBut(theirs, borrowed)
	m.stopCtx = context.AfterFunc(m.ctx, func() {
		_ = m.c.ctl.send(message{Kind: msgKill, ID: m.id}) // without a container it is dead already
	})
	return nil
}

// register makes the end of the process known to Wait.
func (m *Cmd) register() error {
	c := m.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		return ErrStopped
	}
	c.lastID++
	m.id = c.lastID
	m.exited = make(chan message, 1)
	c.waiting[m.id] = m.exited
	return nil
}

func (m *Cmd) unregister() {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	delete(m.c.waiting, m.id)
}

// gone says ErrStopped instead of what a closed socket gives.
func (c *Container) gone(err error) error {
	if errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return ErrStopped
	}
	return err
}

// Wait waits until the process has ended and its output has been copied.
//
// Errors: an [*ExitError]; the context's, when it was done first; [ErrStopped], when the
// container ended before; or why the process could not be started.
func (m *Cmd) Wait() error {
	if m.exited == nil {
		return ErrStarted
	}
	end, ok := <-m.exited
	copied := make(chan struct{})
	go func() {
		m.copying.Wait()
		close(copied)
	}()
	select {
	case <-copied:
	case <-m.ctx.Done(): // a grandchild may keep the pipes open
		closeFiles(m.ours)
		<-copied
	}
	m.stopCtx()
	closeFiles(m.ours)
	switch {
	case !ok:
		return ErrStopped
	case end.Text != "":
		return errors.New(end.Text)
	}
	status := unix.WaitStatus(end.Status)
	if status.Exited() && status.ExitStatus() == 0 {
		return nil
	}
	if err := m.ctx.Err(); err != nil {
		return err
	}
	return &ExitError{Name: m.Args[0], Code: status.ExitStatus(), Signal: status.Signal()}
}

// files makes the three descriptors of the process. Those in borrowed are the
// caller's own.
func (m *Cmd) files() (theirs []*os.File, borrowed map[*os.File]bool, err error) {
	borrowed = make(map[*os.File]bool)
	if m.Stdin != nil {
		theirs = append(theirs, m.Stdin)
		borrowed[m.Stdin] = true
	} else {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return theirs, borrowed, err
		}
		theirs = append(theirs, f)
	}
	for _, w := range [...]io.Writer{m.Stdout, m.Stderr} {
		f, own, err := m.outFile(w)
		if err != nil {
			return theirs, borrowed, err
		}
		theirs = append(theirs, f)
		if own {
			borrowed[f] = true
		}
	}
	return theirs, borrowed, nil
}

// outFile returns where the process is to write for w.
func (m *Cmd) outFile(w io.Writer) (f *os.File, borrowed bool, err error) {
	switch w := w.(type) {
	case nil:
		f, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		return f, false, err
	case *os.File:
		return w, true, nil
	}
	r, f, err := os.Pipe()
	if err != nil {
		return nil, false, err
	}
	m.ours = append(m.ours, r)
	m.copying.Go(func() {
		_, _ = io.Copy(w, r) // ends with the process, or when w fails
		r.Close()
	})
	return f, false, nil
}

// abandon takes back what files made.
func (m *Cmd) abandon(theirs []*os.File, borrowed map[*os.File]bool) {
	closeAllBut(theirs, borrowed)
	closeFiles(m.ours)
	m.copying.Wait()
}

func closeAllBut(files []*os.File, keep map[*os.File]bool) {
	for _, f := range files {
		if !keep[f] {
			f.Close()
		}
	}
}
