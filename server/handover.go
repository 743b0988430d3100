package server

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"time"

	"devlxd/internal/fdpass"
	"devlxd/registry"
)

// HandoverVersion is the version of what [Handover] sends: it grows with each change of the records, of what they hold, or of the sets that
// they number. A test compares it with the shape of the records.
const HandoverVersion = 1

// The messages of a hand-over, in the order in which they are sent. Kinds below firstKind are the caller's.
const (
	firstKind    uint16 = 0x100
	kindRings           = firstKind + iota - 1 // any number, while guests are served: []ringRecord
	kindBindings                               // one: []bindingRecord
	kindBlobs                                  // any number: [][]byte
	kindConns                                  // any number: []connRecord, with the descriptors of each: the socket, then its files
	kindSocket                                 // one, the last: socketRecord, with the listening socket
)

const (
	// pieceBytes is how many bytes are gathered for one message, where they can be divided.
	pieceBytes = 1 << 20
	// messageTime bounds the transfer of one message.
	messageTime = 5 * time.Second
	// gatherTime bounds the wait for a message of the predecessor, which may be loading rings.
	gatherTime = 30 * time.Second
)

// ringRecord is the ring of a running container.
type ringRecord struct {
	Identity identityRecord
	Ring     registry.RingState
}

// identityRecord names one life of a container in both processes.
type identityRecord struct {
	Name               string
	InitPID            int
	CgroupID           uint64
	PidNSDev, PidNSIno uint64
	RootUID            uint32
	Privileged         bool
}

// bindingRecord is one life of a container that connections or positions refer to.
type bindingRecord struct {
	Identity identityRecord
	Ready    bool
	Epoch    uint64 // of its ring, 0: none
}

// connRecord is one connection at rest between two turns of its loop. What follows from it is left out: the descriptor, what the poller
// watches it for, and the parser, which begins again with In.
type connRecord struct {
	Binding   int32 // index of a bindingRecord, -1: none
	State     uint8
	Reject    uint8
	Closing   uint8
	Timer     uint8
	Ending    bool
	EOF       bool
	Armed     bool
	Remaining int32 // ticks until the deadline, where Armed
	In        []byte
	Body      *bodyRecord
	Out       *pendingRecord
	Sub       *subscriberRecord
}

type bodyRecord struct {
	Decoder           []byte
	Patch             bool
	Data              []byte
	Close, Keep, Head bool // the version policy
}

type pendingRecord struct {
	Tail     segmentRecord // Length 0: none
	Segments []segmentRecord
	Files    int32 // how many descriptors of files follow that of the socket
}

// segmentRecord is the end of a blob, or a range of a file.
type segmentRecord struct {
	Blob   int32 // index among all blobs, where File is -1
	File   int32
	Offset int64
	Length int64
}

type subscriberRecord struct {
	Epoch    uint64 // of the ring
	Cursor   registry.CursorState
	Decoder  []byte // of a websocket
	Live     bool
	Position bool
	Pings    uint8
}

// socketRecord is the guest socket in the file system; Path "" where it is none of the server's.
type socketRecord struct {
	Path     string
	Dev, Ino uint64
}

// encodeRecord never fails: the types above always encode.
func encodeRecord(kind uint16, v any, fds ...int) (fdpass.Message, error) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		return fdpass.Message{}, err
	}
	return fdpass.Message{Kind: kind, Body: b.Bytes(), FDs: fds}, nil
}

func decodeRecord(m *fdpass.Message, v any) error {
	r := bytes.NewReader(m.Body)
	if err := gob.NewDecoder(r).Decode(v); err != nil {
		return fmt.Errorf("%w (message %#x: %v)", ErrHandoverState, m.Kind, err)
	}
	if r.Len() > 0 {
		return fmt.Errorf("%w (message %#x is too long)", ErrHandoverState, m.Kind)
	}
	return nil
}

func identityOf(b *registry.Binding) identityRecord {
	dev, ino := b.PidNS()
	return identityRecord{
		Name: b.Container().Name(), InitPID: b.InitPID(), CgroupID: b.CgroupID(), PidNSDev: dev, PidNSIno: ino,
		RootUID: b.RootUID(), Privileged: b.Privileged(),
	}
}

// Handover is the sending side: it gives everything that guests can notice to a successor. Its methods are called in the order SendRings, Pause,
// SendConnections, and then Finish or Resume; Resume may be called at any time and undoes all of it. One goroutine at a time.
type Handover struct {
	srv   *Server
	conn  *fdpass.Conn
	rings map[uint64]bool // epochs of those that were sent
	pause *pause
}

