package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"

	"devlxd/internal/privilege"
)

const unitDir = "../packaging/systemd"

// maxExposure is what "systemd-analyze security" may say of the unit, in tenths: 0 is the best, 100 the worst.
const maxExposure = 25

// unit holds the settings of devlxd.service, in their order.
type unit map[string][]string

func readUnit(t *testing.T) unit {
	t.Helper()
	f, err := os.Open(filepath.Join(unitDir, "devlxd.service"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	u := unit{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), "="); ok && !strings.HasPrefix(key, "#") {
			u[key] = append(u[key], value)
		}
	}
	return u
}

// words gives all words of a setting.
func (u unit) words(key string) []string { return strings.Fields(strings.Join(u[key], " ")) }

// calls expands SystemCallFilter= as systemd.exec(5) says: the first line makes it a list of what is allowed, a "~" takes away, "@" is a
// group, which systemd-analyze knows.
func (u unit) calls(t *testing.T) []string {
	t.Helper()
	need(t, "systemd-analyze")
	allowed := map[string]bool{}
	for name := range expand(t, "@default") {
		allowed[name] = true
	}
	for i, line := range u["SystemCallFilter"] {
		line, remove := strings.CutPrefix(line, "~")
		if i == 0 && remove {
			t.Fatal("the first SystemCallFilter= is not a list of what is allowed")
		}
		for _, word := range strings.Fields(line) {
			for name := range expand(t, word) {
				allowed[name] = !remove
			}
		}
	}
	var list []string
	for name, ok := range allowed {
		if ok {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// expand gives the system calls of a word.
func expand(t *testing.T, word string) map[string]bool {
	t.Helper()
	if !strings.HasPrefix(word, "@") {
		return map[string]bool{word: true}
	}
	out, err := exec.Command("systemd-analyze", "syscall-filter", "--no-pager", word).Output()
	if err != nil {
		t.Fatalf("systemd-analyze syscall-filter %s: %v", word, err)
	}
	calls := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		word := strings.TrimSpace(line)
		if !strings.HasPrefix(line, " ") || word == "" || strings.HasPrefix(word, "#") {
			continue
		}
		for name := range expand(t, word) {
			calls[name] = true
		}
	}
	return calls
}

// filter is what the unit makes of seccomp(2), but that it kills instead of refusing: what a daemon tries and does without would not be
// noticed otherwise. What it may try is refused.
func (u unit) filter(t *testing.T) *seccomp.Policy {
	t.Helper()
	for key, want := range map[string]string{
		"RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6", "RestrictNamespaces": "yes", "MemoryDenyWriteExecute": "yes", "LockPersonality": "yes",
	} {
		if got := strings.Join(u[key], " "); got != want {
			t.Fatalf("%s=%s: the filter of this test is for %s", key, got, want)
		}
	}
	info, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	// clone3(2) has its flags in memory, where no filter sees them: systemd has it fail as if it was not there.
	byArguments := []string{"socket", "clone", "clone3", "mmap", "mprotect"}
	var names []string
	for _, name := range u.calls(t) {
		if _, known := info.SyscallNames[name]; known && !slices.Contains(byArguments, name) {
			names = append(names, name)
		}
	}
	// Is it allowed to count containers' descriptors under another uid? It is not, and does without.
	if slices.Contains(names, "setresuid") {
		t.Fatal("setresuid is allowed")
	}
	const namespaces = unix.CLONE_NEWCGROUP | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUSER | unix.CLONE_NEWUTS
	when := func(name string, arg uint32, op seccomp.Operation, value uint64) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: name, Conditions: seccomp.ArgumentConditions{{Argument: arg, Operation: op, Value: value}}}
	}
	return &seccomp.Policy{DefaultAction: seccomp.ActionKillProcess, Syscalls: []seccomp.SyscallGroup{
		{Action: seccomp.ActionAllow, Names: names},
		{Action: seccomp.ActionAllow, NamesWithCondtions: []seccomp.NameWithConditions{
			when("socket", 0, seccomp.Equal, unix.AF_UNIX), when("socket", 0, seccomp.Equal, unix.AF_INET), when("socket", 0, seccomp.Equal, unix.AF_INET6),
			when("clone", 0, seccomp.BitsNotSet, namespaces),
			when("mmap", 2, seccomp.BitsNotSet, unix.PROT_WRITE), when("mmap", 2, seccomp.BitsNotSet, unix.PROT_EXEC),
			when("mprotect", 2, seccomp.BitsNotSet, unix.PROT_EXEC),
		}},
		{Action: seccomp.ActionErrno | seccomp.Action(unix.EPERM), Names: []string{"setresuid"}},
		{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
	}}
}

// confinement is what the unit takes from a daemon, of what can be had without systemd.
func (u unit) confinement(d *daemon) confinement {
	d.t.Helper()
	if got := strings.Join(u["ProtectSystem"], " "); got != "strict" {
		d.t.Fatalf("ProtectSystem=%s: this test is for strict", got)
	}
	return confinement{Bounding: u.words("CapabilityBoundingSet"), Writable: d.directories(), Filter: u.filter(d.t)}
}

// TestFilterKills: the filter under which TestConfined serves everything does refuse what it should.
func TestFilterKills(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to whom all of it is allowed otherwise")
	}
	u := readUnit(t)
	c := confinement{Filter: u.filter(t)}
	for _, tt := range []struct {
		argv []string
		ends bool
	}{
		{[]string{"/bin/true"}, true},
		{[]string{"/bin/chown", "0:0", t.TempDir()}, false},        // @privileged
		{[]string{"/usr/bin/unshare", "-m", "/bin/true"}, false},   // RestrictNamespaces=
		{[]string{"/usr/bin/nice", "-n", "1", "/bin/true"}, false}, // @resources
	} {
		cmd := exec.Command(tt.argv[0], tt.argv[1:]...)
		confined(cmd, c)
		out, err := cmd.CombinedOutput()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if killed := status.Signaled() && status.Signal() == syscall.SIGSYS; killed == tt.ends || tt.ends && err != nil {
			t.Errorf("%v: %v\n%s", tt.argv, err, out)
		}
	}
	calls := u.calls(t)
	for _, name := range []string{"ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "setns", "unshare", "mount", "bpf", "setuid", "kexec_load", "init_module"} {
		if slices.Contains(calls, name) {
			t.Errorf("%s is allowed", name)
		}
	}
}

