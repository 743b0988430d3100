package main

import (
	"errors"

	"devlxd/source/discover"
)

// errNoTree says that there is nothing to find containers by.
var errNoTree = errors.New("--discover needs cgroup v2: mount it, as with 'mount -t cgroup2 none /sys/fs/cgroup', or leave --discover out")

// newDiscovery prepares the search for running containers, where one is wanted.
func (d *daemon) newDiscovery() (err error) {
	if len(d.cfg.Discover) == 0 {
		return nil
	}
	if d.host.Mount() == "" {
		return errNoTree
	}
	d.found, err = discover.New(discover.Options{Runtimes: d.cfg.Discover, Tree: d.host.Mount(), Log: d.cfg.Log})
	return err
}

// discover binds what runs now. With hold nothing is written down, see [discover.Discovery.Scan].
func (d *daemon) discover(hold bool) error {
	if d.found == nil {
		return nil
	}
	d.binder.NotifyStopped(d.found.Stopped)
	return d.found.Scan(d.keeper, hold)
}

// follow binds and unbinds from now on, until the daemon is shut down.
func (d *daemon) follow() {
	if d.found != nil {
		d.serving.Go(func() { d.found.Run(d.life) })
	}
}
