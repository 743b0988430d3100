package ws_test

import (
	"fmt"

	"devlxd/ws"
)

// A connection calls Next for each read and keeps what ErrPartial leaves over.
func ExampleDecoder_Next() {
	// Two reads: a text message, and a ping that comes in two parts.
	reads := [][]byte{
		{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58, 0x89, 0x82, 0x01},
		{0x02, 0x03, 0x04, 'u' ^ 0x01, 'p' ^ 0x02},
	}
	var d ws.Decoder
	var pending []byte
	for _, read := range reads {
		pending = append(pending, read...)
		for {
			p, n, err := d.Next(pending)
			if err == ws.ErrPartial {
				fmt.Println("kept:", len(pending), "bytes")
				break
			}
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Printf("opcode %d: %q\n", p.Op, p.Data)
			pending = pending[n:]
		}
	}
	// Output:
	// opcode 1: "Hello"
	// kept: 3 bytes
	// opcode 9: "up"
	// kept: 0 bytes
}

// An event is framed once and written to every subscriber.
func ExampleTextFrame() {
	frame, offset := ws.TextFrame([]byte(`{"type":"config"}` + "\n"))
	fmt.Printf("%x %q\n", frame[:offset], frame[offset:])
	// Output:
	// 8112 "{\"type\":\"config\"}\n"
}
