package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	sddaemon "github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"devlxd/admin"
	"devlxd/internal/fdpass"
	"devlxd/server"
)

// upgradeResult is what came of an upgrade. It is a closed set: each value is a label of devlxd_upgrades_total from the start.
type upgradeResult uint8

const (
	// upgradeTakenOver: this process took over.
	upgradeTakenOver upgradeResult = iota
	// upgradeNotStarted: the new binary could not be started, or ended at once.
	upgradeNotStarted
	// upgradeMismatch: the state formats differ.
	upgradeMismatch
	// upgradeRefused: the new process said why it does not take over.
	upgradeRefused
	// upgradeNoAnswer: a step took too long.
	upgradeNoAnswer
	// upgradeLost: the new process ended on the way.
	upgradeLost
	// upgradeStopped: the daemon was told to end meanwhile.
	upgradeStopped
	// upgradeFailed: anything else, on the side of the old process.
	upgradeFailed

	numUpgradeResults
)

var upgradeLabels = [numUpgradeResults]string{
	"taken_over", "not_started", "version_mismatch", "refused", "no_answer", "lost", "stopped", "failed",
}

// String is the metric label.
func (r upgradeResult) String() string { return upgradeLabels[r] }

// resultOf classifies the failure of an upgrade.
func resultOf(err error) upgradeResult {
	for _, c := range [...]struct {
		err    error
		result upgradeResult
	}{
		{errStopped, upgradeStopped}, {errNotStarted, upgradeNotStarted}, {errVersions, upgradeMismatch}, {errRefused, upgradeRefused},
		{errNoAnswer, upgradeNoAnswer}, {errLost, upgradeLost},
	} {
		if errors.Is(err, c.err) {
			return c.result
		}
	}
	return upgradeFailed
}

// upgradeCounter counts upgrades by their result; carried are the counts of the predecessors.
func upgradeCounter(carried map[string]float64) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "devlxd_upgrades_total", Help: "Upgrades by what came of them, counted on from one process to the next.",
	}, []string{"result"})
	for r := range numUpgradeResults {
		c.WithLabelValues(r.String()).Add(max(carried[r.String()], 0))
	}
	return c
}

// upgrade has another process take over everything; binary "" is what this one was started from, as it is there now. When it returns without an
// error the new process serves and this one is to end. On error nothing has happened.
func (d *daemon) upgrade(ctx context.Context, binary string) (admin.Upgraded, error) {
	if !d.upgrading.TryLock() {
		return admin.Upgraded{}, errUpgrading
	}
	defer d.upgrading.Unlock()
	if !d.ready.Load() {
		return admin.Upgraded{}, errNotServing
	}
	notifySystemd(d.cfg.Log, stateReloading())
	u := &upgrade{d: d, times: d.cfg.UpgradeTimes}
	done, err := u.run(ctx, binary)
	if u.committed && err != nil {
		d.failed <- fmt.Errorf("new devlxd took over and failed: %w", err)
		return admin.Upgraded{}, err
	}
	if err != nil {
		d.upgrades.WithLabelValues(resultOf(err).String()).Inc()
		d.cfg.Log.Error("upgrade failed; serving on as before", "error", err)
		notifySystemd(d.cfg.Log, sddaemon.SdNotifyReady)
		return admin.Upgraded{}, fmt.Errorf("cannot upgrade: %w", err)
	}
	notifySystemd(d.cfg.Log, stateSuccessor(done.PID))
	d.cfg.Log.Info("upgraded", "pid", done.PID, "version", done.Version, "connections", done.Connections, "pause_ms", done.Pause)
	d.ready.Store(false)
	close(d.replaced)
	return done, nil
}

// upgrade is one attempt.
type upgrade struct {
	d        *daemon
	times    upgradeTimes
	conn     *fdpass.Conn
	cmd      *exec.Cmd
	exited   <-chan struct{} // closed when the new process has ended
	handover *server.Handover
	undo     []func() // what a failure takes back, the last one first
	other    greeting

	committed bool // the connections are the new process's
}

// run goes through the steps. What is done up to the commit is undone on error.
func (u *upgrade) run(ctx context.Context, binary string) (done admin.Upgraded, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(u.d.life, cancel)()
	if err := u.start(binary); err != nil {
		return done, err
	}
	defer u.conn.Close()
	// A step that waits ends with the context.
	interrupted := context.AfterFunc(ctx, func() { _ = u.conn.Close() })
	err = u.prepare()
	if err == nil {
		err = u.load(ctx)
	}
	var paused time.Duration
	if err == nil {
		paused, err = u.handOver(ctx)
	}
	if err == nil && !interrupted() {
		err = ctx.Err()
	}
	if err == nil {
		err = u.explain(sendStep(u.conn, stepCommit, commit{Paused: int64(paused)}, u.times.Pause))
	}
	if err != nil {
		u.abort()
		if ctx.Err() != nil {
			err = errStopped
		}
		return done, err
	}
	return u.finish()
}

