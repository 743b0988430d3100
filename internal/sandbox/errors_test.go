package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStartRefuses(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name string
		ctx  context.Context
		o    Options
		want error
	}{
		{"no name", t.Context(), Options{}, ErrName},
		{"a name with a slash", t.Context(), Options{Name: "a/b"}, ErrName},
		{"a name too long", t.Context(), Options{Name: strings.Repeat("x", 64)}, ErrName},
		{"a directory that does not exist", t.Context(), Options{Name: "web", Guest: filepath.Join(t.TempDir(), "none")}, os.ErrNotExist},
		{"a context that is done", done, Options{Name: "web", Cgroup: true}, context.Canceled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Start(tc.ctx, tc.o)
			if errors.Is(err, ErrUnavailable) {
				t.Skipf("needs namespaces: %v", err)
			}
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, %v, want %v", c, err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestStartWithoutMain(t *testing.T) {
	t.Setenv(stageEnv, "{}") // as in a child of a program that does not call Main
	if _, err := Start(t.Context(), Options{Name: "web"}); !errors.Is(err, ErrNoMain) {
		t.Errorf("got %v, want %v", err, ErrNoMain)
	}
}

func TestExplain(t *testing.T) {
	plain := errors.New("some other failure")
	mount := fmt.Errorf("mount: %w", unix.EPERM)
	for _, tc := range []struct {
		name  string
		root  bool
		exe   os.FileMode
		files map[string]string
		err   error
		want  string // "" for the error itself
	}{
		{"no errno", false, 0o755, nil, plain, ""},
		{"an errno that says enough", false, 0o755, nil, unix.ENOMEM, ""},
		{"Debian's switch", false, 0o755, map[string]string{"/proc/sys/kernel/unprivileged_userns_clone": "0"}, mount, "kernel.unprivileged_userns_clone=1"},
		{"AppArmor", false, 0o755, map[string]string{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"}, mount, "kernel.apparmor_restrict_unprivileged_userns=0"},
		{"AppArmor and root", true, 0o755, map[string]string{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"}, mount, "root lacks CAP_SYS_ADMIN"},
		{"a program for root only", true, 0o700, nil, unix.EACCES, "chmod 755"},
		{"neither", false, 0o755, nil, mount, "run as root"},
		{"limit 0", false, 0o755, map[string]string{"/proc/sys/user/max_user_namespaces": "0"}, unix.ENOSPC, "user.max_user_namespaces to more than 0"},
		{"limit reached", false, 0o755, map[string]string{"/proc/sys/user/max_user_namespaces": "9"}, unix.ENOSPC, "too many namespaces"},
		{"kernel without", true, 0o755, nil, unix.EINVAL, "CONFIG_USER_NS"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := host{root: tc.root, exe: tc.exe, read: func(path string) string { return tc.files[path] }}
			got := h.explain(tc.err)
			if !errors.Is(got, ErrUnavailable) == (tc.want != "") || !strings.Contains(got.Error(), tc.want) {
				t.Errorf("got %v, want %q", got, tc.want)
			}
			if strings.Contains(got.Error(), "\n") {
				t.Errorf("more than one line: %q", got)
			}
		})
	}
}

func TestMapsAll(t *testing.T) {
	for _, tc := range []struct {
		text  string
		first uint32
		want  bool
	}{
		{"         0          0 4294967295\n", 100000, true},
		{"0 1000 1\n", 100000, false},
		{"0 100000 65536\n", 0, true},
		{"0 100000 65536\n", 1, false},
		{"0 1000 1\n1 100000 200000\n", 100000, true},
		{"", 0, false},
		{"0 0 many\n", 0, false},
	} {
		t.Run(tc.text, func(t *testing.T) {
			if got := mapsAll(tc.text, tc.first, idRange); got != tc.want {
				t.Errorf("mapsAll(%q, %d) = %v, want %v", tc.text, tc.first, got, tc.want)
			}
		})
	}
}
