package rival

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// limitSource lies in a folder of its own because the go command refuses C beside Go without cgo.
//
//go:embed c/limit.c
var limitSource []byte

// CompileLimit compiles the LimitC rival into dir with "cc -O2" and returns the path of the program, which takes the socket's path
// as its only argument. It returns ErrNoCompiler or ErrCompile where that is not possible.
func CompileLimit(dir string) (path string, err error) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		return "", ErrNoCompiler
	}
	source := filepath.Join(dir, "limit.c")
	if err := os.WriteFile(source, limitSource, 0o600); err != nil {
		return "", err
	}
	path = filepath.Join(dir, string(LimitC))
	if out, err := exec.Command(cc, "-O2", "-o", path, source).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %w: %s", ErrCompile, err, bytes.TrimSpace(out))
	}
	return path, nil
}

// compileInTemp returns the open program; its folder is gone already.
func compileInTemp() (program *os.File, err error) {
	dir, err := os.MkdirTemp("", "devlxd-limit-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path, err := CompileLimit(dir)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// execLimit turns this process into the C program.
func execLimit(socket string) error {
	program, err := compileInTemp()
	if err != nil {
		return err
	}
	defer program.Close()
	path := "/proc/self/fd/" + strconv.Itoa(int(program.Fd()))
	return os.NewSyscallError("execve", syscall.Exec(path, []string{string(LimitC), socket}, os.Environ()))
}

// serveLimitC runs the C program beside this process, for callers that cannot become it.
func serveLimitC(ctx context.Context, socket string, control io.Reader, ack io.Writer) error {
	program, err := compileInTemp()
	if err != nil {
		return err
	}
	defer program.Close()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), program.Fd()), socket)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = control, ack, &said
	cmd.WaitDelay = time.Second // for a reader that does not return
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w: %s", LimitC, err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}
