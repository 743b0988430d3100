package server

import (
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"devlxd/fault"
	"devlxd/peer"
	"devlxd/registry"
)

// TestBudget: whatever guests do, the descriptors are left that the containers which are registered need.
func TestBudget(t *testing.T) {
	for _, tt := range []struct {
		explicit, files     int64
		watch, perContainer int64
		containers          int
		want                int64
	}{
		{0, 1 << 20, 160, 0, 0, 1<<20 - 256 - 160 - 26214},
		{0, 1 << 20, 160, 0, 100_000, 1<<20 - 256 - 160 - 26214},
		{0, 1 << 20, 4, 1, 100_000, 1<<20 - 256 - 4 - 26214 - 100_000},
		{0, 65536, 4, 1, 50_000, 16384}, // too low a limit: a quarter
		{0, 20_000, 785, 0, 4200, 18_459},
		{0, 20_000, 4, 1, 4200, 20_000 - 256 - 4 - 500 - 4200},
		{0, 1024, 4, 1, 100, 1024 - 256 - 4 - 25 - 100},
		{0, 1024, 160, 0, 100_000, 1024 - 256 - 160 - 25},
		{0, 1024, 4, 1, 100_000, 256},
		{0, 100, 160, 0, 0, 25},
		{0, 1, 160, 0, 0, 1},
		{7, 1024, 160, 0, 100_000, 7},
		{1 << 30, 1024, 4, 1, 0, 1 << 30},
	} {
		b := budget{explicit: tt.explicit, files: tt.files, watch: tt.watch, perContainer: tt.perContainer}
		if got := b.connections(tt.containers); got != tt.want {
			t.Errorf("%d files, %d containers of %d each, MaxConnections %d: %d connections; want %d",
				tt.files, tt.containers, tt.perContainer, tt.explicit, got, tt.want)
		}
		left := tt.files - b.connections(tt.containers) - b.maxImageFiles()
		if tt.explicit == 0 && tt.want > tt.files/4 && tt.files > 1 && left < ownFiles+tt.watch+tt.perContainer*int64(tt.containers) {
			t.Errorf("%d files, %d containers of %d each: %d left", tt.files, tt.containers, tt.perContainer, left)
		}
	}
}

// TestBudgetOfServer: the limit of accept comes from the process and, where each container takes a descriptor, follows those that come and go.
func TestBudgetOfServer(t *testing.T) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Options{Loops: 1})
	r.srv.loops[0].call(func() { b := &r.srv.budget; b.files, b.watch, b.perContainer = 1024, 160, 1 })
	before := r.srv.maxConnections()
	r.container("c1", nil)
	r.container("c2", nil)
	if got := r.srv.maxConnections(); got != before-2 {
		t.Errorf("limit with two containers = %d; want %d less 2", got, before)
	}
	if err := r.reg.Remove("c1"); err != nil {
		t.Fatal(err)
	}
	if got := r.srv.maxConnections(); got != before-1 {
		t.Errorf("limit with one container = %d; want %d less 1", got, before)
	}
	fresh := newIdleRig(t, Options{})
	if got := fresh.srv.budget.files; got != int64(min(lim.Cur, 1<<31-1)) {
		t.Errorf("the server knows of %d descriptors; the process has %d", got, lim.Cur)
	}
	fixed, each := peer.WatchFiles()
	if b := &fresh.srv.budget; b.watch != int64(fixed) || b.perContainer != int64(each) {
		t.Errorf("%d descriptors and %d for each container; want %d and %d", b.watch, b.perContainer, fixed, each)
	}
}

