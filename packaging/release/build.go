package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// build makes the programs in a folder. The commit is given instead of found (-buildvcs), so that an unpacked source makes
// the same bytes as a clone.
func (r *release) build(ctx context.Context, dir, arch string) error {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.version=" + r.version + " -X main.builtFrom=" + r.commit,
		"-o", dir + string(filepath.Separator)}
	for _, program := range r.programs {
		args = append(args, "./cmd/"+program)
	}
	return r.goTool(ctx, arch, args...)
}

// goTool runs the go command as for a static program of an architecture.
func (r *release) goTool(ctx context.Context, arch string, args ...string) error {
	return r.command(ctx, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS="}, "go", args...)
}

// pack makes a package of one program from what is staged.
func (r *release) pack(ctx context.Context, stage, program, format, arch string) error {
	env := []string{"STAGE=" + stage, "VERSION=" + r.version, "ARCH=" + arch, "MAINTAINER=" + r.maintainer,
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.time.Unix())}
	return r.command(ctx, env, "go", "tool", "-modfile=packaging/tools/go.mod", "nfpm", "package",
		"--config", "packaging/nfpm/"+program+".yaml", "--packager", format, "--target", r.out)
}

// materials writes which modules, in which version and under which license, a program was linked from (CycloneDX, JSON).
func (r *release) materials(ctx context.Context, binary, arch string) error {
	// The tool names its own hash, so it is built as reproducibly as the program.
	find := exec.CommandContext(ctx, "go", "tool", "-n", "-modfile=packaging/tools/go.mod", "cyclonedx-gomod")
	find.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	tool, err := find.Output()
	if err != nil {
		return fmt.Errorf("cannot build cyclonedx-gomod: %w", err)
	}
	file := r.file(fmt.Sprintf("%s-%s-linux-%s.cdx.json", filepath.Base(binary), r.version, arch))
	// A serial number and a time are what would differ in the next run.
	return r.command(ctx, nil, strings.TrimSpace(string(tool)), "bin", "-json", "-std", "-licenses", "-noserial", "-notimestamp",
		"-version", "v"+r.version, "-output", file, binary)
}

// command runs a program with more environment. What it prints is shown when it fails.
func (r *release) command(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, args[0], err, out)
	}
	return nil
}
