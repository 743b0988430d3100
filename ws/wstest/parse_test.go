package wstest_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"devlxd/ws"
	"devlxd/ws/wstest"
)

func load(t *testing.T) []wstest.Case {
	t.Helper()
	cases, err := wstest.Cases()
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

// TestNumbers checks that the table has every number of the Autobahn groups
// that it covers, once.
func TestNumbers(t *testing.T) {
	last := map[string]int{ // the highest number of each group, counted from 1
		"1.1": 8, "1.2": 8, "2": 11, "3": 7, "4.1": 5, "4.2": 5, "5": 20,
		"6.1": 3, "6.2": 4, "6.3": 2, "6.4": 4, "6.5": 5, "6.6": 11, "6.7": 4, "6.8": 2, "6.9": 4,
		"6.10": 3, "6.11": 5, "6.12": 8, "6.13": 5, "6.14": 10, "6.15": 1, "6.16": 3, "6.17": 5,
		"6.18": 5, "6.19": 5, "6.20": 7, "6.21": 8, "6.22": 34, "6.23": 7,
		"9.1": 6, "9.2": 6, "9.3": 9, "9.4": 9, "9.5": 6, "9.6": 6, "9.7": 6, "9.8": 6,
		"7.1": 6, "7.3": 6, "7.5": 1, "7.7": 13, "7.9": 9, "7.13": 2, "10.1": 1, "D": 29,
	}
	want := map[string]bool{}
	for group, n := range last {
		for i := range n {
			want[fmt.Sprintf("%s.%d", group, i+1)] = true
		}
	}
	got := map[string]bool{}
	for _, c := range load(t) {
		if got[c.ID] {
			t.Errorf("%s:%d: case %s is there twice", c.File, c.Line, c.ID)
		}
		got[c.ID] = true
		if !want[c.ID] {
			t.Errorf("%s:%d: case %s has a number that is not in the table", c.File, c.Line, c.ID)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if !got[id] {
			t.Errorf("case %s is missing", id)
		}
	}
}

// TestEnds checks that every case makes the server send exactly one close.
func TestEnds(t *testing.T) {
	for _, c := range load(t) {
		n := 0
		for _, e := range c.Events(wstest.Answer) {
			if e.Op == ws.OpClose {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s:%d: case %s has %d closes of the server; want 1", c.File, c.Line, c.ID, n)
		}
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []byte
	}{
		{`text ""`, []byte{0x81, 0x80, 1, 2, 3, 4}},
		{`text "\x00\x00\x00\x00\x00"`, []byte{0x81, 0x85, 1, 2, 3, 4, 1, 2, 3, 4, 1}},
		{`cont more rsv5 "\x00"`, []byte{0x50, 0x81, 1, 2, 3, 4, 1}},
		{`op11 bare "ab" "c"*2`, []byte{0x8b, 0x04, 'a', 'b', 'c', 'c'}},
		{`close 1000 "\x00"`, []byte{0x88, 0x83, 1, 2, 3, 4, 0x03 ^ 1, 0xe8 ^ 2, 3}},
		{`ping in2 bare ""`, []byte{0x89, 126, 0, 0}},
		{`pong in8 bare "z"`, []byte{0x8a, 127, 0, 0, 0, 0, 0, 0, 0, 1, 'z'}},
		{`text claims 0x100 bare "z"`, []byte{0x81, 126, 1, 0, 'z'}},
		{`text bare each 2 "abcde"`, []byte{0x01, 2, 'a', 'b', 0x00, 2, 'c', 'd', 0x80, 1, 'e'}},
	} {
		t.Run(tt.line, func(t *testing.T) {
			cases, err := wstest.Parse("f", "1 Title\n  < "+tt.line+"\n  > close 1002\n")
			if err != nil {
				t.Fatal(err)
			}
			got := bytes.Join(cases[0].Encode(func() [4]byte { return [4]byte{1, 2, 3, 4} }), nil)
			if !bytes.Equal(got, tt.want) {
				t.Errorf("bytes = %x; want %x", got, tt.want)
			}
		})
	}
}

func TestParseRest(t *testing.T) {
	cases, err := wstest.Parse("f", "1 Title\n  < text claims 5 \"abc\"\n  < ... \"de\"\n  > close 1002\n")
	if err != nil {
		t.Fatal(err)
	}
	got := bytes.Join(cases[0].Encode(func() [4]byte { return [4]byte{1, 2, 3, 4} }), nil)
	want := []byte{0x81, 0x85, 1, 2, 3, 4, 'a' ^ 1, 'b' ^ 2, 'c' ^ 3, 'd' ^ 4, 'e' ^ 1}
	if !bytes.Equal(got, want) {
		t.Errorf("bytes = %x; want %x", got, want)
	}
}

func TestParseErrors(t *testing.T) {
	for _, line := range []string{
		"? what", "< nothing", "< op1", "< op16", "< text loud", "< text \"open", "< text \"a\"*0", "< text \"a\"*b",
		"< close 1e3", "< close 70000", "< text claims x", "< text each 0", "= cont \"\"", "= op3", "= text more \"a\"",
		"= close 1 2", "> text \"echo\"", "max 0", "max lots", "chop never", "times 0",
	} {
		t.Run(line, func(t *testing.T) {
			_, err := wstest.Parse("f", "1 Title\n  "+line+"\n")
			if err == nil || !strings.HasPrefix(err.Error(), "f:2: ") {
				t.Errorf("Parse = %v; want an error of f:2", err)
			}
		})
	}
	for _, text := range []string{"  < ping \"\"", "5.6"} {
		t.Run(text, func(t *testing.T) {
			if _, err := wstest.Parse("f", text); err == nil {
				t.Error("Parse = nil; want an error")
			}
		})
	}
}

func TestWrites(t *testing.T) {
	for chop, want := range map[string]int{"chop frame": 3, "chop 5": 4, "max 1": 1} {
		t.Run(chop, func(t *testing.T) {
			cases, err := wstest.Parse("f", "1 Title\n "+chop+"\n < ping bare \"abcd\"\n < pong bare \"efgh\"\n")
			if err != nil {
				t.Fatal(err)
			}
			writes := cases[0].Writes(func() [4]byte { return [4]byte{} })
			if len(writes) != want {
				t.Errorf("%d writes; want %d", len(writes), want)
			}
			all := bytes.Join(cases[0].Encode(func() [4]byte { return [4]byte{} }), nil)
			if !bytes.Equal(bytes.Join(writes, nil), all) {
				t.Errorf("writes are %x; want %x together", writes, all)
			}
		})
	}
}

func TestTimes(t *testing.T) {
	cases, err := wstest.Parse("f", "1 Title\n times 3\n < ping \"a\"\n > pong \"a\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(cases[0].Events(wstest.Answer)); n != 4 { // and a close
		t.Errorf("%d answers; want 3 pongs and a close", n)
	}
}
