package privilege

import (
	"strings"

	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// manyFiles is the RLIMIT_NOFILE from which on a descriptor for each container is nothing: more containers than a host
// runs, and connections, fit into it.
const manyFiles = 1 << 17

// Need is a capability that the daemon uses while it serves.
type Need struct {
	Cap cap.Value
	For string // what for, as words after "needed to"
}

// Name gives the capability as systemd and the manual pages write it.
func (n Need) Name() string { return name(n.Cap) }

// Needs returns what a daemon with this RLIMIT_NOFILE uses while it serves.
//
// Not among it is what start-up alone uses, such as a metrics port below 1024 (CAP_NET_BIND_SERVICE), and what only looks
// as if it were needed: the files of /proc that are read are open to all, SO_PEERCRED, SO_PEERPIDFD and PIDFD_GET_INFO ask for
// nothing, signal 0 finds a process although it is refused, and root has every capability over user namespaces that root
// has made (user_namespaces(7)), but not over a privileged container, nor over one that another user has made.
func Needs(files uint64) []Need {
	list := []Need{
		// ptrace(2), "Ptrace access mode checking": PTRACE_MODE_READ_FSCREDS, for /proc/PID/ns/pid and PIDFD_GET_PID_NAMESPACE.
		{cap.SYS_PTRACE, "see the pid namespace of a process that has another user or more capabilities"},
		// open_by_handle_at(2), and directories in the cgroup tree whose guest has closed them.
		{cap.DAC_READ_SEARCH, "open the cgroup of a process by its id"},
	}
	if files < manyFiles {
		// net/unix counts files in flight for each real uid, and holds RLIMIT_NOFILE against the count; see peer.WatchFiles.
		list = append(list, Need{cap.SETUID, "watch containers without a descriptor for each"},
			Need{cap.SYS_RESOURCE, "watch more containers than RLIMIT_NOFILE"})
	}
	return list
}

func name(v cap.Value) string { return strings.ToUpper(v.String()) }
