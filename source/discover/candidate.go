package discover

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/internal/logging"
	"devlxd/source"
)

// meet takes up a payload cgroup.
func (d *Discovery) meet(dir string, r *rules) {
	inode, err := d.inode(dir)
	if err != nil {
		return // removed meanwhile, which an event will tell of
	}
	c := d.candidates[dir]
	if c != nil && c.inode != inode {
		d.drop(dir)
		c = nil
	}
	if c == nil {
		c = &candidate{dir: dir, rules: r, inode: inode}
		d.candidates[dir] = c
		d.counts.found[r.runtime].Add(1)
	}
	if !c.bound {
		d.examine(c)
	}
}

func (d *Discovery) inode(dir string) (uint64, error) {
	info, err := d.tree.Stat(orDot(dir))
	if err != nil {
		return 0, err
	}
	st, ok := statOf(info)
	if !ok {
		return 0, unix.ENOSYS
	}
	return st.Ino, nil
}

// examine tries to bind a candidate, and arranges to be called again where that is too early.
func (d *Discovery) examine(c *candidate) {
	c.next = time.Time{}
	if c.bound {
		return
	}
	// Watched first, so that a process which enters from here on is told of.
	d.watchEvents(c)
	err := d.bind(c)
	switch {
	case err == nil:
		d.unwatch(c.watch)
		c.watch, c.wait, c.told, c.since = 0, 0, "", time.Time{}
	case errors.Is(err, errEmpty):
		c.told, c.since = "", time.Time{}
		d.forget(c)
		if c.watch == 0 { // else cgroup.events tells when there is somebody again
			c.wait = longer(c.wait)
			c.next = time.Now().Add(c.wait)
		}
	default:
		d.postpone(c, err)
	}
}

// watchEvents watches cgroup.events of a candidate.
func (d *Discovery) watchEvents(c *candidate) {
	if c.watch != 0 {
		return
	}
	f, err := d.tree.Open(below(c.dir, "cgroup.events"))
	if err != nil {
		return // it is gone, or is tried again after a while
	}
	defer f.Close()
	wd, err := d.notes.add(f, watchEvents)
	if err != nil {
		d.log.Warn("cannot watch a cgroup; looking at it every few seconds instead: raise fs.inotify.max_user_watches",
			"cgroup", logging.Guest("/"+c.dir), "error", logging.GuestError(err))
		return
	}
	c.watch, d.watches[wd] = wd, c.dir
}

// postpone has a candidate tried again, after a time that grows.
func (d *Discovery) postpone(c *candidate, err error) {
	now := time.Now()
	if c.since.IsZero() {
		c.since = now
	}
	c.wait = longer(c.wait)
	c.next = now.Add(c.wait)
	d.counts.failed[c.rules.runtime].Add(1)
	if text := err.Error(); now.Sub(c.since) >= patience && text != c.told {
		c.told = text
		d.log.Warn("container found but not bound", "runtime", c.rules.runtime.String(), "cgroup", logging.Guest("/"+c.dir), "error", logging.GuestError(err))
	}
}

// longer is how long is waited after d.
func longer(d time.Duration) time.Duration { return min(max(2*d, firstWait), lastWait) }

// bind finds the init process of a candidate and has it bound.
func (d *Discovery) bind(c *candidate) error {
	if err := d.trusted(c.dir); err != nil {
		return err
	}
	init, err := findInit(d.tree, d.procs, c.dir)
	if err != nil {
		return err
	}
	held, err := hold(d.procs, init)
	if err != nil {
		return err
	}
	defer held.close()
	name, identity, err := c.rules.named(d.procs, c.dir, init)
	if err != nil {
		return err
	}
	if err := source.ValidateName(name); err != nil {
		return err
	}
	if c.name != "" && c.name != name {
		d.forget(c)
	}
	err = d.keeper.BindFound(source.Found{
		Name: name, InstanceID: instanceID(c.rules.runtime, identity), Hold: d.holding,
		Request: source.BindRequest{PID: init.pid, Cgroup: path.Join(d.opts.Tree, c.dir), CgroupID: c.inode, Check: held.check},
	})
	if err != nil {
		return err
	}
	c.name, c.bound = name, true
	delete(d.left, name)
	d.counts.bound[c.rules.runtime].Add(1)
	return nil
}

// trusted makes sure that only the owner of the tree could make the cgroup: what is above it belongs to that user. The cgroup
// itself may belong to the container.
func (d *Discovery) trusted(dir string) error {
	for up := path.Dir(dir); up != "."; up = path.Dir(up) {
		info, err := d.tree.Stat(up)
		if err != nil {
			return err
		}
		if st, ok := statOf(info); !ok || st.Uid != d.owner {
			return errForeign
		}
	}
	return nil
}

// holder keeps an init process from being mistaken for one that gets its pid afterwards.
type holder struct{ pidfd int }

// hold opens the process and reads it once more: what was read before may have been about another one.
func hold(p *procs, init process) (holder, error) {
	fd, err := unix.PidfdOpen(init.pid, 0)
	if err != nil {
		return holder{}, errReused
	}
	h := holder{pidfd: fd}
	if again, err := p.read(init.pid); err != nil || !again.isInit() {
		h.close()
		return holder{}, errReused
	}
	return h, nil
}

func (h holder) close() { _ = unix.Close(h.pidfd) }

// check tells whether the process lives, so that its pid has been its own all the while.
func (h holder) check() error {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(h.pidfd), Events: unix.POLLIN}}, 0)
	if err != nil && err != unix.EINTR || n != 0 {
		return fmt.Errorf("%w: %w", source.ErrNoProcess, errReused)
	}
	return nil
}

// instanceID is the instance id of a container that is kept nowhere: the same at each of its starts, so that cloud-init does not begin anew,
// and another one on another host.
func instanceID(r Runtime, identity string) string {
	host, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		host = nil // one of a host without an id differs from no other
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{"devlxd", strings.TrimSpace(string(host)), r.String(), identity}, "\x00")))
	u := sum[:16]
	u[6] = u[6]&0x0f | 0x80 // RFC 9562 §5.8: a UUID of one's own making
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
