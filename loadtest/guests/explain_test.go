package guests

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExplain(t *testing.T) {
	tasks := func(n string) map[string]string {
		return map[string]string{
			"/proc/loadavg": "0.1 0.2 0.3 1/" + n + " 77", "/proc/sys/kernel/pid_max": "32768", "/proc/sys/kernel/threads-max": "99999",
		}
	}
	for _, c := range []struct {
		err   error
		root  bool
		files map[string]string
		want  string
	}{
		{unix.EPERM, true, nil, "CAP_SYS_ADMIN"},
		{unix.EPERM, false, map[string]string{"/proc/sys/kernel/unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone=1"},
		{unix.EACCES, false, map[string]string{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"}, "AppArmor"},
		{unix.EPERM, false, nil, "run as root"},
		{unix.EAGAIN, true, tasks("32000"), "32000 of kernel.pid_max=32768"},
		{unix.EAGAIN, true, tasks("900"), "pids.max"},
		{unix.EAGAIN, false, nil, "ulimit -u"},
		{unix.ENOSPC, false, map[string]string{"/proc/sys/user/max_pid_namespaces": "0"}, "user.max_pid_namespaces"},
		{unix.EUSERS, true, nil, "user.max_user_namespaces"},
		{unix.ENOSYS, true, nil, "kernel lacks"},
		{unix.ENOMEM, true, nil, "memory"},
		{unix.EMFILE, true, nil, "ulimit -n"},
	} {
		h := host{root: c.root, read: func(path string) string { return c.files[path] }}
		err := h.explain(c.err)
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, c.err) {
			t.Errorf("%v is not both errors", err)
		}
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want one line with %q", c.err, err, c.want)
		}
	}
	if err := thisHost().explain(os.ErrClosed); err != os.ErrClosed {
		t.Errorf("%v became %v", os.ErrClosed, err)
	}
}

func TestMapsAll(t *testing.T) {
	const whole = "         0          0 4294967295\n"
	for _, c := range []struct {
		text  string
		first uint32
		size  uint64
		want  bool
	}{
		{whole, 100000, 65536, true}, {whole, 4294967290, 10, false}, {"0 1000000 65536\n", 100000, 65536, false},
		{"0 1000000 65536\n65536 5 200000\n", 100000, 65536, true}, {"", 0, 1, false}, {"0 1 x\n", 0, 1, false},
	} {
		if got := mapsAll(c.text, c.first, c.size); got != c.want {
			t.Errorf("%q has %d+%d: %v", c.text, c.first, c.size, got)
		}
	}
}
