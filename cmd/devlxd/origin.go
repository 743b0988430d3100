package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	sddaemon "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"devlxd/admin"
	"devlxd/registry"
	"devlxd/source"
	"devlxd/source/lxd"
	"devlxd/source/store"
)

// sourceStore is what the embedded store is called.
const sourceStore = "store"

// origin is where the containers come from.
type origin interface {
	source.Writer
	// Suspend ends all changes until Resume, for a successor process.
	Suspend() error
	Resume() error
	Close() error
}

// openOrigin fills the registry and binds the containers that run. For a mirror it waits until the daemon is there.
func (d *daemon) openOrigin(ctx context.Context) error {
	if d.mirror == nil {
		return d.openStore()
	}
	d.origin = d.mirror
	// The daemon's containers mount this directory, and systemd may start the daemon after devlxd alone: it must not wait for the end of
	// a start that waits for it.
	if err := os.MkdirAll(filepath.Dir(d.GuestSocket()), 0o755); err != nil {
		return fmt.Errorf("cannot create the directory of the guest socket: %w: choose another with --run-dir", err)
	}
	notifySystemd(d.cfg.Log, sddaemon.SdNotifyReady)
	defer startWatchdog(d.cfg.Log, d.server, false)()
	return d.mirror.Load(ctx)
}

func (d *daemon) openStore() error {
	s, err := store.Open(d.cfg.StateDir, d.server.Registry(), d.binder, d.cfg.Log, store.WithFaults(d.faults))
	if err != nil {
		return err
	}
	d.origin, d.keeper = s, s
	return nil
}

// inheritOrigin is openOrigin in a process that takes over: fds are what came with stepLoad.
func (d *daemon) inheritOrigin(fds []int) error {
	var files []*os.File
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "mirror")
		defer f.Close()
		files = append(files, f)
	}
	if d.mirror == nil {
		if len(files) != 0 {
			return errSources
		}
		return d.openStore()
	}
	if len(files) != 1 {
		return errSources
	}
	d.origin = d.mirror
	return d.mirror.Restore(files[0])
}

// handOrigin suspends the source, and returns what the new process needs of it to go on: nil for the store, which is on disk.
func (d *daemon) handOrigin() (*os.File, error) {
	if err := d.origin.Suspend(); err != nil || d.mirror == nil {
		return nil, err
	}
	f, err := savedMirror(d.mirror)
	if err != nil {
		err = errors.Join(err, d.origin.Resume())
	}
	return f, err
}

// savedMirror saves to memory that only the two processes see: it holds the configuration of all containers.
func savedMirror(m *lxd.Mirror) (*os.File, error) {
	// MFD_NOEXEC_SEAL is needed where sysctl vm.memfd_noexec is set, and unknown before Linux 6.3.
	fd, err := unix.MemfdCreate("devlxd-mirror", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("devlxd-mirror", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "mirror")
	err = m.Save(f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// sourceName is the setting as it was given.
func (d *daemon) sourceName() string {
	if d.cfg.Source == nil {
		return sourceStore
	}
	return d.cfg.Source.String()
}

// newMirror makes the mirror, where there is to be one. It is connected to nobody yet.
func (d *daemon) newMirror() {
	if d.cfg.Source == nil {
		return
	}
	d.mirror = lxd.New(lxd.Options{
		Address: *d.cfg.Source, Registry: d.server.Registry(), Binder: d.binder, Cgroups: d.host.Mount(), Privileged: d.host.RequirePidNS,
		Member: d.server.SetLocation, Faults: d.faults, Log: d.cfg.Log, Lines: d.lines,
	})
	d.setState.Store(d.mirror)
}

// stateSet tells the mirror what a guest says of itself. It is called by the loops.
func (d *daemon) stateSet(b *registry.Binding) {
	if m := d.setState.Load(); m != nil {
		m.StateSet(b)
	}
}

// mirrorStatus answers the admin API; nil: containers come from the store.
func (d *daemon) mirrorStatus() *admin.Mirror {
	if d.mirror == nil {
		return nil
	}
	s := d.mirror.Status()
	out := &admin.Mirror{
		Source: s.Address, Socket: s.Socket, Server: s.Server, Version: s.Version, Connected: s.Connected, Age: s.Age.Seconds(),
		Lost: s.Lost, Pending: s.Pending, Broken: s.Broken,
	}
	for text, err := range map[*string]error{&out.Error: s.Error, &out.BrokenError: s.BrokenError} {
		if err != nil {
			*text = oneLine(err)
		}
	}
	return out
}
