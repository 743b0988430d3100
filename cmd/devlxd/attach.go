package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"devlxd/internal/lxdapi"
	"devlxd/source/discover"
)

// attachFlags are those of attach and detach.
type attachFlags struct {
	socket, profile, container, project string
	dryRun                              bool
	runDir                              *string
}

func (f *attachFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.socket, "socket", "", "socket of the LXD or Incus daemon (default: that of LXD_SOCKET, LXD_DIR, INCUS_SOCKET or INCUS_DIR, or where its packages have it)")
	cmd.Flags().StringVar(&f.profile, "profile", "default", "profile of the containers")
	cmd.Flags().StringVar(&f.container, "container", "", "one container, in place of a profile")
	cmd.Flags().StringVar(&f.project, "project", "default", "project of the profile or the container")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would be done, and do nothing")
	f.runDir = runDirFlag(cmd, "directory of the sockets")
	cmd.MarkFlagsMutuallyExclusive("profile", "container")
}

// newAttachCommand is "devlxd attach".
func newAttachCommand() *cobra.Command {
	var f attachFlags
	cmd := &cobra.Command{
		Use:   "attach [RUNTIME]",
		Short: "Put the guest socket into the containers of LXD or Incus in place of the daemon's own",
		Long: `Put RUN_DIR/guest at /dev/lxd of all containers of a profile, or of one container, of a
LXD or Incus daemon: security.devlxd (Incus: security.guestapi) becomes false, so that the
daemon's own guest API is gone from them, and a disk device "devlxd" is added. That is done in
two steps, since the daemon takes the topmost mount at /dev/lxd away when the key changes.
Running containers have it at once. The device remembers what the key was, so that "devlxd detach"
restores it. What is attached already is left as it is.

A container that sets the key or a device at /dev/lxd itself goes its own way: attach it
with --container. If the directory does not exist when a container starts, the container
starts without it: start devlxd before the daemon of the containers.

For RUNTIME lxc, nspawn or podman the line is printed that does the same there; these
have no daemon that could be asked.`,
		Example: "  devlxd attach --dry-run\n  devlxd attach --profile web\n  devlxd attach --container c1\n  devlxd attach podman",
		RunE: func(cmd *cobra.Command, args []string) error {
			guest, err := guestDir(*f.runDir)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				return printMount(cmd, args[0], guest)
			}
			return f.change(cmd, func(e *entry, key string) (plan, error) { return e.attach(key, guest) })
		},
	}
	f.bind(cmd)
	return cmd
}

// newDetachCommand is "devlxd detach".
func newDetachCommand() *cobra.Command {
	var f attachFlags
	cmd := &cobra.Command{
		Use:   "detach",
		Short: "Take the guest socket out of the containers again, and give them back what they had",
		Long: `Undo "devlxd attach": the device is removed, and security.devlxd (Incus: security.guestapi) is
what it was before. Running containers have the daemon's own guest API back at once, if
they had it. What is not attached is left as it is.`,
		Example: "  devlxd detach\n  devlxd detach --profile web --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := guestDir(*f.runDir); err != nil {
				return err
			}
			return f.change(cmd, (*entry).detach)
		},
	}
	f.bind(cmd)
	return cmd
}

// guestDir is the directory of the guest socket, as mounts name it.
func guestDir(runDir string) (string, error) {
	if err := checkRunDir(runDir); err != nil {
		return "", err
	}
	return filepath.Abs(filepath.Join(runDir, "guest"))
}

// printMount prints the line of a runtime that mounts the guest directory.
func printMount(cmd *cobra.Command, runtime, guest string) error {
	lines := map[string]string{
		discover.LXC.String():    "lxc.mount.entry = " + guest + " dev/lxd none bind,ro,create=dir 0 0",
		discover.Nspawn.String(): "--bind-ro=" + guest + ":/dev/lxd",
		discover.Podman.String(): "-v " + guest + ":/dev/lxd:ro",
	}
	line, ok := lines[runtime]
	if !ok {
		return usageError(fmt.Errorf("unknown runtime %q: use lxc, nspawn or podman, or none for LXD and Incus", runtime))
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), line)
	return err
}

// change reads a profile or container, plans, and carries the plan out. What somebody else has changed meanwhile is read once more.
func (f *attachFlags) change(cmd *cobra.Command, planned func(e *entry, key string) (plan, error)) error {
	socket := f.socket
	if socket == "" {
		var err error
		if socket, err = lxdapi.Locate(os.Getenv); err != nil {
			return fmt.Errorf("%w: give the socket of the daemon with --socket", err)
		}
	}
	c, ctx := lxdapi.New(socket, 1), cmd.Context()
	defer c.Close()
	key, err := guestKey(ctx, c)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		err := f.changeOnce(ctx, c, cmd.OutOrStdout(), key, planned)
		if !errors.Is(err, lxdapi.ErrChanged) || try == 3 {
			return err
		}
	}
}

func (f *attachFlags) changeOnce(ctx context.Context, c *lxdapi.Client, out io.Writer, key string, planned func(e *entry, key string) (plan, error)) error {
	e, err := f.read(ctx, c)
	if err != nil {
		return err
	}
	p, err := planned(e, key)
	if err != nil {
		return fmt.Errorf("%s: %w", e.what, err)
	}
	if len(p) == 0 {
		_, err := fmt.Fprintf(out, "%s: nothing to do\n", e.what)
		return err
	}
	if !f.dryRun {
		if err := e.carryOut(ctx, c, key, p); err != nil {
			return fmt.Errorf("%s: %w", e.what, err)
		}
	}
	would := ""
	if f.dryRun {
		would = "would "
	}
	for _, s := range p {
		if _, err := fmt.Fprintf(out, "%s: %s%s\n", e.what, would, s.text); err != nil {
			return err
		}
	}
	return nil
}

// guestKey asks which daemon it is, and names the key that closes its guest API.
func guestKey(ctx context.Context, c *lxdapi.Client) (string, error) {
	var server struct {
		Auth        string `json:"auth"`
		Environment struct {
			Server string `json:"server"`
		} `json:"environment"`
	}
	if _, err := c.Get(ctx, "/1.0", &server); err != nil {
		return "", err
	}
	if server.Auth != "trusted" {
		return "", errors.New("the daemon does not trust this user: run it as root")
	}
	if server.Environment.Server == lxdapi.Incus.String() {
		return lxdapi.Incus.GuestKey(), nil
	}
	return lxdapi.LXD.GuestKey(), nil
}

// read reads the profile or the container.
func (f *attachFlags) read(ctx context.Context, c *lxdapi.Client) (*entry, error) {
	project := url.Values{"project": {f.project}}
	e := &entry{what: "profile " + f.profile, path: lxdapi.Path(project, "profiles", f.profile)}
	if f.container != "" {
		e.what, e.path = "container "+f.container, lxdapi.Path(project, "instances", f.container)
	}
	var err error
	if e.etag, err = c.Get(ctx, e.path, &e.doc); errors.Is(err, lxdapi.ErrNotFound) {
		return nil, fmt.Errorf("%s is not there in project %s: %w", e.what, f.project, lxdapi.ErrNotFound)
	}
	return e, err
}
