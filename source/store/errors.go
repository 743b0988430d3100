package store

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"devlxd/source"
)

// Errors without a detail of their own.
var (
	errNoBinder = fmt.Errorf("%w request: this store cannot bind processes, use the devlxd daemon", source.ErrInvalid)
	errNoImage  = fmt.Errorf("%w image: no known format, use a tarball (plain, gz, xz, bz2, lzma or zstd), squashfs or qcow2 file",
		source.ErrInvalid)
	errEmptyImage = fmt.Errorf("%w image: it is empty", source.ErrInvalid)
)

// storageError says that the disk did not take or give something.
func storageError(doing string, err error) error {
	advice := "check the disk that holds the state directory"
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		advice = "free some space and try again"
	case errors.Is(err, unix.EROFS):
		advice = "remount the file system writable and try again"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		advice = "run devlxd as the owner of the state directory"
	}
	return fmt.Errorf("cannot %s: %w: %w; %s", doing, source.ErrStorage, err, advice)
}

func damagedError(path, what string) error {
	return fmt.Errorf("state file %s is %w: %s; restore it from a backup, or move it away to begin empty", path, source.ErrDamaged, what)
}

func notFound(what, name string) error {
	return fmt.Errorf("%s %q %w: list what there is, and check the name", what, name, source.ErrNotFound)
}

func exists(what, name string) error {
	return fmt.Errorf("%s %q %w: remove it first, or use another name", what, name, source.ErrExists)
}
