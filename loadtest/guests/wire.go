package guests

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Messages of the control and data sockets, as in helper/guest.h: native byte order, as both sides run on this machine.

const (
	opStart  = 1
	opStop   = 2
	opAttach = 3

	sayStarted = 1
	sayStopped = 2
	sayDied    = 3

	commandSize = 16
	reportSize  = 16
	headSize    = 16
	connSize    = 16
	batchConns  = 64
)

// command goes to the helper.
type command struct {
	op, first, count uint32
	pid              uint32 // that one guest has to have as seen by the helper; 0: any
}

func (c command) bytes() []byte {
	b := make([]byte, 0, commandSize)
	for _, n := range [...]uint32{c.op, c.first, c.count, c.pid} {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	return b
}

// report comes from the helper.
type report struct {
	kind, index uint32
	pid         int
	errno       unix.Errno
}

func parseReport(b []byte) report {
	return report{
		kind:  binary.NativeEndian.Uint32(b),
		index: binary.NativeEndian.Uint32(b[4:]),
		pid:   int(int32(binary.NativeEndian.Uint32(b[8:]))),
		errno: unix.Errno(binary.NativeEndian.Uint32(b[12:])),
	}
}

// rights returns the bytes of the descriptors in a control message, 4 for each.
func rights(oob []byte) []byte {
	if len(oob) == 0 {
		return nil
	}
	h, data, _, err := unix.ParseOneSocketControlMessage(oob)
	if err != nil || h.Level != unix.SOL_SOCKET || h.Type != unix.SCM_RIGHTS {
		return nil
	}
	return data
}

// pidOf returns the pid of a pidfd's process as seen here (proc_pid_fdinfo(5), "Pid:"); -1 when it has ended.
func pidOf(pidfd int) (int, error) {
	text, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(pidfd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if pid, ok := strings.CutPrefix(line, "Pid:"); ok {
			return strconv.Atoi(strings.TrimSpace(pid))
		}
	}
	return 0, fmt.Errorf("descriptor %d is no pidfd", pidfd)
}
