package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sys/unix"

	"devlxd/admin"
	"devlxd/peer"
	"devlxd/server"
	"devlxd/source/store"
)

// Names of the sockets of a systemd socket unit (FileDescriptorName=).
const (
	fdNameGuest = "guest"
	fdNameAdmin = "admin"
)

// daemonConfig is what a daemon is started with.
type daemonConfig struct {
	RunDir   string
	StateDir string
	Metrics  string // address; "" or "off": no metrics listener
	Dialect  server.Dialect
	Loops    int // 0: the server's default
	// ProofAlways demands the pid namespace of every peer, see peer.Options.PidNSAlways.
	ProofAlways bool
	Log         *slog.Logger
}

// daemon is a running devlxd: guest server, store, admin API and metrics.
type daemon struct {
	cfg     daemonConfig
	host    *peer.Host
	server  *server.Server
	binder  *server.Binder
	store   *store.Store
	admin   *admin.Server
	started time.Time
	ready   atomic.Bool
	serving sync.WaitGroup
	failed  chan error
}

// GuestSocket is the path of the socket that guests connect to.
func (d *daemon) GuestSocket() string { return filepath.Join(d.cfg.RunDir, "guest", "sock") }

// AdminSocket is the path of the operator's socket.
func (d *daemon) AdminSocket() string { return filepath.Join(d.cfg.RunDir, "admin.sock") }

// startDaemon brings everything up, in the order in which a guest may see it:
// the guest socket appears last, when all containers are loaded. On error
// nothing is left running.
func startDaemon(ctx context.Context, cfg daemonConfig) (d *daemon, err error) {
	d = &daemon{cfg: cfg, started: time.Now(), failed: make(chan error, 4)}
	defer func() {
		if err != nil {
			stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = d.Shutdown(stopCtx)
			d = nil
		}
	}()
	if err := os.MkdirAll(cfg.RunDir, 0o755); err != nil {
		return d, fmt.Errorf("cannot create the run directory: %w: choose another with --run-dir", err)
	}
	if d.host, err = peer.Probe(peer.Options{PidNSAlways: cfg.ProofAlways}); err != nil {
		return d, fmt.Errorf("cannot identify peers on this kernel: %w", err)
	}
	d.logProbe()
	if d.server, err = server.New(server.Options{Dialect: cfg.Dialect, Loops: cfg.Loops, Host: d.host, Log: cfg.Log}); err != nil {
		return d, err
	}
	d.server.Start()
	if d.binder, err = server.NewBinder(d.host, d.server.Registry(), cfg.Log); err != nil {
		return d, err
	}
	if d.store, err = store.Open(cfg.StateDir, d.server.Registry(), d.binder, cfg.Log); err != nil {
		return d, err
	}
	inherited, err := inheritedSockets()
	if err != nil {
		return d, err
	}
	if err := d.startAdmin(inherited[fdNameAdmin]); err != nil {
		return d, err
	}
	if f := inherited[fdNameGuest]; f != nil {
		fd, derr := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		_ = f.Close()
		if derr != nil {
			return d, os.NewSyscallError("fcntl", derr)
		}
		err = d.server.Adopt(fd)
	} else {
		err = d.server.Listen(d.GuestSocket())
	}
	if err != nil {
		return d, err
	}
	d.ready.Store(true)
	return d, nil
}

// inheritedSockets are the sockets that systemd passed, by their name; a name
// that is not known is refused, for it is a mistake in the socket unit.
func inheritedSockets() (map[string]*os.File, error) {
	named := make(map[string]*os.File)
	for _, f := range activation.Files(true) {
		switch f.Name() {
		case fdNameGuest, fdNameAdmin:
			named[f.Name()] = f
		default:
			return nil, fmt.Errorf("systemd passed a socket named %q: set FileDescriptorName=%s or %s in the socket unit", f.Name(), fdNameGuest, fdNameAdmin)
		}
	}
	return named, nil
}

