package server

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devlxd/peer"
	"devlxd/peer/peertest"
	"devlxd/registry"
	"devlxd/source"
)

// containerRoot is the host uid of the root of every container here, as LXD gives the same one to all by default.
const containerRoot = 100000

// kernelRig is a server that asks the kernel who its peers are. Its containers are real processes.
type kernelRig struct {
	*rig
	host   *peer.Host
	binder *Binder
}

func newKernelRig(t *testing.T, po peer.Options) *kernelRig {
	t.Helper()
	peertest.Need(t, peertest.Root, peertest.Cgroup2, peertest.UserNS)
	host, err := peer.Probe(po)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	k := &kernelRig{rig: newIdleRig(t, Options{Loops: 2, Host: host}), host: host}
	k.srv.opts.identify = nil
	if k.binder, err = NewBinder(host, k.reg, slog.New(k.log), nil, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.binder.Close() })
	k.srv.Start()
	if err := k.srv.Listen(k.path); err != nil {
		t.Fatal(err)
	}
	// Containers have other uids.
	if err := os.Chmod(filepath.Dir(filepath.Dir(k.path)), 0o755); err != nil {
		t.Fatal(err)
	}
	return k
}

// bind registers a process as the container of a name, which is its user.name.
func (k *kernelRig) bind(name string, req source.BindRequest) *registry.Binding {
	k.t.Helper()
	b, err := bindProcess(k.reg, k.binder, name, req)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { k.reg.Stop(b) })
	return b
}

func bindProcess(reg *registry.Registry, binder *Binder, name string, req source.BindRequest) (*registry.Binding, error) {
	c, err := reg.Put(registry.Spec{Name: name, Config: map[string]string{"user.name": name}})
	if err != nil {
		return nil, err
	}
	p, err := binder.Open(req)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if err := p.Activate(name); err != nil {
		return nil, err
	}
	return c.Binding(), nil
}

// start runs an unprivileged container and registers it.
func (k *kernelRig) start(name string) *peertest.Proc {
	k.t.Helper()
	p := peertest.Start(k.t, peertest.Container(k.t, containerRoot))
	k.bind(name, source.BindRequest{PID: p.PID})
	return p
}

// whoAmI asks on a connection for the name of the container.
func whoAmI(c peertest.Conn) string {
	status, body := c.HTTP(getKey("user.name"))
	if status != http.StatusOK {
		return strconv.Itoa(status)
	}
	return body
}

// TestConnectionKeepsItsContainer: the container of a connection is that of its peer at accept. What the host does to the process later moves new
// connections only, and the old one ends with the old container.
func TestConnectionKeepsItsContainer(t *testing.T) {
	k := newKernelRig(t, peer.Options{})
	first, second := k.start("first"), k.start("second")
	c, _ := k.reg.Container("first")
	p := first.Spawn(peertest.Spec{})
	kept, silent := p.Connect(k.path), p.Connect(k.path)
	if got := whoAmI(kept); got != "first" {
		t.Fatalf("before: %s", got)
	}
	eventually(t, "both are identified", func() bool { return k.sum("devlxd_identifications_total") == 2 })
	second.Spec.Cgroup.Move(p.PID) // by the host's root, who is believed
	for range 3 {
		if got := whoAmI(kept); got != "first" {
			t.Errorf("a connection of before: %s; want first", got)
		}
	}
	if got := whoAmI(silent); got != "first" {
		t.Errorf("the first request of a connection of before: %s; want first", got)
	}
	next := p.Connect(k.path)
	if got := whoAmI(next); got != "second" {
		t.Errorf("a new connection: %s; want second", got)
	}
	k.reg.Stop(c.Binding())
	for name, conn := range map[string]peertest.Conn{"used": kept, "silent": silent} {
		if rest := conn.Read(); len(rest) != 0 {
			t.Errorf("%s: %q after its container stopped; want the end", name, rest)
		}
	}
	if got := whoAmI(next); got != "second" {
		t.Errorf("the new connection afterwards: %s; want second", got)
	}
	k.wantClosed(CloseStopped, 2)
}

