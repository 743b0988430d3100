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

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sys/unix"

	"devlxd/admin"
	"devlxd/fault"
	"devlxd/internal/logging"
	"devlxd/internal/lxdapi"
	"devlxd/internal/settings"
	"devlxd/peer"
	"devlxd/registry"
	"devlxd/server"
	"devlxd/source/discover"
	"devlxd/source/lxd"
)

// metricsOff is the address of no metrics listener.
const metricsOff = settings.MetricsOff

// daemonConfig is what a daemon is started with.
type daemonConfig struct {
	RunDir   string
	StateDir string
	Metrics  string // address; "" or metricsOff: no metrics listener
	Dialect  server.Dialect
	Loops    int // 0: the server's default
	// Limits are the quotas of a container, see server.Options.Limits.
	Limits registry.Limits
	// Source is the daemon that is mirrored; nil: containers come from the store in StateDir.
	Source *lxdapi.Address
	// ProofAlways demands the pid namespace of every peer, see peer.Options.PidNSAlways.
	ProofAlways  bool
	PerContainer int // containers with metrics of their own, see server.Server.SetPerContainer
	// Discover are the runtimes whose running containers are found, see package source/discover.
	Discover []discover.Runtime
	// Settings are what the others were made from; some of them can change.
	Settings reloadable
	// Confine gives privileges up for the whole process; nil: all are kept.
	Confine func() error
	Log     *slog.Logger
	// UpgradeTimes bounds the steps of an upgrade; zero: defaultUpgradeTimes.
	UpgradeTimes upgradeTimes
}

// daemon is a running devlxd: guest server, store, admin API and metrics.
type daemon struct {
	cfg     daemonConfig
	lock    *os.File // of the run directory
	host    *peer.Host
	faults  *fault.Board
	lines   *logging.Limiter // of what guests cause
	server  *server.Server
	binder  *server.Binder
	origin  origin
	mirror  *lxd.Mirror         // nil: containers come from the store
	found   *discover.Discovery // nil: nothing is looked for
	keeper  discover.Keeper     // of what is found; nil: containers come from a mirror
	admin   *admin.Server
	started time.Time
	ready   atomic.Bool
	serving sync.WaitGroup
	failed  chan error

	setState atomic.Pointer[lxd.Mirror] // mirror, for the loops

	adminListener   net.Listener
	metricsListener net.Listener // nil: none

	life      context.Context // ends with the call of Shutdown
	endLife   context.CancelFunc
	upgrading sync.Mutex // held during an upgrade
	upgrades  *prometheus.CounterVec
	settings  *inEffect
	replaced  chan struct{}    // closed when another process has taken over
	takenOver *admin.TakenOver // nil: this one was started
}

// GuestSocket is the path of the socket that guests connect to.
func (d *daemon) GuestSocket() string { return filepath.Join(d.cfg.RunDir, "guest", "sock") }

// AdminSocket is the path of the operator's socket.
func (d *daemon) AdminSocket() string { return filepath.Join(d.cfg.RunDir, "admin.sock") }

// MetricsAddress is where the metrics are, with the port that the kernel chose if
// it was given as 0; metricsOff without a listener.
func (d *daemon) MetricsAddress() string {
	if d.metricsListener == nil {
		return metricsOff
	}
	return d.metricsListener.Addr().String()
}

// startDaemon brings everything up, in the order in which it may be seen: the
// admin API and the metrics first, which tell of health while the containers
// are loaded, and the guest socket last, when all of them are. On error, or when
// ctx ends before that, nothing is left running.
func startDaemon(ctx context.Context, cfg daemonConfig) (*daemon, error) {
	d := &daemon{
		cfg: cfg, started: time.Now(), faults: fault.NewBoard(cfg.Log, nil), lines: logging.NewLimiter(cfg.Log, nil), settings: newInEffect(&cfg.Settings.Loaded), failed: make(chan error, 4), replaced: make(chan struct{}),
	}
	d.life, d.endLife = context.WithCancel(context.WithoutCancel(ctx))
	if d.cfg.UpgradeTimes == (upgradeTimes{}) {
		d.cfg.UpgradeTimes = defaultUpgradeTimes()
	}
	start := d.start
	p, err := findPredecessor()
	if p != nil {
		start = func(context.Context) error { return d.takeOver(p) }
	}
	if err == nil {
		err = start(ctx)
	}
	if err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = d.Shutdown(stopCtx)
		return nil, err
	}
	return d, nil
}

