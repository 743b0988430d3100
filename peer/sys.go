package peer

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernel is every system call that identification makes, as fields so that tests
// can give the errors that a kernel at hand does not. Arguments and results are
// values: a pointer passed through a function field would escape to the heap. The
// calls that cannot sleep are raw, which spares the scheduler's bookkeeping.
type kernel struct {
	peerCred   func(sock int) (unix.Ucred, syscall.Errno)
	peerPidfd  func(sock int) (int, syscall.Errno)
	pidfdOpen  func(pid int32) (int, syscall.Errno)
	info       func(pidfd int, ask uint64) (mask, cgroup uint64, e syscall.Errno)
	signal0    func(pidfd int) syscall.Errno
	pidNS      func(pidfd int) (int, syscall.Errno)
	parentNS   func(ns int) (int, syscall.Errno)
	openHandle func(mount int, id uint64) (int, syscall.Errno)
	openAt     func(dir int, path []byte, flags int) (int, syscall.Errno)
	read       func(fd int, buf []byte) (int, syscall.Errno)
	stat       func(fd int) (fileID, syscall.Errno)
	close      func(fd int)
}

// fileID is what fstat(2) tells that matters here.
type fileID struct {
	NS
	uid uint32
}

func realKernel() kernel {
	return kernel{
		peerCred: sysPeerCred, peerPidfd: sysPeerPidfd, pidfdOpen: sysPidfdOpen, info: sysInfo,
		signal0: sysSignal0, pidNS: sysPidNS, parentNS: sysParentNS, openHandle: sysOpenHandle,
		openAt: sysOpenAt, read: sysRead, stat: sysStat, close: sysClose,
	}
}

func sysPeerCred(sock int) (unix.Ucred, syscall.Errno) {
	var cred unix.Ucred
	size := uint32(unix.SizeofUcred)
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(sock), unix.SOL_SOCKET, unix.SO_PEERCRED,
		uintptr(unsafe.Pointer(&cred)), uintptr(unsafe.Pointer(&size)), 0)
	return cred, e
}

func sysPeerPidfd(sock int) (int, syscall.Errno) {
	var pidfd int32
	size := uint32(unsafe.Sizeof(pidfd))
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(sock), unix.SOL_SOCKET, unix.SO_PEERPIDFD,
		uintptr(unsafe.Pointer(&pidfd)), uintptr(unsafe.Pointer(&size)), 0)
	return int(pidfd), e
}

func sysPidfdOpen(pid int32) (int, syscall.Errno) {
	fd, _, e := unix.RawSyscall(unix.SYS_PIDFD_OPEN, uintptr(pid), 0, 0)
	return int(fd), e
}

func sysInfo(pidfd int, ask uint64) (mask, cgroup uint64, e syscall.Errno) {
	info := unix.PidfdInfo{Mask: ask}
	_, _, e = unix.RawSyscall(unix.SYS_IOCTL, uintptr(pidfd), unix.PIDFD_GET_INFO, uintptr(unsafe.Pointer(&info)))
	return info.Mask, info.Cgroupid, e
}

func sysSignal0(pidfd int) syscall.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_PIDFD_SEND_SIGNAL, uintptr(pidfd), 0, 0, 0, 0, 0)
	return e
}

func sysPidNS(pidfd int) (int, syscall.Errno) {
	fd, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(pidfd), unix.PIDFD_GET_PID_NAMESPACE, 0)
	return int(fd), e
}

func sysParentNS(ns int) (int, syscall.Errno) {
	fd, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(ns), unix.NS_GET_PARENT, 0)
	return int(fd), e
}

// kernfsHandle is struct file_handle of open_by_handle_at(2) with the eight bytes
// of a kernfs handle behind it.
type kernfsHandle struct {
	bytes uint32
	kind  int32
	id    uint64
}

func sysOpenHandle(mount int, id uint64) (int, syscall.Errno) {
	h := kernfsHandle{bytes: uint32(unsafe.Sizeof(id)), kind: fileidKernfs, id: id}
	fd, _, e := unix.Syscall(unix.SYS_OPEN_BY_HANDLE_AT, uintptr(mount), uintptr(unsafe.Pointer(&h)),
		unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	return int(fd), e
}

// sysOpenAt opens path, which ends with a NUL byte, and always close-on-exec.
func sysOpenAt(dir int, path []byte, flags int) (int, syscall.Errno) {
	if len(path) == 0 || path[len(path)-1] != 0 {
		return -1, unix.EINVAL
	}
	fd, _, e := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
		uintptr(flags|unix.O_CLOEXEC), 0, 0, 0)
	return int(fd), e
}

func sysRead(fd int, buf []byte) (int, syscall.Errno) {
	if len(buf) == 0 {
		return 0, 0
	}
	for {
		n, _, e := unix.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

func sysStat(fd int) (fileID, syscall.Errno) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		e, ok := err.(syscall.Errno)
		if !ok {
			e = unix.EIO
		}
		return fileID{}, e
	}
	return fileID{NS: NS{Dev: uint64(st.Dev), Ino: st.Ino}, uid: st.Uid}, 0
}

func sysClose(fd int) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// resources tells errors of the server's own limits from those about a peer.
func resources(e syscall.Errno) bool {
	return e == unix.EMFILE || e == unix.ENFILE || e == unix.ENOMEM || e == unix.ENOBUFS
}

// gone tells the errors which say that a process has ended.
func gone(e syscall.Errno) bool {
	return e == unix.ESRCH || e == unix.ENOENT
}
