package fdpass

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// MaxFDs is how many descriptors a message can have: SCM_MAX_FD (include/net/scm.h).
	MaxFDs = 253
	// MaxBody bounds what a receiver collects for one message.
	MaxBody = 256 << 20

	packetSize = 64 << 10 // fits into any send buffer: net.core.wmem_default is 212992, and no less than 2048 by force
	headerSize = 16
)

var magic = [4]byte{'d', 'x', 'f', 'd'}

// acknowledgement is the packet that answers a message with descriptors. No header begins so.
var acknowledgement = []byte{'+'}

// Message is what is sent at once. Whoever received it owns its descriptors, which are close-on-exec.
type Message struct {
	Kind uint16
	Body []byte
	FDs  []int
}

// Close closes the descriptors.
func (m *Message) Close() {
	for _, fd := range m.FDs {
		_ = unix.Close(fd)
	}
	m.FDs = nil
}

// Conn is one end. One goroutine at a time may use it, but for Close.
type Conn struct {
	c      *net.UnixConn
	packet []byte
	oob    []byte
}

// Pair makes two connected ends, the second as a file for another process.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "handover")
	ours, err := New(os.NewFile(uintptr(fds[0]), "handover"))
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// New takes over an end that was made by Pair; it closes f.
func New(f *os.File) (*Conn, error) {
	inner, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("cannot use the connection to the other process: %w", err)
	}
	c, ok := inner.(*net.UnixConn)
	if !ok || c.LocalAddr().Network() != "unixpacket" {
		return nil, errors.Join(ErrDamaged, inner.Close())
	}
	return &Conn{c: c, packet: make([]byte, headerSize+packetSize), oob: make([]byte, unix.CmsgSpace(4*MaxFDs))}, nil
}

// Close closes the end. What was sent and not received yet stays for the other one.
func (c *Conn) Close() error { return c.c.Close() }

func checksum(header, body []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(header[:12], table), table, body)
}

// Send sends a message and, if it has descriptors, waits until it was received; they stay the caller's. Errors: ErrTooLarge, ErrEnded,
// *UnexpectedError, os.ErrDeadlineExceeded, or the system call's.
func (c *Conn) Send(m Message, within time.Duration) error {
	if len(m.FDs) > MaxFDs || len(m.Body) > MaxBody {
		return ErrTooLarge
	}
	if err := c.c.SetDeadline(time.Now().Add(within)); err != nil {
		return ended(err)
	}
	var header [headerSize]byte
	copy(header[:], magic[:])
	binary.BigEndian.PutUint16(header[4:], m.Kind)
	binary.BigEndian.PutUint16(header[6:], uint16(len(m.FDs)))
	binary.BigEndian.PutUint32(header[8:], uint32(len(m.Body)))
	binary.BigEndian.PutUint32(header[12:], checksum(header[:], m.Body))
	n := copy(c.packet[headerSize:], m.Body)
	copy(c.packet, header[:])
	var rights []byte
	if len(m.FDs) > 0 {
		rights = unix.UnixRights(m.FDs...)
	}
	if _, _, err := c.c.WriteMsgUnix(c.packet[:headerSize+n], rights, nil); err != nil {
		return ended(err)
	}
	for rest := m.Body[n:]; len(rest) > 0; rest = rest[n:] {
		n = min(len(rest), packetSize)
		if _, err := c.c.Write(rest[:n]); err != nil {
			return ended(err)
		}
	}
	if len(m.FDs) == 0 {
		return nil
	}
	return c.awaitAcknowledgement()
}

func (c *Conn) awaitAcknowledgement() error {
	m, acknowledged, err := c.receive()
	if err != nil || acknowledged {
		return err
	}
	return &UnexpectedError{m}
}

// Receive waits for the next message. Errors: ErrEnded, ErrDamaged, ErrDescriptors, os.ErrDeadlineExceeded, or the system call's; nothing
// that came after one can be trusted.
func (c *Conn) Receive(within time.Duration) (Message, error) {
	if err := c.c.SetDeadline(time.Now().Add(within)); err != nil {
		return Message{}, ended(err)
	}
	m, acknowledged, err := c.receive()
	if err == nil && acknowledged {
		err = ErrDamaged
	}
	return m, err
}

func (c *Conn) receive() (m Message, acknowledged bool, err error) {
	n, oobn, flags, _, err := c.c.ReadMsgUnix(c.packet, c.oob)
	if err != nil {
		return m, false, ended(err)
	}
	if n == 0 {
		return m, false, ErrEnded
	}
	if m.FDs, err = rights(c.oob[:oobn]); err != nil {
		return m, false, err
	}
	packet := c.packet[:n]
	if string(packet) == string(acknowledgement) {
		m.Close()
		return m, true, nil
	}
	if err = c.complete(&m, packet, flags); err != nil {
		m.Close()
		return Message{}, false, err
	}
	return m, false, nil
}

// complete reads the rest of a message whose first packet has come, and checks all of it.
func (c *Conn) complete(m *Message, packet []byte, flags int) error {
	if len(packet) < headerSize || [4]byte(packet) != magic || flags&unix.MSG_TRUNC != 0 {
		return ErrDamaged
	}
	header := [headerSize]byte(packet)
	m.Kind = binary.BigEndian.Uint16(header[4:])
	length := int(binary.BigEndian.Uint32(header[8:]))
	if length > MaxBody {
		return ErrDamaged
	}
	m.Body = append([]byte(nil), packet[headerSize:]...)
	for len(m.Body) < length {
		n, err := c.c.Read(c.packet)
		if err != nil {
			return ended(err)
		}
		m.Body = append(m.Body, c.packet[:n]...)
	}
	if len(m.Body) != length || binary.BigEndian.Uint32(header[12:]) != checksum(header[:], m.Body) {
		return ErrDamaged
	}
	want := int(binary.BigEndian.Uint16(header[6:]))
	// The kernel cuts the list short, and says so, when the process is out of descriptors.
	if len(m.FDs) != want || flags&unix.MSG_CTRUNC != 0 {
		return ErrDescriptors
	}
	if want > 0 {
		if _, err := c.c.Write(acknowledgement); err != nil {
			return ended(err)
		}
	}
	return nil
}

// rights returns the descriptors of the control messages.
func rights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, ErrDamaged
	}
	var fds []int
	for i := range messages {
		some, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // credentials, which nobody asked for
		}
		fds = append(fds, some...)
	}
	return fds, nil
}

// ended names the errors that say that the other end is gone.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, net.ErrClosed) {
		return ErrEnded
	}
	return err
}
