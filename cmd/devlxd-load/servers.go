package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/loadtest/report"
)

// holdOn has a run wait, when all its connections are there and its memory was read, until the process that started it has heard the
// same from all others. The descriptor is one end of a socket pair.
func holdOn(fd int) func(context.Context) error {
	return func(ctx context.Context) error {
		f := os.NewFile(uintptr(fd), "hold")
		defer f.Close()
		if _, err := f.Write([]byte{1}); err != nil {
			return fmt.Errorf("cannot tell that the connections are there: %w", err)
		}
		released := make(chan error, 1)
		go func() {
			_, err := f.Read(make([]byte, 1))
			released <- err
		}()
		select {
		case err := <-released:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// share is one process with a server of its own.
type share struct {
	cmd  *exec.Cmd
	hold *os.File
	out  bytes.Buffer
}

// runServers has several processes each load a server of its own, since a process cannot hold more descriptors than its limit, and says
// what all of them hold together.
func runServers(ctx context.Context, f *flags, servers int) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	if f.runDir != "" || f.socket != "" || f.admin != "" || f.attach != nil || f.pin || f.htmlFile != "" {
		return usagef("--servers starts the servers itself, on all CPUs, and writes no page: use it with --containers, --connections and --json only")
	}
	shares := make([]*share, 0, servers)
	defer func() {
		for _, s := range shares {
			_ = s.hold.Close()
			_ = s.cmd.Process.Signal(syscall.SIGTERM)
			_ = s.cmd.Wait()
		}
	}()
	bars := newBars()
	defer bars.end()
	step := bars.begin("servers")
	for i := range servers {
		s, err := startShare(ctx, f, part(f.containers, i, servers), part(f.opt.Connections, i, servers))
		if err != nil {
			return err
		}
		shares = append(shares, s)
		// One after another: they would only take the CPUs from each other.
		if _, err := s.hold.Read(make([]byte, 1)); err != nil {
			return fmt.Errorf("server %d of %d: %w: see its messages above", i+1, servers, err)
		}
		step(float64(i+1), float64(servers))
	}
	memory := memoryAvailable()
	for _, s := range shares {
		if _, err := s.hold.Write([]byte{1}); err != nil {
			return err
		}
	}
	var results []report.Result
	for len(shares) > 0 {
		s := shares[0]
		shares = shares[1:]
		err = errors.Join(err, s.cmd.Wait(), s.hold.Close())
		var r report.Result
		if jsonErr := json.Unmarshal(s.out.Bytes(), &r); jsonErr != nil {
			return errors.Join(err, fmt.Errorf("cannot read the result of a server: %w", jsonErr))
		}
		results = append(results, r)
	}
	if err != nil {
		return err
	}
	total := report.Sum(results)
	total.Values = append(total.Values, report.Value{Name: "servers", Value: float64(servers)},
		report.Value{Name: "memory of the host that is left", Unit: "bytes", Value: memory})
	bars.end()
	if err := f.writeResults([]report.Result{total}); err != nil {
		return err
	}
	return passed([]report.Result{total})
}

// part is what the process i of n does.
func part(total, i, n int) int {
	if i < total%n {
		return total/n + 1
	}
	return total / n
}

func startShare(ctx context.Context, f *flags, containers, connections int) (*share, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "hold")
	defer theirs.Close()
	s := &share{hold: os.NewFile(uintptr(pair[0]), "hold")}
	const firstExtra = 3
	s.cmd = exec.CommandContext(ctx, "/proc/self/exe", string(f.opt.Scenario), "--json", "-", "--hold", strconv.Itoa(firstExtra),
		"--containers", strconv.Itoa(containers), "--connections", strconv.Itoa(connections), "--devlxd", f.devlxd,
		"--duration", max(f.opt.Duration, time.Second).String(), "--settle", f.opt.Settle.String())
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.ExtraFiles = []*os.File{theirs}
	s.cmd.Stdout = &s.out
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		_ = s.hold.Close()
		return nil, fmt.Errorf("cannot start a process: %w", err)
	}
	return s, nil
}

// memoryAvailable is MemAvailable of /proc/meminfo in bytes.
func memoryAvailable() float64 {
	return float64(report.MemoryAvailable())
}
