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

// Results of a check.
const (
	resultOK      = "ok"
	resultWarning = "warning"
	resultFailed  = "failed"
)

// finding is one line of "devlxd doctor".
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Result string `json:"result"`
	Detail string `json:"detail"`
}

// found makes a finding of a check that devlxd can do without.
func found(check string, ok bool, detail string) finding {
	if !ok {
		return finding{check, false, resultWarning, detail}
	}
	return finding{check, true, resultOK, detail}
}

// fatal makes a finding of something that devlxd cannot work with.
func fatal(check, detail string) finding { return finding{check, false, resultFailed, detail} }

// newDoctorCommand is "devlxd doctor".
func newDoctorCommand() *cobra.Command {
	var o options
	var format *string
	var sample int
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what this host can do for devlxd, and what is missing",
		Long: `Check the kernel's interfaces for the identification of peers, the limits of the
host, the clock, the sockets and limits of a running daemon, and whether the containers
have its guest directory at /dev/lxd, by looking into some of them. Run it as the user that the daemon
runs as, normally root.

Each check ends with one of these results:

  ok       nothing to do
  warning  devlxd works, but less well: the detail says what is lost or what to do;
           that no daemon runs is a warning too, and so are low limits
  failed   devlxd cannot do its work: no peer can be identified here, or something
           that is wrong is in the place of a socket

It exits with 1 when a check failed, and with 0 otherwise.`,
		Example: "  devlxd doctor\n  devlxd doctor -f json | jq '.[] | select(.ok | not)'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := o.load()
			if err != nil {
				return err
			}
			if sample < 0 {
				return usageError(fmt.Errorf("--sample: %d is negative: give a number of containers", sample))
			}
			runDir := l.Values.Get("run-dir").Text
			return report(cmd, *format, append(examine(runDir), askDaemon(cmd.Context(), runDir, sample)...))
		},
	}
	o.bind(cmd)
	cmd.Flags().IntVar(&sample, "sample", sampleSize, "into how many running containers to look for the mount of the guest directory")
	format = formatFlag(cmd, formatTable)
	return cmd
}

// report prints the findings, and returns an error if one of them is failed.
func report(cmd *cobra.Command, format string, findings []finding) error {
	t := &table{head: []string{"check", "result", "detail"}}
	var failed []string
	for _, f := range findings {
		t.add(f.Check, f.Result, f.Detail)
		if f.Result == resultFailed {
			failed = append(failed, f.Check+": "+f.Detail)
		}
	}
	if err := show(cmd, format, findings, t); err != nil {
		return err
	}
	if len(failed) > 0 {
		return fmt.Errorf("cannot work here until this is mended: %s", strings.Join(failed, "; "))
	}
	return nil
}

// examine gathers all findings.
func examine(runDir string) []finding {
	list := append(checkIdentity(), ownPrivileges(), checkFiles(),
		checkSysctl("net.core.somaxconn", wantSomaxconn, "connections that may wait while many containers boot"),
		checkSysctl("kernel.pid_max", wantPidMax, "a large number makes pids come back late; it matters before Linux 6.5"))
	list = append(append(list, checkInotify()...), checkClock())
	return append(list,
		checkSocket("guest socket", filepath.Join(runDir, "guest", "sock"), 0o666),
		checkSocket("admin socket", filepath.Join(runDir, "admin.sock"), 0o600))
}

// checkIdentity asks what the daemon asks when it starts. Only the sum of it, the level, is required: each other check
// that is not OK makes the level lower or one kind of container unknown, and its detail says so.
func checkIdentity() []finding {
	const level = "identity level"
	host, err := peer.Probe(peer.Options{})
	if err != nil {
		return []finding{fatal(level, err.Error())}
	}
	defer host.Close()
	list := []finding{found(level, true, host.Level().String())}
	if host.Level() == peer.LevelNone {
		list[0] = fatal(level, "no peer can be identified: the checks that follow say why")
	}
	for _, c := range host.Checks() {
		if c.Name != "level" { // said above
			list = append(list, found(c.Name, c.OK, c.Detail))
		}
	}
	return list
}

func checkFiles() finding {
	const check = "open files"
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return found(check, false, err.Error())
	}
	return found(check, lim.Max >= wantFiles, fmt.Sprintf("hard limit %d, %d recommended: set LimitNOFILE= in the unit", lim.Max, wantFiles))
}

func checkSysctl(name string, want int, why string) finding {
	data, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return found(name, false, err.Error())
	}
	have, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return found(name, false, fmt.Sprintf("cannot read %q", data))
	}
	return found(name, have >= want, fmt.Sprintf("%d, %d recommended: %s", have, want, why))
}

// checkSocket looks at a socket of the daemon. That nobody serves it is a warning, for doctor is run before the daemon is;
// anything that guests or the operator would stumble over while it is served is a failure.
func checkSocket(name, path string, mode fs.FileMode) finding {
	denied := found(name, false, path+": permission denied: run doctor as the user of the daemon")
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return found(name, false, path+" does not exist: start 'devlxd serve'")
	case errors.Is(err, fs.ErrPermission):
		return denied
	case err != nil:
		return found(name, false, err.Error())
	case info.Mode()&fs.ModeSocket == 0:
		return fatal(name, path+" is not a socket: remove it")
	}
	err = connect(path)
	switch has := info.Mode().Perm(); {
	case errors.Is(err, unix.ECONNREFUSED):
		return found(name, false, path+": nobody answers: start 'devlxd serve'")
	case has != mode:
		return fatal(name, fmt.Sprintf("%s has mode %#o and must have %#o: restart 'devlxd serve'", path, has, mode))
	case errors.Is(err, fs.ErrPermission):
		return denied
	case err != nil:
		return found(name, false, fmt.Sprintf("%s: %v", path, err))
	}
	return found(name, true, path)
}

// connect tries whether somebody serves a socket.
func connect(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}
