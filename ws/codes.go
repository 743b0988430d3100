package ws

import gobwas "github.com/gobwas/ws"

// OpCode says what a frame carries (RFC 6455 §5.2).
type OpCode = gobwas.OpCode

// The opcodes of RFC 6455 §5.2; all others are reserved.
const (
	OpContinuation = gobwas.OpContinuation
	OpText         = gobwas.OpText
	OpBinary       = gobwas.OpBinary
	OpClose        = gobwas.OpClose
	OpPing         = gobwas.OpPing
	OpPong         = gobwas.OpPong
)

// StatusCode says why a websocket was closed (RFC 6455 §7.4).
type StatusCode = gobwas.StatusCode

// Status codes of RFC 6455 §7.4.1, and those that were added since to the IANA
// registry "WebSocket Close Code Number".
const (
	StatusNormalClosure           = gobwas.StatusNormalClosure
	StatusGoingAway               = gobwas.StatusGoingAway
	StatusProtocolError           = gobwas.StatusProtocolError
	StatusUnsupportedData         = gobwas.StatusUnsupportedData
	StatusNoStatusRcvd            = gobwas.StatusNoStatusRcvd // never sent: a close frame without a body
	StatusAbnormalClosure         = gobwas.StatusAbnormalClosure
	StatusInvalidFramePayloadData = gobwas.StatusInvalidFramePayloadData
	StatusPolicyViolation         = gobwas.StatusPolicyViolation
	StatusMessageTooBig           = gobwas.StatusMessageTooBig
	StatusMandatoryExt            = gobwas.StatusMandatoryExt
	StatusInternalServerError     = gobwas.StatusInternalServerError

	StatusServiceRestart StatusCode = 1012
	StatusTryAgainLater  StatusCode = 1013
	StatusBadGateway     StatusCode = 1014
)

// MaxControl is the most payload that a control frame may carry, in bytes (RFC
// 6455 §5.5).
const MaxControl = gobwas.MaxControlFramePayloadSize

// MaxReason is the most text that a close frame may carry beside its code, in
// bytes.
const MaxReason = MaxControl - 2

// ValidCode reports whether an endpoint may send code in a close frame: the
// codes of RFC 6455 §7.4.1 that are not reserved, 1012 to 1014 of the IANA
// registry, and the ranges 3000 to 4999 that §7.4.2 gives to libraries and
// applications.
//
// gobwas/ws.CheckCloseFrameData refuses 1012 to 1014 and accepts 5000 and more.
func ValidCode(code StatusCode) bool {
	switch {
	case code < 1000:
		return false // RFC 6455 §7.4.2: "Status codes in the range 0-999 are not used."
	case code <= 1003:
		return true
	case code <= 1006:
		return false // §7.4.1: 1004 has no meaning yet; 1005 and 1006 "MUST NOT be set as a status code"
	case code <= StatusBadGateway:
		return true
	case code < 3000:
		return false // §7.4.1: 1015 is for local use; §7.4.2: up to 2999 is kept for revisions of the RFC
	}
	return code <= 4999
}
