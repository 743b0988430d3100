package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/admin"
	"devlxd/internal/fdpass"
	"devlxd/peer"
	"devlxd/server"
)

// predecessor is the process that this one is started by to take over from.
type predecessor struct {
	conn  *fdpass.Conn
	hello greeting
	fds   []int // the lock, the admin socket and, where there is one, that of the metrics; -1: taken
}

// findPredecessor returns nil where this process is started to begin anew.
func findPredecessor() (*predecessor, error) {
	value := os.Getenv(upgradeVariable)
	if value == "" {
		return nil, nil
	}
	if err := os.Unsetenv(upgradeVariable); err != nil {
		return nil, err
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, errPredecessor
	}
	unix.CloseOnExec(fd)
	conn, err := fdpass.New(os.NewFile(uintptr(fd), "predecessor"))
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", errPredecessor, err)
	}
	return &predecessor{conn: conn}, nil
}

// refuseTakeOver tells the predecessor, where there is one, why this process does not come so far.
func refuseTakeOver(reason error) {
	if p, err := findPredecessor(); err == nil && p != nil {
		p.close(reason)
	}
}

// greet exchanges greetings with the predecessor, whose settings must be those of this process where they name its state.
func (p *predecessor) greet(cfg *daemonConfig) error {
	own := newGreeting()
	if err := sendStep(p.conn, stepGreeting, own, cfg.UpgradeTimes.Greeting); err != nil {
		return err
	}
	fds, err := awaitStep(p.conn, stepGreeting, &p.hello, cfg.UpgradeTimes.Greeting)
	if err != nil {
		return err
	}
	p.fds = fds
	if err := own.fits(&p.hello); err != nil {
		return err
	}
	want := 2
	if p.hello.Metrics {
		want++
	}
	switch {
	case len(fds) != want:
		return fmt.Errorf("%w (%d descriptors)", errPredecessor, len(fds))
	case p.hello.RunDir != cfg.RunDir || p.hello.StateDir != cfg.StateDir:
		return fmt.Errorf("%w: its directories are %s and %s", errPredecessor, p.hello.RunDir, p.hello.StateDir)
	}
	return nil
}

// file takes over one of the descriptors.
func (p *predecessor) file(i int, name string) *os.File {
	fd := p.fds[i]
	p.fds[i] = -1
	return os.NewFile(uintptr(fd), name)
}

