package registry_test

import (
	"math"
	"testing"

	"devlxd/registry"

	"pgregory.net/rapid"
)

func TestParsePosition(t *testing.T) {
	for in, want := range map[string]registry.Position{
		"0000000000000001.0":                    {Epoch: 1},
		"00000000deadbeef.17":                   {Epoch: 0xdeadbeef, Offset: 17},
		"ffffffffffffffff.18446744073709551615": {Epoch: math.MaxUint64, Offset: math.MaxUint64},
	} {
		t.Run(in, func(t *testing.T) {
			got, err := registry.ParsePosition([]byte(in))
			if err != nil || got != want {
				t.Errorf("ParsePosition = %v, %v; want %v", got, err, want)
			}
			if got.String() != in {
				t.Errorf("String = %q; want %q", got.String(), in)
			}
		})
	}
}

func TestParsePositionRefuses(t *testing.T) {
	for _, in := range []string{
		"", ".", "1.1", "0000000000000001", "0000000000000001.", "0000000000000001.-1", "0000000000000001.+1", "0000000000000001.01",
		"0000000000000001.1 ", " 0000000000000001.1", "0000000000000001,1", "000000000000000A.1", "000000000000000g.1",
		"0000000000000000.1", "0000000000000001.18446744073709551616", "0000000000000001.99999999999999999999",
		"0000000000000001.184467440737095516150", "00000000000000001.1", "0000000000000001.1.1", "0000000000000001.0x1",
	} {
		t.Run(in, func(t *testing.T) {
			if got, err := registry.ParsePosition([]byte(in)); err != registry.ErrPosition {
				t.Errorf("ParsePosition = %v, %v; want ErrPosition", got, err)
			}
		})
	}
}

func TestPositionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := registry.Position{Epoch: rapid.Uint64Min(1).Draw(t, "epoch"), Offset: rapid.Uint64().Draw(t, "offset")}
		if got, err := registry.ParsePosition([]byte(want.String())); err != nil || got != want {
			t.Fatalf("ParsePosition(%q) = %v, %v", want, got, err)
		}
	})
}

// FuzzParsePosition: what is taken has one spelling.
func FuzzParsePosition(f *testing.F) {
	f.Add([]byte("00000000deadbeef.17"))
	f.Add([]byte("0000000000000001.18446744073709551616"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if p, err := registry.ParsePosition(in); err == nil && p.String() != string(in) {
			t.Fatalf("ParsePosition(%q) = %v", in, p)
		}
	})
}
