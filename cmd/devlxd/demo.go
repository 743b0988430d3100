package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"devlxd/internal/demo"
	"devlxd/server"
)

// demoDrainTime is how long connections may take to end when the demo does.
const demoDrainTime = 2 * time.Second

// maxTempDir keeps TMPDIR/devlxd-demo-NUMBER/run/guest/sock, and the name that it is
// bound under first, within the 107 bytes of a socket's path (unix(7)).
const maxTempDir = 40

// newDemoCommand is "devlxd demo".
func newDemoCommand() *cobra.Command {
	var keep bool
	var dialect string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the guest API with three real containers, and check each answer",
		Long: `Start a server in a temporary directory and three containers of namespaces, and
show from inside of them what the guest API answers. Each answer is checked; the
first one that is wrong ends the demo with exit code 1. Nothing is left behind.

It needs no image, no network, and no root where the host allows unprivileged user
namespaces; as root it shows a little more.`,
		Example: "  devlxd demo\n  devlxd demo --dialect lxd\n  devlxd demo --keep",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := server.ParseDialect(dialect)
			if err != nil {
				return usageError(fmt.Errorf("--dialect: %w", err))
			}
			return runDemo(cmd, d, keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the server and the containers running until Ctrl-C")
	cmd.Flags().StringVar(&dialect, "dialect", server.DialectDocument.String(), "whose bodies and texts guests see: document, lxd or incus")
	return cmd
}

// runDemo shows the tour and takes everything away again, also on a signal.
func runDemo(cmd *cobra.Command, dialect server.Dialect, keep bool) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	// A reader that goes away, as in "devlxd demo | head", must not cost the clean-up. The
	// signal is caught and not ignored, which the containers would inherit.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	dir, err := demoDir()
	if err != nil {
		return fmt.Errorf("cannot make a temporary directory: %w; set TMPDIR to one that is writable", err)
	}
	d := &demoRun{cmd: cmd, dir: dir, keep: keep}
	err = d.show(ctx, dialect)
	interrupted := ctx.Err() != nil
	stop() // a second signal kills at once
	if cerr := d.close(); cerr != nil {
		return errors.Join(err, fmt.Errorf("cannot clean up: %w", cerr))
	}
	switch {
	case errors.Is(err, context.Canceled) && interrupted:
		return errors.New("interrupted; everything was removed")
	case err != nil:
		return err
	}
	return d.tour.Summary("the server, the containers and the files are gone")
}

// demoDir makes the directory for everything. The containers' own users pass it to reach
// the guest socket, and can list nothing.
func demoDir() (string, error) {
	base := os.TempDir()
	if len(base) > maxTempDir {
		base = "/tmp"
	}
	dir, err := os.MkdirTemp(base, "devlxd-demo-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

// demoRun is one demo: a directory, a daemon in it and a tour of that.
type demoRun struct {
	cmd    *cobra.Command
	dir    string
	keep   bool
	log    *os.File
	daemon *daemon
	tour   *demo.Tour
}

func (r *demoRun) runDir() string { return filepath.Join(r.dir, "run") }

func (r *demoRun) show(ctx context.Context, dialect server.Dialect) (err error) {
	if r.log, err = os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	r.daemon, err = startDaemon(ctx, daemonConfig{
		RunDir: r.runDir(), StateDir: filepath.Join(r.dir, "state"), Metrics: "off", Dialect: dialect,
		Log: slog.New(slog.NewTextHandler(r.log, nil)),
	})
	if err != nil {
		return err
	}
	out := r.cmd.OutOrStdout()
	r.tour, err = demo.New(demo.Options{
		RunDir: r.runDir(), Dialect: dialect.String(), Command: r.command, Out: out, Style: demo.StyleOf(os.Stdout),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if err := r.daemon.Wait(ctx); err != nil {
			cancel(fmt.Errorf("the server failed: %w", err))
		}
	}()
	defer func() {
		cancel(nil)
		<-watched
	}()
	if err := r.tour.Run(ctx); err != nil || !r.keep {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	if err := r.tour.Play(program); err != nil {
		return err
	}
	fmt.Fprintf(out, "   The server writes its log to %s.\n", r.log.Name())
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// command runs a command line of devlxd in this process.
func (r *demoRun) command(ctx context.Context, args ...string) (string, error) {
	var out strings.Builder
	root := newRootCommand()
	root.SetArgs(append(args, "--run-dir", r.runDir()))
	root.SetOut(&out)
	if err := root.ExecuteContext(ctx); err != nil {
		return "", fmt.Errorf("devlxd %s: %w", strings.Join(args, " "), err)
	}
	return out.String(), nil
}

// close ends what show started, in the opposite order.
func (r *demoRun) close() error {
	var errs []error
	if r.tour != nil {
		errs = append(errs, r.tour.Close())
	}
	if r.daemon != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.cmd.Context()), demoDrainTime)
		defer cancel()
		errs = append(errs, r.daemon.Shutdown(ctx))
	}
	if r.log != nil {
		errs = append(errs, r.log.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(r.dir))...)
}
