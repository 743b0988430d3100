package target

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"

	"devlxd/admin"
	"devlxd/admin/client"
)

// registrars is how many containers are registered at once: enough that the admin API is never idle, few enough that its limit on
// connections is far.
const registrars = 4

// The quotas of a daemon that is started here, unless the environment says otherwise. A few emulated containers ask as much as a whole host
// does; what the quotas cost is measured, so they are there, and only out of reach. A variable, so that older binaries start as well.
const (
	limitsEnv = "DEVLXD_LIMITS"
	limits    = "connections=1000000,subscribers=1000000,requests=1000000000,bytes=1000000000,images=1000000"
)

// Devlxd is a devlxd daemon.
type Devlxd struct {
	name    string
	socket  string
	admin   *client.Client
	metrics *http.Client
	pid     int

	// Of a daemon that was started here.
	binary string
	quotas bool
	dir    *workDir
	proc   *process
	heir   *heir // that took over from proc; nil: none has

	mu     sync.Mutex
	added  map[string]bool // containers to be removed from a daemon that was found
	images []string
}

var (
	_ Remover  = (*Devlxd)(nil)
	_ Upgrader = (*Devlxd)(nil)
	_ Changer  = (*Devlxd)(nil)
)

// Options say which daemon is started.
type Options struct {
	Binary string // "" looks for one, see [FindDevlxd]
	Quotas bool   // the default quotas hold; else they are out of reach
}

// StartDevlxd starts a daemon of its own on a temporary store.
func StartDevlxd(ctx context.Context, o Options) (*Devlxd, error) {
	binary := o.Binary
	dir, err := newWorkDir()
	if err != nil {
		return nil, err
	}
	if binary == "" {
		if binary, err = FindDevlxd(ctx, dir.path); err != nil {
			return nil, errors.Join(err, dir.remove())
		}
	}
	d := newDevlxd(filepath.Join(dir.path, "run"))
	d.binary, d.dir, d.quotas = binary, dir, o.Quotas
	if err := d.start(ctx); err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	return d, nil
}

func newDevlxd(runDir string) *Devlxd {
	adminSocket := filepath.Join(runDir, admin.SocketName)
	return &Devlxd{
		name: "devlxd", socket: filepath.Join(runDir, "guest", "sock"),
		admin: client.New(adminSocket), metrics: unixClient(adminSocket), added: make(map[string]bool),
	}
}

func (d *Devlxd) start(ctx context.Context) (err error) {
	cmd := exec.Command(d.binary, "serve", "--run-dir", filepath.Join(d.dir.path, "run"),
		"--state-dir", filepath.Join(d.dir.path, "state"), "--metrics", "off")
	if !d.quotas && os.Getenv(limitsEnv) == "" {
		cmd.Env = append(os.Environ(), limitsEnv+"="+limits)
	}
	d.proc, err = startProcess(cmd)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.pid = d.proc.cmd.Process.Pid
	d.mu.Unlock()
	if err := d.proc.awaitSocket(ctx, d.socket); err != nil {
		return errors.Join(err, d.proc.stop())
	}
	return nil
}

// FindDevlxd finds a devlxd binary: beside this program, on the PATH, or, when this program runs in the project's checkout, built from
// it into dir.
func FindDevlxd(ctx context.Context, dir string) (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "devlxd")
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	if path, err := exec.LookPath("devlxd"); err == nil {
		return path, nil
	}
	built := filepath.Join(dir, "devlxd")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", built, "devlxd/cmd/devlxd").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w (go build: %v %s)", ErrNoBinary, err, out)
	}
	return built, nil
}

// FindDaemon uses a devlxd daemon that runs already.
func FindDaemon(ctx context.Context, runDir string) (*Devlxd, error) {
	d := newDevlxd(runDir)
	status, err := d.admin.Status(ctx)
	if err != nil {
		return nil, err
	}
	d.pid, d.socket = status.PID, status.GuestSocket
	return d, nil
}