// TestUnitIsValid has systemd read the units, with the command that they start in place of the installed one.
func TestUnitIsValid(t *testing.T) {
	need(t, "systemd-analyze")
	dir := t.TempDir()
	var files []string
	for _, name := range []string{"devlxd.service", "devlxd.socket"} {
		text, err := os.ReadFile(filepath.Join(unitDir, name))
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.ReplaceAll(string(text), "/usr/bin/devlxd", binary))
		files = append(files, filepath.Join(dir, name))
		if err := os.WriteFile(files[len(files)-1], text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("systemd-analyze", append([]string{"verify", "--man=no"}, files...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestUnitExposure: what the service could do to the host stays little.
func TestUnitExposure(t *testing.T) {
	need(t, "systemd-analyze")
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", filepath.Join(unitDir, "devlxd.service")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := regexp.MustCompile(`Overall exposure level for devlxd.service: ([0-9]+)\.([0-9])`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no level in\n%s", out)
	}
	if level, err := strconv.Atoi(string(m[1]) + string(m[2])); err != nil || level > maxExposure {
		t.Errorf("exposure %s.%s, want at most %d.%d:\n%s", m[1], m[2], maxExposure/10, maxExposure%10, out)
	}
}

// TestUnitFitsTheDaemon: what the unit leaves is what the daemon keeps, and no mount of it hides what the daemon looks at.
func TestUnitFitsTheDaemon(t *testing.T) {
	u := readUnit(t)
	files, err := strconv.ParseUint(strings.Join(u["LimitNOFILE"], ""), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, n := range privilege.Needs(files) {
		want = append(want, n.Name())
	}
	if got := u.words("CapabilityBoundingSet"); !slices.Equal(got, want) {
		t.Errorf("CapabilityBoundingSet=%v, the daemon needs %v", got, want)
	}
	for _, key := range []string{"ProtectProc", "ProcSubset", "PrivateUsers", "PrivateNetwork", "PrivatePIDs", "RootDirectory", "DynamicUser", "User"} {
		if u[key] != nil {
			t.Errorf("%s=%v: the daemon has to see the host's processes, users and metrics port", key, u[key])
		}
	}
	for key, value := range map[string]string{"Type": "notify", "RuntimeDirectory": "devlxd", "RuntimeDirectoryPreserve": "yes", "StateDirectory": "devlxd"} {
		if got := strings.Join(u[key], " "); got != value {
			t.Errorf("%s=%s, want %s", key, got, value)
		}
	}
	socket, err := os.ReadFile(filepath.Join(unitDir, "devlxd.socket"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"ListenStream=/run/devlxd/guest/sock", "FileDescriptorName=guest", "SocketMode=0666", "DirectoryMode=0755"} {
		if !strings.Contains(string(socket), "\n"+line+"\n") {
			t.Errorf("devlxd.socket has no line %s", line)
		}
	}
}
