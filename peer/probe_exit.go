package peer

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reapedPeer returns an accepted socket whose peer has exited and has been reaped. The
// peer is a bare fork of the server which makes two system calls: connect and
// exit. No other program has to be there for it, and no other thread is stopped.
func reapedPeer() (sock int, err error) {
	const kind = unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	listener, err := unix.Socket(unix.AF_UNIX, kind, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer unix.Close(listener)
	// unix(7): binding the family alone makes the kernel choose an abstract name.
	addr := unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	size := uint32(unsafe.Sizeof(addr.Family))
	if _, _, e := unix.Syscall(unix.SYS_BIND, uintptr(listener), uintptr(unsafe.Pointer(&addr)), uintptr(size)); e != 0 {
		return -1, os.NewSyscallError("bind", e)
	}
	size = uint32(unsafe.Sizeof(addr))
	if _, _, e := unix.Syscall(unix.SYS_GETSOCKNAME, uintptr(listener), uintptr(unsafe.Pointer(&addr)), uintptr(unsafe.Pointer(&size))); e != 0 {
		return -1, os.NewSyscallError("getsockname", e)
	}
	if err := unix.Listen(listener, 1); err != nil {
		return -1, os.NewSyscallError("listen", err)
	}
	client, err := unix.Socket(unix.AF_UNIX, kind, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer unix.Close(client)
	if err := connectInFork(client, &addr, size); err != nil {
		return -1, err
	}
	sock, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return -1, os.NewSyscallError("accept4", err)
	}
	return sock, nil
}

// connectInFork lets a child connect the socket and waits until it is reaped.
func connectInFork(sock int, addr *unix.RawSockaddrUnix, size uint32) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// A handler of the Go runtime must not run in the child.
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return os.NewSyscallError("rt_sigprocmask", err)
	}
	pid, e := forkConnect(uintptr(sock), unsafe.Pointer(addr), uintptr(size))
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err != nil {
		return os.NewSyscallError("rt_sigprocmask", err)
	}
	if e != 0 {
		return os.NewSyscallError("clone", e)
	}
	var status unix.WaitStatus
	for {
		// __WALL: the child ends without a signal, which the server need not know of.
		_, err := unix.Wait4(int(pid), &status, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("wait4", err)
		}
		break
	}
	if status.ExitStatus() != 0 {
		return fmt.Errorf("connect in the child: %w", syscall.Errno(status.ExitStatus()))
	}
	return nil
}

// forkConnect is clone(2) without flags, that is fork(2). In the child only this thread is
// left, so nothing of the Go runtime may be used there: no stack growth, no
// allocation, no write barrier, and nothing that the race detector would look at.
//
//go:nosplit
//go:noinline
//go:norace
func forkConnect(sock uintptr, addr unsafe.Pointer, size uintptr) (pid uintptr, e syscall.Errno) {
	pid, _, e = unix.RawSyscall6(unix.SYS_CLONE, 0, 0, 0, 0, 0, 0)
	if e != 0 || pid != 0 {
		return pid, e
	}
	_, _, e = unix.RawSyscall(unix.SYS_CONNECT, sock, uintptr(addr), size)
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(e), 0, 0)
	}
}