// TestPrivilegedRunsOnUnbound: a privileged container whose binding is over, or was never possible in this process, takes the victim's cgroup and
// root uid, and is nobody.
func TestPrivilegedRunsOnUnbound(t *testing.T) {
	privileged := func(t *testing.T) *peertest.Proc {
		return peertest.Start(t, peertest.Spec{Cgroup: peertest.NewCgroup(t), PidNS: true, MountNS: true})
	}
	attack := func(k *kernelRig, attacker, victim *peertest.Proc) string {
		p := attacker.Spawn(peertest.Spec{})
		p.Enter(victim.Spec.Cgroup.Dir)
		p.Setuid(containerRoot)
		p.Exec("innocent")
		return whoAmI(p.Connect(k.path))
	}
	for _, tt := range []struct {
		name    string
		options peer.Options
		known   func(t *testing.T, k *kernelRig, attacker *peertest.Proc)
		want    string
	}{
		{"stopped", peer.Options{}, func(_ *testing.T, k *kernelRig, attacker *peertest.Proc) {
			k.reg.Stop(k.bind("attacker", source.BindRequest{PID: attacker.PID}))
		}, "500"},
		{"removed", peer.Options{}, func(t *testing.T, k *kernelRig, attacker *peertest.Proc) {
			k.bind("attacker", source.BindRequest{PID: attacker.PID})
			if err := k.reg.Remove("attacker"); err != nil {
				t.Fatal(err)
			}
		}, "500"},
		{"remembered, could not be bound again", peer.Options{}, func(t *testing.T, k *kernelRig, attacker *peertest.Proc) {
			if _, err := k.binder.Open(source.BindRequest{PID: 1 << 22, Was: &source.Facts{RootUID: 5, Privileged: true}}); err == nil {
				t.Error("it was opened")
			}
		}, "500"},
		{"remembered with root uid 0", peer.Options{}, func(t *testing.T, k *kernelRig, attacker *peertest.Proc) {
			if _, err := k.binder.Open(source.BindRequest{PID: 1 << 22, Was: &source.Facts{}}); err == nil {
				t.Error("it was opened")
			}
		}, "500"},
		{"only unprivileged ones remembered", peer.Options{}, func(t *testing.T, k *kernelRig, attacker *peertest.Proc) {
			if _, err := k.binder.Open(source.BindRequest{PID: 1 << 22, Was: &source.Facts{RootUID: containerRoot}}); err == nil {
				t.Error("it was opened")
			}
		}, "victim"}, // never known: what auto does not cover
		{"never known, always", peer.Options{PidNSAlways: true}, func(*testing.T, *kernelRig, *peertest.Proc) {}, "500"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newKernelRig(t, tt.options)
			victim, attacker := k.start("victim"), privileged(t)
			tt.known(t, k, attacker)
			if got := attack(k, attacker, victim); got != tt.want {
				t.Errorf("the attacker is answered as %s; want %s", got, tt.want)
			}
			if got := whoAmI(victim.Connect(k.path)); got != "victim" {
				t.Errorf("the victim is answered as %s", got)
			}
		})
	}
}

// TestPrivilegedWithoutPidNS: also a privileged container in the host's pid namespace counts for good, once it is bound; a process of the host that
// was only looked at does not.
func TestPrivilegedWithoutPidNS(t *testing.T) {
	k := newKernelRig(t, peer.Options{})
	p := peertest.Start(t, peertest.Spec{Cgroup: peertest.NewCgroup(t)})
	proc, err := k.binder.Open(source.BindRequest{PID: p.PID})
	if err != nil {
		t.Fatal(err)
	}
	if !proc.Facts().Privileged {
		t.Errorf("facts %+v; want them privileged", proc.Facts())
	}
	_ = proc.Close()
	if k.host.PidNSRequired() {
		t.Error("the pid namespace is demanded because of a process that was not bound")
	}
	k.reg.Stop(k.bind("c1", source.BindRequest{PID: p.PID}))
	if !k.host.PidNSRequired() {
		t.Error("the pid namespace is not demanded after a privileged container was bound")
	}
}

