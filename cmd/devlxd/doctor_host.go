package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Recommended limits of inotify(7), which --discover lives on: a watch for each place of a runtime, and for each container
// that is not bound yet; the events of a host on which thousands of containers start at once.
const (
	wantInstances = 128
	wantWatches   = 65536
	wantEvents    = 16384
)

// checkInotify looks at what --discover needs.
func checkInotify() []finding {
	return []finding{
		checkSysctl("fs.inotify.max_user_instances", wantInstances, "--discover takes one"),
		checkSysctl("fs.inotify.max_user_watches", wantWatches, "--discover takes one for each container that is about to start"),
		checkSysctl("fs.inotify.max_queued_events", wantEvents, "with less --discover reads the whole tree again when many containers start"),
	}
}

// firstYear is one in which no clock can be right any more.
const firstYear = 2025

// checkClock asks the kernel whether the clock is kept right: containers have the same one, and cloud-init fetches by TLS.
func checkClock() finding {
	var t unix.Timex // no mode: only asks
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return found("clock", false, err.Error())
	}
	return judgeClock(time.Now(), state, t.Status)
}

// judgeClock reads what adjtimex(2) has answered.
func judgeClock(now time.Time, state int, status int32) finding {
	const check = "clock"
	const timeError = 5 // TIME_ERROR of linux/timex.h: not synchronised, among others
	text := now.UTC().Format(time.RFC3339)
	switch {
	case now.Year() < firstYear:
		return found(check, false, text+": it is not set: start a time service such as systemd-timesyncd or chrony")
	case state == timeError || status&unix.STA_UNSYNC != 0:
		return found(check, false, text+": nothing keeps it right: start a time service such as systemd-timesyncd or chrony")
	}
	return found(check, true, fmt.Sprintf("%s, synchronised", text))
}

// checkDaemonFiles looks at the limit of a daemon that runs, which a unit may have raised.
func checkDaemonFiles(pid int) finding {
	const check = "daemon open files"
	var lim unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &lim); err != nil {
		return found(check, false, fmt.Sprintf("pid %d: %v: run doctor as root", pid, err))
	}
	return found(check, lim.Cur >= wantFiles, fmt.Sprintf("pid %d: %d, %d recommended: set LimitNOFILE= in the unit", pid, lim.Cur, wantFiles))
}
