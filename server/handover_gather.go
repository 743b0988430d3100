package server

import (
	"slices"

	"devlxd/registry"
)

// gathered is the state of a server whose loops rest, ready to be sent.
type gathered struct {
	bindings []*registry.Binding
	index    map[*registry.Binding]int32
	conns    []connRecord
	fds      [][]int // of each of conns: the socket, then its files
	blobs    [][]byte
	byEnd    map[*byte]int32 // blobs by their last byte
}

// gather reads the state of all connections. The loops rest.
func (s *Server) gather() *gathered {
	g := &gathered{index: make(map[*registry.Binding]int32), byEnd: make(map[*byte]int32)}
	for _, c := range s.reg.Containers() {
		if b := c.Binding(); b != nil && !b.Dead() {
			g.add(b)
		}
	}
	for _, l := range s.loops {
		for _, c := range l.conns {
			if c != nil {
				g.addConn(l, c)
			}
		}
	}
	return g
}

func (g *gathered) add(b *registry.Binding) {
	g.index[b] = int32(len(g.bindings))
	g.bindings = append(g.bindings, b)
}

// records are the lives of containers by their index.
func (g *gathered) records() []bindingRecord {
	records := make([]bindingRecord, len(g.bindings))
	for i, b := range g.bindings {
		records[i] = bindingRecord{Identity: identityOf(b), Ready: b.Ready()}
		records[i].Epoch, _ = b.RingEpoch()
	}
	return records
}

func (g *gathered) addConn(l *loop, c *conn) {
	r := connRecord{
		Binding: -1, State: uint8(c.state), Reject: uint8(c.reject), Closing: uint8(c.closing), Timer: uint8(c.timer),
		Ending: c.ending, EOF: c.eof, In: c.in,
	}
	if c.inWheel && c.timer != timerNone {
		r.Armed, r.Remaining = true, int32(c.deadline-l.wheel.now)
	}
	if c.binding != nil {
		i, ok := g.index[c.binding]
		if !ok {
			// The container stopped just now, and the task that says so comes after the pause. The successor finds it stopped.
			g.add(c.binding)
			i = g.index[c.binding]
		}
		r.Binding = i
	}
	if b := c.body; b != nil {
		r.Body = &bodyRecord{Patch: b.patch, Data: b.data, Close: b.policy.close, Keep: b.policy.keep, Head: b.policy.head}
		r.Body.Decoder, _ = b.decoder.AppendBinary(nil) // never fails
	}
	fds := []int{int(c.fd)}
	if c.out != nil {
		r.Out = g.pending(c.out)
		for _, f := range c.out.files {
			fds = append(fds, int(f.Fd()))
		}
	}
	if s := c.sub; s != nil {
		r.Sub = &subscriberRecord{Live: s.live, Position: s.position, Pings: s.pings, Epoch: s.ring.Epoch()}
		r.Sub.Cursor = s.ring.ExportCursor(&s.cursor)
		r.Sub.Decoder, _ = s.decoder.AppendBinary(nil) // never fails
	}
	g.conns, g.fds = append(g.conns, r), append(g.fds, fds)
}

func (g *gathered) pending(p *pending) *pendingRecord {
	r := &pendingRecord{Tail: g.part(p.tail), Files: int32(len(p.files))}
	for i := range p.segments {
		s := &p.segments[i]
		if s.file == nil {
			r.Segments = append(r.Segments, g.part(s.bytes))
			continue
		}
		r.Segments = append(r.Segments, segmentRecord{
			Blob: -1, File: int32(slices.Index(p.files, s.file)), Offset: s.offset, Length: s.length,
		})
	}
	return r
}

// part refers to the rest of an answer by the blob that ends with it. Many connections can have a rest of the same bytes pending, which
// are kept once: there for them all as here.
func (g *gathered) part(b []byte) segmentRecord {
	if len(b) == 0 {
		return segmentRecord{Blob: -1, File: -1}
	}
	end := &b[len(b)-1]
	i, ok := g.byEnd[end]
	if !ok {
		i = int32(len(g.blobs))
		g.byEnd[end] = i
		g.blobs = append(g.blobs, b)
	} else if len(g.blobs[i]) < len(b) {
		g.blobs[i] = b
	}
	return segmentRecord{Blob: i, File: -1, Length: int64(len(b))}
}
