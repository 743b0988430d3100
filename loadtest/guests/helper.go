package guests

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sendBuffer is what the guests may have written to the data socket together before they block, in bytes.
	sendBuffer = 8 << 20
	// exitTime is how long the helper may take to remove everything before it is killed.
	exitTime = time.Minute
)

// helper is the process that makes and keeps the guests.
type helper struct {
	process *os.Process
	control *net.UnixConn
	data    int           // our end of the socket that guests answer on
	exited  chan struct{} // closed when the process has been waited for
}

// startHelper starts it with descriptors 3 to 7 as helper/guest.h has them.
func startHelper(memory *shared, b *base) (_ *helper, err error) {
	if len(helperELF) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, errMachine)
	}
	exe, err := helperFile()
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	control, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return nil, err
	}
	ours, guests, err := socketPair()
	if err != nil {
		control.Close()
		return nil, err
	}
	defer guests.Close()
	h := &helper{control: control.(*net.UnixConn), exited: make(chan struct{})}
	h.data, err = unix.FcntlInt(ours.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	ours.Close()
	if err != nil {
		control.Close()
		return nil, err
	}
	growBuffer(int(guests.Fd()))
	files := []*os.File{exe, theirs, guests, memory.file}
	if b != nil {
		files = append(files, b.file)
	}
	if err := h.start(files); err != nil {
		h.closeSockets()
		return nil, err
	}
	return h, nil
}

func (h *helper) start(files []*os.File) error {
	cmd := &exec.Cmd{
		Path: "/proc/self/fd/3", Args: []string{"devlxd-load-guests"}, Env: []string{}, Dir: "/",
		ExtraFiles: files,
		// Ctrl-C on the caller's terminal is the caller's: the helper stays to clean up.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start the helper: %w", err)
	}
	h.process = cmd.Process
	go func() {
		_ = cmd.Wait() // how it ended is told by the control socket
		close(h.exited)
	}()
	return nil
}

// stop has the helper remove everything and waits until it has.
func (h *helper) stop() {
	h.closeSockets()
	t := time.NewTimer(exitTime)
	defer t.Stop()
	select {
	case <-h.exited:
	case <-t.C:
		_ = h.process.Kill()
		<-h.exited
	}
}

func (h *helper) closeSockets() {
	h.control.Close()
	unix.Close(h.data)
}

// send sends a command with descriptors.
func (h *helper) send(c command, fds ...int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := h.control.WriteMsgUnix(c.bytes(), oob, nil); err != nil {
		return fmt.Errorf("%w (%w)", ErrEnded, err)
	}
	return nil
}

// receive reads a report and the pidfd that came with it, or -1. Only one goroutine may call it.
func (h *helper) receive(buf, oob []byte) (r report, pidfd int, err error) {
	n, oobn, _, _, err := h.control.ReadMsgUnix(buf, oob)
	if err != nil {
		return r, -1, err
	}
	pidfd = -1
	if fds, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(fds) == 1 {
		if got, err := unix.ParseUnixRights(&fds[0]); err == nil && len(got) == 1 {
			pidfd = got[0]
		}
	}
	if n != reportSize {
		return r, pidfd, ErrEnded
	}
	return parseReport(buf), pidfd, nil
}

// helperFile puts the program into a memfd, so that no file has to be written and removed.
func helperFile() (*os.File, error) {
	// MFD_EXEC is needed where sysctl vm.memfd_noexec is set, and unknown before Linux 6.3.
	fd, err := unix.MemfdCreate("devlxd-guests", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("devlxd-guests", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "helper")
	if _, err := bytes.NewReader(helperELF).WriteTo(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// socketPair returns the ends of a socket that keeps messages apart and blocks a writer when it is full.
func socketPair() (a, b *os.File, err error) {
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fd[0]), "socket"), os.NewFile(uintptr(fd[1]), "socket"), nil
}

// growBuffer lets guests write ahead: each waits for all others when the buffer is full, which wakes them all each time.
// Without CAP_NET_ADMIN it grows up to sysctl net.core.wmem_max only.
func growBuffer(fd int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer) // the default buffer does as well
	}
}
