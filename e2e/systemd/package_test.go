package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"devlxd/internal/daemontest"
)

// nextVersion is of the package to which machines are upgraded.
const nextVersion = "99.0.0"

// need skips a test where tools are missing.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
}

// packages makes those of a version from a binary, once: the present one of the binary under test, and the next of one
// that differs in nothing but its version.
var packages = map[string]func() (string, error){
	"": sync.OnceValues(func() (string, error) { return makePackages("", filepath.Dir(binary), "deb,rpm") }),
	nextVersion: sync.OnceValues(func() (string, error) {
		return makePackages(nextVersion, filepath.Join(filepath.Dir(binary), nextVersion), "deb")
	}),
}

func makePackages(version, programs, kinds string) (string, error) {
	if version != "" {
		if _, err := daemontest.BuildVersion(programs, version); err != nil {
			return "", err
		}
	}
	dir := filepath.Join(programs, "packages")
	cmd := exec.Command("go", "run", "./packaging/release", "--programs", "devlxd", "--arch", runtime.GOARCH, "--make", kinds,
		"--version", version, "--binaries", programs, "--out", dir)
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot make packages: %w\n%s", err, out)
	}
	return dir, nil
}

// packageOf is the path of the package of a version; "" for the present one.
func packageOf(t *testing.T, version, extension string) string {
	t.Helper()
	dir, err := packages[version]()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*."+extension))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages in %s: %v, %v", dir, found, err)
	}
	return found[0]
}

