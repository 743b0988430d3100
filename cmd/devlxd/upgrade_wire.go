package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"devlxd/internal/fdpass"
	"devlxd/server"
)

// upgradeVariable tells a process that it is started to take over, and which descriptor is the connection to its predecessor.
const upgradeVariable = "DEVLXD_UPGRADE_FD"

// The steps of an upgrade that are not the server's own, in their order. Those are JSON, so that two versions understand at least
// that they do not fit.
const (
	stepGreeting uint16 = iota + 1 // both ways, the new process first: greeting
	stepPrepared                   // the new process is ready to load the containers
	stepLoad                       // the store is free, or, as a descriptor, what a mirror has published
	stepLoaded                     // they are loaded and its containers are bound; the server's messages follow
	stepReady                      // everything is there and nothing is served yet
	stepCommit                     // the old process will never touch it again
	stepServing                    // the new one serves: serving
	stepRefusal                    // in place of any of the new process's steps: refusal
)

// upgradeTimes bounds the steps.
type upgradeTimes struct {
	Greeting time.Duration // until the new process says what it is
	Prepare  time.Duration // until it is prepared
	Freeze   time.Duration // for changes under way to end
	Load     time.Duration // of the containers
	Pause    time.Duration // in which no guest is served
	Serve    time.Duration // from the commit until it serves
}

// defaultUpgradeTimes are generous where guests are served meanwhile.
func defaultUpgradeTimes() upgradeTimes {
	return upgradeTimes{
		Greeting: 10 * time.Second, Prepare: 20 * time.Second, Freeze: 10 * time.Second, Load: 2 * time.Minute,
		Pause: 5 * time.Second, Serve: 20 * time.Second,
	}
}

// greeting says what a process is. The members up to PID are there in every version.
type greeting struct {
	Format  int    `json:"format"` // server.HandoverVersion
	Version string `json:"version"`
	PID     int    `json:"pid"`

	// Of the old process. Its descriptors are the lock of the run directory, the admin socket, and the metrics' if there is one.
	RunDir   string `json:"run_dir,omitempty"`
	StateDir string `json:"state_dir,omitempty"`
	Admin    place  `json:"admin,omitzero"`
	Metrics  bool   `json:"metrics,omitempty"`
	// MetricsAddress is the setting that the socket of the metrics is of; "" where it is not known.
	MetricsAddress string `json:"metrics_address,omitempty"`

	PidNS    bool               `json:"pid_ns,omitempty"` // a privileged container is known
	Upgrades map[string]float64 `json:"upgrades,omitempty"`
}

// place is a socket in the file system; Path "" where it is none of the daemon's.
type place struct {
	Path string `json:"path,omitempty"`
	Dev  uint64 `json:"dev,omitempty"`
	Ino  uint64 `json:"ino,omitempty"`
}

// commit says when guests were served last, on the clock that all processes of a boot share (CLOCK_MONOTONIC), in nanoseconds.
type commit struct {
	Paused int64 `json:"paused"`
}

// serving is what the new process has taken over.
type serving struct {
	Connections int     `json:"connections"`
	Pause       float64 `json:"pause_ms"`
}

type refusal struct {
	Reason string `json:"reason"`
}

func newGreeting() greeting {
	return greeting{Format: server.HandoverVersion, Version: version, PID: os.Getpid()}
}

// fits returns why the other process cannot take over or hand over, or nil.
func (g *greeting) fits(other *greeting) error {
	if g.Format != other.Format {
		return fmt.Errorf("%w (version %s has state format %d, version %s has %d)", errVersions, g.Version, g.Format, other.Version, other.Format)
	}
	return nil
}

// sendStep sends one step; v nil: without a body.
func sendStep(conn *fdpass.Conn, step uint16, v any, within time.Duration, fds ...int) error {
	m := fdpass.Message{Kind: step, FDs: fds}
	if v != nil {
		var err error
		if m.Body, err = json.Marshal(v); err != nil {
			return err
		}
	}
	return conn.Send(m, within)
}

// awaitStep receives one step into v, unless that is nil, and returns its descriptors. A refusal is errRefused with its reason.
func awaitStep(conn *fdpass.Conn, step uint16, v any, within time.Duration) ([]int, error) {
	m, err := conn.Receive(within)
	if err != nil {
		return nil, err
	}
	if m.Kind == step {
		if v == nil {
			return m.FDs, nil
		}
		if err := json.Unmarshal(m.Body, v); err == nil {
			return m.FDs, nil
		}
	}
	m.Close()
	return nil, stepError(&m)
}

// stepError is what a message means that was not expected.
func stepError(m *fdpass.Message) error {
	var r refusal
	if m.Kind == stepRefusal && json.Unmarshal(m.Body, &r) == nil && r.Reason != "" {
		return fmt.Errorf("%w: %s", errRefused, oneLine(errors.New(r.Reason)))
	}
	return fmt.Errorf("%w (step %#x)", errLost, m.Kind)
}
