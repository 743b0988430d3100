package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"time"

	sddaemon "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"devlxd/internal/logging"
)

// drainTime is how long requests under way may take after SIGTERM.
const drainTime = 5 * time.Second

// newServeCommand is "devlxd serve".
func newServeCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the guest API",
		Long: `Serve the guest API on RUN_DIR/guest/sock and the admin API on RUN_DIR/admin.sock.

Mount the directory RUN_DIR/guest (not the socket) into containers at /dev/lxd,
so that a new socket shows up in running containers. A run directory has one
daemon: a second one is refused.

While the containers of the state directory are loaded, the admin API and the
metrics answer /healthz with 200 and /readyz with 503; everything about containers
is 503, and there is no guest socket yet. The line "serving" of the log says that
all of it is there, and where; --metrics 127.0.0.1:0 leaves the port to the kernel.

A privileged container can move itself into the cgroup of another one. So once
devlxd knows of a privileged container, every guest must be in the pid namespace
of its container too (--identity-proof auto). If privileged containers run on this
host that devlxd is never told of, give --identity-proof always. It costs about
4 us for each connection, and guests that exit before they are accepted are
refused.

The daemon gives up all capabilities but CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH before
it reads anything of a guest, and can gain none again. (Where fewer than 131072 files may
be open, it keeps CAP_SETUID and CAP_SYS_RESOURCE too, which spare a file for each
container.) The run directory and the state directory have to belong to the user that
it runs as. With --privileges keep nothing is given up, which a debugger needs.

Each container has quotas: connections and event subscriptions that are open,
requests a second, bytes of requests and answers under way, image downloads at
once. --limits, or limits in the file, sets them for all containers, and the config key
limits.devlxd.QUOTA for one, at any time. A value is a whole number or unlimited.

With --discover lxc,nspawn,podman the running containers of these runtimes are found
by their cgroups and bound under their names, now and whenever one starts. One that is
not stored is forgotten when it stops, unless its config was set meanwhile.

Each setting is a flag, a variable, or a key of the file /etc/devlxd/config.yaml, and
counts in this order; "devlxd check" shows them with their origin, and finds mistakes.
SIGHUP has the file read again: limits, log and per-container metrics change at once,
and the log says what waits for an upgrade or a restart. A file with a mistake is
refused as a whole.

SIGUSR2, or "devlxd upgrade", has the binary that is installed now take over without
a connection or an event lost; where it does not, this process goes on.

SIGTERM or SIGINT ends the server: it stops accepting, answers what is under
way, closes websockets with 1001 and exits within 5 seconds.`,
		Example: `  devlxd serve
  devlxd serve --run-dir /run/devlxd --state-dir /var/lib/devlxd --dialect lxd
  devlxd serve --discover lxc,podman
  devlxd serve --config /etc/devlxd/other.yaml --log-level debug
  devlxd serve --metrics off`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := o.load()
			if err != nil {
				refuseTakeOver(err)
				return err
			}
			return serve(cmd.Context(), serveConfig(&o, &l))
		},
	}
	o.bind(cmd)
	return cmd
}

// serveConfig is the daemon that the settings ask for, logging to standard error.
func serveConfig(o *options, l *loaded) daemonConfig {
	sink := logging.NewSink(os.Stderr, os.Getenv(logging.JournalVariable))
	sink.SetLevel(l.Config.LogLevel)
	sink.SetFormat(l.Config.LogFormat)
	cfg := l.daemonConfig()
	cfg.Log, cfg.Settings = sink.Logger(), reloadable{Loaded: *l, Load: o.load, Sink: sink}
	if !l.Config.KeepPrivileges {
		cfg.Confine = dropPrivileges
	}
	for _, w := range l.warnings() {
		cfg.Log.Warn("a setting has no effect", "detail", w)
	}
	return cfg
}

// serve runs a daemon until a signal ends it.
func serve(ctx context.Context, cfg daemonConfig) (err error) {
	p, err := startProfiler(cfg.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	signal.Ignore(unix.SIGPIPE)
	upgrade := make(chan os.Signal, 1)
	signal.Notify(upgrade, unix.SIGUSR2)
	defer signal.Stop(upgrade)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, unix.SIGHUP)
	defer signal.Stop(reload)
	// Loading cannot be interrupted, and ends by itself; a second signal kills.
	defer context.AfterFunc(ctx, stop)()
	d, err := startDaemon(ctx, cfg)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		cfg.Log.Info("ended by a signal before guests were served")
		return nil
	}
	if err != nil {
		return err
	}
	cfg.Log.Info("serving", "guest_socket", d.GuestSocket(), "admin_socket", d.AdminSocket(), "metrics", d.MetricsAddress(),
		"dialect", cfg.Dialect.String(), "containers", d.server.Registry().Len(), "took", time.Since(d.started).String())
	if d.takenOver == nil {
		notifySystemd(cfg.Log, sddaemon.SdNotifyReady) // else the predecessor has said so
	}
	endWatchdog := startWatchdog(cfg.Log, d.server, d.takenOver != nil)
	waitErr := d.run(ctx, upgrade, reload)
	endWatchdog()
	stop() // from here on too if a part of the daemon has failed
	if d.wasReplaced() {
		return d.retire(context.WithoutCancel(ctx))
	}
	notifySystemd(cfg.Log, sddaemon.SdNotifyStopping)
	cfg.Log.Info("shutting down", "connections", d.server.Connections(), "drain", drainTime.String())
	drainCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := d.Shutdown(drainCtx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			cfg.Log.Warn("drain time is over", "error", err)
		} else {
			return errors.Join(waitErr, err)
		}
	}
	return waitErr
}

// run begins an upgrade, or reads the settings again, at each signal until the daemon ends, see Wait.
func (d *daemon) run(ctx context.Context, upgrade, reload <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	helpers.Go(func() {
		for {
			select {
			case <-upgrade:
				_, _ = d.upgrade(ctx, "") // which logs what came of it
			case <-reload:
				d.reload()
			case <-ctx.Done():
				return
			}
		}
	})
	err := d.Wait(ctx)
	cancel()
	helpers.Wait()
	return err
}

// wasReplaced reports whether another process has taken over.
func (d *daemon) wasReplaced() bool {
	select {
	case <-d.replaced:
		return true
	default:
		return false
	}
}
