package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// SocketName is the name of the admin socket in the run directory.
const SocketName = "admin.sock"

const (
	// socketMode keeps everyone but the owner out.
	socketMode = 0o600
	// maxSocketPath is sizeof(sockaddr_un.sun_path) less the final NUL
	// (include/uapi/linux/un.h).
	maxSocketPath = 107
)

// Listen makes the admin socket at path with mode 0600, and its directory with
// mode 0755 if there is none. The socket is bound under a temporary name and
// renamed into place, so that a predecessor's socket is replaced without a
// gap. Anything there that is not a socket is left alone: [ErrNotSocket].
//
// Closing the listener removes the socket, unless another process has put its
// own there meanwhile.
func Listen(path string) (*Listener, error) {
	dir, name := filepath.Split(path)
	temporary := filepath.Join(dir, fmt.Sprintf(".%s.%d", name, os.Getpid()))
	if len(temporary) > maxSocketPath {
		return nil, fmt.Errorf("%s: %w", path, ErrPathTooLong)
	}
	if err := os.MkdirAll(filepath.Clean(dir+"."), 0o755); err != nil {
		return nil, fmt.Errorf("cannot create the run directory: %w", err)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("%s: %w", path, ErrNotSocket)
	}
	ln, err := bind(temporary)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on the admin socket: %w", err)
	}
	l := &Listener{UnixListener: ln, path: path}
	if err := l.publish(temporary); err != nil {
		return nil, errors.Join(err, ln.Close(), os.Remove(temporary))
	}
	return l, nil
}

// bind listens at a path that this process alone uses.
func bind(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var lc net.ListenConfig
	lc.Control = func(_, _ string, raw syscall.RawConn) error {
		var err error
		// bind(2) gives the file the mode of the socket less the umask, so
		// there is no moment at which others could connect.
		if cerr := raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), socketMode) }); cerr != nil {
			return cerr
		}
		return os.NewSyscallError("fchmod", err)
	}
	ln, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	unixListener := ln.(*net.UnixListener)
	unixListener.SetUnlinkOnClose(false)
	return unixListener, nil
}

// Listener is the admin socket in the file system.
type Listener struct {
	*net.UnixListener
	path     string
	dev, ino uint64
	kept     atomic.Bool
	closed   sync.Once
	err      error
}

// Adopt continues a listener that another process has made, as Place told there. It closes f.
func Adopt(f *os.File, path string, dev, ino uint64) (*Listener, error) {
	ln, err := net.FileListener(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("cannot use the admin socket of the other process: %w", err)
	}
	unixListener, ok := ln.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s: %w", ln.Addr(), ErrNotUnix), ln.Close())
	}
	return &Listener{UnixListener: unixListener, path: path, dev: dev, ino: ino}, nil
}

// Place is where the socket is in the file system.
func (l *Listener) Place() (path string, dev, ino uint64) { return l.path, l.dev, l.ino }

// Keep leaves the socket in the file system when the listener is closed: it is another process's now.
func (l *Listener) Keep() { l.kept.Store(true) }

// publish moves the socket into place and remembers which file it is.
func (l *Listener) publish(temporary string) error {
	// The umask may have taken more away than was asked for.
	if err := os.Chmod(temporary, socketMode); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(temporary, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: temporary, Err: err}
	}
	l.dev, l.ino = st.Dev, st.Ino
	return os.Rename(temporary, l.path)
}

// Addr returns the path where the socket is, not the one it was bound to.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops to accept, and removes the socket if it is still this one. It
// may be called more than once.
func (l *Listener) Close() error {
	l.closed.Do(func() {
		// Removed before it is closed: nobody connects to a dead socket.
		l.err = errors.Join(l.remove(), l.UnixListener.Close())
	})
	return l.err
}

func (l *Listener) remove() error {
	if l.kept.Load() {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(l.path, &st); err != nil || st.Dev != l.dev || st.Ino != l.ino {
		return nil
	}
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
