package peer

import "fmt"

// Level is how much of a peer's identity the running kernel can tell. Higher is
// better; a Host uses one level for all its life.
type Level uint8

const (
	// LevelNone: the kernel has no pidfds; every peer is refused.
	LevelNone Level = iota

	// LevelPidfdOpen (Linux 5.3): pidfd_open(2) on the pid of SO_PEERCRED right
	// after accept, then /proc/PID/cgroup while the pidfd is alive.
	LevelPidfdOpen

	// LevelPeerPidfd (Linux 6.5): SO_PEERPIDFD pins the very process that
	// connected, then /proc/PID/cgroup while the pidfd is alive.
	LevelPeerPidfd

	// LevelInfo (Linux 6.13): SO_PEERPIDFD and the ioctl PIDFD_GET_INFO, which tells the
	// cgroup id without /proc. A peer that was reaped before is refused.
	LevelInfo

	// LevelInfoExit (Linux 6.16): the same, and it answers also for a peer that
	// exited and was reaped before it was identified.
	LevelInfoExit
)

// AllLevels returns every level, lowest first.
func AllLevels() []Level {
	return []Level{LevelNone, LevelPidfdOpen, LevelPeerPidfd, LevelInfo, LevelInfoExit}
}

// String returns the label used in logs, in metrics and in options.
func (l Level) String() string {
	switch l {
	case LevelNone:
		return "none"
	case LevelPidfdOpen:
		return "pidfd-open"
	case LevelPeerPidfd:
		return "peer-pidfd"
	case LevelInfo:
		return "info"
	case LevelInfoExit:
		return "info-exit"
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}
