package ws_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	gobwas "github.com/gobwas/ws"

	"devlxd/ws"
)

// TestAppendFrame compares with gobwas/ws at each border of the length.
func TestAppendFrame(t *testing.T) {
	for _, size := range []int{0, 1, 124, 125, 126, 127, 128, 65535, 65536, 65537} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			payload := bytes.Repeat([]byte{'p'}, size)
			want, err := gobwas.CompileFrame(gobwas.NewTextFrame(payload))
			if err != nil {
				t.Fatal(err)
			}
			got := ws.AppendFrame([]byte("before"), ws.OpText, payload)
			if !bytes.Equal(got, append([]byte("before"), want...)) {
				t.Errorf("AppendFrame = %.20x...; want %.20x...", got[6:], want)
			}
			frame, offset := ws.TextFrame(payload)
			if !bytes.Equal(frame, want) || !bytes.Equal(frame[offset:], payload) {
				t.Errorf("TextFrame = %.20x..., %d; want %.20x...", frame, offset, want)
			}
			if cap(frame) != len(frame) && cap(frame) > len(frame)+len(frame)/4+16 {
				t.Errorf("TextFrame has capacity %d for %d bytes", cap(frame), len(frame))
			}
		})
	}
}

func TestAppendFrameControl(t *testing.T) {
	for _, size := range []int{0, 125, 126, 70000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			got := ws.AppendFrame(nil, ws.OpPong, make([]byte, size))
			if n := min(size, ws.MaxControl); len(got) != 2+n || got[0] != 0x8a || got[1] != byte(n) {
				t.Errorf("AppendFrame = %.4x..., %d bytes; want a pong of %d", got, len(got), n)
			}
		})
	}
}

func TestConstantFrames(t *testing.T) {
	for frame, want := range map[string][]byte{
		ws.PingFrame:  gobwas.CompiledPing,
		ws.PongFrame:  gobwas.CompiledPong,
		ws.CloseFrame: gobwas.CompiledClose,
	} {
		if frame != string(want) {
			t.Errorf("frame is %x; want %x", frame, want)
		}
	}
}

func TestAppendClose(t *testing.T) {
	for _, tt := range []struct {
		code   ws.StatusCode
		reason string
		want   string
	}{
		{ws.StatusNormalClosure, "", "\x88\x02\x03\xe8"},
		{ws.StatusTryAgainLater, "later", "\x88\x07\x03\xf5later"},
		{ws.StatusNoStatusRcvd, "unsaid", "\x88\x00"},
		{ws.StatusAbnormalClosure, "unsaid", "\x88\x00"},
		{0, "", "\x88\x00"},
		{65535, "", "\x88\x00"},
		{1000, strings.Repeat("r", 123), "\x88\x7d\x03\xe8" + strings.Repeat("r", 123)},
		{1000, strings.Repeat("r", 124), "\x88\x7d\x03\xe8" + strings.Repeat("r", 123)},
		{1000, strings.Repeat("r", 122) + "é", "\x88\x7c\x03\xe8" + strings.Repeat("r", 122)},
		{1000, strings.Repeat("r", 121) + "é", "\x88\x7d\x03\xe8" + strings.Repeat("r", 121) + "é"},
		{1000, "ok\xffno", "\x88\x04\x03\xe8ok"},
		{1000, "ok\uFFFDyes", "\x88\x0a\x03\xe8ok\uFFFDyes"},
	} {
		t.Run(fmt.Sprintf("%d %.10q %d", tt.code, tt.reason, len(tt.reason)), func(t *testing.T) {
			if got := ws.AppendClose(nil, tt.code, tt.reason); string(got) != tt.want {
				t.Errorf("AppendClose = %x; want %x", got, tt.want)
			}
		})
	}
}

// TestCloseCodes walks through all codes: what may be sent, what is accepted,
// and what gobwas/ws says where it is right.
func TestCloseCodes(t *testing.T) {
	valid := func(c int) bool {
		switch {
		case c >= 1000 && c <= 1003, c >= 1007 && c <= 1014, c >= 3000 && c <= 4999:
			return true
		}
		return false
	}
	for c := 0; c <= 0xffff; c++ {
		code := ws.StatusCode(c)
		if got := ws.ValidCode(code); got != valid(c) {
			t.Errorf("ValidCode(%d) = %t; want %t", c, got, valid(c))
		}
		got, reason, err := ws.ParseClose([]byte{byte(c >> 8), byte(c), 'w', 'h', 'y'})
		if valid(c) && (err != nil || got != code || string(reason) != "why") {
			t.Errorf("ParseClose of %d = %d, %q, %v", c, got, reason, err)
		}
		if !valid(c) && (err != ws.ErrCloseCode || got != 0 || reason != nil) {
			t.Errorf("ParseClose of %d = %d, %q, %v; want ErrCloseCode", c, got, reason, err)
		}
		known := c >= 1012 && c <= 1014 || c >= 5000
		if theirs := gobwas.CheckCloseFrameData(code, "") == nil; theirs != valid(c) && !known {
			t.Errorf("gobwas/ws accepts %d: %t; ours %t", c, theirs, valid(c))
		}
	}
}

