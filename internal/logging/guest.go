package logging

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxGuest is how many bytes of a text that a guest has chosen go into a line.
	maxGuest = 128
	// maxString is how many bytes of any other string do. It holds the longest path (PATH_MAX, 4096) with words around it.
	maxString = 5 << 10
)

// guest is a text that a guest has chosen, as it came.
type guest struct{ text string }

// Guest makes a log value of a text that a guest has chosen or that repeats one. What is not printable is written as in a Go string literal,
// line ends, escape sequences, bytes that are no UTF-8 and bidirectional marks among it, and a backslash as two. Of a long text the first
// 128 bytes are logged, and how many there were. Nothing is done before the line is written.
func Guest(text string) slog.LogValuer { return guest{text} }

// GuestError is [Guest] with the text of an error, which may hold one of a guest's.
func GuestError(err error) slog.LogValuer { return guestError{err} }

type guestError struct{ err error }

// LogValue implements slog.LogValuer. An error has words of ours around what is the guest's, so more of it is kept.
func (e guestError) LogValue() slog.Value {
	if e.err == nil {
		return slog.Value{}
	}
	return slog.StringValue(escape(e.err.Error(), 8*maxGuest))
}

// LogValue implements slog.LogValuer.
func (g guest) LogValue() slog.Value { return slog.StringValue(escape(g.text, maxGuest)) }

// escape cuts s after limit bytes and quotes it without the quotes.
func escape(s string, limit int) string {
	cut := s
	if len(s) > limit {
		cut = s[:limit]
		for i := 1; i < utf8.UTFMax && i < len(cut); i++ { // not in the middle of a character
			if tail := cut[len(cut)-i:]; utf8.RuneStart(tail[0]) {
				if !utf8.FullRuneInString(tail) {
					cut = cut[:len(cut)-i]
				}
				break
			}
		}
	}
	quoted := strconv.Quote(cut)
	// A double quote needs no escape where there are no quotes around.
	quoted = strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
	if len(s) > limit {
		quoted += fmt.Sprintf("... (%d bytes)", len(s))
	}
	return quoted
}

// stackKey is the attribute whose text is of several lines on purpose: where the daemon itself panicked.
const stackKey = "stack"

// sanitize is the second line behind Guest, for every attribute of every line: see [slog.HandlerOptions].
func sanitize(_ []string, a slog.Attr) slog.Attr {
	var text string
	switch a.Value.Kind() {
	case slog.KindString:
		text = a.Value.String()
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case error:
			text = v.Error()
		case fmt.Stringer:
			text = v.String()
		default:
			return a
		}
	default:
		return a
	}
	if a.Key != stackKey && (len(text) > maxString || !printable(text)) {
		text = escape(text, maxString)
	}
	a.Value = slog.StringValue(text)
	return a
}

// printable reports whether s can be written as it is.
func printable(s string) bool {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || !strconv.IsPrint(r) {
			return false
		}
		i += n
	}
	return true
}
