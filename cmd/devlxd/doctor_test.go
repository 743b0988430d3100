package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hidePidfds makes pidfd_open(2) fail in this process as it does before Linux 5.3.
func hidePidfds() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the call, the first field of seccomp_data
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_PIDFD_OPEN},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}

// doctor runs "devlxd doctor" in one of the ways of runEnv.
func doctor(t *testing.T, mode string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"doctor", "--run-dir", t.TempDir()}, args...)...)
	cmd.Env = append(os.Environ(), runEnv+"="+mode)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestDoctorWhereNobodyCanBeIdentified: it prints all it found, and fails.
func TestDoctorWhereNobodyCanBeIdentified(t *testing.T) {
	stdout, stderr, code := doctor(t, runNoPidfds, "-f", "json")
	var findings []finding
	if err := json.Unmarshal([]byte(stdout), &findings); err != nil {
		t.Fatalf("%q: %v", stdout, err)
	}
	results := make(map[string]string)
	for _, f := range findings {
		results[f.Check] = f.Result
		if f.OK != (f.Result == resultOK) {
			t.Errorf("%+v contradicts itself", f)
		}
	}
	for check, want := range map[string]string{"identity level": resultFailed, "pidfd_open": resultWarning, "guest socket": resultWarning} {
		if results[check] != want {
			t.Errorf("%s is %q, want %q", check, results[check], want)
		}
	}
	want := "devlxd: cannot work here until this is mended: identity level: no peer can be identified: the checks that follow say why\n"
	if code != exitFailed || stderr != want {
		t.Errorf("exit code %d and %q, want %d and %q", code, stderr, exitFailed, want)
	}
}

// TestDoctorWithoutADaemon: a daemon that does not run is a warning.
func TestDoctorWithoutADaemon(t *testing.T) {
	stdout, stderr, code := doctor(t, runPlain)
	if code != 0 || stderr != "" || strings.Count(stdout, "does not exist: start 'devlxd serve'") != 2 || strings.Contains(stdout, resultFailed) {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

func TestCheckSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "ds-") // short: a socket path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	serve := func(name string, mode fs.FileMode, live bool) string {
		path := filepath.Join(dir, name)
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		ln.SetUnlinkOnClose(false)
		t.Cleanup(func() { ln.Close() })
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if !live {
			ln.Close()
		}
		return path
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, path, result, detail string }{
		{"served", serve("a", 0o666, true), resultOK, "/a"},
		{"wrong mode", serve("b", 0o600, true), resultFailed, "/b has mode 0600 and must have 0666: restart 'devlxd serve'"},
		{"left behind", serve("c", 0o666, false), resultWarning, "/c: nobody answers: start 'devlxd serve'"},
		{"left behind with a wrong mode", serve("d", 0o600, false), resultWarning, "/d: nobody answers: start 'devlxd serve'"},
		{"absent", filepath.Join(dir, "e"), resultWarning, "/e does not exist: start 'devlxd serve'"},
		{"a file", file, resultFailed, "/file is not a socket: remove it"},
		{"below a file", filepath.Join(file, "f"), resultWarning, "not a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := checkSocket("guest socket", tc.path, 0o666)
			if got.Result != tc.result || !strings.HasSuffix(got.Detail, tc.detail) || got.OK != (tc.result == resultOK) {
				t.Errorf("%+v, want %s and %q", got, tc.result, tc.detail)
			}
		})
	}
}