func TestParseClose(t *testing.T) {
	for _, tt := range []struct {
		payload string
		code    ws.StatusCode
		reason  string
		err     error
	}{
		{"", ws.StatusNoStatusRcvd, "", nil},
		{"\x03", 0, "", ws.ErrCloseBody},
		{"\x03\xe8", 1000, "", nil},
		{"\x03\xe9good by\xc3\xa9", 1001, "good by\xc3\xa9", nil},
		{"\x03\xe9good by\xc3", 0, "", ws.ErrCloseUTF8},
		{"\x03\xed\xff", 0, "", ws.ErrCloseCode},
	} {
		t.Run(fmt.Sprintf("%x", tt.payload), func(t *testing.T) {
			code, reason, err := ws.ParseClose([]byte(tt.payload))
			if code != tt.code || string(reason) != tt.reason || err != tt.err {
				t.Errorf("ParseClose = %d, %q, %v; want %d, %q, %v", code, reason, err, tt.code, tt.reason, tt.err)
			}
		})
	}
}

// TestCloseAnswer checks that what a close says is the right answer to it.
func TestCloseAnswer(t *testing.T) {
	for _, payload := range []string{"", "\x03\xe8", "\x0f\xa0reason"} {
		t.Run(fmt.Sprintf("%x", payload), func(t *testing.T) {
			code, _, err := ws.ParseClose([]byte(payload))
			if err != nil {
				t.Fatal(err)
			}
			answer := ws.AppendClose(nil, code, "")
			if want := min(len(payload), 2); string(answer[2:]) != payload[:want] {
				t.Errorf("answer = %x; want the code of %x", answer, payload)
			}
		})
	}
}

func TestFrameAllocations(t *testing.T) {
	dst := make([]byte, 0, 70010)
	payload := make([]byte, 70000)
	reason := strings.Repeat("é", 100)
	key := []byte("dGhlIHNhbXBsZSBub25jZQ==")
	body := []byte("\x03\xe8reason")
	for name, f := range map[string]func(){
		"AppendFrame":   func() { ws.AppendFrame(dst, ws.OpBinary, payload) },
		"AppendClose":   func() { ws.AppendClose(dst, 1000, reason) },
		"AppendUpgrade": func() { ws.AppendUpgrade(dst, key) },
		"ParseClose":    func() { _, _, _ = ws.ParseClose(body) },
	} {
		t.Run(name, func(t *testing.T) {
			if n := testing.AllocsPerRun(200, f); n != 0 {
				t.Errorf("%s allocates %v times; want 0", name, n)
			}
		})
	}
	t.Run("TextFrame", func(t *testing.T) {
		if n := testing.AllocsPerRun(200, func() { ws.TextFrame(payload[:200]) }); n != 1 {
			t.Errorf("TextFrame allocates %v times; want 1", n)
		}
	})
}

// TestRoomPromised checks the room that the documentation names for dst.
func TestRoomPromised(t *testing.T) {
	payload := make([]byte, 65536)
	for name, tt := range map[string]struct {
		room int
		add  func(dst []byte) []byte
	}{
		"AppendFrame":   {len(payload) + 10, func(dst []byte) []byte { return ws.AppendFrame(dst, ws.OpText, payload) }},
		"AppendClose":   {127, func(dst []byte) []byte { return ws.AppendClose(dst, 1000, strings.Repeat("r", 200)) }},
		"AppendAccept":  {28, func(dst []byte) []byte { return ws.AppendAccept(dst, []byte("dGhlIHNhbXBsZSBub25jZQ==")) }},
		"AppendUpgrade": {160, func(dst []byte) []byte { return ws.AppendUpgrade(dst, []byte("dGhlIHNhbXBsZSBub25jZQ==")) }},
	} {
		t.Run(name, func(t *testing.T) {
			if n := len(tt.add(nil)); n > tt.room {
				t.Errorf("%s appends %d bytes; the documentation says %d are enough", name, n, tt.room)
			}
		})
	}
}

func TestReasonsFit(t *testing.T) {
	for _, e := range ws.AllCloseErrors() {
		t.Run(e.Label, func(t *testing.T) {
			frame := ws.AppendClose(nil, e.Code, e.Reason)
			if string(frame[4:]) != e.Reason || !utf8.ValidString(e.Reason) {
				t.Errorf("reason %q does not fit a close frame", e.Reason)
			}
		})
	}
}
