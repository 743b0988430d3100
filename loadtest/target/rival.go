package target

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"devlxd/bench/rival"
)

// Rival is a server that devlxd is compared with, in a process of its own: this program again, with the command "rival".
type Rival struct {
	kind    rival.Kind
	socket  string
	dir     *workDir
	proc    *process
	control io.Closer
	client  *rival.Client
}

var _ Target = (*Rival)(nil)

// StartRival starts a rival.
func StartRival(ctx context.Context, kind rival.Kind) (*Rival, error) {
	dir, err := newWorkDir()
	if err != nil {
		return nil, err
	}
	r := &Rival{kind: kind, socket: filepath.Join(dir.path, "sock"), dir: dir}
	cmd := exec.Command(programPath(), "rival", string(kind), r.socket)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, stdin.Close(), dir.remove())
	}
	r.control, r.client = stdin, rival.NewClient(stdin, stdout)
	if r.proc, err = startProcess(cmd); err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	if err := r.proc.awaitSocket(ctx, r.socket); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Name implements Target.
func (r *Rival) Name() string { return string(r.kind) }

// Socket implements Target.
func (r *Rival) Socket() string { return r.socket }

// PID implements Target.
func (r *Rival) PID() int { return r.proc.cmd.Process.Pid }

// Features implements Target.
func (r *Rival) Features() Feature {
	var f Feature
	for feature, has := range map[Feature]bool{
		Identity: r.kind.Identity(), Routes: r.kind.Routes(), Events: r.kind.Events(), Images: r.kind.Images(),
	} {
		if has {
			f |= feature
		}
	}
	return f
}

// Register implements Target.
func (r *Rival) Register(_ context.Context, containers []Container, done func(int)) error {
	list := make([]rival.Container, len(containers))
	for i, c := range containers {
		list[i] = rival.Container{Name: c.Name, PID: c.PID, Config: withImages(c.Config)}
	}
	err := r.client.Register(list)
	done(len(list))
	return err
}

// Set implements Target.
func (r *Rival) Set(_ context.Context, container, key, value string) error {
	return r.client.Set(container, key, value)
}

// Bind implements Target.
func (r *Rival) Bind(context.Context, string, int) error { return ErrUnsupported }

// Image implements Target.
func (r *Rival) Image(_ context.Context, path string) (string, error) {
	// The path as the rival's process sees it.
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return r.client.Image(path)
}

// Counters implements Target.
func (r *Rival) Counters(context.Context) (map[string]float64, error) { return nil, nil }

// Restart implements Target.
func (r *Rival) Restart(context.Context) error { return ErrUnsupported }

// Close implements Target: the end of its input is the rival's sign to end.
func (r *Rival) Close() error {
	err := r.control.Close()
	if errors.Is(err, os.ErrClosed) { // it has ended by itself
		err = nil
	}
	return errors.Join(err, r.proc.await(), r.dir.remove())
}
