package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// version of CHANGELOG.md: "## Unreleased", or "## 0.1.0 - 2026-12-01".
var changelogHeading = regexp.MustCompile(`^## (?:Unreleased|\[?([0-9][^\s\]]*)\]? - ([0-9]{4}-[0-9]{2}-[0-9]{2}))$`)

// changelog is CHANGELOG.md as deb-changelog(5) has it. What is unreleased is taken for what this version brings.
func (r *release) changelog(program string) ([]byte, error) {
	text, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	var version, item string
	var at time.Time
	flush := func() { // the item that is being read
		if item != "" {
			b.WriteString(fill(item, "    - ", "      "))
		}
		item = ""
	}
	end := func() { // the entry that is being read
		flush()
		if version != "" {
			fmt.Fprintf(&b, "\n -- %s  %s\n\n", r.maintainer, at.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
		}
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if m := changelogHeading.FindStringSubmatch(line); m != nil {
			end()
			version, at = r.version, r.time
			if m[1] != "" {
				version = m[1]
				if at, err = time.Parse(time.DateOnly, m[2]); err != nil {
					return nil, fmt.Errorf("CHANGELOG.md: %s: %w", line, err)
				}
			}
			fmt.Fprintf(&b, "%s (%s-1) unstable; urgency=medium\n\n", program, debianVersion(version))
			continue
		}
		if version == "" {
			continue
		}
		section, isSection := strings.CutPrefix(line, "### ")
		bullet, isItem := strings.CutPrefix(line, "- ")
		switch {
		case strings.HasPrefix(line, "## "):
			return nil, fmt.Errorf("CHANGELOG.md: %q is no heading of a version: write '## 0.1.0 - 2026-12-01'", line)
		case isSection:
			flush()
			b.WriteString("  * " + section + "\n")
		case isItem:
			flush()
			item = bullet
		default:
			item = strings.TrimSpace(item + " " + strings.TrimSpace(line))
		}
	}
	end()
	if version == "" {
		return nil, errors.New("CHANGELOG.md has no version")
	}
	return []byte(strings.TrimRight(b.String(), "\n") + "\n"), nil
}

// debianVersion writes a version so that dpkg sorts 0.2.0-rc.1 before 0.2.0, as nfpm does.
func debianVersion(v string) string { return strings.Replace(v, "-", "~", 1) }

// fill breaks a text into lines of at most 78 characters.
func fill(text, first, other string) string {
	var b strings.Builder
	line := first
	for i, word := range strings.Fields(text) {
		if i > 0 && len(line)+1+len(word) > 78 {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = other
		}
		if line != first && line != other {
			line += " "
		}
		line += word
	}
	return b.String() + line + "\n"
}

// licenseFile is what files with terms are called.
var licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|copyright|patents)([.-].*)?$`)

// notices are the licenses of everything that is linked into a program: most ask to be passed on with it.
func notices(program string) ([]byte, error) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/"+program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	lines := append(strings.Split(strings.TrimSpace(string(out)), "\n"), "Go\t"+strings.TrimSpace(string(goroot)))
	slices.Sort(lines)
	var b strings.Builder
	for _, line := range slices.Compact(lines) {
		module, dir, ok := strings.Cut(line, "\t")
		if !ok {
			continue // a package of Go itself
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		n := b.Len()
		for _, e := range entries {
			if e.IsDir() || !licenseFile.MatchString(e.Name()) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&b, "==== %s: %s\n\n%s\n", module, e.Name(), text)
		}
		if b.Len() == n {
			return nil, fmt.Errorf("%s has no license that could be passed on", module)
		}
	}
	return []byte(b.String()), nil
}