func (d *daemon) start(ctx context.Context) (err error) {
	inherited, err := inheritedSockets()
	if err != nil {
		return err
	}
	defer inherited.close()
	d.checkStored(inherited)
	if err := d.claim(ctx, inherited); err != nil {
		return err
	}
	if err := d.listenMetrics(); err != nil {
		return err
	}
	// As early as can be, so that what follows finds out what works without them.
	if err := d.confine(); err != nil {
		return err
	}
	if err = d.newServer(); err != nil {
		return err
	}
	if err := d.newDiscovery(); err != nil {
		return err
	}
	d.newAdmin(nil)
	if err := d.startAdmin(inherited[fdNameAdmin]); err != nil {
		return err
	}
	d.cfg.Log.Info("loading", "source", d.sourceName(), "state_dir", d.cfg.StateDir, "admin_socket", d.AdminSocket(), "metrics", d.MetricsAddress())
	if err := d.openOrigin(ctx); err != nil {
		return err
	}
	if err := d.discover(false); err != nil {
		return err
	}
	d.follow()
	d.admin.Loaded(d.origin)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.startGuests(inherited); err != nil {
		return err
	}
	d.ready.Store(true)
	return nil
}

// claim makes sure that the run directory belongs to this daemon alone, before
// anything in it is replaced. A socket that was inherited is answered by nobody
// but this daemon, although connecting to it works.
func (d *daemon) claim(ctx context.Context, inherited sockets) (err error) {
	if err := os.MkdirAll(d.cfg.RunDir, 0o755); err != nil {
		return fmt.Errorf("cannot create the run directory: %w: choose another with --run-dir", err)
	}
	if d.lock, err = lockRunDir(ctx, d.cfg.RunDir); err != nil {
		return err
	}
	for name, path := range map[string]string{fdNameAdmin: d.AdminSocket(), fdNameGuest: d.GuestSocket()} {
		if inherited[name] != nil || name == fdNameGuest && inherited[fdNameStored] != nil {
			continue
		}
		if err := unserved(path); err != nil {
			return err
		}
	}
	return nil
}

// newAdmin makes the admin API, which serves nowhere yet. What is about containers is held back until the store is loaded. The counts are
// those of upgrades of the predecessors.
func (d *daemon) newAdmin(upgrades map[string]float64) {
	gatherer := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "devlxd_build_info", Help: "Always 1; the labels describe the binary.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision(), "goversion": goVersion()},
	})
	build.Set(1)
	ready := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "devlxd_ready", Help: "Whether guests are served, as /readyz says it: 0 while containers are loaded, and once the daemon is ending.",
	}, func() float64 {
		if d.ready.Load() {
			return 1
		}
		return 0
	})
	d.upgrades = upgradeCounter(upgrades)
	suppressed := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "devlxd_log_suppressed_total", Help: "Lines of the log that were left out because a container caused too many.",
	}, func() float64 { return float64(d.lines.Dropped()) })
	gatherer.MustRegister(d.server.Collector(), d.faults.Collector(), build, ready, d.upgrades, d.settings.reloads, d.settings.last, suppressed, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if d.mirror != nil {
		gatherer.MustRegister(d.mirror.Collector())
	}
	if d.found != nil {
		gatherer.MustRegister(d.found.Collector())
	}
	d.admin = admin.New(admin.Options{
		Registry: d.server.Registry(), Loading: true, Status: d.status, Quotas: d.quotas, Top: d.top, Health: d.health, Gatherer: gatherer,
		Ready: d.ready.Load, Upgrade: d.upgrade, Faults: d.faults, LogLevel: d.logLevel(), Log: d.cfg.Log,
	})
}

// startAdmin serves the admin socket, and metrics where they are wanted.
func (d *daemon) startAdmin(inherited *os.File) error {
	var ln net.Listener
	var err error
	if inherited != nil {
		ln, err = net.FileListener(inherited)
	} else {
		ln, err = admin.Listen(d.AdminSocket())
	}
	if err != nil {
		return err
	}
	d.serveAdmin(ln)
	return nil
}

