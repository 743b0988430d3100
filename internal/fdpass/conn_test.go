package fdpass

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds each wait for something that must come.
const patience = 20 * time.Second

// pair is two ends in this process.
func pair(t testing.TB) (a, b *Conn) {
	t.Helper()
	a, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	if b, err = New(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
	})
	return a, b
}

// received sends a message and returns what the other end got.
func received(t testing.TB, a, b *Conn, m Message) (Message, error) {
	t.Helper()
	sent := make(chan error, 1)
	go func() { sent <- a.Send(m, patience) }()
	got, err := b.Receive(patience)
	if serr := <-sent; serr != nil && err == nil {
		t.Fatalf("Send = %v", serr)
	}
	return got, err
}

// TestMessages: bodies of all sizes around a packet arrive as they were sent, in order.
func TestMessages(t *testing.T) {
	a, b := pair(t)
	for _, size := range []int{0, 1, packetSize - 1, packetSize, packetSize + 1, 5*packetSize + 7} {
		body := bytes.Repeat([]byte{byte(size), 1, 2}, size/3+1)[:size]
		got, err := received(t, a, b, Message{Kind: uint16(size), Body: body})
		if err != nil || got.Kind != uint16(size) || !bytes.Equal(got.Body, body) || len(got.FDs) != 0 {
			t.Fatalf("%d bytes: kind %d, %d bytes, %v", size, got.Kind, len(got.Body), err)
		}
	}
}

// TestDescriptors: the most that a message can have arrive in order, close-on-exec, and are the receiver's own.
func TestDescriptors(t *testing.T) {
	a, b := pair(t)
	var files []*os.File
	var fds []int
	for i := range MaxFDs {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		files = append(files, r)
		fds = append(fds, int(r.Fd()))
	}
	got, err := received(t, a, b, Message{Kind: 7, FDs: fds})
	for _, f := range files {
		_ = f.Close()
	}
	if err != nil || len(got.FDs) != MaxFDs {
		t.Fatalf("%d descriptors, %v", len(got.FDs), err)
	}
	for i, fd := range got.FDs {
		var one [2]byte
		if n, err := unix.Read(fd, one[:]); n != 1 || err != nil || one[0] != byte(i) {
			t.Fatalf("descriptor %d reads %d, %d, %v", i, n, one[0], err)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Fatalf("descriptor %d is inherited by children", i)
		}
	}
	got.Close()
	if err := a.Send(Message{FDs: make([]int, MaxFDs+1)}, patience); err != ErrTooLarge {
		t.Errorf("one more = %v", err)
	}
}

// TestDamage: no message that was cut off anywhere or changed in any byte is taken for a message.
func TestDamage(t *testing.T) {
	var whole []byte
	a, b := pair(t)
	if err := a.Send(Message{Kind: 3, Body: []byte("a body of some length")}, patience); err != nil {
		t.Fatal(err)
	}
	whole = make([]byte, 4096)
	n, err := b.c.Read(whole)
	if err != nil {
		t.Fatal(err)
	}
	whole = whole[:n]
	try := func(packet []byte) error {
		a, b := pair(t)
		defer b.Close()
		if len(packet) > 0 {
			if _, err := a.c.Write(packet); err != nil {
				t.Fatal(err)
			}
		}
		_ = a.Close()
		_, err := b.Receive(patience)
		return err
	}
	if err := try(whole); err != nil {
		t.Fatalf("the whole message = %v", err)
	}
	for i := range whole {
		if err := try(whole[:i]); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrEnded) {
			t.Errorf("cut to %d bytes = %v", i, err)
		}
		changed := bytes.Clone(whole)
		changed[i] ^= 0x40
		if err := try(changed); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrEnded) && !errors.Is(err, ErrDescriptors) {
			t.Errorf("byte %d changed = %v", i, err)
		}
	}
}

// TestEnds: deadlines, an end that is gone, and an answer in place of an acknowledgement are told apart.
func TestEnds(t *testing.T) {
	a, b := pair(t)
	if _, err := a.Receive(time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nothing came: %v", err)
	}
	if err := a.Send(Message{FDs: []int{0}}, time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nobody acknowledged: %v", err)
	}
	if err := b.Send(Message{Kind: 9, Body: []byte("no")}, patience); err != nil {
		t.Fatal(err)
	}
	var unexpected *UnexpectedError
	if err := a.Send(Message{FDs: []int{0}}, patience); !errors.As(err, &unexpected) || unexpected.Message.Kind != 9 {
		t.Errorf("answered instead: %v", err)
	}
	_ = b.Close()
	if err := a.Send(Message{}, patience); err != ErrEnded {
		t.Errorf("Send to nobody = %v", err)
	}
	if _, err := a.Receive(patience); err != ErrEnded {
		t.Errorf("Receive from nobody = %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := New(r); err == nil {
		t.Error("a pipe is taken for a connection")
	}
	if _, err := io.ReadAll(r); err == nil {
		t.Error("New left the file open")
	}
}
