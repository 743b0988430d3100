package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"devlxd/peer"
)

// Recommended limits of a host with more than 4096 containers.
const (
	wantFiles     = 1 << 20 // LXD's production setup recommends the same
	wantSomaxconn = 4096
	wantPidMax    = 4 << 20 // makes a pid come back late, where pids still matter (before Linux 6.5)
)

// finding is one line of "devlxd doctor".
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// newDoctorCommand is "devlxd doctor".
func newDoctorCommand() *cobra.Command {
	var s settings
	var format *string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what this host can do for devlxd, and what is missing",
		Long: `Check the kernel's interfaces for the identification of peers, the limits of the
host and the sockets of a running daemon. Run it as the user that the daemon
runs as, normally root. Exits with 1 when something is missing that devlxd
cannot do without.`,
		Example: "  devlxd doctor\n  devlxd doctor -f json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := s.resolve(); err != nil {
				return err
			}
			findings, err := examine(s.value("run-dir"))
			if err != nil {
				return err
			}
			t := table{head: []string{"check", "ok", "detail"}}
			for _, f := range findings {
				t.add(f.Check, strconv.FormatBool(f.OK), f.Detail)
			}
			return t.print(cmd, *format)
		},
	}
	s.bind(cmd)
	format = formatFlag(cmd)
	return cmd
}

// examine gathers all findings. The error is a check that devlxd cannot do
// without; it is reported after the table.
func examine(runDir string) ([]finding, error) {
	var list []finding
	host, err := peer.Probe(peer.Options{})
	if err != nil {
		return nil, fmt.Errorf("cannot identify peers on this kernel: %w", err)
	}
	defer host.Close()
	list = append(list, finding{"identity level", host.Level() != peer.LevelNone, host.Level().String()})
	for _, c := range host.Checks() {
		list = append(list, finding{c.Name, c.OK, c.Detail})
	}
	list = append(list, checkFiles(),
		checkSysctl("net.core.somaxconn", wantSomaxconn, "connections that may wait while many containers boot"),
		checkSysctl("kernel.pid_max", wantPidMax, "a large number makes pids come back late; it matters before Linux 6.5"),
		checkSocket("guest socket", filepath.Join(runDir, "guest", "sock"), 0o666),
		checkSocket("admin socket", filepath.Join(runDir, "admin.sock"), 0o600))
	return list, nil
}

func checkFiles() finding {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return finding{"open files", false, err.Error()}
	}
	return finding{"open files", lim.Max >= wantFiles,
		fmt.Sprintf("hard limit %d, %d recommended: set LimitNOFILE= in the unit", lim.Max, wantFiles)}
}

func checkSysctl(name string, want int, why string) finding {
	data, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return finding{name, false, err.Error()}
	}
	have, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return finding{name, false, fmt.Sprintf("cannot read %q", data)}
	}
	return finding{name, have >= want, fmt.Sprintf("%d, %d recommended: %s", have, want, why)}
}

func checkSocket(name, path string, mode fs.FileMode) finding {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding{name, false, path + " does not exist: start 'devlxd serve'"}
	case err != nil:
		return finding{name, false, err.Error()}
	case info.Mode()&fs.ModeSocket == 0:
		return finding{name, false, path + " is not a socket: remove it"}
	case info.Mode().Perm() != mode:
		return finding{name, false, fmt.Sprintf("%s has mode %o, must be %o", path, info.Mode().Perm(), mode)}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return finding{name, false, err.Error()}
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return finding{name, false, fmt.Sprintf("%s: %v: no daemon answers there, start 'devlxd serve'", path, err)}
	}
	return finding{name, true, path}
}
