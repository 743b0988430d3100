package admin

import "time"

// Status answers GET /1.0/status: the state of the daemon at one moment. The
// server fills it through [Options.Status]; this package only adds Ready when
// a [Options.Ready] is given.
type Status struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	PID      int    `json:"pid"`
	// Started is when the process began to serve, and Uptime the whole seconds
	// since.
	Started time.Time `json:"started"`
	Uptime  int64     `json:"uptime_seconds"`
	// TakenOver says from whom the process has taken over in an upgrade; nil: it was started.
	TakenOver *TakenOver `json:"taken_over,omitempty"`
	// Health says whether anything is wrong.
	Health Health `json:"health"`
	// Ready says that the first full load of containers is done and guests
	// are being served.
	Ready    bool   `json:"ready"`
	Dialect  string `json:"dialect"`
	RunDir   string `json:"run_dir"`
	StateDir string `json:"state_dir"`
	// Mirror describes the daemon that containers come from; nil: they come from the embedded store.
	Mirror *Mirror `json:"mirror,omitempty"`
	// Config says which settings are in effect.
	Config Config `json:"config"`
	// GuestSocket is the path of the socket that guests connect to.
	GuestSocket string   `json:"guest_socket"`
	Identity    Identity `json:"identity"`
	// Privileges is what the daemon's process holds now.
	Privileges Privileges `json:"privileges"`
	// Loops is the number of event loops, and LoopConnections how many
	// connections each of them holds. Connections that were accepted and have
	// yet to reach their loop are in Connections alone.
	Loops           int   `json:"loops"`
	LoopConnections []int `json:"loop_connections,omitempty"`
	Connections     int   `json:"connections"`
	// Subscribers counts the connections that wait for events.
	Subscribers int `json:"subscribers"`
	// Containers are known, Bound of them are running.
	Containers int `json:"containers"`
	Bound      int `json:"bound"`
	Images     int `json:"images"`
	// The counters below only grow while the process lives.
	Accepted        uint64 `json:"accepted"`
	Refused         uint64 `json:"refused"`
	Requests        uint64 `json:"requests"`
	EventsPublished uint64 `json:"events_published"`
	EventsDelivered uint64 `json:"events_delivered"`
	SlowReaders     uint64 `json:"slow_readers"`
}

// Identity says how the server tells one container from another on this
// kernel.
type Identity struct {
	// Level is the name of the best method that the start-up probe found.
	Level string `json:"level"`
	// Checks are the findings of that probe.
	Checks []Check `json:"checks"`
}

// Check is one finding of the start-up probe.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// TakenOver describes the upgrade by which a process began to serve.
type TakenOver struct {
	// At is when, and Pause for how many milliseconds no guest was served.
	At    time.Time `json:"at"`
	Pause float64   `json:"pause_ms"`
	// PID and Version are those of the predecessor.
	PID     int    `json:"pid"`
	Version string `json:"version"`
	// Connections is how many were taken over.
	Connections int `json:"connections"`
}

// Config describes the settings of the daemon.
type Config struct {
	// File is the configuration file that was read; "": there is none.
	File string `json:"file,omitempty"`
	// Loaded is when the settings were read last without a mistake.
	Loaded time.Time `json:"loaded"`
	// Error is what was wrong when they were read after that: those of before are in effect.
	Error string `json:"error,omitempty"`
}

// Mirror is what is known of a LXD or Incus daemon that is mirrored.
type Mirror struct {
	// Source is the daemon as --source names it, and Socket where it was connected to last.
	Source string `json:"source"`
	Socket string `json:"socket"`
	// Server and Version are what it says of itself.
	Server  string `json:"server"`
	Version string `json:"version"`
	// Connected says that its changes are followed, and Age for how many seconds they were not: guests are served the state of then.
	Connected bool    `json:"connected"`
	Age       float64 `json:"age_seconds"`
	// Error is why it is not connected.
	Error string `json:"error,omitempty"`
	// Lost counts the connections that were lost.
	Lost uint64 `json:"lost"`
	// Pending is how much is to be read because it has changed.
	Pending int `json:"pending"`
	// Broken is how much could not be mirrored in several tries, and BrokenError why, of one of them.
	Broken      int    `json:"broken"`
	BrokenError string `json:"broken_error,omitempty"`
}

// Privileges are those of the process, all threads together.
type Privileges struct {
	// Capabilities are the names of the permitted and effective ones, such as CAP_SYS_PTRACE.
	Capabilities []string `json:"capabilities"`
	// NoNewPrivs says that none can be gained by starting a program (PR_SET_NO_NEW_PRIVS).
	NoNewPrivs bool `json:"no_new_privs"`
}