// startAdmin serves the admin socket, and metrics where they are wanted.
func (d *daemon) startAdmin(inherited *os.File) error {
	gatherer := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "devlxd_build_info", Help: "Always 1; the labels describe the binary.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision(), "goversion": goVersion()},
	})
	build.Set(1)
	gatherer.MustRegister(d.server.Collector(), build, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	d.admin = admin.New(admin.Options{
		Registry: d.server.Registry(), Writer: d.store, Status: d.status, Gatherer: gatherer,
		Ready: d.ready.Load, Log: d.cfg.Log,
	})
	var ln net.Listener
	var err error
	if inherited != nil {
		ln, err = net.FileListener(inherited)
		_ = inherited.Close()
	} else {
		ln, err = admin.Listen(d.AdminSocket())
	}
	if err != nil {
		return err
	}
	d.serve("admin API", func() error { return d.admin.Serve(ln) })
	if d.cfg.Metrics == "" || d.cfg.Metrics == "off" {
		return nil
	}
	tcp, err := net.Listen("tcp", d.cfg.Metrics)
	if err != nil {
		return fmt.Errorf("cannot listen for metrics: %w; choose another address with --metrics, or --metrics off", err)
	}
	d.serve("metrics", func() error { return d.admin.ServeMetrics(tcp) })
	return nil
}

// serve runs f until Shutdown; its failure ends the daemon.
func (d *daemon) serve(what string, f func() error) {
	d.serving.Go(func() {
		if err := f(); err != nil {
			d.failed <- fmt.Errorf("%s: %w", what, err)
		}
	})
}

// Wait returns when ctx is done (nil) or a part of the daemon has failed.
func (d *daemon) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.failed:
		return err
	case err := <-d.server.Failed():
		return err
	}
}

// Shutdown ends the daemon: guests first (see server.Server.Shutdown), then the
// admin API, then the store, so that nothing acknowledged is lost.
func (d *daemon) Shutdown(ctx context.Context) error {
	d.ready.Store(false)
	var errs []error
	if d.server != nil {
		errs = append(errs, d.server.Shutdown(ctx))
	}
	if d.admin != nil {
		errs = append(errs, d.admin.Shutdown(ctx))
	}
	d.serving.Wait()
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	if d.binder != nil {
		errs = append(errs, d.binder.Close())
	}
	if d.host != nil {
		errs = append(errs, d.host.Close())
	}
	return errors.Join(errs...)
}

// logProbe tells the operator what identity rests on.
func (d *daemon) logProbe() {
	d.cfg.Log.Info("identity of peers", "level", d.host.Level().String())
	for _, c := range d.host.Checks() {
		if !c.OK {
			d.cfg.Log.Warn("kernel check", "check", c.Name, "detail", c.Detail)
		}
	}
}

// status answers the admin API.
func (d *daemon) status() admin.Status {
	st := d.server.Registry().Stats()
	totals := d.server.Totals()
	s := admin.Status{
		Version: version, Revision: revision(), PID: os.Getpid(), Started: d.started,
		Uptime: int64(time.Since(d.started).Seconds()), Dialect: d.cfg.Dialect.String(),
		RunDir: d.cfg.RunDir, StateDir: d.cfg.StateDir, GuestSocket: d.GuestSocket(),
		Identity: admin.Identity{Level: d.host.Level().String()},
		Loops:    d.server.Loops(), Connections: int(d.server.Connections()), Subscribers: int(d.server.Subscribers()),
		Containers: st.Containers, Bound: st.Bound, Images: st.Images,
		Accepted: totals.Accepted, Refused: totals.Refused, Requests: totals.Requests,
		EventsPublished: st.ConfigEvents + st.DeviceEvents, EventsDelivered: totals.Delivered, SlowReaders: totals.Overrun,
	}
	for _, c := range d.host.Checks() {
		s.Identity.Checks = append(s.Identity.Checks, admin.Check{Name: c.Name, OK: c.OK, Detail: c.Detail})
	}
	s.Identity.Checks = append(s.Identity.Checks, admin.Check{Name: "pid namespace proof", OK: true, Detail: d.proof()})
	return s
}

// proof says of whom the pid namespace is demanded as a second proof.
func (d *daemon) proof() string {
	switch {
	case d.cfg.ProofAlways:
		return "always: demanded of every guest"
	case d.host.PidNSRequired():
		return "auto: demanded of every guest, since a privileged container is known"
	}
	return "auto: demanded of no guest, since no privileged container is known"
}
