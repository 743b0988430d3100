package ws_test

import (
	"math/rand/v2"
	"testing"

	"devlxd/ws"
	"devlxd/ws/wstest"
)

// maskOf gives keys that differ from frame to frame and from run to run of a
// case, and are the same in each run of the test.
func maskOf(rng *rand.Rand) func() [4]byte {
	return func() [4]byte {
		v := rng.Uint32()
		return [4]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}
	}
}

func zeroMask() [4]byte { return [4]byte{} }

// forEachCase runs a sub-test for each conformance case.
func forEachCase(t *testing.T, test func(t *testing.T, c *wstest.Case, rng *rand.Rand)) {
	t.Helper()
	cases, err := wstest.Cases()
	if err != nil {
		t.Fatal(err)
	}
	for i := range cases {
		c := &cases[i]
		t.Run(c.ID, func(t *testing.T) {
			test(t, c, rand.New(rand.NewPCG(6455, uint64(i))))
		})
	}
}

// converse feeds writes to a decoder and compares the outcome with the case.
func converse(t *testing.T, c *wstest.Case, inPlace bool, writes ...[]byte) {
	t.Helper()
	r := receiver{tb: t, d: ws.Decoder{Max: c.Max}, inPlace: inPlace}
	for _, w := range writes {
		r.write(w)
	}
	checkEvents(t, c, &r)
}

func checkEvents(t *testing.T, c *wstest.Case, r *receiver) {
	t.Helper()
	sameEvents(t, c.Title+" event", r.events, c.Events(wstest.Yield))
	sameEvents(t, c.Title+" answer", r.answers, c.Events(wstest.Answer))
	// Every case ends with a close frame or a fault, and behind it with more.
	r.write([]byte{0x89, 0x80, 1, 2, 3, 4})
	sameEvents(t, c.Title+" event after the end", r.events, c.Events(wstest.Yield))
	sameEvents(t, c.Title+" answer after the end", r.answers, c.Events(wstest.Answer))
}

// join is all that the client sends, with fresh masks.
func join(c *wstest.Case, mask func() [4]byte) []byte {
	var all []byte
	for _, b := range c.Encode(mask) {
		all = append(all, b...)
	}
	return all
}

func TestCasesWhole(t *testing.T) {
	forEachCase(t, func(t *testing.T, c *wstest.Case, rng *rand.Rand) {
		converse(t, c, false, join(c, zeroMask))
		for range 4 {
			converse(t, c, false, join(c, maskOf(rng)))
		}
	})
}

func TestCasesAsWritten(t *testing.T) {
	forEachCase(t, func(t *testing.T, c *wstest.Case, rng *rand.Rand) {
		converse(t, c, true, c.Writes(maskOf(rng))...)
	})
}

// TestCasesStepByStep checks that nothing is noticed before or after the frame,
// or the part of a frame, that must bring it about: this is the "fail fast" of
// groups 3 to 6.
func TestCasesStepByStep(t *testing.T) {
	forEachCase(t, func(t *testing.T, c *wstest.Case, rng *rand.Rand) {
		r := receiver{tb: t, d: ws.Decoder{Max: c.Max}}
		var yields, answers int
		check := func() {
			t.Helper()
			sameEvents(t, c.Title+" event", r.events, c.Events(wstest.Yield)[:yields])
			sameEvents(t, c.Title+" answer", r.answers, c.Events(wstest.Answer)[:answers])
		}
		for i, b := range c.Encode(maskOf(rng)) {
			switch c.Steps[i].Kind {
			case wstest.Send:
				check()
				r.write(b)
			case wstest.Yield:
				yields++
			case wstest.Answer:
				answers++
			}
		}
		check()
	})
}

func TestCasesCutInTwo(t *testing.T) {
	forEachCase(t, func(t *testing.T, c *wstest.Case, rng *rand.Rand) {
		all := join(c, maskOf(rng))
		for _, cut := range cuts(c, len(all)) {
			converse(t, c, cut%2 == 0, all[:cut], all[cut:])
		}
	})
}

// cuts are all positions of a short case. Of a long one they are those around
// the borders of frames and some between.
func cuts(c *wstest.Case, size int) []int {
	const short, near, stride = 2048, 16, 6007
	limits := c.File == "09-limits.txt" // about sizes: the other groups have every kind of cut
	if (testing.Short() || limits) && size > short {
		return []int{1, size / 2, size - 1}
	}
	var positions []int
	if size <= short {
		for i := range size + 1 {
			positions = append(positions, i)
		}
		return positions
	}
	at := 0
	for _, b := range c.Encode(zeroMask) {
		if b == nil || len(positions) > 40*near {
			continue
		}
		for j := max(at-near, 0); j <= min(at+near, size); j++ {
			positions = append(positions, j)
		}
		at += len(b)
	}
	for i := stride; i < size; i += stride {
		positions = append(positions, i)
	}
	return positions
}

func TestCasesByteByByte(t *testing.T) {
	forEachCase(t, func(t *testing.T, c *wstest.Case, rng *rand.Rand) {
		all := join(c, maskOf(rng))
		bytewise := make([][]byte, len(all))
		for i := range all {
			bytewise[i] = all[i : i+1]
		}
		converse(t, c, true, bytewise...)
		if len(all) <= 2048 {
			converse(t, c, false, bytewise...)
		}
	})
}

func TestCasesInRandomParts(t *testing.T) {
	forEachCase(t, func(t *testing.T, c *wstest.Case, rng *rand.Rand) {
		all := join(c, maskOf(rng))
		for range 8 {
			var parts [][]byte
			longest := 1 + rng.IntN(1+len(all)/3)
			for rest := all; len(rest) > 0; {
				n := min(1+rng.IntN(longest), len(rest))
				parts = append(parts, rest[:n])
				rest = rest[n:]
			}
			converse(t, c, false, parts...)
		}
	})
}