// Name implements Target.
func (d *Devlxd) Name() string { return d.name }

// Socket implements Target.
func (d *Devlxd) Socket() string { return d.socket }

// PID implements Target.
func (d *Devlxd) PID() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pid
}

// Features implements Target.
func (d *Devlxd) Features() Feature { return Identity | Routes | Events | Images | Lifecycle }

// Register implements Target.
func (d *Devlxd) Register(ctx context.Context, containers []Container, done func(int)) error {
	err := parallel(ctx, len(containers), done, func(ctx context.Context, i int) error {
		c := &containers[i]
		return d.admin.AddContainer(ctx, admin.ContainersPost{
			Name: c.Name, PID: c.PID, Config: withImages(c.Config), Devices: map[string]map[string]string{"root": {"type": "disk", "path": "/"}},
		})
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range containers {
		d.added[containers[i].Name] = true
	}
	return err
}

// withImages lets a container export images.
func withImages(config map[string]string) map[string]string {
	all := map[string]string{"security.devlxd.images": "true"}
	for key, value := range config {
		all[key] = value
	}
	return all
}

// parallel runs f for 0 to n-1 from several goroutines, until one fails.
func parallel(ctx context.Context, n int, done func(int), f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var next, finished int
	var wg sync.WaitGroup
	for range min(registrars, n) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= n || ctx.Err() != nil {
					return
				}
				if err := f(ctx, i); err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				finished++
				if done != nil {
					done(finished)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// Set implements Target.
func (d *Devlxd) Set(ctx context.Context, container, key, value string) error {
	return d.admin.UpdateConfig(ctx, container, admin.Change{Set: map[string]string{key: value}})
}

// Change implements Changer.
func (d *Devlxd) Change(ctx context.Context, container string, set map[string]string, unset []string) error {
	return d.admin.UpdateConfig(ctx, container, admin.Change{Set: set, Unset: unset})
}

// Bind implements Target.
func (d *Devlxd) Bind(ctx context.Context, container string, pid int) error {
	return d.admin.Bind(ctx, container, admin.BindPost{PID: pid})
}

// Remove implements Remover.
func (d *Devlxd) Remove(ctx context.Context, container string) error {
	if err := d.admin.RemoveContainer(ctx, container); err != nil && !client.IsNotFound(err) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.added, container)
	return nil
}

// Image implements Target.
func (d *Devlxd) Image(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	image, err := d.admin.ImportImage(ctx, f, nil, client.ImageOptions{Public: true})
	if err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.images = append(d.images, image.Fingerprint)
	return image.Fingerprint, nil
}

// Counters implements Target.
func (d *Devlxd) Counters(ctx context.Context) (map[string]float64, error) {
	return scrape(ctx, d.metrics, "http://devlxd/metrics")
}

// Restart implements Target. The daemon finds its containers again in the store.
func (d *Devlxd) Restart(ctx context.Context) error {
	if d.proc == nil || d.heir != nil {
		return ErrUnsupported
	}
	if err := d.proc.stop(); err != nil {
		return err
	}
	return d.start(ctx)
}

// Close implements Target.
func (d *Devlxd) Close() error {
	d.metrics.CloseIdleConnections()
	if d.heir != nil {
		return errors.Join(d.heir.stop(), d.dir.remove())
	}
	if d.proc != nil {
		return errors.Join(d.proc.stop(), d.dir.remove())
	}
	ctx := context.Background()
	added := slices.Collect(maps.Keys(d.added))
	err := parallel(ctx, len(added), nil, func(ctx context.Context, i int) error {
		if err := d.admin.RemoveContainer(ctx, added[i]); err != nil && !client.IsNotFound(err) {
			return err
		}
		return nil
	})
	for _, fingerprint := range d.images {
		err = errors.Join(err, d.admin.RemoveImage(ctx, fingerprint))
	}
	return err
}
