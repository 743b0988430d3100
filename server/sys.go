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

// readNow is read(2) of a non-blocking socket; b is not empty.
func readNow(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// writeNow is write(2) to a non-blocking socket; b is not empty.
func writeNow(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
