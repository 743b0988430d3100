package server

// CloseReason says why the server ended a connection. It is a closed set:
// each value is a label of devlxd_connections_closed_total from the start.
type CloseReason uint8

const (
	// CloseClient: the client closed its end, at a request boundary.
	CloseClient CloseReason = iota
	// CloseTruncated: the client closed its end inside a request or frame.
	CloseTruncated
	// CloseSocketError: a read or write failed (ECONNRESET, EPIPE, ...).
	CloseSocketError
	// CloseDone: the answer said "Connection: close" because the client asked for it.
	CloseDone
	// CloseBadRequest: the request was refused by the parser.
	CloseBadRequest
	// CloseRefused: the peer is no registered container; it was answered 500.
	CloseRefused
	// CloseQuota: the container had too many connections; it was answered 500.
	CloseQuota
	// CloseEvicted: idle longest when its container needed room for a new one.
	CloseEvicted
	// CloseHeaderTimeout: no complete request head in time.
	CloseHeaderTimeout
	// CloseBodyTimeout: no complete request body in time.
	CloseBodyTimeout
	// CloseIdleTimeout: a keep-alive connection stayed idle.
	CloseIdleTimeout
	// CloseWriteTimeout: the reader took nothing of a pending answer for too long.
	CloseWriteTimeout
	// ClosePingTimeout: a websocket did not answer pings.
	ClosePingTimeout
	// CloseWebsocket: the closing handshake was started by the client.
	CloseWebsocket
	// CloseProtocol: a websocket client broke RFC 6455.
	CloseProtocol
	// CloseData: a client sent data on an event stream, which takes none.
	CloseData
	// CloseOverrun: a subscriber was too slow and events were lost to it.
	CloseOverrun
	// CloseStopped: the container stopped.
	CloseStopped
	// CloseRevoked: security.devlxd was switched off below an event stream.
	CloseRevoked
	// CloseShutdown: the server ends.
	CloseShutdown
	// CloseInternal: a handler failed; the log has the stack.
	CloseInternal
	// CloseHandedOver: the connection is open in the successor of this process.
	CloseHandedOver

	numCloseReasons
)

var closeReasonLabels = [numCloseReasons]string{
	CloseClient:        "client",
	CloseTruncated:     "truncated",
	CloseSocketError:   "socket_error",
	CloseDone:          "done",
	CloseBadRequest:    "bad_request",
	CloseRefused:       "refused",
	CloseQuota:         "quota",
	CloseEvicted:       "evicted",
	CloseHeaderTimeout: "header_timeout",
	CloseBodyTimeout:   "body_timeout",
	CloseIdleTimeout:   "idle_timeout",
	CloseWriteTimeout:  "write_timeout",
	ClosePingTimeout:   "ping_timeout",
	CloseWebsocket:     "websocket",
	CloseProtocol:      "protocol",
	CloseData:          "data",
	CloseOverrun:       "overrun",
	CloseStopped:       "container_stopped",
	CloseRevoked:       "access_revoked",
	CloseShutdown:      "shutdown",
	CloseInternal:      "internal",
	CloseHandedOver:    "handed_over",
}

// String is the metric label of the reason.
func (r CloseReason) String() string {
	if r >= numCloseReasons {
		return "unknown"
	}
	return closeReasonLabels[r]
}

// AllCloseReasons lists the closed set.
func AllCloseReasons() []CloseReason {
	all := make([]CloseReason, numCloseReasons)
	for i := range all {
		all[i] = CloseReason(i)
	}
	return all
}
