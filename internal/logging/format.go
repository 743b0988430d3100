package logging

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Format is how a line of the log is written.
type Format uint8

const (
	// FormatAuto is text on a terminal and JSON elsewhere.
	FormatAuto Format = iota
	// FormatText is slog's key=value text.
	FormatText
	// FormatJSON is one JSON object a line.
	FormatJSON

	numFormats
)

var formatNames = [numFormats]string{"auto", "text", "json"}

// String is the name of the format in settings.
func (f Format) String() string {
	if f >= numFormats {
		return "unknown"
	}
	return formatNames[f]
}

// ParseFormat is the inverse of String. The error says what to use.
func ParseFormat(text string) (Format, error) {
	for f := range numFormats {
		if text == f.String() {
			return f, nil
		}
	}
	return 0, fmt.Errorf("unknown format %q: %w", text, errFormat)
}

// JournalVariable is set by systemd for what it connects to the journal (systemd.exec(5), "$JOURNAL_STREAM").
const JournalVariable = "JOURNAL_STREAM"

// toJournal reports whether f is the stream to the journal that a value of JournalVariable names by device and inode, in decimal and with a
// colon between: a process that redirects its output may inherit the variable.
func toJournal(f *os.File, variable string) bool {
	dev, ino, ok := strings.Cut(variable, ":")
	if !ok {
		return false
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false
	}
	return dev == fmt.Sprint(st.Dev) && ino == fmt.Sprint(st.Ino)
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
