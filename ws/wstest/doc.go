// Package wstest holds conformance cases for a websocket server, as text that
// can be read with RFC 6455 alone, and reads them. The same cases drive the
// decoder in the tests of package ws and a live server in others.
//
// The cases have the numbers and the subjects of the Autobahn Testsuite, so
// that its public reports can be compared; payloads and expectations are our
// own, from the RFC. Cases of ours have the letter D instead of the group.
//
// # Notation
//
// A file in cases/ has a line for each case, with its number and subject, and
// under it, indented, the steps in the order in which they happen:
//
//	5.6 Text in two fragments, a ping between them.
//	  < text more "to be contin"
//	  < ping "still there?"
//	  = ping "still there?"
//	  > pong "still there?"
//	  < cont "ued"
//	  = text "to be continued"
//
//	< FRAME    the client sends a frame, masked
//	= EVENT    the server has now got a whole message or control frame
//	> ANSWER   the server must send this, a pong or a close, by itself
//
// An event stands right after the step that must bring it about: a server that
// waits for more fails the case. If the server never sends a close, the case
// goes on with "< close 1000", "= close 1000" and "> close 1000".
//
// A frame is an opcode (text, binary, cont, close, ping, pong, or op3 to op15
// for the reserved ones), then any of
//
//	more       FIN is not set
//	rsv1..rsv7 the three reserved bits as a number
//	bare       not masked
//	in2, in8   the length is written in 2 or 8 bytes, needed or not
//	claims N   the header announces N bytes
//	each N     sent in fragments of N bytes, the last one shorter
//
// and the payload: strings in Go's quotes, each of which may be repeated, as in
// "ab"*20. A close may have a status code before them. The opcode "..." stands
// for more payload of the frame before, whose header claims it.
//
// Before the steps there may be "max N", a message size limit to set, "times N":
// all steps happen N times, and "chop frame" or "chop N": write frame by frame or
// in parts of N bytes, where that is what the case is about.
package wstest
