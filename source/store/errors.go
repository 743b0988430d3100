package store

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"devlxd/fault"
	"devlxd/source"
)

// Errors without a detail of their own.
var (
	errNoBinder = fmt.Errorf("%w request: this store cannot bind processes, use the devlxd daemon", source.ErrInvalid)
	errNoImage  = fmt.Errorf("%w image: no known format, use a tarball (plain, gz, xz, bz2, lzma or zstd), squashfs or qcow2 file",
		source.ErrInvalid)
	errEmptyImage = fmt.Errorf("%w image: it is empty", source.ErrInvalid)
)

// disk is what the disk does wrong: the sentence that says what to do, and the conditions that it is for the state file and
// for image files.
type disk struct {
	errnos        []unix.Errno
	advice        string
	state, images fault.Kind
}

// disks are the ways of a disk to fail that an operator can mend; the last one is any other.
var disks = [...]disk{
	{[]unix.Errno{unix.ENOSPC, unix.EDQUOT}, "free some space and try again", fault.StateFull, fault.ImagesFull},
	{[]unix.Errno{unix.EROFS}, "remount the file system writable and try again", fault.StateReadOnly, fault.ImagesReadOnly},
	{[]unix.Errno{unix.EACCES, unix.EPERM}, "run devlxd as the owner of the state directory, and take chattr +i off", fault.StateDenied, fault.ImagesDenied},
	{[]unix.Errno{unix.EMFILE, unix.ENFILE}, "raise LimitNOFILE and try again", fault.StateError, fault.ImagesError},
	{nil, "check the disk that holds the state directory", fault.StateError, fault.ImagesError},
}

// diskOf finds out what is wrong with the disk. bbolt formats the cause of some errors away (file resize error: %s), and then
// only the text of the errno is left at the end of it.
func diskOf(err error) *disk {
	for i := range disks {
		for _, errno := range disks[i].errnos {
			if errors.Is(err, errno) || strings.HasSuffix(err.Error(), ": "+errno.Error()) {
				return &disks[i]
			}
		}
	}
	return &disks[len(disks)-1]
}

// storageError says that the disk did not take or give something. It wraps the errno also where bbolt does not.
func storageError(doing string, err error) error {
	d := diskOf(err)
	for _, errno := range d.errnos {
		if strings.HasSuffix(err.Error(), ": "+errno.Error()) && !errors.Is(err, errno) {
			err = fmt.Errorf("%s: %w", strings.TrimSuffix(err.Error(), ": "+errno.Error()), errno)
		}
	}
	return fmt.Errorf("cannot %s: %w: %w; %s", doing, source.ErrStorage, err, d.advice)
}

// Conditions of the disk that have passed when a change was written, and when an image was received.
var (
	stateKinds  = [...]fault.Kind{fault.StateFull, fault.StateReadOnly, fault.StateDenied, fault.StateError}
	imagesKinds = [...]fault.Kind{fault.ImagesFull, fault.ImagesReadOnly, fault.ImagesDenied, fault.ImagesError}
)

func damagedError(path, what string) error {
	return fmt.Errorf("state file %s is %w: %s; restore it from a backup, or move it away to begin empty", path, source.ErrDamaged, what)
}

func notFound(what, name string) error {
	return fmt.Errorf("%s %q %w: list what there is, and check the name", what, name, source.ErrNotFound)
}

func exists(what, name string) error {
	return fmt.Errorf("%s %q %w: remove it first, or use another name", what, name, source.ErrExists)
}
