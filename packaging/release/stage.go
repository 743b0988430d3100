package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// debNot is what Debian has elsewhere.
const debNot = "not " + deb

// placed is where files of the project go in a package.
type placed struct {
	from   string // pattern of names, from the root of the project
	except string // pattern of base names that are another package's; "" for none
	to     string // folder, or name where it does not end with a slash
	mode   fs.FileMode
	zip    bool
	only   string // kind of results that it is for, debNot for all others; "" for all
}

// layout is what is in the package of each program beside the program itself, its changelog and the licenses of others.
var layout = map[string][]placed{
	"devlxd": {
		{from: "packaging/systemd/devlxd.*", to: "usr/lib/systemd/system/", mode: 0o644},
		{from: "packaging/tmpfiles.d/devlxd.conf", to: "usr/lib/tmpfiles.d/", mode: 0o644},
		{from: "packaging/sysctl.d/60-devlxd.conf", to: "usr/lib/sysctl.d/", mode: 0o644},
		{from: "packaging/default/devlxd", to: "etc/default/", mode: 0o644},
		{from: "packaging/config.yaml", to: "etc/devlxd/", mode: 0o644},
		{from: "packaging/man/devlxd*.1", except: "devlxd-load*", to: "usr/share/man/man1/", mode: 0o644, zip: true},
		{from: "packaging/man/devlxd*.5", to: "usr/share/man/man5/", mode: 0o644, zip: true},
		{from: "packaging/man/devlxd*.8", to: "usr/share/man/man8/", mode: 0o644, zip: true},
		{from: "packaging/prometheus/*.yaml", except: "*.test.yaml", to: "usr/share/devlxd/prometheus/", mode: 0o644},
		{from: "packaging/grafana/*.json", to: "usr/share/devlxd/grafana/", mode: 0o644},
		{from: "docs/*.md", to: "usr/share/doc/devlxd/", mode: 0o644},
		{from: "README.md", to: "usr/share/doc/devlxd/", mode: 0o644},
		{from: "SECURITY.md", to: "usr/share/doc/devlxd/", mode: 0o644},
	},
	"devlxd-load": {
		{from: "packaging/man/devlxd-load*.1", to: "usr/share/man/man1/", mode: 0o644, zip: true},
	},
}

// common is what every package has of its program, whose name is in place of %.
var common = []placed{
	{from: "packaging/completions/%.bash", to: "usr/share/bash-completion/completions/%", mode: 0o644},
	{from: "packaging/completions/_%", to: "usr/share/zsh/vendor-completions/", mode: 0o644, only: deb},
	{from: "packaging/completions/_%", to: "usr/share/zsh/site-functions/", mode: 0o644, only: debNot},
	{from: "packaging/completions/%.fish", to: "usr/share/fish/vendor_completions.d/", mode: 0o644},
	{from: "packaging/copyright", to: "usr/share/doc/%/", mode: 0o644},
	{from: "packaging/lintian/%", to: "usr/share/lintian/overrides/", mode: 0o644, only: deb},
	{from: "CHANGELOG.md", to: "usr/share/doc/%/", mode: 0o644, only: debNot},
}

// optional are files of which there may be none.
var optional = regexp.MustCompile(`\.5$`)

// stage lays the files of a package out in a folder, with modes and times that do not depend on those of the checkout.
func (r *release) stage(root, program, kind, binaries string) error {
	list := append([]placed{{from: filepath.Join(binaries, program), to: "usr/bin/", mode: 0o755}}, layout[program]...)
	for _, p := range common {
		p.from, p.to = strings.ReplaceAll(p.from, "%", program), strings.ReplaceAll(p.to, "%", program)
		list = append(list, p)
	}
	for _, p := range list {
		if p.only != "" && (p.only == deb) != (kind == deb) {
			continue
		}
		if err := r.place(root, p); err != nil {
			return err
		}
	}
	doc := filepath.Join(root, "usr/share/doc", program)
	if kind == deb {
		log, err := r.changelog(program)
		if err != nil {
			return err
		}
		if err := r.write(filepath.Join(doc, "changelog.Debian"), log, 0o644, true); err != nil {
			return err
		}
	}
	notices, err := notices(program)
	if err != nil {
		return err
	}
	return errors.Join(r.write(filepath.Join(doc, "third-party-notices"), notices, 0o644, true), r.date(root))
}

// place copies the files that a pattern finds.
func (r *release) place(root string, p placed) error {
	found, err := filepath.Glob(p.from)
	if err != nil {
		return err
	}
	if len(found) == 0 && !optional.MatchString(p.from) {
		return fmt.Errorf("no file %s", p.from)
	}
	for _, from := range found {
		if p.except != "" {
			if ours, err := filepath.Match(p.except, filepath.Base(from)); err != nil || ours {
				continue
			}
		}
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		to := filepath.Join(root, p.to)
		if strings.HasSuffix(p.to, "/") {
			to = filepath.Join(to, filepath.Base(from))
		}
		if strings.HasPrefix(p.from, "packaging/man/") {
			data = r.dateManual(data)
		}
		if err := r.write(to, data, p.mode, p.zip); err != nil {
			return err
		}
	}
	return nil
}

// undated is the heading of a man page whose date is left to the package.
var undated = regexp.MustCompile(`(?m)^(\.TH "[^"]*" "[^"]*") "" "([^"]*)"`)

func (r *release) dateManual(page []byte) []byte {
	return undated.ReplaceAll(page, []byte(`${1} "`+r.time.Format("2006-01-02")+`" "${2} `+r.version+`"`))
}

// write writes a file, or what gzip -9n makes of it.
func (r *release) write(name string, data []byte, mode fs.FileMode, zip bool) error {
	if zip {
		name += ".gz"
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		data = b.Bytes()
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name, data, mode); err != nil {
		return err
	}
	return os.Chmod(name, mode) // whatever the umask is
}

// date gives all files and folders the time of the release, and the folders the usual mode.
func (r *release) date(root string) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if err := os.Chmod(name, 0o755); err != nil {
				return err
			}
		}
		return os.Chtimes(name, r.time, r.time)
	})
}
