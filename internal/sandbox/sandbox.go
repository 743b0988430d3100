package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// startTime bounds how long a container may take to come up.
	startTime = 10 * time.Second
	// stopTime is how long an init may take to leave by itself before it is killed.
	stopTime = 2 * time.Second
)

// Options describe a container.
type Options struct {
	// Name becomes the host name: 1 to 63 of a-z, A-Z, 0-9 and "-".
	Name string
	// Guest is the directory of the host that is shown, read-only, at /dev/lxd. Without
	// root its path must be open to the caller. Empty: there is no /dev/lxd.
	Guest string
	// HostID is, for root, the first of the 65536 uids and gids of the host that the
	// container's become. 0: ranges from 100000 on, another for each container of
	// this process.
	HostID uint32
	// Cgroup asks for a cgroup v2 of the container's own, below the caller's. Only
	// root gets one; where it cannot be made there is none, and Notes says why.
	Cgroup bool
}

// Container is a running container. It is safe for concurrent use.
type Container struct {
	name  string
	ids   idMap
	group *cgroup // nil: none of its own
	ctl   *control
	pid   int
	init  *os.Process
	done  chan struct{} // closed when the init has been reaped
	fed   chan struct{} // closed when no message comes any more

	notes []string // complete when Start returns

	mu      sync.Mutex
	lastID  uint64
	waiting map[uint64]chan message // nil when the container has ended
	stop    sync.Once
	stopErr error
}

// Start starts a container and returns when it is ready for commands. It gives up when
// ctx is done; a container that is up does not depend on ctx.
//
// Errors: [ErrName], [ErrUnavailable] with the reason, [ErrNoMain], or that of the step that
// failed.
func Start(ctx context.Context, o Options) (*Container, error) {
	if !validName(o.Name) {
		return nil, fmt.Errorf("%q: %w", o.Name, ErrName)
	}
	if _, ok := os.LookupEnv(stageEnv); ok {
		return nil, ErrNoMain // or a program without Main would start itself without end
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	maps := idMaps(o.HostID)
	for i, ids := range maps {
		c, err := start(ctx, o, ids)
		if err == nil {
			return c, nil
		}
		if i == len(maps)-1 || !errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("cannot start container %s: %w", o.Name, thisHost().explain(err))
		}
	}
	return nil, ErrUnavailable // idMaps is never empty
}

func validName(name string) bool {
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-':
		default:
			return false
		}
	}
	return len(name) >= 1 && len(name) <= 63
}

// start makes one attempt with one id map.
func start(ctx context.Context, o Options, ids idMap) (_ *Container, err error) {
	ours, theirs, err := controlPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	c := &Container{
		name: o.Name, ids: ids, ctl: ours, waiting: make(map[uint64]chan message),
		done: make(chan struct{}), fed: make(chan struct{}),
	}
	if ids.host == 0 {
		c.notes = append(c.notes, "its root is the host's root: no other ids can be mapped here")
	}
	if o.Cgroup {
		c.makeCgroup()
	}
	if err := c.spawn(theirs); err != nil {
		return nil, errors.Join(err, ours.close(), c.group.remove())
	}
	theirs.Close() // or the end of the init would not be seen
	if err := c.bringUp(ctx, o); err != nil {
		close(c.fed)
		return nil, errors.Join(err, c.Stop())
	}
	go c.feed()
	return c, nil
}

func (c *Container) makeCgroup() {
	if os.Geteuid() != 0 {
		c.notes = append(c.notes, "no cgroup of its own: only root gets one")
		return
	}
	group, err := newCgroup(c.name, c.ids)
	if err != nil {
		c.notes = append(c.notes, fmt.Sprintf("no cgroup of its own: %v", err))
		return
	}
	c.group = group
}

// spawn starts the init in its namespaces. PR_SET_PDEATHSIG follows the thread that
// made the process, so that thread is kept for as long as the container lives.
func (c *Container) spawn(theirs *os.File) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd := c.command(theirs)
		err := cmd.Start()
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOSYS) {
			// cgroup-v2: a threaded or a controlling cgroup takes no processes below it.
			c.dropCgroup(err)
			cmd = c.command(theirs)
			err = cmd.Start()
		}
		if err == nil {
			c.pid, c.init = cmd.Process.Pid, cmd.Process
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is told by the control socket
			close(c.done)
		}
	}()
	return <-started
}

// dropCgroup gives the cgroup up before a second attempt without it.
func (c *Container) dropCgroup(why error) {
	if c.group == nil {
		return
	}
	c.notes = append(c.notes, fmt.Sprintf("no cgroup of its own: %v", errors.Join(why, c.group.remove())))
	c.group = nil
}