// startBare boots a machine without devlxd, into which packages can be installed.
func startBare(t *testing.T) *machine {
	t.Helper()
	m := bootMachine(t, plan{})
	// The host's may forbid that services are started, as that of a Docker image does.
	if err := os.Remove(m.path("/usr/sbin/policy-rc.d")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return m
}

// put copies a file into the machine.
func (m *machine) put(file string) string {
	m.t.Helper()
	to := filepath.Join("/root", filepath.Base(file))
	if err := copyFile(file, m.path(to)); err != nil {
		m.t.Fatal(err)
	}
	return to
}

// dpkg runs dpkg, without the pages and caches that other packages make of what is installed. It returns what it prints.
func (m *machine) dpkg(args ...string) string {
	m.t.Helper()
	return m.run(append([]string{"dpkg", "--no-triggers"}, args...)...)
}

// left are the files of devlxd that there are in the machine, but for those of dpkg's own.
func (m *machine) left() string {
	m.t.Helper()
	return m.run("find", "/etc", "/run", "/usr", "/var/lib", "(", "-path", "/var/lib/dpkg", "-o", "-path", "/run/devlxd-e2e", ")", "-prune",
		"-o", "-name", "*devlxd*", "!", "-name", "*devlxd-e2e*", "-print")
}

// TestDeb: dpkg installs a service that runs, an upgrade keeps connections and streams, and a purge leaves nothing.
func TestDeb(t *testing.T) {
	need(t, "dpkg", "deb-systemd-helper")
	m := startBare(t)
	before := m.left()
	m.dpkg("--install", m.put(packageOf(t, "", "deb")))
	if status := m.run("devlxd", "status"); !strings.Contains(status, "ready: true") {
		t.Errorf("devlxd is installed and not ready:\n%s", status)
	}
	for _, unit := range []string{"devlxd.service", "devlxd.socket"} {
		if got := m.run("systemctl", "is-enabled", unit) + m.run("systemctl", "is-active", unit); got != "enabledactive" {
			t.Errorf("%s: %s", unit, got)
		}
	}
	m.wantDirectories()

	g := m.startGuest("web", "user.a=0")
	s := g.subscribe()
	g.getKept("/1.0")
	if err := os.WriteFile(m.path("/etc/default/devlxd"), []byte("#changed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	pid := m.mainPID()
	m.dpkg("--install", m.put(packageOf(t, nextVersion, "deb")))
	if status := m.run("devlxd", "status"); !strings.Contains(status, "version: "+nextVersion) || m.mainPID() == pid {
		t.Errorf("the old version runs after the upgrade:\n%s", status)
	}
	m.run("devlxd", "config", "set", "web", "user.a=1")
	s.wants("user.a", "1")
	if got := g.getKept("/1.0/config/user.a"); got != "200 1" || g.dials.Load() != 1 {
		t.Errorf("a kept connection is answered %q after the upgrade, and was made %d times", got, g.dials.Load())
	}
	if text, err := os.ReadFile(m.path("/etc/default/devlxd")); string(text) != "#changed\n" {
		t.Errorf("the upgrade has made %q (%v) of the settings", text, err)
	}

	m.dpkg("--remove", "devlxd")
	if state := m.property("ActiveState"); state != "inactive" {
		t.Errorf("the service is %s after the package was removed", state)
	}
	if _, err := os.Stat(m.path("/var/lib/devlxd/")); err != nil {
		t.Errorf("a removal is no purge: %v", err)
	}
	m.dpkg("--install", m.put(packageOf(t, "", "deb")))
	if got := g.get("/1.0/config/user.a"); !strings.HasPrefix(got, "200") {
		t.Errorf("after it was installed again the guest is answered %q", got)
	}
	m.dpkg("--purge", "devlxd")
	if after := m.left(); after != before {
		t.Errorf("a purge leaves\n%s\nof before\n%s", after, before)
	}
	m.wantNoComplaint()
}

// TestDebThatCannotStart: a service that is not to be started, does not start or does not hand over leaves the package
// installed, and a daemon that runs goes on.
func TestDebThatCannotStart(t *testing.T) {
	need(t, "dpkg", "deb-systemd-helper")
	m := startBare(t)
	deb, next := m.put(packageOf(t, "", "deb")), m.put(packageOf(t, nextVersion, "deb"))
	const policy = "/usr/sbin/policy-rc.d"
	if err := os.WriteFile(m.path(policy), []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.dpkg("--install", deb)
	m.wantInstalled("inactive")
	if err := os.Remove(m.path(policy)); err != nil {
		t.Fatal(err)
	}
	m.dropIn("[Service]\nEnvironment=DEVLXD_DIALECT=klingon\n")
	m.dpkg("--install", deb)
	m.wantInstalled("failed|activating|inactive")
	m.dropIn("")
	m.run("systemctl", "stop", "devlxd.socket", "devlxd.service") // and what it does by itself, which is to start the service again
	m.run("systemctl", "start", "devlxd.socket", "devlxd.service")
	pid := m.mainPID()
	// A daemon that does not take part: it is not asked over its socket, but found to be silent.
	if err := os.Rename(m.path("/run/devlxd/admin.sock"), m.path("/run/devlxd/hidden")); err != nil {
		t.Fatal(err)
	}
	m.dpkg("--install", next)
	m.wantInstalled("active")
	if now := m.mainPID(); now != pid {
		t.Errorf("the daemon that could not hand over is %d now; want %d, which goes on", now, pid)
	}
	m.dpkg("--purge", "devlxd")
}

// wantInstalled checks that dpkg has nothing left to do, and the state of the service.
func (m *machine) wantInstalled(states string) {
	m.t.Helper()
	if got := m.run("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", "devlxd"); strings.TrimSpace(got) != "ii" {
		m.t.Errorf("the package is %q; want installed", got)
	}
	if state := m.property("ActiveState"); !regexp.MustCompile("^(" + states + ")$").MatchString(state) {
		m.t.Errorf("the service is %s; want %s", state, states)
	}
}

// TestRpm: rpm finds the package whole, and installs it into a folder.
func TestRpm(t *testing.T) {
	need(t, "rpm")
	if os.Getuid() != 0 {
		t.Skip("needs root: rpm changes its root")
	}
	file := packageOf(t, "", "rpm")
	rpm := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("rpm", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("rpm %s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	rpm("--checksig", file)
	list := rpm("--query", "--list", "--package", file)
	for _, want := range []string{"/usr/bin/devlxd", "/usr/lib/systemd/system/devlxd.socket", "/usr/share/man/man8/devlxd.8.gz", "/usr/share/zsh/site-functions/_devlxd"} {
		if !strings.Contains(list, want+"\n") {
			t.Errorf("the package has no %s:\n%s", want, list)
		}
	}
	for _, folder := range []string{"/usr", "/usr/bin", "/etc", "/usr/lib/systemd/system"} {
		if slices.Contains(strings.Split(list, "\n"), folder) {
			t.Errorf("the package takes %s for its own, with the mode that it has here", folder)
		}
	}
	root := t.TempDir()
	install := []string{"--root", root, "--nodeps", "--noscripts"}
	rpm(append(install, "--install", file)...)
	want, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(root, "usr/bin/devlxd")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the installed devlxd is not the one that was packaged: %v", err)
	}
	rpm(append(install, "--verify", "devlxd")...)
	rpm(append(install, "--erase", "devlxd")...)
	if _, err := os.Stat(filepath.Join(root, "usr/bin/devlxd")); err == nil {
		t.Error("an erased package leaves devlxd")
	}
}

// TestLintian: Debian's own checker has neither an error nor a warning against the package; packaging/lintian has what is meant to be.
func TestLintian(t *testing.T) {
	need(t, "lintian")
	out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", packageOf(t, "", "deb")).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
