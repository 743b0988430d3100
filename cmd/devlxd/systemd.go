package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sddaemon "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"devlxd/server"
)

// notifySystemd does nothing where systemd does not wait for us.
func notifySystemd(log *slog.Logger, state string) {
	if _, err := sddaemon.SdNotify(false, state); err != nil {
		log.Warn("cannot notify systemd", "error", err)
	}
}

// stateReloading says that the service is busy with itself until READY=1. Type=notify-reload wants to know since when (sd_notify(3)).
func stateReloading() string {
	return fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sddaemon.SdNotifyReloading, monotonic().Microseconds())
}

// stateSuccessor says that the service goes on as another process (MAINPID of sd_notify(3)), which may not answer the watchdog before.
func stateSuccessor(pid int) string {
	return fmt.Sprintf("MAINPID=%d\n%s\n%s", pid, sddaemon.SdNotifyReady, sddaemon.SdNotifyWatchdog)
}

// monotonic is the time of CLOCK_MONOTONIC, which all processes of a boot share.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // it never fails with these arguments
	}
	return time.Duration(t.Nano())
}

// Names of the sockets of a systemd socket unit (FileDescriptorName=).
const (
	fdNameGuest = "guest"
	fdNameAdmin = "admin"
)

// sockets are those that systemd passed, by their name.
type sockets map[string]*os.File

// inheritedSockets takes them over; a name that is not known is refused, for it
// is a mistake in the socket unit.
func inheritedSockets() (sockets, error) {
	named := make(sockets)
	for _, f := range activation.Files(true) {
		switch f.Name() {
		case fdNameGuest, fdNameAdmin, fdNameStored:
			named[f.Name()] = f
		default:
			named.close()
			return nil, fmt.Errorf("systemd passed a socket named %q: set FileDescriptorName=%s or %s in the socket unit", f.Name(), fdNameGuest, fdNameAdmin)
		}
	}
	return named, nil
}

// close gives the descriptors up; who serves a socket has a copy.
func (s sockets) close() {
	for _, f := range s {
		_ = f.Close()
	}
}

// fdNameStored is the name under which systemd's fd store keeps the guest socket.
const fdNameStored = "stored-guest"

// canStore reports whether systemd keeps descriptors for the service (FileDescriptorStoreMax=). It says so from version 254 on; for older ones
// the unit does.
func canStore() bool {
	n, err := strconv.Atoi(os.Getenv("FDSTORE"))
	return err == nil && n > 0 && os.Getenv("NOTIFY_SOCKET") != ""
}

// storeSocket gives systemd a descriptor of the guest socket to keep, in place of any that it has, so that clients which connect while the
// service is being restarted, after a crash too, wait in its backlog.
func storeSocket(f *os.File) error {
	if _, err := sddaemon.SdNotify(false, "FDSTOREREMOVE=1\nFDNAME="+fdNameStored); err != nil {
		return err
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"})
	if err != nil {
		return err
	}
	// Not WriteMsgUnix, which takes no connected datagram socket.
	raw, err := conn.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(fd uintptr) {
			err = unix.Sendmsg(int(fd), []byte("FDSTORE=1\nFDNAME="+fdNameStored), unix.UnixRights(int(f.Fd())), nil, unix.MSG_NOSIGNAL)
		})
		err = errors.Join(err, cerr)
	}
	return errors.Join(err, conn.Close())
}

// checkStored leaves a guest socket of the fd store alone that guests cannot reach any more, because its file is gone or replaced.
func (d *daemon) checkStored(inherited sockets) {
	f := inherited[fdNameStored]
	if f == nil {
		return
	}
	there, err := server.IsSocketAt(f, d.GuestSocket())
	if err != nil {
		// Without the permission to ask, what systemd gives by this name is believed to be there if a socket is.
		info, statErr := os.Lstat(d.GuestSocket())
		there = statErr == nil && info.Mode()&fs.ModeSocket != 0
	}
	if !there {
		d.cfg.Log.Info("the guest socket that systemd kept is not in the run directory any more; making another one")
		_ = f.Close()
		delete(inherited, fdNameStored)
	}
}
