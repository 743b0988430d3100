package rival

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strconv"
	"time"
)

// defaultBody is answered until a container says otherwise.
const defaultBody = "abc"

// fixedDate stands for the clock, which a server needs to read once a second only.
const fixedDate = "Thu, 01 Jan 2026 00:00:00 GMT"

// answer is a fixed answer.
type answer struct {
	body []byte
	wire []byte // head and body
}

func newAnswer(body string) *answer {
	wire := "HTTP/1.1 200 OK\r\nDate: " + fixedDate + "\r\nContent-Type: application/octet-stream\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body
	return &answer{body: []byte(body), wire: []byte(wire)}
}

// fileHead is the head of an exported file of n bytes.
func fileHead(n int64) []byte {
	return []byte("HTTP/1.1 200 OK\r\nDate: " + fixedDate + "\r\nContent-Type: application/octet-stream\r\nContent-Length: " +
		strconv.FormatInt(n, 10) + "\r\n\r\n")
}

// route is what a request of a rival that does not parse asks for.
type route uint8

const (
	routeFixed route = iota
	routeEvents
	routeImage
)

var (
	headEnd      = []byte("\r\n\r\n")
	eventsPrefix = []byte("GET /1.0/events")
	imagesPrefix = []byte("GET /1.0/images/")
	keyField     = []byte("\r\nsec-websocket-key:")
)

// routeAt is where the paths that matter differ: the byte after "GET /1.0/". One comparison is all that the requests under load pay.
const routeAt = len("GET /1.0/")

// routeOf looks at the head of a request, which is at least headEnd.
func routeOf(head []byte) route {
	if len(head) <= routeAt {
		return routeFixed
	}
	switch head[routeAt] {
	case 'e':
		if bytes.HasPrefix(head, eventsPrefix) {
			return routeEvents
		}
	case 'i':
		if bytes.HasPrefix(head, imagesPrefix) {
			return routeImage
		}
	}
	return routeFixed
}

// maxHead is how many bytes are kept of a request whose end has not come: half of what is read at once.
const maxHead = 32 << 10

// SampleKey is the key of the handshake in RFC 6455 §1.3.
const SampleKey = "dGhlIHNhbXBsZSBub25jZQ=="

// acceptKey is the value of Sec-WebSocket-Accept (RFC 6455 §4.2.2).
func acceptKey(key []byte) string {
	sum := sha1.Sum(append(bytes.Clone(key), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// switching is the answer to a handshake, nil when the request is none.
func switching(head []byte) []byte {
	at := bytes.Index(bytes.ToLower(head), keyField)
	if at < 0 {
		return nil
	}
	key, _, _ := bytes.Cut(head[at+len(keyField):], []byte("\r\n"))
	return switchingFor(bytes.TrimSpace(key))
}

func switchingFor(key []byte) []byte {
	return []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		acceptKey(key) + "\r\n\r\n")
}

// event is one of LXD's, with the members that guests see.
type event struct {
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Metadata  json.RawMessage `json:"metadata"`
}

// configEvent is the event of a changed key. Go sorts the members of the metadata, as it does in LXD.
func configEvent(key, old, value string) (event, error) {
	metadata, err := json.Marshal(map[string]any{"key": key, "old_value": old, "value": value})
	return event{Type: "config", Timestamp: time.Now(), Metadata: metadata}, err
}

// eventFrame is the event as the text frame that every subscriber gets; LXD ends the payload with a line feed.
func eventFrame(key, old, value string) ([]byte, error) {
	e, err := configEvent(key, old, value)
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	payload = append(payload, '\n')
	const finText = 0x81 // RFC 6455 §5.2: FIN, opcode text; the server does not mask
	frame := []byte{finText}
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, byte(n))
	case n <= 0xffff:
		frame = binary.BigEndian.AppendUint16(append(frame, 126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, 127), uint64(n))
	}
	return append(frame, payload...), nil
}
