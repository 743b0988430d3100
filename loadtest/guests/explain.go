package guests

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// host is what decides whether guests can be made.
type host struct {
	root bool                     // the caller is uid 0
	read func(path string) string // a file's text without white space around it, "" when it cannot be read
}

func thisHost() host {
	return host{root: os.Geteuid() == 0, read: func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(text))
	}}
}

// explain turns an errno of clone3(2) and of the steps after it into a line that says what to do about it. Other errors come
// back as they are.
func (h host) explain(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	why := ""
	switch errno {
	case unix.EPERM, unix.EACCES:
		why = h.forbidden()
	case unix.EAGAIN:
		why = h.processes()
	case unix.ENOSPC, unix.EUSERS:
		why = h.namespaces()
	case unix.ENOMEM:
		why = "memory is short: ask for fewer guests"
	case unix.EMFILE, unix.ENFILE:
		why = "no descriptor is left: raise ulimit -n"
	case unix.EINVAL, unix.ENOSYS:
		why = "the kernel lacks clone3, close_range (Linux 5.9), user or pid namespaces"
	}
	if why == "" {
		return err
	}
	return fmt.Errorf("%w: %s (%w)", ErrUnavailable, why, err)
}

func (h host) forbidden() string {
	switch {
	case h.root:
		return "root lacks CAP_SYS_ADMIN, or a seccomp filter forbids namespaces: run outside of that container, or give it --privileged"
	case h.read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		return "unprivileged user namespaces are switched off: run as root or set sysctl kernel.unprivileged_userns_clone=1"
	case h.read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		return "AppArmor restricts unprivileged user namespaces: run as root or set sysctl kernel.apparmor_restrict_unprivileged_userns=0"
	}
	return "user namespaces are forbidden, as by a seccomp filter or in a chroot: run as root, or outside of that container"
}

// processes says which limit on processes it was: clone(2) tells them not apart.
func (h host) processes() string {
	tasks := h.tasks()
	for _, name := range [...]string{"pid_max", "threads-max"} {
		limit := h.number("/proc/sys/kernel/" + name)
		if limit > 0 && tasks >= limit-limit/10 {
			return fmt.Sprintf("%d of kernel.%s=%d tasks exist: raise that sysctl or ask for fewer guests", tasks, name, limit)
		}
	}
	if h.root {
		return "the caller's cgroup allows no more processes: raise its pids.max (systemd: TasksMax=) or ask for fewer guests"
	}
	return "this user may have no more processes: raise ulimit -u or pids.max of the cgroup, or ask for fewer guests"
}

// tasks is the number of tasks on the host (proc_loadavg(5), after the slash).
func (h host) tasks() int {
	f := strings.Fields(h.read("/proc/loadavg"))
	if len(f) < 4 {
		return 0
	}
	_, total, _ := strings.Cut(f[3], "/")
	n, err := strconv.Atoi(total)
	if err != nil {
		return 0
	}
	return n
}

func (h host) number(path string) int {
	n, err := strconv.Atoi(h.read(path))
	if err != nil {
		return 0
	}
	return n
}

func (h host) namespaces() string {
	for _, kind := range [...]string{"user", "pid"} {
		limit := h.read("/proc/sys/user/max_" + kind + "_namespaces")
		if limit == "0" {
			return "namespaces are switched off: set sysctl user.max_" + kind + "_namespaces to more than 0"
		}
	}
	return "too many namespaces exist or are nested: raise the sysctls user.max_user_namespaces and user.max_pid_namespaces"
}
