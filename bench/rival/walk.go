package rival

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
)

// monitorPrefix begins the command line of a container's monitor in LXD and liblxc.
const monitorPrefix = "[lxc monitor]"

// find returns the container that a process is in, as LXD does for every request: it reads the status of the process and of its
// parents up to the first that is a registered init (in LXD: its parent, the monitor). A process whose parents are on the host, as
// those of "lxc exec" are, is compared with every container by pid namespace.
func (b *book) find(pid int) (*container, error) {
	for next := pid; next > 1; {
		st, err := readStatus(next)
		if err != nil {
			return nil, err
		}
		if c := b.withInit(next); c != nil {
			return c, nil
		}
		if st.depth == 1 {
			name, err := monitorOf(next)
			if err != nil {
				return nil, err
			}
			if c := b.named(name); c != nil {
				return c, nil
			}
		}
		next = st.parent
	}
	return b.sharing(pid)
}

// status is what the walk needs of /proc/PID/status (proc_pid_status(5)).
type status struct {
	parent int
	depth  int // in how many pid namespaces below and including ours the process has a pid
}

func readStatus(pid int) (status, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return status{}, err
	}
	var st status
	for line := range bytes.Lines(text) {
		if value, is := bytes.CutPrefix(line, []byte("PPid:")); is {
			if st.parent, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return status{}, err
			}
		} else if value, is := bytes.CutPrefix(line, []byte("NSpid:")); is {
			st.depth = len(bytes.Fields(value))
			break // it comes after PPid
		}
	}
	return st, nil
}

// monitorOf returns the name of the container whose monitor the process is, "" when it is none. A guest cannot get here with a
// forged command line: it has a pid in a namespace of its own (CVE-2025-54288).
func monitorOf(pid int) (string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return "", err
	}
	line := string(bytes.TrimRight(text, "\x00"))
	if !strings.HasPrefix(line, monitorPrefix) {
		return "", nil
	}
	return line[strings.LastIndexByte(line, ' ')+1:], nil
}

// sharing returns the container whose init is in the pid namespace of the process.
func (b *book) sharing(pid int) (found *container, err error) {
	own, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/pid")
	if err != nil {
		return nil, err
	}
	b.each(func(c *container) bool {
		if c.PID > 0 {
			if ns, err := os.Readlink("/proc/" + strconv.Itoa(c.PID) + "/ns/pid"); err == nil && ns == own {
				found = c
			}
		}
		return found == nil
	})
	if found == nil {
		return nil, errNotInContainer
	}
	return found, nil
}

// rootUID is the uid, as seen from here, that root of the process's user namespace has (user_namespaces(7)).
func rootUID(pid int) (uint32, error) {
	file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/uid_map")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) == 3 && f[0] == "0" {
			uid, err := strconv.ParseUint(f[1], 10, 32)
			return uint32(uid), err
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, errNoRootUID
}
