package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/loadtest/guests"
	"devlxd/peer"
	"devlxd/registry"
	"devlxd/source"
)

// TestBoundContainersTakeNoDescriptors binds a thousand real containers, is asked by some of them, and sees them end.
func TestBoundContainersTakeNoDescriptors(t *testing.T) {
	k := newKernelRig(t, peer.Options{})
	if fixed, each := peer.WatchFiles(); each != 0 {
		t.Skipf("needs CAP_SETUID: watching takes %d descriptors and %d for each process", fixed, each)
	}
	const count = 1000
	set, err := guests.Start(context.Background(), guests.Options{Count: count, IDBase: containerRoot})
	if errors.Is(err, guests.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := set.SetSocket(k.path); err != nil {
		t.Fatal(err)
	}
	before := openFiles(t)
	bindings := make([]*registry.Binding, count)
	for i := range bindings {
		bindings[i] = k.bind(fmt.Sprint("c", i), source.BindRequest{PID: set.PID(i)})
	}
	if grown := openFiles(t) - before; grown > int(k.srv.budget.watch) {
		t.Errorf("%d containers take %d descriptors; the budget has %d", count, grown, k.srv.budget.watch)
	}
	for _, i := range []int{0, 1, count / 2, count - 1} {
		k.askAsGuest(set, i)
	}
	// Most stop, and what is left still is known and watched.
	for i := range count - 10 {
		if err := set.Stop(i); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the bindings of those that stopped are dead", func() bool {
		return !slices.ContainsFunc(bindings[:count-10], func(b *registry.Binding) bool { return !b.Dead() })
	})
	if slices.ContainsFunc(bindings[count-10:], (*registry.Binding).Dead) {
		t.Error("a binding is dead whose container runs")
	}
	if grown := openFiles(t) - before; grown > int(k.srv.budget.watch) {
		t.Errorf("%d descriptors more than before", grown)
	}
	k.askAsGuest(set, count-1)
	if err := set.Stop(count - 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the binding of one that was watched long is dead", bindings[count-1].Dead)
}

// askAsGuest has a guest connect and asks who it is.
func (k *kernelRig) askAsGuest(set *guests.Set, i int) {
	k.t.Helper()
	if err := set.Connect(i, 1); err != nil {
		k.t.Fatal(err)
	}
	var got guests.Conn
	for done := false; !done; {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(set.FD()), Events: unix.POLLIN}}, int(patience.Milliseconds())); err != nil && err != unix.EINTR {
			k.t.Fatal(err)
		}
		if err := set.Receive(func(c guests.Conn) { got, done = c, true }); err != nil {
			k.t.Fatal(err)
		}
	}
	if got.Err != 0 {
		k.t.Fatal(got.Err)
	}
	f := os.NewFile(uintptr(got.FD), "guest")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		k.t.Fatal(err)
	}
	defer conn.Close()
	c := &client{UnixConn: conn.(*net.UnixConn), t: k.t, r: bufio.NewReader(conn)}
	_ = c.SetDeadline(time.Now().Add(patience))
	if a := c.get("/1.0/config/user.name"); a.body != fmt.Sprint("c", i) {
		k.t.Errorf("guest %d is answered %q", i, a.raw())
	}
}

// TestBinderForFoundContainers: who finds a container knows its cgroup, may say no at the last moment, and is told of its end.
func TestBinderForFoundContainers(t *testing.T) {
	k := newKernelRig(t, peer.Options{})
	set, err := guests.Start(context.Background(), guests.Options{Count: 1, IDBase: containerRoot})
	if errors.Is(err, guests.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	stopped := make(chan string, 1)
	k.binder.NotifyStopped(func(name string) { stopped <- name })
	proc, err := k.binder.Open(source.BindRequest{PID: set.PID(0)})
	if err != nil {
		t.Fatal(err)
	}
	own := proc.Facts().CgroupID
	if err := proc.Close(); err != nil {
		t.Fatal(err)
	}
	no := errors.New("it is another one by now")
	if _, err := k.binder.Open(source.BindRequest{PID: set.PID(0), CgroupID: own, Check: func() error { return no }}); !errors.Is(err, no) {
		t.Fatalf("Open gives %v; want what Check says", err)
	}
	b := k.bind("c", source.BindRequest{PID: set.PID(0), CgroupID: own, Check: func() error { return nil }})
	if b.CgroupID() != own || own == 0 {
		t.Errorf("bound to cgroup %d; want %d", b.CgroupID(), own)
	}
	if err := set.Stop(0); err != nil {
		t.Fatal(err)
	}
	select {
	case name := <-stopped:
		if name != "c" || !b.Dead() {
			t.Errorf("told that %q has stopped, dead: %v", name, b.Dead())
		}
	case <-time.After(patience):
		t.Error("nobody was told of the end")
	}
}
