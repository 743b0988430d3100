package server

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestWheel compares the wheel with a list of deadlines: each connection is due once, at its last deadline, never before.
func TestWheel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w wheel
		w.now = rapid.SampledFrom([]uint32{0, 1, wheelSlots - 1, 1<<31 - 5, 1<<32 - 5}).Draw(t, "start") // also where ticks overflow
		conns := make([]*conn, 8)
		due := make(map[*conn]uint32) // the model
		for i := range conns {
			conns[i] = &conn{fd: int32(i)}
		}
		pick := func(t *rapid.T) *conn { return conns[rapid.IntRange(0, len(conns)-1).Draw(t, "conn")] }
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				c, d := pick(t), time.Duration(rapid.IntRange(0, 120_000).Draw(t, "ms"))*time.Millisecond
				w.set(c, d)
				due[c] = w.now + ticksOf(d)
			},
			"unlink": func(t *rapid.T) {
				c := pick(t)
				w.unlink(c)
				delete(due, c)
			},
			"advance": func(t *rapid.T) {
				n := rapid.Uint32Range(0, 3*wheelSlots).Draw(t, "ticks")
				from := w.now
				w.advance(n, func(c *conn) {
					if want, ok := due[c]; !ok || want != w.now {
						t.Fatalf("connection %d is due at tick %d; want %d (%v)", c.fd, w.now, want, ok)
					}
					delete(due, c)
					if c.inWheel {
						t.Fatalf("connection %d is due and still in the wheel", c.fd)
					}
				})
				if w.now != from+n {
					t.Fatalf("the wheel is at %d; want %d", w.now, from+n)
				}
			},
			"": func(t *rapid.T) {
				for c, at := range due {
					if !c.inWheel || int32(at-w.now) <= 0 {
						t.Fatalf("connection %d was to be due at %d, and it is %d", c.fd, at, w.now)
					}
				}
				for _, c := range conns {
					if _, ok := due[c]; !ok && c.inWheel {
						t.Fatalf("connection %d is in the wheel without a deadline", c.fd)
					}
				}
			},
		})
	})
}

// TestWheelReentry: what is due may set its own deadline again, set others and take others out, also those of the same tick.
func TestWheelReentry(t *testing.T) {
	var w wheel
	a, b, c := &conn{fd: 1}, &conn{fd: 2}, &conn{fd: 3}
	for _, x := range []*conn{a, b, c} {
		w.set(x, time.Second)
	}
	var order []int32
	w.advance(100, func(x *conn) {
		order = append(order, x.fd)
		switch {
		case len(order) == 1:
			for _, other := range []*conn{a, b, c} {
				if other != x {
					w.unlink(other)
				}
			}
			w.set(x, time.Second)
		case len(order) < 4:
			w.set(x, time.Second)
		}
	})
	if len(order) != 4 || order[1] != order[0] || order[3] != order[0] {
		t.Errorf("due = %v; want the first one four times", order)
	}
	for i, head := range w.slots {
		if head != nil {
			t.Errorf("slot %d is not empty", i)
		}
	}
}

// TestTicksOf: a deadline is never early, and at most two ticks late.
func TestTicksOf(t *testing.T) {
	for d, want := range map[time.Duration]uint32{0: 1, 1: 2, tick: 2, tick + 1: 3, 3 * time.Second: 31} {
		if got := ticksOf(d); got != want {
			t.Errorf("ticksOf(%v) = %d; want %d", d, got, want)
		}
	}
}
