package discover

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Bounds of the search for an init process, since a guest can make any number of cgroups and processes.
const (
	maxLookedAt = 1024 // processes
	maxCgroups  = 256
)

// process is what is known of one.
type process struct {
	pid    int
	parent int
	ns     []int // its pid in each namespace from that of procs downwards
}

// isInit tells whether it is process 1 of a pid namespace just below that of procs.
func (p process) isInit() bool { return len(p.ns) == 2 && p.ns[1] == 1 }

// procs reads proc(5). Safe for concurrent use.
type procs struct {
	dir string // "/proc", of the pid namespace of the daemon
}

// read reads /proc/PID/status.
func (p *procs) read(pid int) (process, error) {
	text, err := os.ReadFile(path.Join(p.dir, strconv.Itoa(pid), "status"))
	if err != nil {
		return process{}, err
	}
	found := process{pid: pid}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "PPid":
			found.parent, _ = strconv.Atoi(strings.TrimSpace(value))
		case "NSpid":
			for _, f := range strings.Fields(value) {
				n, err := strconv.Atoi(f)
				if err != nil {
					return process{}, err
				}
				found.ns = append(found.ns, n)
			}
		}
	}
	return found, nil
}

// args reads /proc/PID/cmdline.
func (p *procs) args(pid int) ([]string, error) {
	text, err := os.ReadFile(path.Join(p.dir, strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimRight(string(text), "\x00"), "\x00"), nil
}

// cgroup is the path of a process in the cgroup v2 tree, with a leading "/".
func (p *procs) cgroup(pid int) (string, error) {
	text, err := os.ReadFile(path.Join(p.dir, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if dir, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(dir, "\n"), nil
		}
	}
	return "", errEmpty
}

// findInit finds the init process of the container in the cgroup dir. Errors: errEmpty, errNoInit, or one of a system call.
func findInit(tree *os.Root, p *procs, dir string) (process, error) {
	s := search{tree: tree, procs: p, seen: make(map[int]bool)}
	dirs := []string{dir}
	for n := 0; len(dirs) > 0 && n < maxCgroups; n++ {
		at := dirs[0]
		pids, err := pidsIn(tree, at)
		if err != nil {
			return process{}, err
		}
		for _, pid := range pids {
			if init, ok := s.up(pid); ok {
				return init, nil
			}
		}
		dirs = append(dirs[1:], subdirs(tree, at)...)
	}
	if len(s.seen) == 0 {
		return process{}, errEmpty
	}
	return process{}, errNoInit
}

type search struct {
	tree  *os.Root
	procs *procs
	seen  map[int]bool
}

// up goes from a process to its parents until one is an init. A process that lxc-attach or "podman exec" has started has its
// parent on the host and leads nowhere.
func (s *search) up(pid int) (process, bool) {
	for pid > 1 && !s.seen[pid] && len(s.seen) < maxLookedAt {
		s.seen[pid] = true
		p, err := s.procs.read(pid)
		if err != nil || len(p.ns) < 2 {
			return process{}, false
		}
		if p.isInit() {
			return p, true
		}
		pid = p.parent
	}
	return process{}, false
}

// pidsIn reads cgroup.procs. A threaded cgroup has none of its own (EOPNOTSUPP), and one that was removed none any more.
func pidsIn(tree *os.Root, dir string) ([]int, error) {
	f, err := tree.Open(below(dir, "cgroup.procs"))
	if err != nil {
		return nil, missing(err)
	}
	defer f.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(f); err != nil {
		return nil, missing(err)
	}
	var pids []int
	for _, field := range bytes.Fields(text.Bytes()) {
		if pid, err := strconv.Atoi(string(field)); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// subdirs lists the cgroups in one; none when it is gone.
func subdirs(tree *os.Root, dir string) []string {
	f, err := tree.Open(orDot(dir))
	if err != nil {
		return nil
	}
	defer f.Close()
	entries, _ := f.ReadDir(-1)
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, below(dir, e.Name()))
		}
	}
	slices.Sort(dirs) // so that of two with the same name it is always the same one
	return dirs
}

// orDot is the path of a cgroup as os.Root takes it.
func orDot(dir string) string {
	if dir == "" {
		return "."
	}
	return dir
}

// missing takes the errors of a cgroup that is gone for none.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoDevice) || errors.Is(err, errNotDomain) {
		return nil
	}
	return err
}
