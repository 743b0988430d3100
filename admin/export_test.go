package admin

import "time"

// SetStreamTimeout replaces StreamWriteTimeout before the server is used.
func (s *Server) SetStreamTimeout(d time.Duration) { s.streamTimeout = d }

// SetUID replaces the uid that the server takes for its own.
func (s *Server) SetUID(uid uint32) { s.uid = uid }

// Codes lists the errors of a source that have a status code.
func Codes() map[error]int {
	m := make(map[error]int)
	for _, c := range codes {
		m[c.err] = c.code
	}
	return m
}

// CodeOf is codeOf.
func CodeOf(err error) int { return codeOf(err) }

// MaxStreams is maxStreams.
const MaxStreams = maxStreams

// Streams returns the number of event streams.
func (s *Server) Streams() int { return len(s.slots) }
