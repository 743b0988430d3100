package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/admin"
)

// upgradeTime is how long a server may take to hand over.
const upgradeTime = time.Minute

// Upgrade implements Upgrader with "devlxd upgrade" of the binary that was started.
func (d *Devlxd) Upgrade(ctx context.Context) error {
	if d.proc == nil {
		return fmt.Errorf("upgrade of a server that was not started here: %w", ErrUnsupported)
	}
	// A command that is not there is told from one that failed by its help.
	if err := exec.CommandContext(ctx, d.binary, "upgrade", "--help").Run(); err != nil {
		return fmt.Errorf("%s upgrade: %w", d.binary, ErrUnsupported)
	}
	ctx, cancel := context.WithTimeout(ctx, upgradeTime)
	defer cancel()
	runDir := filepath.Join(d.dir.path, "run")
	if out, err := exec.CommandContext(ctx, d.binary, "upgrade", "--run-dir", runDir).CombinedOutput(); err != nil {
		return fmt.Errorf("devlxd upgrade: %w: %s", err, out)
	}
	return d.awaitHeir(ctx)
}

// awaitHeir waits until another process than before answers on the admin socket.
func (d *Devlxd) awaitHeir(ctx context.Context) error {
	before := d.PID()
	for {
		status, err := d.admin.Status(ctx)
		if err == nil && status.PID != before && status.Ready {
			return d.inherit(status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: process %d still answers after an upgrade: %w", ErrNotReady, before, errors.Join(err, context.Cause(ctx)))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (d *Devlxd) inherit(status admin.Status) error {
	pidfd, err := unix.PidfdOpen(status.PID, 0)
	if err != nil {
		return fmt.Errorf("%w: process %d: %w", ErrExited, status.PID, os.NewSyscallError("pidfd_open", err))
	}
	if d.heir != nil {
		d.heir.close()
	}
	d.heir = &heir{pidfd: pidfd}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pid = status.PID
	return nil
}

// heir is a server that took over from the one that was started here. It is no child of this process.
type heir struct{ pidfd int }

func (h *heir) close() { _ = unix.Close(h.pidfd) }

// stop ends it with SIGTERM, and with SIGKILL where that does not do.
func (h *heir) stop() error {
	defer h.close()
	for _, signal := range [...]unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(h.pidfd, signal, nil, 0); err != nil {
			return fmt.Errorf("%w: %w", ErrExited, os.NewSyscallError("pidfd_send_signal", err))
		}
		for end := time.Now().Add(stopTime); time.Now().Before(end); {
			fds := []unix.PollFd{{Fd: int32(h.pidfd), Events: unix.POLLIN}}
			if n, _ := unix.Poll(fds, 100); n > 0 {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: it does not end", ErrExited)
}
