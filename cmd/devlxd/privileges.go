package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/admin"
	"devlxd/internal/privilege"
)

// askTime is how long doctor waits for what listens on the admin socket.
const askTime = 5 * time.Second

// dropPrivileges gives up what serving does not need, for good.
func dropPrivileges() error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	if err := privilege.Drop(privilege.Needs(lim.Cur)); err != nil {
		return fmt.Errorf("%w; or start with --privileges keep", err)
	}
	return nil
}

// confine gives privileges up, where that is wanted, and says what is left.
func (d *daemon) confine() error {
	if d.cfg.Confine != nil {
		if err := d.cfg.Confine(); err != nil {
			return err
		}
		for _, dir := range []string{d.cfg.RunDir, d.cfg.StateDir} {
			if err := writable(dir); err != nil {
				return err
			}
		}
	}
	p := held()
	d.cfg.Log.Info("privileges", "capabilities", strings.Join(p.Capabilities, " "), "no_new_privs", p.NoNewPrivs)
	return nil
}

// writable says what to do about a directory that only a capability opens, which was given up. One that does not exist yet
// is no error, nor is anything else that its user will be told of.
func writable(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); !errors.Is(err, unix.EACCES) {
		return nil
	}
	why, do := fmt.Sprintf("belongs to uid %d", st.Uid), fmt.Sprintf("give it to uid %d (chown -R)", os.Geteuid())
	if int(st.Uid) == os.Geteuid() {
		why, do = fmt.Sprintf("has mode %#o", st.Mode&0o7777), "give it mode 0755"
	}
	return fmt.Errorf("cannot write to %s: it %s and CAP_DAC_OVERRIDE is given up: %s, or start with --privileges keep", dir, why, do)
}

// held is what this process holds, nothing where /proc does not say.
func held() admin.Privileges {
	s, err := privilege.Of(os.Getpid())
	if err != nil {
		return admin.Privileges{Capabilities: []string{}}
	}
	return admin.Privileges{Capabilities: s.Capabilities, NoNewPrivs: s.NoNewPrivs}
}

// judgePrivileges compares what a daemon holds with what it needs.
func judgePrivileges(p admin.Privileges, pid int) finding {
	const check = "daemon privileges"
	text := "no capabilities"
	if len(p.Capabilities) > 0 {
		text = strings.Join(p.Capabilities, " ")
	}
	needed := make(map[string]bool)
	for _, n := range privilege.Needs(0) { // the most that a daemon keeps
		needed[n.Name()] = true
	}
	var more []string
	for _, name := range p.Capabilities {
		if !needed[name] {
			more = append(more, name)
		}
	}
	if len(more) > 0 || !p.NoNewPrivs {
		return found(check, false, fmt.Sprintf("pid %d holds more than it needs (%d capabilities, no_new_privs %v): start it without --privileges keep",
			pid, len(p.Capabilities), p.NoNewPrivs))
	}
	return found(check, true, fmt.Sprintf("pid %d: %s, no_new_privs", pid, text))
}

// ownPrivileges is what doctor holds itself: without them its other findings are those of another user than the daemon's.
func ownPrivileges() finding {
	const check = "own privileges"
	s, err := privilege.Of(os.Getpid())
	if err != nil {
		return found(check, !errors.Is(err, fs.ErrPermission), err.Error())
	}
	return found(check, true, fmt.Sprintf("%d capabilities, no_new_privs %v", len(s.Capabilities), s.NoNewPrivs))
}
