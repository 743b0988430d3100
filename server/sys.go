package server

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the way of a request, made without telling the Go
// scheduler, which costs as much as the parser does. That is allowed because none
// of them waits: sockets are non-blocking, and what is copied is bounded by the
// loop's buffers and the socket's. Anything that may wait (epoll_wait without
// events, files) goes through package unix.

// pollNow is epoll_wait(2) with a timeout of 0.
func pollNow(epfd int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// readNow is recv(2) from a non-blocking socket, which read(2) comes to after more checks; b is not empty.
func readNow(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// unreadNow reports whether something is left to read in a non-blocking socket.
func unreadNow(fd int) bool {
	var b [1]byte
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_PEEK, 0, 0)
	return errno == 0 && n > 0
}

// writeNow is send(2) to a non-blocking socket, which raises no SIGPIPE; b is not empty.
func writeNow(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// acceptNow is accept4(2) on a non-blocking listener, for a connection that is
// non-blocking and closed on exec. The peer's address is not asked for: a guest's
// socket has none.
func acceptNow(listener int) (int, error) {
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// closeNow is close(2) of a Unix socket, which does not linger.
func closeNow(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// controlNow is epoll_ctl(2).
func controlNow(epfd, op, fd int, event *unix.EpollEvent) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(event)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
