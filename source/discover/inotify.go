package discover

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors of files of a cgroup: removed meanwhile, and threaded.
const (
	errNoDevice  = unix.ENODEV
	errNotDomain = unix.EOPNOTSUPP
)

// What is watched. Directories of cgroups cannot be renamed.
const (
	watchPlace  = unix.IN_CREATE | unix.IN_DELETE | unix.IN_ONLYDIR
	watchEvents = unix.IN_MODIFY
)

// event is one of inotify(7).
type event struct {
	wd   int
	mask uint32
	name string // of the file in a watched directory
}

// notifier is an inotify instance and the goroutine that reads it.
type notifier struct {
	file   *os.File
	events chan []event
	done   chan struct{}
}

func newNotifier() (*notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("%w: inotify_init1: %w; raise fs.inotify.max_user_instances", ErrTree, err)
	}
	n := &notifier{file: os.NewFile(uintptr(fd), "inotify"), events: make(chan []event), done: make(chan struct{})}
	go n.run()
	return n, nil
}

// add watches what f is open on.
func (n *notifier) add(f *os.File, mask uint32) (wd int, err error) {
	raw, err := n.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) {
		wd, err = unix.InotifyAddWatch(int(fd), fmt.Sprintf("/proc/self/fd/%d", f.Fd()), mask)
	})
	if cerr != nil {
		return 0, cerr
	}
	return wd, os.NewSyscallError("inotify_add_watch", err)
}

// remove ends a watch; one that is gone already is no error.
func (n *notifier) remove(wd int) {
	if raw, err := n.file.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(wd)) })
	}
}

// close ends the goroutine.
func (n *notifier) close() error {
	close(n.done)
	err := n.file.Close()
	for range n.events { // until run has closed it
	}
	return err
}

// run passes events on, as many as one read gives.
func (n *notifier) run() {
	defer close(n.events)
	buf := make([]byte, 64<<10)
	for {
		got, err := n.file.Read(buf)
		if err != nil {
			return
		}
		select {
		case n.events <- parseEvents(buf[:got]):
		case <-n.done:
			return
		}
	}
}

// parseEvents reads struct inotify_event: wd, mask, cookie, length of the name, name with NUL bytes behind it.
func parseEvents(b []byte) []event {
	var list []event
	for len(b) >= unix.SizeofInotifyEvent {
		size := int(binary.NativeEndian.Uint32(b[12:]))
		if len(b) < unix.SizeofInotifyEvent+size {
			break
		}
		list = append(list, event{
			wd: int(int32(binary.NativeEndian.Uint32(b))), mask: binary.NativeEndian.Uint32(b[4:]),
			name: strings.TrimRight(string(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+size]), "\x00"),
		})
		b = b[unix.SizeofInotifyEvent+size:]
	}
	return list
}
