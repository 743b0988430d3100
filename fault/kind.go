package fault

import "log/slog"

// Kind is a condition of the host that keeps the daemon from some of its work. It is a closed set: each value is a label of
// devlxd_faults_total and devlxd_fault_active from the start.
type Kind uint8

const (
	// ConnectionLimit: as many guest connections are open as may be; more wait in the backlog.
	ConnectionLimit Kind = iota
	// ProcessFiles: accept(2) failed with EMFILE; guests wait in the backlog.
	ProcessFiles
	// SystemFiles: accept(2) failed with ENFILE; guests wait in the backlog.
	SystemFiles
	// Memory: accept(2) failed with ENOMEM or ENOBUFS; guests wait in the backlog.
	Memory
	// Accept: accept(2) failed with another error; guests wait in the backlog.
	Accept
	// ImageFiles: guests are answered 500 for an image, because too many image files are open.
	ImageFiles
	// AdminAccept: the admin API or the metrics cannot accept; their clients wait in the backlog.
	AdminAccept

	// StateFull: a change was refused with ENOSPC or EDQUOT.
	StateFull
	// StateReadOnly: a change was refused with EROFS.
	StateReadOnly
	// StateDenied: a change was refused with EACCES or EPERM.
	StateDenied
	// StateError: a change was refused with another error of the disk.
	StateError
	// StateStopped: the state file is not written any more until it is opened again. It is never left.
	StateStopped

	// ImagesFull: an image could not be received because of ENOSPC or EDQUOT.
	ImagesFull
	// ImagesReadOnly: an image could not be received because of EROFS.
	ImagesReadOnly
	// ImagesDenied: an image could not be received because of EACCES or EPERM.
	ImagesDenied
	// ImagesError: an image could not be received because of another error of the disk.
	ImagesError

	// NoCgroups: there is no cgroup2 tree to be used: containers are known by their pid namespace alone.
	NoCgroups
	// HiddenProcess: the process of a container was hidden (no CAP_SYS_PTRACE, hidepid), so that it was not bound; until it is, or has ended.
	HiddenProcess

	// MirrorLost: the daemon that is mirrored cannot be followed; guests are served what it said last.
	MirrorLost
	// MirrorPart: a container or image of the daemon that is mirrored could not be read, published or bound in several tries.
	MirrorPart

	numKinds
)

// Advice says what does not work and what to do, as the line on entering does.
func (k Kind) Advice() string {
	if k >= numKinds {
		return "unknown"
	}
	return table[k].enter
}

// Degrades reports whether the condition keeps devlxd from some of its work.
func (k Kind) Degrades() bool { return k.level() == slog.LevelError }

// texts are what a kind says: its label, the log line on entering (what is wrong: what to do) and that on leaving.
type texts struct{ label, enter, leave string }

// level is that of the line on entering: without cgroups devlxd does all of its work, in another way.
func (k Kind) level() slog.Level {
	if k == NoCgroups {
		return slog.LevelWarn
	}
	return slog.LevelError
}

var table = [numKinds]texts{
	ConnectionLimit: {"connection_limit", "accept paused: the connection limit is reached", "accept goes on: connections are below their limit"},
	ProcessFiles:    {"process_files", "accept paused: raise LimitNOFILE", "accept goes on: there are descriptors again"},
	SystemFiles:     {"system_files", "accept paused: raise fs.file-max of the host", "accept goes on: the host has descriptors again"},
	Memory:          {"memory", "accept paused: raise the memory limit or free memory", "accept goes on: there is memory again"},
	Accept:          {"accept", "accept paused: see the error", "accept goes on"},
	ImageFiles:      {"image_files", "images are refused: too many image files are open, raise LimitNOFILE", "images are served again"},
	AdminAccept:     {"admin_accept", "the admin API or the metrics cannot accept: see the error, and raise LimitNOFILE", "the admin API and the metrics accept again"},
	StateFull:       {"state_full", "changes are refused: free some space for the state directory", "changes are written again"},
	StateReadOnly:   {"state_read_only", "changes are refused: remount the state directory writable", "changes are written again"},
	StateDenied:     {"state_denied", "changes are refused: give devlxd the state directory and take chattr +i off", "changes are written again"},
	StateError:      {"state_error", "changes are refused: check the disk of the state directory", "changes are written again"},
	StateStopped:    {"state_stopped", "changes are refused for good: check the disk of the state directory, then restart devlxd", ""},
	ImagesFull:      {"images_full", "an image was refused: free some space for the state directory", "images are received again"},
	ImagesReadOnly:  {"images_read_only", "an image was refused: remount the state directory writable", "images are received again"},
	ImagesDenied:    {"images_denied", "an image was refused: give devlxd the images directory and take chattr +i off", "images are received again"},
	ImagesError:     {"images_error", "an image was refused: check the disk of the state directory", "images are received again"},
	NoCgroups:       {"no_cgroups", "containers are known by their pid namespace alone: mount cgroup2 and restart devlxd", ""},
	HiddenProcess:   {"hidden_process", "a container is not bound, for its process is hidden: give devlxd CAP_SYS_PTRACE, or remount /proc without hidepid", "no process that was to be bound is hidden any more"},
	MirrorLost:      {"mirror_lost", "the daemon that is mirrored is not followed, guests are served what it said last: see the error, and start it", "the mirror is up to date again"},
	MirrorPart:      {"mirror_part", "a part of the daemon is not mirrored, and is tried again: see the error", "all of the daemon is mirrored again"},
}

// String is the metric label.
func (k Kind) String() string {
	if k >= numKinds {
		return "unknown"
	}
	return table[k].label
}

// All lists the closed set.
func All() []Kind {
	all := make([]Kind, numKinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}
