package lxdtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Kind is which daemon.
type Kind uint8

// The daemons.
const (
	LXD Kind = iota
	Incus
)

// IncusEnv names a directory into which the packages of Incus were unpacked. Without it incusd is looked for on the PATH and where its
// packages put it.
const IncusEnv = "DEVLXD_TEST_INCUS"

// String is what its users call the daemon, and what the option --source and the option --dialect of devlxd do.
func (k Kind) String() string {
	if k == Incus {
		return "incus"
	}
	return "lxd"
}

// GuestKey is the config key that says whether an instance has the guest API.
func (k Kind) GuestKey() string {
	if k == Incus {
		return "security.guestapi"
	}
	return "security.devlxd"
}

// GuestSocket is where a guest finds the daemon's own guest API.
func (k Kind) GuestSocket() string {
	if k == Incus {
		return "/dev/incus/sock"
	}
	return "/dev/lxd/sock"
}

// dirVariable is the environment variable with the daemon's directory.
func (k Kind) dirVariable() string {
	if k == Incus {
		return "INCUS_DIR"
	}
	return "LXD_DIR"
}

// find returns the daemon's program and what its environment needs.
func (k Kind) find() (program string, env []string) {
	if k == LXD {
		program, _ = exec.LookPath("lxd")
		return program, nil
	}
	if root := os.Getenv(IncusEnv); root != "" {
		libs, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
		program = filepath.Join(root, "usr/libexec/incus/incusd")
		if _, err := os.Stat(program); err != nil {
			return "", nil
		}
		// It runs itself again by its name for some of what it does in containers.
		return program, []string{"LD_LIBRARY_PATH=" + strings.Join(libs, ":"), "PATH=" + filepath.Dir(program) + ":" + os.Getenv("PATH")}
	}
	for _, name := range []string{"incusd", "/usr/libexec/incus/incusd"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", nil
}

// Need skips the test where it cannot have the daemon.
func Need(t testing.TB, k Kind) {
	t.Helper()
	if Dir() == "" {
		t.Skip(errNotInside)
	}
	if program, _ := k.find(); program == "" {
		hint := "install lxd"
		if k == Incus {
			hint = "install incus-base of bookworm-backports, or unpack it with libcowsql0 and libraft0 and set " + IncusEnv
		}
		t.Skipf("no %s daemon here: %s", k, hint)
	}
	if _, err := busybox(); err != nil {
		t.Skip(err)
	}
}