// NewHandover begins to hand the server over to the process at the other end of conn, which calls [Server.TakeOver].
func (s *Server) NewHandover(conn *fdpass.Conn) *Handover {
	return &Handover{srv: s, conn: conn, rings: make(map[uint64]bool)}
}

// SendRings sends the rings of all containers while guests are served. From before it until Finish or Resume no source may change the registry.
func (h *Handover) SendRings(ctx context.Context) error {
	bindings := make([]*registry.Binding, 0, h.srv.reg.Len())
	for _, c := range h.srv.reg.Containers() {
		if b := c.Binding(); b != nil {
			bindings = append(bindings, b)
		}
	}
	return h.sendRings(ctx, bindings)
}

// sendRings sends those rings that were not sent yet.
func (h *Handover) sendRings(ctx context.Context, bindings []*registry.Binding) error {
	var records []ringRecord
	size := 0
	flush := func() error {
		if len(records) == 0 {
			return nil
		}
		err := h.send(kindRings, records)
		records, size = records[:0], 0
		return errors.Join(err, ctx.Err())
	}
	for _, b := range bindings {
		if epoch, ok := b.RingEpoch(); !ok || h.rings[epoch] {
			continue
		}
		state, ok := h.srv.reg.ExportRing(b)
		if !ok {
			continue // revoked, which no source does now, or replaced
		}
		h.rings[state.Epoch] = true
		records = append(records, ringRecord{identityOf(b), state})
		for i := range state.Events {
			size += len(state.Events[i].Payload)
		}
		if size >= pieceBytes || len(records) == 1024 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func (h *Handover) send(kind uint16, v any, fds ...int) error {
	m, err := encodeRecord(kind, v, fds...)
	if err != nil {
		return err
	}
	return h.conn.Send(m, messageTime)
}

// Pause brings every loop to rest: no guest is served any more, and what guests send waits in their sockets, until Finish or Resume. It
// returns ctx's error when a loop does not come to rest, and ErrClosed when the server ends or does not listen.
func (h *Handover) Pause(ctx context.Context) (err error) {
	h.pause, err = h.srv.pauseLoops(ctx)
	return err
}

// Connections is how many connections are being handed over; only between Pause and the end.
func (h *Handover) Connections() int { return int(h.srv.open.Load()) }

// SendConnections sends all connections with their state, and the listening socket. They remain open here.
func (h *Handover) SendConnections(ctx context.Context) error {
	g := h.srv.gather()
	if err := h.sendRings(ctx, g.bindings); err != nil {
		return err
	}
	if err := h.send(kindBindings, g.records()); err != nil {
		return err
	}
	if err := h.sendBlobs(g); err != nil {
		return err
	}
	for begin := 0; begin < len(g.conns); {
		end, fds := begin, make([]int, 0, fdpass.MaxFDs)
		for end < len(g.conns) && len(fds)+len(g.fds[end]) <= fdpass.MaxFDs {
			fds = append(fds, g.fds[end]...)
			end++
		}
		if err := h.send(kindConns, g.conns[begin:end], fds...); err != nil {
			return err
		}
		begin = end
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return h.sendSocket()
}

func (h *Handover) sendBlobs(g *gathered) error {
	for begin := 0; begin < len(g.blobs); {
		end, size := begin, 0
		for end < len(g.blobs) && (end == begin || size+len(g.blobs[end]) <= pieceBytes) {
			size += len(g.blobs[end])
			end++
		}
		if err := h.send(kindBlobs, g.blobs[begin:end]); err != nil {
			return err
		}
		begin = end
	}
	return nil
}

func (h *Handover) sendSocket() error {
	var r socketRecord
	if f := h.srv.socket; f != nil {
		r = socketRecord{Path: f.path, Dev: f.dev, Ino: f.ino}
	}
	return h.send(kindSocket, r, h.srv.loops[0].listener)
}

// Resume lets the loops go on as if nothing had happened; deadlines have stood still meanwhile.
func (h *Handover) Resume() {
	if h.pause != nil {
		h.pause.end(false)
		h.pause = nil
	}
}

// Finish lets all connections and the listening socket go: they are the successor's from now on. The server is to be shut down then.
func (h *Handover) Finish() {
	h.pause.end(true)
	h.pause = nil
}