// TestRebindOfMovedInit: after a restart, a container whose init has moved itself below its cgroup keeps all of it, on every kernel.
func TestRebindOfMovedInit(t *testing.T) {
	k := newKernelRig(t, peer.Options{})
	p := peertest.Start(t, peertest.Container(t, containerRoot))
	open := func(was *source.Facts) source.Facts {
		t.Helper()
		proc, err := k.binder.Open(source.BindRequest{PID: p.PID, Was: was})
		if err != nil {
			t.Fatal(err)
		}
		defer proc.Close()
		return proc.Facts()
	}
	was := open(nil)
	sibling := p.Spawn(peertest.Spec{})
	sibling.Enter(filepath.Join(p.Spec.Cgroup.Dir, "workload"))
	p.Enter(filepath.Join(p.Spec.Cgroup.Dir, "init"))
	now := open(&was)
	if now != was {
		t.Errorf("facts after the restart %+v; want %+v", now, was)
	}
	was.PidfdInode, now.PidfdInode = 0, 0 // before Linux 6.9
	if !was.SameProcess(now) {
		t.Error("an older kernel does not recognise the process")
	}
	other := was
	other.BootID = "another"
	if got := open(&other); got.CgroupID == was.CgroupID {
		t.Error("a cgroup id of another boot was believed")
	}
	k.bind("c1", source.BindRequest{PID: p.PID, Was: &was})
	for name, q := range map[string]*peertest.Proc{"init": p, "sibling": sibling} {
		if got := whoAmI(q.Connect(k.path)); got != "c1" {
			t.Errorf("%s is answered as %s; want c1", name, got)
		}
	}
}

// reserveVariable holds the socket path and the pid that the child of TestIdentifiedWithTheLastDescriptor works with.
const reserveVariable = "DEVLXD_SERVER_TEST_RESERVE"

func init() { children["reserve"] = identifyWithReserve }

// TestIdentifiedWithTheLastDescriptor: when accept has taken the last descriptor, the peer is identified with those in reserve, also by the way that needs
// the most of them. The server runs in a process of its own.
func TestIdentifiedWithTheLastDescriptor(t *testing.T) {
	peertest.Need(t, peertest.Root, peertest.Cgroup2, peertest.UserNS)
	dir := t.TempDir()
	for d := dir; strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // containers have other uids
			t.Fatal(err)
		}
	}
	p := peertest.Start(t, peertest.Container(t, containerRoot))
	path := filepath.Join(dir, "sock")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childVariable+"=reserve", fmt.Sprintf("%s=%d %s", reserveVariable, p.PID, path), "GORACE=atexit_sleep_ms=0")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		rest, _ := io.ReadAll(lines)
		t.Fatalf("the server says %q, %v:\n%s", line, err, rest)
	}
	leaf := p.Spawn(peertest.Spec{})
	leaf.Enter(filepath.Join(p.Spec.Cgroup.Dir, "leaf"))
	if got := whoAmI(leaf.Connect(path)); got != "c1" {
		t.Errorf("the peer is answered as %s; want c1", got)
	}
	_ = in.Close()
	if got, _ := io.ReadAll(lines); string(got) != "[resources none]\nreserve true\n" {
		t.Errorf("the server says\n%s; want that it was out of descriptors at first, and has its reserve again", got)
	}
}

// identifyWithReserve is the process of TestIdentifiedWithTheLastDescriptor.
func identifyWithReserve() int {
	pid, path, _ := strings.Cut(os.Getenv(reserveVariable), " ")
	if err := serveWithReserve(pid, path); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func serveWithReserve(pid, path string) error {
	init, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 100, Max: 100}); err != nil {
		return err
	}
	host, err := peer.Probe(peer.Options{PidNSAlways: true})
	if err != nil {
		return err
	}
	var rejects []peer.Reject
	srv, err := New(Options{Loops: 1, MaxConnections: 100, Location: "h", Host: host,
		identify: func(reg *registry.Registry, fd int) (*registry.Binding, peer.Peer, peer.Reject) {
			b, p, r := peer.Identify(host, reg, fd)
			rejects = append(rejects, r)
			return b, p, r
		}})
	if err != nil {
		return err
	}
	binder, err := NewBinder(host, srv.Registry(), slog.New(slog.DiscardHandler), nil, nil)
	if err != nil {
		return err
	}
	if _, err := bindProcess(srv.Registry(), binder, "c1", source.BindRequest{PID: init}); err != nil {
		return err
	}
	srv.Start()
	if err := srv.Listen(path); err != nil {
		return err
	}
	runtime.GC() // what finalizers close is closed before
	time.Sleep(10 * time.Millisecond)
	if err := leaveOneDescriptor(); err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	whole := true
	srv.loops[0].call(func() {
		for _, fd := range srv.loops[0].reserve {
			_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			whole = whole && fd > 0 && err == nil
		}
		fmt.Println(rejects)
	})
	fmt.Println("reserve", whole)
	return nil
}

// leaveOneDescriptor takes up all descriptors but one.
func leaveOneDescriptor() error {
	last := -1
	for {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		switch {
		case err == unix.EMFILE && last >= 0:
			return unix.Close(last)
		case err != nil:
			return err
		}
		last = fd
	}
}
