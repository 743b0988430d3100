package server

import (
	"sync/atomic"

	"devlxd/peer"
	"devlxd/registry"
)

// statusCodes is the closed set of status codes that guests are answered with.
var statusCodes = [...]int{101, 200, 206, 304, 400, 401, 403, 404, 405, 410, 413, 414, 416, 417, 426, 431, 500, 501, 505}

// statusIndex gives the place of a code in statusCodes; a code that is not
// listed is a mistake that the tests find, and is counted as 500.
func statusIndex(code int) int {
	fallback := 0
	for i, known := range statusCodes {
		if known == code {
			return i
		}
		if known == 500 {
			fallback = i
		}
	}
	return fallback
}

// loopStats are the counters of one loop. Only the loop adds to them, so no
// cache line is shared on the guest path; the metrics collector reads them.
type loopStats struct {
	accepted     atomic.Uint64
	takenOver    atomic.Uint64 // connections of a predecessor process
	acceptPauses atomic.Uint64
	shed         atomic.Uint64     // accepted, and refused before they were identified
	identified   [][]atomic.Uint64 // by peer.Path and peer.Reject
	closed       [numCloseReasons]atomic.Uint64
	requests     [numRoutes][len(statusCodes)]atomic.Uint64
	quotaWaits   [registry.NumLimits]atomic.Uint64
	quotaRefused [registry.NumLimits]atomic.Uint64
	quotaWaiting [registry.NumLimits]atomic.Int64 // connections
	sent         atomic.Uint64                    // bytes
	subscribers  atomic.Int64
	delivered    [numEventTypes]atomic.Uint64
	lost         atomic.Uint64                                 // subscribers
	missed       [numEventTypes][numCloseReasons]atomic.Uint64 // events
	duration     histogram                                     // of requests
	delay        histogram                                     // of deliveries
	lag          histogram                                     // of ticks
}

// numEventTypes is the length of registry.AllEventTypes.
const numEventTypes = 2

func newLoopStats() *loopStats {
	s := &loopStats{}
	for range peer.AllPaths() {
		s.identified = append(s.identified, make([]atomic.Uint64, len(peer.AllRejects())))
	}
	return s
}

// eventIndex gives the place of a type in registry.AllEventTypes.
func eventIndex(t registry.EventType) int {
	if t == registry.EventDevice {
		return 1
	}
	return 0
}

// miss counts the events that a subscriber asked for and did not get before its
// connection ended for the reason. It is the rest of a sum that holds for each
// subscriber: what was published to it is delivered, missed or under way.
func (s *loopStats) miss(ring *registry.Ring, cursor *registry.Cursor, reason CloseReason) (events uint64) {
	config, device := ring.Missed(cursor)
	s.missed[eventIndex(registry.EventConfig)][reason].Add(config)
	s.missed[eventIndex(registry.EventDevice)][reason].Add(device)
	return config + device
}

// open is the number of connections that the loop holds: a loop identifies or takes over, and
// closes, each of its connections once. Safe for concurrent use. Those closed are
// read first, so that one that comes and goes meanwhile is not taken off twice.
func (s *loopStats) open() (n int) {
	for i := range s.closed {
		n -= int(s.closed[i].Load())
	}
	for _, byReject := range s.identified {
		for i := range byReject {
			n += int(byReject[i].Load())
		}
	}
	return max(n+int(s.takenOver.Load()), 0)
}
