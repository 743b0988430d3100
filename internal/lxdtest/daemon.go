package lxdtest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// startTime bounds the wait for a daemon that is to be ready, and stopTime for one that is to end.
	startTime = 60 * time.Second
	stopTime  = 30 * time.Second
)

// DefaultProject is the project of instances that are in no other.
const DefaultProject = "default"

// Daemon is a running LXD or Incus.
type Daemon struct {
	T    testing.TB
	Kind Kind
	Dir  string

	// Image is the fingerprint of the image that containers are made from, and ImageSize its length in bytes.
	Image     string
	ImageSize int

	client *http.Client
	prefix string // of the names of containers
	cmd    *exec.Cmd
	exited chan error
}

// Start starts a daemon and sets it up. It is skipped where there is none, and ended with the test, with all its containers.
func Start(t testing.TB, k Kind) *Daemon {
	t.Helper()
	d := launch(t, k)
	d.setUp()
	return d
}

// launch starts a daemon that has nothing yet.
func launch(t testing.TB, k Kind) *Daemon {
	t.Helper()
	Need(t, k)
	dir, err := os.MkdirTemp(Dir(), k.String()+"*")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // containers' ids pass it
		t.Fatal(err)
	}
	d := &Daemon{T: t, Kind: k, Dir: dir, client: unixClient(filepath.Join(dir, "unix.socket"))}
	d.prefix = prefix(Dir()) + strings.TrimPrefix(filepath.Base(dir), k.String()) + "-"
	t.Cleanup(d.end)
	d.Launch()
	return d
}

// Socket is that of the daemon's API.
func (d *Daemon) Socket() string { return filepath.Join(d.Dir, "unix.socket") }

// Log is the daemon's log file.
func (d *Daemon) Log() string { return d.Dir + ".log" }

// Launch starts the daemon and waits until it is ready.
func (d *Daemon) Launch() {
	d.T.Helper()
	program, env := d.Kind.find()
	out, err := os.OpenFile(d.Dir+".out", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.T.Fatal(err)
	}
	defer out.Close()
	d.cmd = exec.Command(program, "--group", "root", "--logfile="+d.Log())
	d.cmd.Env = append(os.Environ(), append(env, d.Kind.dirVariable()+"="+d.Dir)...)
	d.cmd.Stdout, d.cmd.Stderr = out, out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := d.cmd.Start(); err != nil {
		d.T.Fatal(err)
	}
	d.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) { exited <- cmd.Wait() }(d.cmd, d.exited)
	for deadline := time.Now().Add(startTime); ; time.Sleep(20 * time.Millisecond) {
		if err = d.Call("GET", "/internal/ready", nil, nil); err == nil {
			return
		}
		select {
		case end := <-d.exited:
			d.cmd = nil
			d.T.Fatalf("%s ended: %v\n%s", d.Kind, end, d.tail())
		default:
		}
		if time.Now().After(deadline) {
			d.T.Fatalf("%s is not ready: %v\n%s", d.Kind, err, d.tail())
		}
	}
}

// setUp gives a new daemon what containers need.
func (d *Daemon) setUp() {
	d.T.Helper()
	d.Do("PATCH", "/1.0", map[string]any{"config": map[string]string{"images.auto_update_interval": "0"}}, nil)
	d.Do("POST", "/1.0/storage-pools", map[string]any{"name": "default", "driver": "dir"}, nil)
	d.Do("PUT", "/1.0/profiles/default", Profile{Devices: map[string]map[string]string{
		"root": {"type": "disk", "path": "/", "pool": "default"},
	}}, nil)
	image, err := imageTar()
	if err != nil {
		d.T.Fatal(err)
	}
	var imported struct{ Fingerprint string }
	d.Do("POST", "/1.0/images", image, &imported)
	d.Image, d.ImageSize = imported.Fingerprint, len(image)
}

// Stop ends the daemon as a restart for an upgrade does: containers keep running (SIGTERM).
func (d *Daemon) Stop() {
	d.T.Helper()
	if err := d.stop(unix.SIGTERM); err != nil {
		d.T.Fatal(err)
	}
}

// Kill ends the daemon as a crash does.
func (d *Daemon) Kill() {
	d.T.Helper()
	if err := d.stop(unix.SIGKILL); err != nil {
		d.T.Fatal(err)
	}
}

func (d *Daemon) stop(signal syscall.Signal) error {
	if d.cmd == nil {
		return nil
	}
	_ = d.cmd.Process.Signal(signal) // it may have ended by itself
	select {
	case <-d.exited: // how it ends says nothing: LXD exits with 1 when it is told to
		d.cmd = nil
		return nil
	case <-time.After(stopTime):
		_ = d.cmd.Process.Kill()
		<-d.exited
		d.cmd = nil
		return fmt.Errorf("%s did not end within %v of %v", d.Kind, stopTime, signal)
	}
}

// Alive says whether the daemon runs.
func (d *Daemon) Alive() bool {
	if d.cmd == nil {
		return false
	}
	select {
	case err := <-d.exited:
		d.exited <- err
		return false
	default:
		return true
	}
}

// end takes everything down, the daemon first, so that it does not start anything again.
func (d *Daemon) end() {
	if d.T.Failed() {
		d.T.Logf("the end of the log of %s:\n%s", d.Kind, d.tail())
	}
	if err := d.stop(unix.SIGKILL); err != nil {
		d.T.Error(err)
	}
	for _, pid := range d.monitors() {
		for _, child := range childrenOf(pid) {
			_ = unix.Kill(child, unix.SIGKILL) // it may end just now
		}
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	deadline := time.Now().Add(stopTime)
	for len(d.monitors()) > 0 {
		if time.Now().After(deadline) {
			d.T.Errorf("monitors of %s do not end: %v", d.Kind, d.monitors())
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	d.unmount()
}

// WaitFor polls until done returns "", and fails with what it returned last. For what happens on its own.
func WaitFor(ctx context.Context, t testing.TB, patience time.Duration, done func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		missing := done()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			t.Fatalf("after %v: %s", patience, missing)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
