package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devlxd/admin"
	"devlxd/admin/client"
)

// sampleSize is into how many running containers doctor looks unless it is told, and shownMounts how many faults it names.
const (
	sampleSize  = 16
	shownMounts = 4
)

// mountCheck is the name of the check of the mounts.
const mountCheck = "mount in containers"

// What is wrong with the mount in a container.
var (
	errNotMounted = errors.New("has no /dev/lxd")
	errOtherMount = errors.New("has something else at /dev/lxd")
	errContainer  = errors.New("has ended")
)

// askDaemon is what doctor asks a daemon that runs: nothing where none does, which the checks of the sockets say.
func askDaemon(ctx context.Context, runDir string, sample int) []finding {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	c := client.InRunDir(runDir)
	status, err := c.Status(ctx)
	if err != nil {
		return nil
	}
	list := []finding{judgePrivileges(status.Privileges, status.PID), checkDaemonFiles(status.PID)}
	containers, err := c.Containers(ctx)
	if err != nil {
		return append(list, found(mountCheck, false, err.Error()))
	}
	return append(list, checkMounts(filepath.Join(runDir, "guest"), containers, sample))
}

// checkMounts looks into some of the running containers.
func checkMounts(guest string, containers []admin.Container, sample int) finding {
	var want unix.Stat_t
	if err := unix.Stat(guest, &want); err != nil {
		return found(mountCheck, false, fmt.Sprintf("%s: %v: start 'devlxd serve'", guest, err))
	}
	var running []admin.Container
	for _, c := range containers {
		if c.State != nil {
			running = append(running, c)
		}
	}
	var faults []string
	looked := 0
	for _, c := range spread(running, sample) {
		err := lookInto(c.State.PID, &want)
		if errors.Is(err, errContainer) {
			continue
		}
		looked++
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s %v", c.Name, err))
		}
	}
	text := fmt.Sprintf("%d of %d running containers looked at", looked, len(running))
	if len(faults) == 0 {
		return found(mountCheck, true, text)
	}
	more := ""
	if n := len(faults) - shownMounts; n > 0 {
		faults, more = faults[:shownMounts], fmt.Sprintf(" and %d more", n)
	}
	return found(mountCheck, false, fmt.Sprintf("%s: %s%s: mount %s there, see 'devlxd attach --help'", text, strings.Join(faults, ", "), more, guest))
}

// spread takes n of a list, evenly.
func spread[T any](list []T, n int) []T {
	if len(list) <= n {
		return list
	}
	taken := make([]T, n)
	for i := range taken {
		taken[i] = list[i*len(list)/n]
	}
	return taken
}

// lookInto compares /dev/lxd as a container sees it. The guest chooses what is there, a link to the right directory of the host among
// others, so the path is followed within its root.
func lookInto(pid int, want *unix.Stat_t) error {
	root, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ESRCH {
		return errContainer
	}
	if err != nil {
		return fmt.Errorf("cannot be looked into: %w", err)
	}
	defer unix.Close(root)
	return lookAt(root, want)
}

// lookAt compares /dev/lxd below the root directory of a container.
func lookAt(root int, want *unix.Stat_t) error {
	fd, err := unix.Openat2(root, "dev/lxd", &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP:
		return errNotMounted
	case err != nil:
		return fmt.Errorf("cannot be looked into: %w", err)
	}
	defer unix.Close(fd)
	var has unix.Stat_t
	if err := unix.Fstat(fd, &has); err != nil {
		return fmt.Errorf("cannot be looked into: %w", err)
	}
	if has.Dev != want.Dev || has.Ino != want.Ino {
		return errOtherMount
	}
	return nil
}
