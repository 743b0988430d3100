package peertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// order is what a child is told, one in a packet; a descriptor may come with it.
type order struct {
	Op   string   `json:"op"`
	Conn int      `json:"conn,omitempty"`
	Num  int      `json:"num,omitempty"`
	Text string   `json:"text,omitempty"`
	Args []string `json:"args,omitempty"`
	Data []byte   `json:"data,omitempty"`
	Spec *Spec    `json:"spec,omitempty"`
}

// answer is what it says to each order; a descriptor may come with it.
type answer struct {
	Err    string `json:"err,omitempty"`
	Num    int    `json:"num,omitempty"`
	Text   string `json:"text,omitempty"`
	Data   []byte `json:"data,omitempty"`
	Status int    `json:"status,omitempty"`
}

// maxPacket bounds an order or answer; the data in it is a quarter less by base64.
const maxPacket = 128 << 10

// control is one end of the socket between a test and a child: packets keep an
// order, and the descriptor that comes with it, together.
type control struct{ fd int }

func (c control) send(v any, fd int) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) > maxPacket {
		return fmt.Errorf("too long for a control packet: %d bytes", len(text))
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	for {
		err := unix.Sendmsg(c.fd, text, rights, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

// recv returns a descriptor or -1, and the sender's pid as this process sees it, 0
// where SO_PASSCRED is not set.
func (c control) recv(v any) (fd, pid int, err error) {
	buf := make([]byte, maxPacket)
	oob := make([]byte, 256)
	var n, oobn int
	for {
		n, oobn, _, _, err = unix.Recvmsg(c.fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return -1, 0, os.NewSyscallError("recvmsg", err)
	}
	if n == 0 {
		return -1, 0, io.EOF
	}
	fd = -1
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return -1, 0, err
	}
	for _, m := range msgs {
		if cred, err := unix.ParseUnixCredentials(&m); err == nil {
			pid = int(cred.Pid)
		}
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			fd = fds[0]
		}
	}
	return fd, pid, json.Unmarshal(buf[:n], v)
}

// pair makes the two ends of a control socket. The parent's tells the child's pid.
func pair() (parent control, child *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return control{-1}, nil, os.NewSyscallError("socketpair", err)
	}
	err = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err != nil {
		return control{-1}, nil, errors.Join(os.NewSyscallError("setsockopt", err), unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return control{fds[0]}, os.NewFile(uintptr(fds[1]), "control"), nil
}