// close ends the connection, with the reason where this process does not take over.
func (p *predecessor) close(reason error) {
	if reason != nil {
		_ = sendStep(p.conn, stepRefusal, refusal{Reason: reason.Error()}, time.Second)
	}
	_ = p.conn.Close()
	for _, fd := range p.fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// takeOver starts the daemon from what the predecessor hands over. The order is that of upgrade.run.
func (d *daemon) takeOver(p *predecessor) (err error) {
	defer func() { p.close(err) }()
	if err = p.greet(&d.cfg); err != nil {
		return err
	}
	d.lock = p.file(0, lockName)
	if err = d.inheritMetrics(p); err != nil {
		return err
	}
	if err = d.confine(); err != nil {
		return err
	}
	if err = d.newServer(); err != nil {
		return err
	}
	if p.hello.PidNS {
		d.host.RequirePidNS()
	}
	if err = d.newDiscovery(); err != nil {
		return err
	}
	d.newAdmin(p.hello.Upgrades)
	times := &d.cfg.UpgradeTimes
	if err = sendStep(p.conn, stepPrepared, nil, times.Prepare); err != nil {
		return err
	}
	// Before this step ends, changes at the predecessor do.
	fds, err := awaitStep(p.conn, stepLoad, nil, times.Freeze+times.Prepare)
	if err != nil {
		return err
	}
	if err = d.inheritOrigin(fds); err != nil {
		return err
	}
	// Containers that are not stored are found again, before their connections come. Up to the commit nothing may be written.
	if err = d.discover(true); err != nil {
		return err
	}
	if err = sendStep(p.conn, stepLoaded, nil, times.Load); err != nil {
		return err
	}
	taken, err := d.server.TakeOver(p.conn)
	if err != nil {
		return err
	}
	defer taken.Close()
	if err = sendStep(p.conn, stepReady, nil, times.Pause); err != nil {
		return err
	}
	var c commit
	if _, err = awaitStep(p.conn, stepCommit, &c, times.Pause); err != nil {
		return err
	}
	return d.commit(p, taken, &c)
}

// commit serves what was taken over: from here on nobody else does.
func (d *daemon) commit(p *predecessor, taken *server.Takeover, c *commit) error {
	connections := taken.Connections()
	if err := taken.Commit(); err != nil {
		return err
	}
	pause := float64((monotonic() - time.Duration(c.Paused)).Microseconds()) / 1000
	d.takenOver = &admin.TakenOver{At: time.Now(), Pause: pause, PID: p.hello.PID, Version: p.hello.Version, Connections: connections}
	d.upgrades.WithLabelValues(upgradeTakenOver.String()).Inc()
	if err := d.adoptAdmin(p); err != nil {
		return err
	}
	d.follow()
	d.admin.Loaded(d.origin)
	if d.mirror != nil {
		d.mirror.Start()
	}
	d.ready.Store(true)
	// The pid serves a message only.
	if err := d.lock.Truncate(0); err == nil {
		_, _ = d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return sendStep(p.conn, stepServing, serving{Connections: connections, Pause: pause}, d.cfg.UpgradeTimes.Serve)
}

// inheritMetrics takes over the port of the metrics, or opens it where the predecessor has none, which may take a privilege.
func (d *daemon) inheritMetrics(p *predecessor) (err error) {
	if !p.hello.Metrics {
		return d.listenMetrics()
	}
	if d.metricsOff() {
		return nil // p closes it
	}
	if was := p.hello.MetricsAddress; was != "" && was != d.cfg.Metrics {
		return d.listenMetrics()
	}
	f := p.file(2, "metrics")
	d.metricsListener, err = net.FileListener(f)
	return errors.Join(err, f.Close())
}

// adoptAdmin serves the admin API where the predecessor did, and the metrics.
func (d *daemon) adoptAdmin(p *predecessor) error {
	f := p.file(1, fdNameAdmin)
	var ln net.Listener
	var err error
	if at := p.hello.Admin; at.Path != "" {
		ln, err = admin.Adopt(f, at.Path, at.Dev, at.Ino)
	} else {
		ln, err = net.FileListener(f)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return err
	}
	d.serveAdmin(ln)
	return nil
}

// retire ends a daemon whose successor serves.
func (d *daemon) retire(ctx context.Context) error {
	if ln, ok := d.adminListener.(*admin.Listener); ok {
		ln.Keep()
	}
	retireCtx, cancel := context.WithTimeout(ctx, retireTime)
	defer cancel()
	d.admin.Retire(retireCtx, d.AdminSocket())
	return d.Shutdown(ctx)
}

// retireTime is how long clients that keep a connection to the admin API of a process that was replaced may take to use it once more.
const retireTime = time.Second

// newServer makes the parts that need nothing of the state.
func (d *daemon) newServer() (err error) {
	if d.host, err = peer.Probe(peer.Options{PidNSAlways: d.cfg.ProofAlways}); err != nil {
		return fmt.Errorf("cannot identify peers on this kernel: %w", err)
	}
	d.logProbe()
	d.server, err = server.New(server.Options{
		Dialect: d.cfg.Dialect, Loops: d.cfg.Loops, Limits: d.cfg.Limits, Host: d.host, Log: d.cfg.Log, Lines: d.lines, Faults: d.faults, StateSet: d.stateSet,
	})
	if err != nil {
		return err
	}
	d.server.SetPerContainer(d.cfg.PerContainer)
	d.server.Start()
	if d.binder, err = server.NewBinder(d.host, d.server.Registry(), d.cfg.Log, d.faults, d.lines); err != nil {
		return err
	}
	d.newMirror()
	return nil
}
