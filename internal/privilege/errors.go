package privilege

import "errors"

// ErrKept: a thread kept more than it should have.
var ErrKept = errors.New("capabilities were not given up: start with --privileges keep, and report this")
