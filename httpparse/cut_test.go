package httpparse

import (
	"fmt"
	"testing"
)

// wholeCuts is the length up to which every cut of a case is tried. The cases beyond
// it are about limits: for them, cuts near every limit and each end are.
const wholeCuts = 2 << 10

func TestCases(t *testing.T) {
	cases := loadCases(t)
	if len(cases) < 80 {
		t.Fatalf("only %d cases", len(cases))
	}
	seen := map[string]bool{}
	for _, c := range cases {
		if seen[c.Name()] {
			t.Errorf("two cases are called %s", c.Name())
		}
		seen[c.Name()] = true
		t.Run(c.Name(), func(t *testing.T) {
			whole := feed(c.Raw)
			if err := compare(&c, whole); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprint(whole)
			for _, cut := range cutsOf(len(c.Raw)) {
				if got := fmt.Sprint(feed(c.Raw, cut)); got != want {
					t.Fatalf("cut at %d: %.300s; want %.300s", cut, got, want)
				}
			}
			if got := fmt.Sprint(feed(c.Raw, bytewise(len(c.Raw))...)); got != want {
				t.Fatalf("byte by byte: %.300s; want %.300s", got, want)
			}
		})
	}
}

// cutsOf returns the places at which to cut n bytes in two.
func cutsOf(n int) (cuts []int) {
	for i := range n {
		if n <= wholeCuts || nearLimit(i, n) || i%1031 == 0 && n < 64<<10 {
			cuts = append(cuts, i)
		}
	}
	return cuts
}

// bytewise returns the cuts that deliver n bytes one by one; of a long case, only the
// start and what is near a limit, and the rest in larger pieces.
func bytewise(n int) (cuts []int) {
	for i := range n {
		if n <= wholeCuts || i < 200 || nearLimit(i, n) || i%1031 == 0 {
			cuts = append(cuts, i)
		}
	}
	return cuts
}

func nearLimit(i, n int) bool {
	for _, limit := range []int{0, MaxTarget, MaxHead, n} {
		if i > limit-8 && i < limit+8 {
			return true
		}
	}
	return false
}

// A verdict must not change when more bytes follow: whatever is refused is refused for
// good, and a head that is complete stays what it is.
func TestVerdictIsStable(t *testing.T) {
	for _, c := range loadCases(t) {
		if len(c.Raw) > wholeCuts {
			continue
		}
		t.Run(c.Name(), func(t *testing.T) {
			var req Request
			wantN, want := new(Parser).Head(c.Raw, &req)
			for i := range c.Raw {
				n, err := new(Parser).Head(c.Raw[:i:i], &req)
				if err != ErrPartial && (n != wantN || err != want) {
					t.Fatalf("after %d bytes: %d, %v; after all: %d, %v", i, n, err, wantN, want)
				}
			}
		})
	}
}

// Every reason to refuse a request is shown by a case.
func TestEveryErrorHasACase(t *testing.T) {
	shown := map[*Error]bool{}
	for _, c := range loadCases(t) {
		for _, o := range feed(c.Raw) {
			shown[o.err] = true
		}
	}
	for _, e := range AllErrors() {
		if !shown[e] {
			t.Errorf("no case in testdata shows: %d %s", e.Status, e.Text)
		}
	}
}