// TestAcceptLeavesDescriptorsToContainers: with the limit of few descriptors, containers that are added push connections into the backlog.
func TestAcceptLeavesDescriptorsToContainers(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.log.expect("accept paused: the connection limit is reached")
	const files = ownFiles + 200
	floor := int64(files / 4)
	r.srv.loops[0].call(func() {
		b := &r.srv.budget
		b.files, b.watch, b.perContainer = files, 4, 1
	})
	if got := r.srv.maxConnections(); got != files-ownFiles-4-files/imageShare {
		t.Fatalf("limit without containers = %d", got)
	}
	for n := range 80 {
		r.container("c"+strconv.Itoa(n), nil)
	}
	if got := r.srv.maxConnections(); got != floor {
		t.Fatalf("limit = %d; want the floor %d", got, floor)
	}
	var open []*client
	for range floor {
		c := r.dial("c1")
		c.get("/1.0")
		open = append(open, c)
	}
	waiting := r.dial("c1")
	waiting.send(getKey("user.a"))
	eventually(t, "accepting has paused", func() bool { return r.srv.loops[0].stats.acceptPauses.Load() > 0 })
	_ = open[0].Close()
	if a := waiting.answer("GET"); a.status != 404 {
		t.Errorf("who waited was answered %q", a.raw())
	}
}

// TestImageBudget: downloads beyond the share of descriptors are answered 500, which clients try again on, and every way in which one ends gives
// its place back.
func TestImageBudget(t *testing.T) {
	r := newRig(t, Options{Loops: 1})
	r.log.expect("image")
	r.srv.loops[0].call(func() { r.srv.budget.files = imageShare * 3 })
	r.withImages("c1")
	image := r.image(randomBytes(8<<20, 7), nil)
	absent := r.image([]byte("absent"), func(i *registry.Image) { i.Path += ".none" })
	wrong := r.image([]byte("wrong"), func(i *registry.Image) { i.Size++ })
	split := r.image(randomBytes(100, 8), func(i *registry.Image) { i.RootfsPath, i.RootfsSize = i.Path+".none", 1 })
	get := "GET " + exportPath(image) + " HTTP/1.1\r\nHost: a\r\n"
	c := r.dial("c1")
	for range 2 * 3 {
		for _, request := range []string{
			"HEAD" + get[3:], get + "Range: bytes=9-1\r\n", get + "If-Modified-Since: Wed, 04 Feb 2026 00:00:00 GMT\r\n",
			get + "Range: bytes=0-1\r\n", "GET " + exportPath(absent) + " HTTP/1.1\r\nHost: a\r\n",
			"GET " + exportPath(split) + " HTTP/1.1\r\nHost: a\r\n",
		} {
			c.send(request + "\r\n")
			if a := c.answer(request[:4]); a.status == 500 {
				t.Fatalf("%q: %q", request, a.raw())
			}
		}
	}
	if a := c.get(exportPath(wrong)); a.status != 500 {
		t.Errorf("an image of another size: %q", a.raw())
	}
	var slow []*client
	for range 3 {
		s := r.dial("c1")
		s.send(get + "\r\n")
		slow = append(slow, s)
	}
	eventually(t, "three downloads are under way", func() bool { return r.pending() == 3 })
	if a := c.get(exportPath(image)); a.status != 500 || a.close {
		t.Errorf("a fourth download: %d; want 500", a.status)
	}
	if !r.srv.faults.Active(fault.ImageFiles) {
		t.Error("the condition is not told")
	}
	_ = slow[0].Close()
	eventually(t, "one is gone", func() bool { return r.srv.budget.images.Load() == 2 })
	if a := c.get(exportPath(image)); a.status != 200 || len(a.body) != 8<<20 {
		t.Errorf("when one is gone: %d", a.status)
	}
	if r.srv.faults.Active(fault.ImageFiles) || r.log.count("images are served again") != 1 {
		t.Error("the condition has not passed")
	}
	for _, s := range slow[1:] {
		if a := s.answer("GET"); a.status != 200 {
			t.Errorf("a slow download: %d", a.status)
		}
	}
	eventually(t, "no image file is counted", func() bool { return r.srv.budget.images.Load() == 0 })
}