func (c *Container) command(theirs *os.File) *exec.Cmd {
	// os/exec cleans the path of /proc/self/exe up to nothing else, and the link leads to the
	// program even where its path does not.
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"devlxd-container", c.name}
	cmd.Env = append(baseEnv(), stage{Stage: stageSetup}.env())
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr // a crash of the init
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(c.ids.host), Size: c.ids.size}}
	attr := &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS,
		UidMappings: ids, GidMappings: ids,
		Credential: &syscall.Credential{NoSetGroups: c.ids.size == 1},
		Setsid:     true, // Ctrl-C on the caller's terminal is the caller's
		Pdeathsig:  unix.SIGKILL,
	}
	if c.ids.size == 1 {
		ids := slices.Clone(ids)
		ids[0].HostID = os.Getegid()
		attr.GidMappings = ids
	} else {
		attr.GidMappingsEnableSetgroups = true
	}
	if c.group != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(c.group.file.Fd())
	}
	cmd.SysProcAttr = attr
	return cmd
}

// bringUp has the container built and waits until it is ready.
func (c *Container) bringUp(ctx context.Context, o Options) error {
	m := message{Kind: msgSetup, Setup: &setup{Name: o.Name, Guest: o.Guest, Cgroup: c.group != nil}}
	var files []*os.File
	if o.Guest != "" && os.Geteuid() == 0 {
		// The ids of the container cannot pass every directory that root can, so it
		// gets the directory itself. Without open_tree(2) it gets the path.
		fd, err := unix.OpenTree(unix.AT_FDCWD, o.Guest, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		switch {
		case err == nil:
			tree := os.NewFile(uintptr(fd), o.Guest)
			defer tree.Close()
			files = append(files, tree)
			m.Setup.Guest = ""
		case errors.Is(err, unix.ENOENT):
			return &os.PathError{Op: "open", Path: o.Guest, Err: err}
		}
	}
	defer context.AfterFunc(ctx, func() { c.ctl.conn.SetDeadline(time.Now()) })()
	err := c.ctl.send(m, files...)
	if err == nil {
		err = c.awaitReady()
	} else {
		err = fmt.Errorf("%w (%v)", ErrNoMain, err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (c *Container) awaitReady() error {
	for {
		m, files, err := c.ctl.recv()
		closeFiles(files)
		if err != nil {
			return fmt.Errorf("%w (%v)", ErrNoMain, err)
		}
		switch m.Kind {
		case msgNote:
			c.notes = append(c.notes, m.Text)
		case msgReady:
			return nil
		case msgFailed:
			return &setupError{m.Text, unix.Errno(m.Errno)}
		default:
			return errProtocol
		}
	}
}

// setupError is an error that the container's init reported.
type setupError struct {
	text  string
	errno unix.Errno
}

func (e *setupError) Error() string { return e.text }

func (e *setupError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// feed hands answers to the commands that wait for them.
func (c *Container) feed() {
	defer close(c.fed)
	for {
		m, files, err := c.ctl.recv()
		closeFiles(files)
		c.mu.Lock()
		if err != nil {
			for _, ch := range c.waiting {
				close(ch)
			}
			c.waiting = nil
			c.mu.Unlock()
			return
		}
		if ch, ok := c.waiting[m.ID]; ok && m.Kind == msgExited {
			ch <- m // has room for the one message
			delete(c.waiting, m.ID)
		}
		c.mu.Unlock()
	}
}

// PID returns the container's init in the caller's pid namespace.
func (c *Container) PID() int { return c.pid }

// Name returns the container's name.
func (c *Container) Name() string { return c.name }

// RootUID returns the uid that the container's root is outside.
func (c *Container) RootUID() uint32 { return c.ids.host }

// IDs returns how many uids the container has: 65536, or 1, which is root's.
func (c *Container) IDs() int { return c.ids.size }

// Cgroup returns the path of the container's own cgroup, "" when it has none.
func (c *Container) Cgroup() string {
	if c.group == nil {
		return ""
	}
	return c.group.dir
}

// Notes returns what the host did not allow, one line each.
func (c *Container) Notes() []string { return slices.Clone(c.notes) }

// Done is closed when the container has ended, by Stop or by itself.
func (c *Container) Done() <-chan struct{} { return c.done }

// Stop ends the container with everything that runs in it and removes its cgroups. It
// may be called more than once; each call returns the same error, which says what was
// left behind.
func (c *Container) Stop() error {
	c.stop.Do(func() {
		err := c.ctl.close()
		timer := time.NewTimer(stopTime)
		defer timer.Stop()
		select {
		case <-c.done:
		case <-timer.C:
			_ = c.init.Kill() // it ends or has ended
			<-c.done
		}
		<-c.fed
		c.stopErr = errors.Join(err, c.group.remove())
	})
	return c.stopErr
}
