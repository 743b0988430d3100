package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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
	daemon  *target.LXD // that --admin names; nil: not found yet, or it is none
	targets []target.Target
}

// newSession checks what was asked for. Nothing is started yet.
func newSession(_ context.Context, f *flags) (*session, error) {
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

// start starts the guests: as many as asked for, or one in each container that exists.
func (s *session) start(ctx context.Context) error {
	if err := s.attach(ctx); err != nil {
		return err
	}
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
	s.rename()
	return nil
}

// attach says which containers that exist are used: those of --attach, else those of the daemon of --admin. Each is loaded by one
// guest, as a run tells guests apart by what their containers are answered.
func (s *session) attach(ctx context.Context) error {
	f := s.flags
	daemon, err := s.findDaemon(ctx)
	if err != nil {
		return err
	}
	if daemon != nil && len(f.attach) == 0 {
		instances := daemon.Instances()
		if len(instances) > f.containers {
			s.note(fmt.Sprintf("using %d of the %d containers of %s: --containers takes more", f.containers, len(instances), daemon.Name()))
			instances = instances[:f.containers]
		}
		for _, i := range instances {
			f.attach = append(f.attach, i.PID)
		}
	}
	stops := []loadtest.Scenario{loadtest.Churn, loadtest.Identity, loadtest.Soak}
	if len(f.attach) > 0 && slices.Contains(stops, f.opt.Scenario) {
		return usagef("%s stops containers, which is not done to those that exist: leave --attach and --admin out", f.opt.Scenario)
	}
	seen := make(map[int]bool)
	for _, pid := range f.attach {
		if seen[pid] {
			return usagef("--attach names process %d twice: name each container once", pid)
		}
		seen[pid] = true
		if daemon != nil && !slices.ContainsFunc(daemon.Instances(), func(i target.Instance) bool { return i.PID == pid }) {
			return usagef("--attach: process %d is the init of no container that %s lists as running here: see %s list",
				pid, daemon.Name(), daemon.Name())
		}
	}
	return nil
}

// findDaemon finds the LXD or Incus that --admin names, once; nil: it names none.
func (s *session) findDaemon(ctx context.Context) (*target.LXD, error) {
	kind, path, _ := strings.Cut(s.flags.admin, ":")
	if s.daemon != nil || kind != "lxd" && kind != "incus" {
		return s.daemon, nil
	}
	var err error
	s.daemon, err = target.FindLXD(ctx, kind, path, s.flags.socket)
	return s.daemon, err
}

// note says something beside the bars.
func (s *session) note(text string) {
	s.bars.end()
	fmt.Fprintf(os.Stderr, "devlxd-load: %s\n", text)
}

// add takes a target in and registers the containers with it.
func (s *session) add(ctx context.Context, t target.Target) error {
	if len(s.flags.attach) > 0 {
		t = lasting{t}
	}
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

// lasting is a target whose containers are not the load generator's to stop.
type lasting struct{ target.Target }

// Features implements target.Target.
func (l lasting) Features() target.Feature { return l.Target.Features() &^ target.Lifecycle }

// addStopped registers containers that do not run, until there are as many as wanted.
func (s *session) addStopped(ctx context.Context, t target.Target, have, want int) error {
	if want <= have {
		return nil
	}
	containers := make([]target.Container, want-have)
	for i := range containers {
		containers[i] = target.Container{Name: fmt.Sprintf("rest-%06d", have+i), Config: map[string]string{target.Key: "abc"}}
	}
	step := s.bars.begin(fmt.Sprintf("registering %d containers", want))
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
		return s.findDaemon(ctx)
	case f.admin != "":
		return nil, usagef("--admin is %q: use devlxd:PATH, lxd:PATH or incus:PATH", f.admin)
	case f.socket != "":
		return target.FindSocket(f.socket)
	}
	return s.startDevlxd(ctx, f.devlxd)
}

// startDevlxd starts a build of this project. What a flood meets are the quotas.
func (s *session) startDevlxd(ctx context.Context, binary string) (target.Target, error) {
	return target.StartDevlxd(ctx, target.Options{Binary: binary, Quotas: s.flags.opt.Scenario == loadtest.Flood})
}

// rename gives guests in a daemon's containers the names of those.
func (s *session) rename() {
	if s.daemon == nil {
		return
	}
	byPID := make(map[int]string)
	for _, i := range s.daemon.Instances() {
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
