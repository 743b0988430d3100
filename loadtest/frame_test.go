package loadtest

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

func TestParseFrame(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		payload := bytes.Repeat([]byte("x"), size)
		b, err := ws.CompileFrame(ws.NewTextFrame(payload))
		if err != nil {
			t.Fatal(err)
		}
		op, got, n, err := parseFrame(append(b, 'y'))
		if op != opText || !bytes.Equal(got, payload) || n != len(b) || err != nil {
			t.Errorf("%d bytes: type %d, %d bytes, length %d, %v", size, op, len(got), n, err)
		}
		for _, cut := range []int{0, 1, 2, 3, len(b) - 1} {
			if cut >= len(b) {
				continue
			}
			if _, _, n, err := parseFrame(b[:cut]); n != 0 || err != nil {
				t.Errorf("%d bytes, the first %d: %d, %v; want 0 and no error", size, cut, n, err)
			}
		}
	}
	for name, b := range map[string]string{
		"fragment": "\x01\x00", "masked": "\x81\x80\x00\x00\x00\x00", "reserved bit": "\xc1\x00",
		"too long": "\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
	} {
		if _, _, _, err := parseFrame([]byte(b)); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v; want %v", name, err, errFrame)
		}
	}
}

func TestAppendMasked(t *testing.T) {
	r := bytes.NewReader(appendMasked(nil, opPong, []byte("hello")))
	h, err := ws.ReadHeader(r)
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(r, payload); err != nil {
		t.Fatal(err)
	}
	ws.Cipher(payload, h.Mask, 0)
	if h.OpCode != ws.OpPong || string(payload) != "hello" || !h.Fin || !h.Masked {
		t.Errorf("header = %+v, payload %q", h, payload)
	}
}

func TestEventNumber(t *testing.T) {
	for in, want := range map[string]int64{
		`{"type":"config","metadata":{"key":"user.event","old_value":"11","value":"12"}}`: 12,
		`{"metadata":{"value":"0"}}`:                        0,
		`{"metadata":{"value":""}}`:                         -1,
		`{"metadata":{"value":"1x"}}`:                       -1,
		`{"metadata":{"value":"12`:                          -1,
		`{"metadata":{"old_value":"12"}}`:                   -1,
		`{"value":"` + strings.Repeat("1", 30) + `"}`:       -1,
		`{"metadata":{"value":"7"},"position":"abc.12"}`:    7,
		`{"metadata":{"key":"a","value":"1","value":"34"}}`: 34,
	} {
		n, ok := eventNumber([]byte(in))
		if ok != (want >= 0) || ok && n != uint64(want) {
			t.Errorf("eventNumber(%s) = %d, %v; want %d", in, n, ok, want)
		}
	}
}
