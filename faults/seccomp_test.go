package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Structures of include/uapi/linux/seccomp.h.
type (
	seccompData struct {
		nr   int32
		arch uint32
		ip   uint64
		args [6]uint64
	}
	seccompNotif struct {
		id    uint64
		pid   uint32
		flags uint32
		data  seccompData
	}
	seccompResp struct {
		id    uint64
		val   int64
		error int32
		flags uint32
	}
)

// respContinue is SECCOMP_USER_NOTIF_FLAG_CONTINUE: the kernel carries the system call out.
const respContinue = 1

// auditArch is AUDIT_ARCH_* of this machine (include/uapi/linux/audit.h), 0 where it is not known here.
var auditArch = map[string]uint32{"amd64": 0xc000003e, "arm64": 0xc00000b7}[runtime.GOARCH]

// installFilter has the kernel ask about system calls of this process, and sends the descriptor on which it asks over a socket.
func installFilter(calls []uintptr, socket int) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	const load, jumpEq, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	program := []unix.SockFilter{
		{Code: load, K: 4}, // seccompData.arch
		{Code: jumpEq, K: auditArch, Jt: 1},
		{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: load, K: 0}, // seccompData.nr
	}
	for i, nr := range calls {
		program = append(program, unix.SockFilter{Code: jumpEq, K: uint32(nr), Jt: uint8(len(calls) - i)})
	}
	program = append(program, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF})
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		return fmt.Errorf("sendmsg: %w", err)
	}
	unix.CloseOnExec(int(fd))
	return unix.Close(socket)
}

// verdicts decides about the system calls of a daemon. Safe for concurrent use.
type verdicts struct {
	mu     sync.Mutex
	decide func(seccompData) syscall.Errno // nil: everything is carried out
	failed int
}

// fail has the system calls that match fail with errno from now on.
func (v *verdicts) fail(errno syscall.Errno, match func(nr uintptr, fd int) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.decide = func(d seccompData) syscall.Errno {
		if match(uintptr(d.nr), int(int32(d.args[0]))) {
			return errno
		}
		return 0
	}
}

// mend lets everything be carried out, and returns how many system calls failed.
func (v *verdicts) mend() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.decide = nil
	return v.failed
}

func (v *verdicts) of(d seccompData) syscall.Errno {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.decide == nil {
		return 0
	}
	errno := v.decide(d)
	if errno != 0 {
		v.failed++
	}
	return errno
}

// serveFiltered starts a daemon about whose system calls the test decides.
func serveFiltered(t *testing.T, calls ...uintptr) (*daemon, *verdicts) {
	t.Helper()
	need(t, auditArch != 0, "amd64 or arm64: the filter knows their system calls")
	d := newDaemon(t, launch{Filter: calls})
	v := &verdicts{}
	d.Change = func(cmd *exec.Cmd) {
		d.host.change(cmd)
		theirs := cmd.ExtraFiles[0] // which the process has a copy of when it has started
		t.Cleanup(func() { theirs.Close() })
		go v.run(t, d.host.listener)
	}
	d.Start()
	return d, v
}

// run answers the kernel until the daemon has ended.
func (v *verdicts) run(t *testing.T, socket *os.File) {
	defer socket.Close()
	fd, err := receiveFD(socket)
	if err != nil {
		t.Errorf("no filter: %v", err)
		return
	}
	defer unix.Close(fd)
	for {
		var n seccompNotif
		// The kernel answers ENOENT for a call that was interrupted, and, when the last process of the filter is gone, POLLHUP.
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) || poll[0].Revents&unix.POLLHUP != 0 {
			return
		}
		if poll[0].Revents&unix.POLLIN == 0 || ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)) != 0 {
			continue
		}
		r := seccompResp{id: n.id, flags: respContinue}
		if errno := v.of(n.data); errno != 0 {
			r.error, r.flags = -int32(errno), 0
		}
		_ = ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
	}
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) syscall.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	return errno
}

// descriptors finds the numbers of the daemon's descriptors on files below a path.
func (d *daemon) descriptors(path string) map[int]bool {
	d.T.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", d.Cmd.Process.Pid)
	names, err := os.ReadDir(dir)
	if err != nil {
		d.T.Fatal(err)
	}
	found := make(map[int]bool)
	for _, name := range names {
		target, err := os.Readlink(filepath.Join(dir, name.Name()))
		if err == nil && strings.HasPrefix(target, path) {
			n, _ := strconv.Atoi(name.Name())
			found[n] = true
		}
	}
	if len(found) == 0 {
		d.T.Fatalf("the daemon has no %s open", path)
	}
	return found
}

// guestListener finds the descriptor of the guest socket: /proc/net/unix knows its path and its inode.
func (d *daemon) guestListener() int {
	d.T.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", d.Cmd.Process.Pid))
	if err != nil {
		d.T.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 8 && fields[3] == "00010000" && strings.HasPrefix(fields[7], filepath.Dir(d.Socket())+"/") { // __SO_ACCEPTCON
			for fd := range d.descriptors("socket:[" + fields[6] + "]") {
				return fd
			}
		}
	}
	d.T.Fatal("the guest socket is not found")
	return -1
}
