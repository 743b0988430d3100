package main

import (
	"errors"
	"fmt"

	"devlxd/source"
)

// Why an upgrade did not take place. The daemon goes on after each of them.
var (
	errUpgrading  = fmt.Errorf("%w: an upgrade is under way: wait for its end", source.ErrConflict)
	errNotServing = fmt.Errorf("%w: devlxd does not serve yet, or not any more: try again when GET /readyz answers 200", source.ErrConflict)
	// errNotStarted: the new binary is no program, or ended before it said what it is.
	errNotStarted = errors.New("new devlxd could not be started: check the binary")
	// errVersions: the state of one process is not what the other one knows.
	errVersions = errors.New("versions do not fit for an upgrade: restart devlxd instead")
	// errRefused: the new process said why it does not take over.
	errRefused = errors.New("new devlxd refused to take over")
	// errNoAnswer: a step took the new process too long.
	errNoAnswer = errors.New("new devlxd did not answer in time: see its log")
	// errLost: the new process ended, or spoke of something else.
	errLost = errors.New("new devlxd ended before it took over: see its log")
	// errStopped: the daemon is told to end.
	errStopped = errors.New("devlxd is ending: nothing was upgraded")
	// errSources: one process has its containers from elsewhere than the other.
	errSources = errors.New("new devlxd has another --source: restart devlxd instead")
	// errPredecessor: what is on the other side is no devlxd that is being upgraded.
	errPredecessor = errors.New("process that started this one does not hand over: start devlxd without " + upgradeVariable)
)
