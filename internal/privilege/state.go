package privilege

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// State is what a process holds.
type State struct {
	Capabilities []string // permitted or effective in any thread, by number: CAP_CHOWN first
	Bounding     []string // in the bounding set of any thread
	NoNewPrivs   bool     // set in all threads
}

// Of reads the state of a process from /proc/PID/task. Errors: that it cannot be read, as of a process that has ended.
func Of(pid int) (State, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return State{}, err
	}
	s := State{NoNewPrivs: true}
	var held, bound uint64
	read := 0
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return State{}, err
		}
		t, err := parseStatus(string(text))
		if err != nil {
			return State{}, fmt.Errorf("%s: %w", task, err)
		}
		read++
		held |= t.permitted | t.effective
		bound |= t.bounding
		s.NoNewPrivs = s.NoNewPrivs && t.noNewPrivs
	}
	if read == 0 {
		return State{}, fmt.Errorf("cannot read the privileges of process %d: %w", pid, fs.ErrNotExist)
	}
	s.Capabilities, s.Bounding = names(held), names(bound)
	return s, nil
}

// threadStatus is what a thread's status file (proc_pid_status(5)) says about privileges.
type threadStatus struct {
	permitted, effective, bounding uint64
	noNewPrivs                     bool
}

func parseStatus(text string) (threadStatus, error) {
	var t threadStatus
	numbers := map[string]*uint64{"CapPrm": &t.permitted, "CapEff": &t.effective, "CapBnd": &t.bounding}
	missing := len(numbers) + 1
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if key == "NoNewPrivs" {
			t.noNewPrivs = value == "1"
			missing--
		}
		number := numbers[key]
		if number == nil {
			continue
		}
		var err error
		if *number, err = strconv.ParseUint(value, 16, 64); err != nil {
			return threadStatus{}, fmt.Errorf("cannot read the line %q", strings.TrimSpace(line))
		}
		missing--
	}
	if missing > 0 {
		return threadStatus{}, errors.New("no capabilities and no_new_privs in it (Linux 4.10)")
	}
	return t, nil
}

// names lists a set, never as nil.
func names(set uint64) []string {
	list := []string{}
	for ; set != 0; set &= set - 1 {
		list = append(list, name(cap.Value(bits.TrailingZeros64(set))))
	}
	return list
}
