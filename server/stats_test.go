package server

import (
	"slices"
	"testing"
)

// TestLoopConnections: each loop tells how many connections it holds, whoever their peers are and however they end, and
// none is counted any more when the server has ended.
func TestLoopConnections(t *testing.T) {
	const loops, each = 3, 4
	r := newRig(t, Options{Loops: loops})
	r.container("c1", nil)
	if got := r.srv.LoopConnections(); !slices.Equal(got, make([]int, loops)) {
		t.Errorf("at first: %v", got)
	}
	var clients []*client
	for range loops * each {
		c := r.dial("c1")
		c.get("/1.0") // what is answered is with its loop
		clients = append(clients, c)
	}
	if got := r.srv.LoopConnections(); !slices.Equal(got, []int{each, each, each}) {
		t.Errorf("%d connections dealt out: %v", loops*each, got)
	}
	for i := range 2 * loops {
		refused := r.dial([]string{stranger, nonRoot}[i%2])
		refused.get("/1.0")
		_ = refused.Close()
	}
	eventually(t, "those that were refused are taken off", func() bool {
		return slices.Equal(r.srv.LoopConnections(), []int{each, each, each})
	})
	for i, c := range clients { // all of the first loop, one of the second
		if i%loops == 0 || i == 1 {
			_ = c.Close()
		}
	}
	eventually(t, "the closed ones are taken off", func() bool {
		return slices.Equal(r.srv.LoopConnections(), []int{0, each - 1, each})
	})
	if err := r.shutdown(patience); err != nil {
		t.Fatal(err)
	}
	if got := r.srv.LoopConnections(); !slices.Equal(got, make([]int, loops)) {
		t.Errorf("after the end: %v", got)
	}
}