// prepare exchanges greetings. Guests are served and changes are made meanwhile.
func (u *upgrade) prepare() error {
	if _, err := awaitStep(u.conn, stepGreeting, &u.other, u.times.Greeting); err != nil {
		if err = u.explain(err); errors.Is(err, errLost) {
			err = fmt.Errorf("%w (%v)", errNotStarted, err)
		}
		return err
	}
	own := newGreeting()
	if err := own.fits(&u.other); err != nil {
		return err
	}
	if u.other.PID != u.cmd.Process.Pid {
		return fmt.Errorf("%w (pid %d answers for %d)", errLost, u.other.PID, u.cmd.Process.Pid)
	}
	fds := []int{int(u.d.lock.Fd())}
	for _, ln := range []net.Listener{u.d.adminListener, u.d.metricsListener} {
		if ln == nil {
			continue
		}
		fd, err := descriptor(ln)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	own.RunDir, own.StateDir, own.PidNS, own.Metrics = u.d.cfg.RunDir, u.d.cfg.StateDir, u.d.host.PidNSRequired(), u.d.metricsListener != nil
	own.Upgrades, own.MetricsAddress = u.d.upgradeCounts(), u.d.cfg.Metrics
	if ln, ok := u.d.adminListener.(*admin.Listener); ok {
		own.Admin.Path, own.Admin.Dev, own.Admin.Ino = ln.Place()
	}
	if err := sendStep(u.conn, stepGreeting, own, u.times.Prepare, fds...); err != nil {
		return u.explain(err)
	}
	_, err := awaitStep(u.conn, stepPrepared, nil, u.times.Prepare)
	return u.explain(err)
}

// descriptor is a copy of that of a listener, which stays as it is, non-blocking above all.
func descriptor(ln net.Listener) (fd int, err error) {
	c, ok := ln.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("cannot hand over a listener of type %T", ln)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	if cerr := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 3) }); cerr != nil {
		return -1, cerr
	}
	return fd, os.NewSyscallError("fcntl", err)
}

// load gives the source to the new process, and sends the rings. Guests are served; changes wait.
func (u *upgrade) load(ctx context.Context) error {
	freeze, cancel := context.WithTimeout(ctx, u.times.Freeze)
	defer cancel()
	if err := u.d.admin.Freeze(freeze); err != nil {
		return err
	}
	u.undo = append(u.undo, u.d.admin.Thaw)
	state, err := u.d.handOrigin()
	if err != nil {
		return err
	}
	var fds []int
	if state != nil {
		defer state.Close()
		fds = append(fds, int(state.Fd()))
	}
	u.undo = append(u.undo, func() {
		if err := u.d.origin.Resume(); err != nil {
			u.d.cfg.Log.Error("changes are refused: restart devlxd", "error", err)
		}
	})
	if err := sendStep(u.conn, stepLoad, nil, u.times.Load, fds...); err != nil {
		return u.explain(err)
	}
	if _, err := awaitStep(u.conn, stepLoaded, nil, u.times.Load); err != nil {
		return u.explain(err)
	}
	u.handover = u.d.server.NewHandover(u.conn)
	return u.explain(u.handover.SendRings(ctx))
}

// handOver pauses the server and sends the connections. It returns when guests were served last.
func (u *upgrade) handOver(ctx context.Context) (paused time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, u.times.Pause)
	defer cancel()
	paused = monotonic()
	u.undo = append(u.undo, u.handover.Resume)
	if err := u.handover.Pause(ctx); err != nil {
		return paused, err
	}
	if err := u.handover.SendConnections(ctx); err != nil {
		return paused, u.explain(err)
	}
	_, err = awaitStep(u.conn, stepReady, nil, u.times.Pause)
	return paused, u.explain(err)
}

// finish lets go of everything, after the commit: the new process has it.
func (u *upgrade) finish() (admin.Upgraded, error) {
	u.handover.Finish()
	u.committed = true
	var s serving
	if _, err := awaitStep(u.conn, stepServing, &s, u.times.Serve); err != nil {
		return admin.Upgraded{}, u.explain(err)
	}
	return admin.Upgraded{PID: u.other.PID, Version: u.other.Version, Connections: s.Connections, Pause: s.Pause}, nil
}

// abort ends the new process and then takes back what was done.
func (u *upgrade) abort() {
	_ = u.cmd.Process.Kill()
	<-u.exited
	for i := len(u.undo) - 1; i >= 0; i-- {
		u.undo[i]()
	}
}

// explain says why the new process does not go on: what it said last, or how it ended.
func (u *upgrade) explain(err error) error {
	if err == nil || errors.Is(err, errRefused) || errors.Is(err, errLost) {
		return err
	}
	var unexpected *fdpass.UnexpectedError
	switch {
	case errors.As(err, &unexpected):
		unexpected.Message.Close()
		return stepError(&unexpected.Message)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errNoAnswer
	case !errors.Is(err, fdpass.ErrEnded):
		return err
	}
	// Its last word may still be there; the first read only tells that it has gone.
	for range 2 {
		if m, err := u.conn.Receive(time.Second); err == nil {
			m.Close()
			return stepError(&m)
		}
	}
	return errLost
}

// upgradeCounts reads the counter.
func (d *daemon) upgradeCounts() map[string]float64 {
	counts := make(map[string]float64, numUpgradeResults)
	for r := range numUpgradeResults {
		var m dto.Metric
		if err := d.upgrades.WithLabelValues(r.String()).Write(&m); err == nil {
			counts[r.String()] = m.GetCounter().GetValue()
		}
	}
	return counts
}
