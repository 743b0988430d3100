package server

import (
	"sync/atomic"

	"devlxd/peer"
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
	acceptPauses atomic.Uint64
	identified   []atomic.Uint64 // by peer.Reject
	closed       [numCloseReasons]atomic.Uint64
	requests     [numRoutes][len(statusCodes)]atomic.Uint64
	subscribers  atomic.Int64
	delivered    atomic.Uint64
	lost         atomic.Uint64
}

func newLoopStats() *loopStats {
	return &loopStats{identified: make([]atomic.Uint64, len(peer.AllRejects()))}
}

// answer counts an answered request.
func (s *loopStats) answer(r route, status int) { s.requests[r][statusIndex(status)].Add(1) }
