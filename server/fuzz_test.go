package server

import (
	"path/filepath"
	"slices"
	"testing"

	"devlxd/httpparse/parsetest"
)

// FuzzConnection: whatever a container sends, in whatever pieces, and however it ends its connections, it is never sent a byte of
// another container's values; the server goes on answering the other one, logs no failure, and keeps no connection or descriptor.
func FuzzConnection(f *testing.F) {
	a := newArena(f)
	for _, script := range scripts(f) {
		f.Add(script)
	}
	f.Fuzz(a.run)
}

// scripts are the seeds: what is known to be difficult, and the bytes of the HTTP cases.
func scripts(tb testing.TB) [][]byte {
	const small, big, stream, events, positions = 0, 1, 9, 10, 11 // of scriptRequests
	list := [][]byte{
		{opRequest, small, opTurn, opRead, opAskAsB},
		{opRepeat, big, 7, opTurn, opConnectAsB, opReset, opConnectAsB, opRequest, small, opTurn, opRead}, // the number of a stuck reader is given to b
		{opRepeat, big, 7, opTurn, opHalfClose, opEventOfB, opAskAsB},
		{opRepeat, big, 7, opTurn, opDeaf, opEventOfB, opConnectAsB},
		{opPart, small, 20, opTurn, opReset, opConnectAsB, opPart, big, 30, opHalfClose},
		{opRequest, events, opTurn, opEventOfB, opEventOfA, opTurn, opRead, opFrame, 0x89, 2, 'h', 'i', opEventOfB, opRead},
		{opRequest, stream, opEventOfA, opEventOfB, opTurn, opReset, opConnectAsB, opEventOfA, opEventOfB, opRequest, stream, opTurn, opRead},
		{opRequest, positions, opTurn, opFrame, 0x88, 2, 3, 0xe8, opEventOfA, opConnectAsB, opTurn, opRead},
		{opRequest, events, opFrame, 0x81, 2, 'h', 'i', opEventOfB, opHalfClose, opTurn, opConnectAsB},
		{opRequest, events, opTurn, opAccess, opEventOfB, opTurn, opRead, opConnectAsB, opNext, opRequest, small},
		{opRequest, stream, opTurn, opNext, opRequest, events, opTurn, opNext, opRepeat, big, 7, opTurn, opEventOfA, opEventOfB, opAccess, opRead},
		{opPart, 6, 100, opTurn, opAccess, opConnectAsB, opBytes, 1, '}', opTurn, opRead},
		{opRequest, 7, opTurn, opRead, opBytes, 3, '{', '"', 's', opReset, opRequest, 8, opTurn, opHalfClose},
		{opNext, opNext, opNext, opReset, opNext, opReset, opNext, opReset, opConnectAsB, opRequest, small, opNext, opRequest, 12, opTurn},
		{opRequest, 13, opTurn, opRead, opRequest, 5, opTurn, opRead},
	}
	cases, err := parsetest.Load(filepath.Join("..", "httpparse", "testdata"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, c := range cases {
		if len(c.Raw) > 1<<10 {
			continue
		}
		var script []byte
		for piece := range slices.Chunk(c.Raw, 100) {
			script = append(append(script, opBytes, byte(len(piece))), piece...)
		}
		list = append(list, append(script, opTurn, opRead, opConnectAsB))
	}
	return list
}

// TestArenaSeesSecrets: the fuzz target would notice.
func TestArenaSeesSecrets(t *testing.T) {
	for _, pieces := range [][]string{{"x" + secretOfB + "y"}, {secretOfB[:5], secretOfB[5:]}, {"x", secretOfB[:1], secretOfB[1:12], secretOfB[12:]}} {
		probe := &recordingTB{TB: t}
		h := hostile{t: probe}
		for _, piece := range pieces {
			h.look([]byte(piece))
		}
		if probe.failures == 0 {
			t.Errorf("%q was not noticed", pieces)
		}
	}
	probe := &recordingTB{TB: t}
	h := hostile{t: probe}
	for range 3 {
		h.look([]byte(secretOfA + secretOfB[:4]))
	}
	if probe.failures != 0 {
		t.Error("a's own value was taken for that of b")
	}
}

// recordingTB counts failures instead of failing.
type recordingTB struct {
	testing.TB
	failures int
}

func (r *recordingTB) Errorf(string, ...any) { r.failures++ }
