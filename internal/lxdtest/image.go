package lxdtest

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// AgentName is the file in [Dir] that [BuildAgent] makes.
const AgentName = "agent"

// BuildAgent builds the containers' init in dir. It needs no C library, so that it runs in an image that has none.
func BuildAgent(dir string) error {
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(dir, AgentName), "devlxd/internal/lxdtest/agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build the agent: %w\n%s", err, out)
	}
	return nil
}

// busybox finds one that needs no other file.
func busybox() (string, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return "", errNoBusybox
	}
	f, err := elf.Open(path)
	if err != nil {
		return "", errNoBusybox
	}
	defer f.Close()
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) > 0 {
		return "", errNoBusybox
	}
	return path, nil
}

// imageTar is a unified image: metadata.yaml and a root file system of busybox and the agent.
func imageTar() ([]byte, error) {
	path, err := busybox()
	if err != nil {
		return nil, err
	}
	shell, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	agent, err := os.ReadFile(filepath.Join(Dir(), AgentName))
	if err != nil {
		return nil, err
	}
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(name string, mode int64, kind byte, data []byte, link string) {
		if err == nil {
			err = w.WriteHeader(&tar.Header{Name: name, Mode: mode, Typeflag: kind, Size: int64(len(data)), Linkname: link})
		}
		if err == nil {
			_, err = w.Write(data)
		}
	}
	add("metadata.yaml", 0o644, tar.TypeReg, fmt.Appendf(nil, "architecture: %s\ncreation_date: 1700000000\nproperties: {description: tiny}\ntemplates: {}\n", arch), "")
	add("rootfs/", 0o755, tar.TypeDir, nil, "")
	for _, dir := range []string{"bin", "sbin", "etc", "proc", "sys", "dev", "root", "run", "usr", "var", "mnt"} {
		add("rootfs/"+dir+"/", 0o755, tar.TypeDir, nil, "")
	}
	add("rootfs/tmp/", 0o1777, tar.TypeDir, nil, "")
	add("rootfs/bin/busybox", 0o755, tar.TypeReg, shell, "")
	for _, name := range []string{"sh", "ls", "cat", "mount", "umount", "sleep"} {
		add("rootfs/bin/"+name, 0o777, tar.TypeSymlink, nil, "busybox")
	}
	add("rootfs/sbin/init", 0o755, tar.TypeReg, agent, "")
	add("rootfs/etc/passwd", 0o644, tar.TypeReg, []byte("root:x:0:0::/root:/bin/sh\n"), "")
	add("rootfs/etc/group", 0o644, tar.TypeReg, []byte("root:x:0:\n"), "")
	if err == nil {
		err = w.Close()
	}
	return out.Bytes(), err
}
