package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// stageEnv names the environment variable that makes [Main] take over.
const stageEnv = "_DEVLXD_SANDBOX"

// Stages that a process of this package can be in.
const (
	stageSetup = "setup" // builds the container, then executes itself once more
	stageInit  = "init"  // pid 1 of the finished container
	stageGuest = "guest" // runs a registered function
)

// stage is the content of stageEnv.
type stage struct {
	Stage string   `json:"stage"`
	Role  string   `json:"role,omitempty"`
	Args  []string `json:"args,omitempty"`
}

func (s stage) env() string {
	text, err := json.Marshal(s)
	if err != nil {
		return stageEnv + "=" // strings always marshal
	}
	return stageEnv + "=" + string(text)
}

// kind says what a message is.
type kind string

// Messages from the caller to the container.
const (
	msgSetup kind = "setup" // Setup; a descriptor of the guest directory may come with it
	msgExec  kind = "exec"  // Exec; three descriptors come with it
	msgKill  kind = "kill"  // ID
)

// Messages from the container to the caller.
const (
	msgNote   kind = "note"   // Text: what the host did not allow
	msgFailed kind = "failed" // Text, Errno: the container cannot be made
	msgReady  kind = "ready"
	msgExited kind = "exited" // ID and Status, or Text: it could not be started
)

// message is one packet of the control socket.
type message struct {
	Kind   kind     `json:"kind"`
	ID     uint64   `json:"id,omitempty"`
	Text   string   `json:"text,omitempty"`
	Errno  int      `json:"errno,omitempty"`
	Status int      `json:"status,omitempty"` // as of wait(2)
	Setup  *setup   `json:"setup,omitempty"`
	Exec   *execMsg `json:"exec,omitempty"`
}

// setup is what the container's init has to make.
type setup struct {
	Name   string `json:"name"`
	Guest  string `json:"guest,omitempty"` // "" with a descriptor, or without any directory
	Cgroup bool   `json:"cgroup,omitempty"`
}

// execMsg is a process to start.
type execMsg struct {
	Path   string   `json:"path"` // looked up in PATH unless it has a slash
	Args   []string `json:"args"`
	Env    []string `json:"env"`
	Dir    string   `json:"dir"`
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	PidNS  bool     `json:"pidNS,omitempty"`
	UserNS bool     `json:"userNS,omitempty"`
}

// maxPacket bounds a message; it fits into the default buffer of a socket.
const maxPacket = 128 << 10

// control is one end of the socket between caller and init. Packets keep a
// message and its descriptors together. Sending is safe for concurrent use,
// receiving is for one goroutine.
type control struct {
	conn *net.UnixConn
	buf  []byte
	oob  []byte
}

// newControl takes over a descriptor of a SOCK_SEQPACKET socket.
func newControl(f *os.File) (*control, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errProtocol
	}
	return &control{conn: conn, buf: make([]byte, maxPacket), oob: make([]byte, 256)}, nil
}

// controlPair makes both ends; the second one is for the container.
func controlPair() (*control, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "control")
	ours, err := newControl(os.NewFile(uintptr(fds[0]), "control"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

func (c *control) send(m message, files ...*os.File) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > maxPacket {
		return fmt.Errorf("arguments and environment are too long: %d bytes of at most %d", len(text), maxPacket)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err = c.conn.WriteMsgUnix(text, rights, nil)
	return err
}

// recv returns io.EOF when the other end is closed. The files belong to the caller.
func (c *control) recv() (m message, files []*os.File, err error) {
	n, oobn, _, _, err := c.conn.ReadMsgUnix(c.buf, c.oob)
	if err != nil {
		return m, nil, err
	}
	if n == 0 {
		return m, nil, io.EOF
	}
	packets, err := unix.ParseSocketControlMessage(c.oob[:oobn])
	if err != nil {
		return m, nil, err
	}
	for i := range packets {
		fds, err := unix.ParseUnixRights(&packets[i])
		if err != nil {
			continue // no descriptors in this one
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	if err := json.Unmarshal(c.buf[:n], &m); err != nil {
		closeFiles(files)
		return m, nil, err
	}
	return m, files, nil
}

func (c *control) close() error { return c.conn.Close() }

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
