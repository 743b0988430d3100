package loadtest

import (
	"errors"
	"fmt"
)

var (
	errHead    = errors.New("answer is not HTTP/1.1")
	errFraming = errors.New("answer has neither a Content-Length nor chunks")
	errFrame   = errors.New("websocket frame is fragmented, masked or too long")

	// ErrUsage is wrapped by errors in the options of a run.
	ErrUsage = errors.New("wrong usage")
	// ErrDescriptors: a run needs more descriptors than a process may have.
	ErrDescriptors = errors.New("not enough file descriptors")
	// ErrLost: a run could not be completed, for connections were refused or went away before it began.
	ErrLost = errors.New("connections were lost")
	// ErrTimeout: a part of a run did not come to its end.
	ErrTimeout = errors.New("server did not answer in time")
)

// failure is why a request, a connection or an event counts as an error: a closed set, the keys of errors_by_kind.
type failure string

const (
	failConnect    failure = "connect"     // connect(2) failed
	failClosed     failure = "closed"      // the server closed a connection that it should have kept
	failStatus     failure = "status"      // another status than expected
	failContent    failure = "content"     // another body than expected: another container's, or a broken one
	failProtocol   failure = "protocol"    // not HTTP/1.1, or not a websocket frame
	failUnanswered failure = "unanswered"  // no answer until the end of the run
	failOverrun    failure = "overrun"     // a subscriber that read was told that it lost events
	failDisagree   failure = "server says" // the server counted something else
	failForeign    failure = "foreign"     // a container was answered with what is another's
	failRefused    failure = "refused"     // a container that the server knows was refused
	failRatio      failure = "ratio"       // a latency grew more than it may
	failGrowth     failure = "growth"      // the server needed more and more of something
)

func usagef(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUsage, fmt.Sprintf(format, args...))
}
