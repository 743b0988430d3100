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
// while one of them does not, it tells nothing, and systemd ends and restarts the daemon. The returned function ends
// it. Without WatchdogSec= it does nothing.
func startWatchdog(log *slog.Logger, s *server.Server) (end func()) {
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
		keepWatch(ctx, log, s, limit/2)
	}()
	return func() {
		cancel()
		<-done
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
