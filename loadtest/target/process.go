package target

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	// startTime is how long a server may take until its socket is there.
	startTime = 30 * time.Second
	// stopTime is how long a server may take to end after SIGTERM.
	stopTime = 15 * time.Second
)

// process is a server that was started here.
type process struct {
	cmd    *exec.Cmd
	log    *tail
	exited chan struct{} // closed when it has ended
	err    error         // of its end, after exited
}

// startProcess starts a command that ends with this process, however that ends.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, log: &tail{}, exited: make(chan struct{})}
	cmd.Stderr = p.log
	// SIGKILL is what is left when this process cannot clean up any more. The signal is bound to the thread that starts the
	// command (PR_SET_PDEATHSIG(2const)), so that thread waits for it too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// awaitSocket returns when the socket takes connections.
func (p *process) awaitSocket(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%w: %v: %s", ErrExited, p.err, p.log.last())
		case <-ctx.Done():
			return fmt.Errorf("%w: %v: %s", ErrNotReady, err, p.log.last())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends the process with SIGTERM.
func (p *process) stop() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%w: %v: %s", ErrExited, p.err, p.log.last())
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.await()
}

// await waits for a process that was told to end, and kills it if it does not.
func (p *process) await() error {
	select {
	case <-p.exited:
	case <-time.After(stopTime):
		_ = p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("server did not end within %v and was killed: %s", stopTime, p.log.last())
	}
	return nil
}

// tail keeps the end of what a server says.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailLen = 4096

var _ io.Writer = (*tail)(nil)

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if len(t.b) > 2*tailLen {
		t.b = append(t.b[:0], t.b[len(t.b)-tailLen:]...)
	}
	return len(b), nil
}

// last is the last line.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := bytes.TrimSpace(t.b)
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}

// programPath is how this program starts itself again; the path stays valid when the file is replaced meanwhile.
func programPath() string { return fmt.Sprintf("/proc/%d/exe", os.Getpid()) }
