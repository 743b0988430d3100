package settings

import (
	"errors"
	"fmt"
	"strings"
)

// Why a configuration file cannot be read at all.
var (
	errNotRegular = errors.New("not a regular file: give one, since it is read again while devlxd runs")
	errTooLarge   = fmt.Errorf("too large: at most %d bytes are read", maxFile)
	errMissing    = errors.New("no such file: make it, or leave it out")
)

// errEmpty: a directory has no name.
var errEmpty = errors.New("is empty: give a directory")

// about says which setting is wrong.
func about(name string, err error) error {
	if errors.Is(err, errEmpty) {
		return fmt.Errorf("%s %w", name, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Problem is one mistake in a configuration file.
type Problem struct {
	File string
	Line int // from 1; 0: of the file as a whole
	Text string
}

// String is "FILE:LINE: what is wrong and what to do".
func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// FileError is why a configuration file is refused: all that is wrong with it, in the order of the lines, one at least.
type FileError struct{ Problems []Problem }

// Error is one line.
func (e *FileError) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.String()
	}
	return strings.Join(texts, "; ")
}
