package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// host is what decides whether containers can be made.
type host struct {
	root bool                     // the caller is uid 0
	exe  os.FileMode              // of the program
	read func(path string) string // a file's text without white space around it, "" when it cannot be read
}

func thisHost() host {
	var mode os.FileMode
	if info, err := os.Stat("/proc/self/exe"); err == nil {
		mode = info.Mode()
	}
	return host{root: os.Geteuid() == 0, exe: mode, read: func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(text))
	}}
}

// explain turns an error of namespaces or mounts into one that says what to do about
// it. Other errors come back as they are.
func (h host) explain(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	why := ""
	switch errno {
	case unix.EPERM, unix.EACCES:
		why = h.forbidden(errno)
	case unix.ENOSPC, unix.EUSERS:
		why = h.limits()
	case unix.EINVAL, unix.ENOSYS:
		why = "the kernel lacks user, pid or mount namespaces: it needs CONFIG_USER_NS and CONFIG_PID_NS"
	}
	if why == "" {
		return err
	}
	return fmt.Errorf("%w: %s (%v)", ErrUnavailable, why, err)
}

func (h host) forbidden(errno unix.Errno) string {
	switch {
	case h.root && errno == unix.EACCES && h.exe&0o001 == 0:
		return "the ids of a container may not execute this program: chmod 755 it"
	case h.root:
		return "root lacks CAP_SYS_ADMIN, or a seccomp filter forbids namespaces: run outside of that container, or give it --privileged"
	case h.read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		return "unprivileged user namespaces are switched off: run as root or set sysctl kernel.unprivileged_userns_clone=1"
	case h.read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		return "AppArmor restricts unprivileged user namespaces: run as root or set sysctl kernel.apparmor_restrict_unprivileged_userns=0"
	}
	return "user namespaces are forbidden, as by a seccomp filter or in a chroot: run as root, or outside of that container"
}

func (h host) limits() string {
	for _, kind := range [...]string{"user", "pid", "mnt", "uts", "cgroup"} {
		if h.read("/proc/sys/user/max_"+kind+"_namespaces") == "0" {
			return "namespaces are switched off: set sysctl user.max_" + kind + "_namespaces to more than 0"
		}
	}
	return "too many namespaces exist or are nested: end some, or raise the sysctls user.max_*_namespaces"
}
