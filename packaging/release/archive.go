package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
)

// tarball writes what is in the packages of an architecture as it is installed, below one folder.
func (r *release) tarball(stages []string, arch string) (err error) {
	top := fmt.Sprintf("devlxd-%s-linux-%s", r.version, arch)
	files := make(map[string]string) // of the stages, by the name in the tarball
	for _, stage := range stages {
		err := filepath.WalkDir(stage, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(stage, name)
			files[path.Join(top, filepath.ToSlash(rel))] = name
			return err
		})
		if err != nil {
			return err
		}
	}
	out, err := os.Create(r.file(top + ".tar.gz"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	zip, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(zip)
	for _, name := range sortedKeys(files) {
		if err := r.add(tw, name, files[name]); err != nil {
			return err
		}
	}
	return errors.Join(tw.Close(), zip.Close())
}

// add writes one file to a tarball, as root's.
func (r *release) add(tw *tar.Writer, name, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), Size: int64(len(data)), ModTime: r.time, Uname: "root", Gname: "root", Format: tar.FormatPAX}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = tw.Write(data)
	return err
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// sums is the file of the checksums, as sha256sum -c reads it.
const sums = "SHA256SUMS"

// sum writes the checksums of this version's files, and tells of each.
func (r *release) sum() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var list strings.Builder
	for _, e := range entries {
		if e.IsDir() || e.Name() == sums {
			continue
		}
		f, err := os.Open(r.file(e.Name()))
		if err != nil {
			return err
		}
		h := sha256.New()
		n, err := io.Copy(h, f)
		f.Close()
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", h.Sum(nil), e.Name())
		fmt.Fprintf(r.log, "%9d  %s\n", n, r.file(e.Name()))
	}
	return os.WriteFile(r.file(sums), []byte(list.String()), 0o644)
}
