package server

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ListenerFile returns a descriptor of the listening socket, for systemd to keep. It outlives the server.
func (s *Server) ListenerFile() (*os.File, error) {
	fd, err := -1, ErrClosed
	l := s.loops[0]
	l.call(func() {
		if l.listener >= 0 {
			fd, err = unix.FcntlInt(uintptr(l.listener), unix.F_DUPFD_CLOEXEC, 3)
		}
	})
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), "guest"), nil
}

// KeepSocket leaves the guest socket in the file system at the end: somebody keeps it open. Call it after Listen or Reopen.
func (s *Server) KeepSocket() { s.socket = nil }

// siocUnixFile asks a Unix socket for the file that it is bound to (Linux 4.15, include/uapi/linux/un.h). It takes CAP_NET_ADMIN.
const siocUnixFile = 0x89e0

// IsSocketAt reports whether the socket in the file system at path is the one that f is a descriptor of.
func IsSocketAt(f *os.File, path string) (bool, error) {
	bound, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), siocUnixFile, 0)
	if errno != 0 {
		return false, fmt.Errorf("cannot find out where an inherited socket is bound: %w", errno)
	}
	defer unix.Close(int(bound))
	var is, at unix.Stat_t
	if err := unix.Fstat(int(bound), &is); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	if err := unix.Lstat(path, &at); err != nil {
		return false, nil //nolint:nilerr // nothing is there
	}
	return is.Dev == at.Dev && is.Ino == at.Ino, nil
}
