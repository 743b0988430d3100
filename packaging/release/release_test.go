package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestReproducible: two folders, in which the same files have other times and modes, of users whose umask and time zone differ, give the same bytes.
func TestReproducible(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("needs dpkg-deb")
	}
	var results []map[string][]byte
	var dirs []string
	for _, run := range []struct {
		umask, zone string
		mode        fs.FileMode
	}{{"022", "UTC", 0o777}, {"077", "Asia/Kathmandu", 0o700}} {
		dir := filepath.Join(t.TempDir(), "devlxd-"+run.umask)
		dirs = append(dirs, dir)
		copySource(t, dir, run.mode)
		cmd := exec.Command("sh", "-ec", `umask "$1"; exec go run ./packaging/release --version 1.2.3-rc.1 --arch amd64 --programs devlxd --make deb,rpm`, "-", run.umask)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "TZ="+run.zone)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		results = append(results, readAll(t, filepath.Join(dir, "dist")))
	}
	a, b := results[0], results[1]
	for _, name := range []string{"devlxd_1.2.3~rc.1-1_amd64.deb", "devlxd-1.2.3~rc.1-1.x86_64.rpm", sums} {
		if len(a[name]) == 0 || !bytes.Equal(a[name], b[name]) {
			t.Errorf("%s: %d and %d bytes, which differ", name, len(a[name]), len(b[name]))
		}
	}
	if len(a) != 3 || len(b) != 3 {
		t.Errorf("%d and %d files; want 3", len(a), len(b))
	}
	root := t.TempDir()
	if out, err := exec.Command("dpkg-deb", "--extract", filepath.Join(dirs[0], "dist/devlxd_1.2.3~rc.1-1_amd64.deb"), root).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(filepath.Join(root, "usr/bin/devlxd"))
	if err != nil || !bytes.Contains(program, []byte("1.2.3-rc.1")) {
		t.Errorf("the program does not know its version (%v)", err)
	}
	for _, dir := range dirs {
		if bytes.Contains(program, []byte(dir)) {
			t.Errorf("the program has the folder in it in which it was built: %s", dir)
		}
	}
}

// copySource copies the files that git knows, or would, with fewer permissions.
func copySource(t *testing.T, to string, mode fs.FileMode) {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = "../.."
	names, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(names), "\x00"), "\x00") {
		from, at := filepath.Join("../..", name), filepath.Join(to, name)
		info, err := os.Stat(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(from)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(at), mode), os.WriteFile(at, data, info.Mode()&mode)); err != nil {
			t.Fatal(err)
		}
	}
}

func readAll(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestUsage: what cannot be made is refused before anything is.
func TestUsage(t *testing.T) {
	t.Chdir("../..")
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	for args, want := range map[string]string{
		"--version 1":                   "version",
		"--arch riscv64":                "architecture",
		"--programs lxd":                "program",
		"--make snap":                   "--make",
		"--binaries bin":                "--arch",
		"--version 1.0.0 dist":          "too much",
		"--version v1.0.0 --arch arm64": "",
	} {
		_, err := parse(strings.Fields(args))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", args, err, want)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "today")
	if _, err := parse(nil); err == nil {
		t.Error("a time that is none is taken")
	}
}

// TestChangelog: the committed changelog is one that dpkg can read, and a version of it keeps its own date.
func TestChangelog(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	r := &release{version: "0.2.0-rc.1", time: time.Unix(1700000000, 0).UTC(), maintainer: "M <m@example.org>"}
	text := "# Changelog\n\n## Unreleased\n\n### Added\n\n- " + strings.Repeat("word ", 30) + "\n  and more.\n\n## 0.1.0 - 2023-01-02\n\n### Fixed\n\n- A fault.\n"
	if err := os.WriteFile("CHANGELOG.md", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := r.changelog("devlxd")
	if err != nil {
		t.Fatal(err)
	}
	const end = "\n\n -- M <m@example.org>  "
	for _, want := range []string{
		"devlxd (0.2.0~rc.1-1) unstable; urgency=medium\n\n  * Added\n    - word", " word and more." + end + "Tue, 14 Nov 2023 22:13:20 +0000\n",
		"devlxd (0.1.0-1) unstable; urgency=medium\n\n  * Fixed\n    - A fault." + end + "Mon, 02 Jan 2023 00:00:00 +0000\n",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if long := regexp.MustCompile(`(?m)^.{80,}$`).Find(got); long != nil {
		t.Errorf("a line is too long: %s", long)
	}
	if err := os.WriteFile("CHANGELOG.md", []byte("## Soon\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := r.changelog("devlxd"); err == nil {
		t.Errorf("a heading that is no version: %s", got)
	}
}
