package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	sddaemon "github.com/coreos/go-systemd/v22/daemon"

	"devlxd/server"
)

// startWatchdog tells systemd, twice in the time that WatchdogSec= of the unit gives, that all loops of the server take work;
// while one of them does not, it tells nothing, and systemd ends and restarts the daemon. A process that took over begins later: its predecessor
// tells the first time for it (see stateSuccessor), and before that systemd does not listen to it. The returned function ends it. Without
// WatchdogSec= it does nothing.
func startWatchdog(log *slog.Logger, s *server.Server, later bool) (end func()) {
	// A successor of the process that systemd started is not the one that WATCHDOG_PID names, and is watched all the same.
	if err := os.Unsetenv("WATCHDOG_PID"); err != nil {
		log.Warn("cannot unset WATCHDOG_PID", "error", err)
	}
	limit, err := sddaemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("cannot read WATCHDOG_USEC: the watchdog of the unit is not answered", "error", err)
	}
	if err != nil || limit <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if later && !sleep(ctx, limit/2) {
			return
		}
		keepWatch(ctx, log, s, limit/2)
	}()
	return func() {
		cancel()
		<-done
	}
}

// sleep reports whether the time has passed; otherwise ctx is done.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func keepWatch(ctx context.Context, log *slog.Logger, s *server.Server, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		within, cancel := context.WithTimeout(ctx, every)
		err := s.Responsive(within)
		cancel()
		switch {
		case err == nil:
			notifySystemd(log, sddaemon.SdNotifyWatchdog)
		case ctx.Err() == nil:
			log.Error("the watchdog is not answered", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