// serveAdmin serves ln, and the metrics on what is listened on for them.
func (d *daemon) serveAdmin(ln net.Listener) {
	d.adminListener = ln
	d.serve("admin API", func() error { return d.admin.Serve(ln) })
	if d.metricsListener != nil {
		d.serve("metrics", func() error { return d.admin.ServeMetrics(d.metricsListener) })
	}
}

func (d *daemon) metricsOff() bool { return d.cfg.Metrics == "" || d.cfg.Metrics == metricsOff }

// listenMetrics opens the port of the metrics, where they are wanted: it may take a privilege.
func (d *daemon) listenMetrics() (err error) {
	if d.metricsOff() {
		return nil
	}
	if d.metricsListener, err = net.Listen("tcp", d.cfg.Metrics); err != nil {
		return fmt.Errorf("cannot listen for metrics: %w; choose another address with --metrics, or --metrics off", err)
	}
	return nil
}

// startGuests serves the guest socket: that of a socket unit, that of systemd's fd store, or a new one, which goes into the store.
func (d *daemon) startGuests(inherited sockets) error {
	for _, name := range []string{fdNameGuest, fdNameStored} {
		f := inherited[name]
		if f == nil {
			continue
		}
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		return d.server.Adopt(fd)
	}
	if err := d.server.Listen(d.GuestSocket()); err != nil || !canStore() {
		return err
	}
	f, err := d.server.ListenerFile()
	if err != nil {
		return err
	}
	if err := errors.Join(storeSocket(f), f.Close()); err != nil {
		d.cfg.Log.Warn("cannot store the guest socket in systemd", "error", err)
		return nil
	}
	d.server.KeepSocket()
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

// Wait returns when ctx is done or the daemon was replaced in an upgrade (nil), or a part of it has failed.
func (d *daemon) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.replaced:
		return nil
	case err := <-d.failed:
		return err
	case err := <-d.server.Failed():
		return err
	}
}

// Shutdown ends the daemon: guests first (see server.Server.Shutdown), then the
// admin API, then the store, so that nothing acknowledged is lost; and at the very
// end the run directory, which a successor may wait for.
func (d *daemon) Shutdown(ctx context.Context) error {
	d.ready.Store(false)
	d.endLife() // an upgrade is given up, and waited for
	d.upgrading.Lock()
	defer d.upgrading.Unlock()
	var errs []error
	if d.server != nil {
		errs = append(errs, d.server.Shutdown(ctx))
	}
	if d.admin != nil {
		errs = append(errs, d.admin.Shutdown(ctx))
	}
	d.serving.Wait()
	if d.metricsListener != nil {
		_ = d.metricsListener.Close() // closed already, unless start-up failed before it was served
	}
	if d.found != nil {
		errs = append(errs, d.found.Close())
	}
	if d.origin != nil {
		errs = append(errs, d.origin.Close())
	}
	if d.binder != nil {
		errs = append(errs, d.binder.Close())
	}
	if d.host != nil {
		errs = append(errs, d.host.Close())
	}
	d.lines.Sum()
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}

// logProbe tells the operator what identity rests on.
func (d *daemon) logProbe() {
	d.cfg.Log.Info("identity of peers", "identity", d.host.Level().String())
	for _, c := range d.host.Checks() {
		if !c.OK {
			d.cfg.Log.Warn("kernel check", "check", c.Name, "detail", c.Detail)
		}
	}
	if d.host.Mount() == "" {
		d.faults.Enter(fault.NoCgroups)
	}
}

// status answers the admin API.
func (d *daemon) status() admin.Status {
	st := d.server.Registry().Stats()
	totals := d.server.Totals()
	s := admin.Status{
		Version: version, Revision: revision(), PID: os.Getpid(), Started: d.started,
		Uptime: int64(time.Since(d.started).Seconds()), TakenOver: d.takenOver, Dialect: d.cfg.Dialect.String(),
		Mirror: d.mirrorStatus(), Config: d.settings.status(),
		RunDir: d.cfg.RunDir, StateDir: d.cfg.StateDir, GuestSocket: d.GuestSocket(),
		Identity: admin.Identity{Level: d.host.Level().String()},
		Loops:    d.server.Loops(), LoopConnections: d.server.LoopConnections(), Connections: int(d.server.Connections()), Subscribers: int(d.server.Subscribers()),
		Containers: st.Containers, Bound: st.Bound, Images: st.Images,
		Accepted: totals.Accepted, Refused: totals.Refused, Requests: totals.Requests,
		Privileges:      held(),
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
