package server

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxSocketPath is sizeof(sockaddr_un.sun_path) less the final NUL
// (include/uapi/linux/un.h).
const maxSocketPath = 107

// backlog asks for as many waiting connections as net.core.somaxconn allows:
// the kernel cuts the number down to it.
const backlog = math.MaxInt32

// socketFile is the guest socket in the file system.
type socketFile struct {
	path     string
	dev, ino uint64
}

// remove unlinks the socket, unless another server has put its own there.
func (f *socketFile) remove() error {
	if f == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(f.path, &st); err != nil || st.Dev != f.dev || st.Ino != f.ino {
		return nil
	}
	if err := unix.Unlink(f.path); err != nil {
		return &os.PathError{Op: "unlink", Path: f.path, Err: err}
	}
	return nil
}

// Listen makes the guest socket at path, mode 0666, and starts to accept. The
// socket is bound under a temporary name and renamed into place, so guests see
// either no server or one that answers, and a successor never has a gap.
// Its directory is created with mode 0755. Call it after Start.
func (s *Server) Listen(path string) error {
	if err := s.claimListener(); err != nil {
		return err
	}
	file, fd, err := openSocket(path)
	if err != nil {
		s.listening.Store(false)
		return err
	}
	if err := s.accept(fd); err != nil {
		return errors.Join(err, file.remove())
	}
	s.socket = file
	return nil
}

// claimListener makes sure that there is only one listening socket.
func (s *Server) claimListener() error {
	switch {
	case s.phase.Load() != phaseRunning:
		return ErrClosed
	case !s.listening.CompareAndSwap(false, true):
		return ErrListening
	}
	return nil
}

// openSocket makes the listening socket at path.
func openSocket(path string) (*socketFile, int, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, -1, fmt.Errorf("cannot create the guest directory: %w", err)
	}
	// Not where it is right already, for that takes CAP_FOWNER if the directory is somebody else's.
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		if err := os.Chmod(dir, 0o755); err != nil {
			return nil, -1, fmt.Errorf("guests could not enter the guest directory: %w", err)
		}
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return nil, -1, fmt.Errorf("%s: %w", path, ErrNotSocket)
	}
	temporary := filepath.Join(dir, fmt.Sprintf(".%s.%d", filepath.Base(path), os.Getpid()))
	if len(temporary) > maxSocketPath {
		return nil, -1, fmt.Errorf("%s is too long for a socket (%d bytes at most): choose a shorter run directory", temporary, maxSocketPath)
	}
	fd, err := bindSocket(temporary)
	if err != nil {
		return nil, -1, err
	}
	file, err := publish(temporary, path)
	if err != nil {
		_ = unix.Close(fd)
		_ = unix.Unlink(temporary)
		return nil, -1, err
	}
	return file, fd, nil
}

// bindSocket makes a listening socket at path.
func bindSocket(path string) (int, error) {
	if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return -1, &os.PathError{Op: "unlink", Path: path, Err: err}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		_ = unix.Close(fd)
		return -1, &os.PathError{Op: "bind", Path: path, Err: err}
	}
	if err := unix.Listen(fd, backlog); err != nil {
		_ = unix.Close(fd)
		_ = unix.Unlink(path)
		return -1, os.NewSyscallError("listen", err)
	}
	return fd, nil
}

// publish opens the socket to everyone and moves it into place.
func publish(temporary, path string) (*socketFile, error) {
	if err := os.Chmod(temporary, 0o666); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(temporary, &st); err != nil {
		return nil, &os.PathError{Op: "lstat", Path: temporary, Err: err}
	}
	if err := os.Rename(temporary, path); err != nil {
		return nil, err
	}
	return &socketFile{path: path, dev: st.Dev, ino: st.Ino}, nil
}

// Adopt starts to accept on a listening Unix socket that something else made,
// such as systemd. The server owns fd from here on, also if it fails; it leaves
// the file system alone. Call it after Start.
func (s *Server) Adopt(fd int) error {
	if err := s.claimListener(); err != nil {
		_ = unix.Close(fd)
		return err
	}
	return s.accept(fd)
}

// accept gives the listening socket to the first loop.
func (s *Server) accept(fd int) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	l := s.loops[0]
	err := ErrClosed
	l.call(func() {
		if err = l.poller.add(fd, pollRead); err == nil {
			l.listener = fd
		}
	})
	if err != nil {
		_ = unix.Close(fd)
	}
	return err
}
