package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"devlxd/loadtest"
	"devlxd/loadtest/guests"
	"devlxd/loadtest/target"
)

// session is the containers and the servers of one command.
type session struct {
	flags   *flags
	bars    *bars
	fleet   *loadtest.Fleet
	targets []target.Target
}

// newSession starts the guests: as many as asked for, or one in each container that exists.
func newSession(ctx context.Context, f *flags) (*session, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.pin {
		if err := pinSelf(); err != nil {
			return nil, err
		}
	}
	return &session{flags: f, bars: newBars()}, nil
}

// start starts the guests.
func (s *session) start(ctx context.Context) error {
	step := s.bars.begin("containers")
	set, err := guests.Start(ctx, guests.Options{
		Count: s.flags.containers, Attach: s.flags.attach,
		Progress: func(done, total int) { step(float64(done), float64(total)) },
	})
	if err != nil {
		return err
	}
	for _, note := range set.Notes() {
		s.note(note)
	}
	size := s.flags.opt.ValueSize
	if size == 0 {
		size = 3
	}
	s.fleet = loadtest.NewFleet(set, size)
	return nil
}

// note says something beside the bars.
func (s *session) note(text string) {
	s.bars.end()
	fmt.Fprintf(os.Stderr, "devlxd-load: %s\n", text)
}

// add takes a target in and registers the containers with it.
func (s *session) add(ctx context.Context, t target.Target) error {
	s.targets = append(s.targets, t)
	if s.flags.pin && t.PID() != 0 {
		if err := target.Pin(t.PID(), 0); err != nil {
			return err
		}
	}
	containers := s.fleet.Containers()
	step := s.bars.begin("registering with " + t.Name())
	return t.Register(ctx, containers, func(done int) { step(float64(done), float64(len(containers))) })
}

// open starts or finds the server that the flags name.
func (s *session) open(ctx context.Context) (target.Target, error) {
	f := s.flags
	kind, path, _ := strings.Cut(f.admin, ":")
	switch {
	case f.runDir != "":
		return target.FindDaemon(ctx, f.runDir)
	case kind == "devlxd":
		return target.FindDaemon(ctx, filepath.Dir(path))
	case kind == "lxd" || kind == "incus":
		d, err := target.FindLXD(ctx, kind, path, f.socket)
		if err != nil {
			return nil, err
		}
		if len(f.attach) == 0 {
			for _, i := range d.Instances() {
				f.attach = append(f.attach, i.PID)
			}
		}
		return d, nil
	case f.admin != "":
		return nil, usagef("--admin is %q: use devlxd:PATH, lxd:PATH or incus:PATH", f.admin)
	case f.socket != "":
		return target.FindSocket(f.socket)
	}
	return target.StartDevlxd(ctx, f.devlxd)
}

// rename gives guests in a daemon's containers the names of those.
func (s *session) rename(t target.Target) {
	d, ok := t.(*target.LXD)
	if !ok {
		return
	}
	byPID := make(map[int]string)
	for _, i := range d.Instances() {
		byPID[i.PID] = i.Name
	}
	names := make([]string, len(s.flags.attach))
	for i, pid := range s.flags.attach {
		names[i] = byPID[pid]
	}
	s.fleet.Rename(names)
}

// close ends everything.
func (s *session) close() error {
	s.bars.end()
	var errs []error
	for _, t := range s.targets {
		errs = append(errs, t.Close())
	}
	if s.fleet != nil {
		errs = append(errs, s.fleet.Set.Close())
	}
	return errors.Join(errs...)
}

// pinSelf leaves the first CPU to the server.
func pinSelf() error {
	if runtime.NumCPU() < 2 {
		return usagef("--pin needs at least 2 CPUs")
	}
	cpus := make([]int, 0, runtime.NumCPU()-1)
	for cpu := 1; cpu < runtime.NumCPU(); cpu++ {
		cpus = append(cpus, cpu)
	}
	return target.Pin(unix.Getpid(), cpus...)
}
