package cloudinit

import (
	"errors"
	"fmt"
)

// Why seed data is left as it is. Errors of [Merge] wrap one of these.
var (
	// ErrFormat: a script, a MIME archive, or anything else that is no cloud-config.
	ErrFormat = errors.New(`not in #cloud-config format: put "#cloud-config" on the first line`)
	// ErrSyntax: not YAML, or YAML that cannot be written again.
	ErrSyntax = errors.New("not readable as YAML")
	// ErrShape: YAML, but not of the shape that cloud-config has.
	ErrShape = errors.New("not shaped as a cloud-config")
	// ErrTooLarge: longer than MaxData, or too large once its aliases are expanded.
	ErrTooLarge = errors.New("too large to merge: shorten it, nest it less or use fewer aliases")
)

// errPanic: the YAML library panicked.
var errPanic = fmt.Errorf("%w: the reader failed", ErrSyntax)
