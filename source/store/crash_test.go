package store

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"devlxd/registry"
	"devlxd/source"
)

// crashDirEnv makes the test binary the child of TestKill.
const crashDirEnv = "DEVLXD_STORE_CRASH_DIR"

var crashRounds = flag.Int("store.rounds", 50, "how often TestKill kills a store")

// crashState is what a store holds, comparable across processes.
type crashState struct {
	Containers map[string]containerState
	Running    map[string]int
	Images     map[string]string // options and sizes
}

// crashOp is one change, complete enough to be made again on a crashState.
type crashOp struct {
	Kind  string
	Name  string
	Set   map[string]string `json:",omitempty"`
	Unset []string          `json:",omitempty"`
	N     int               // pid, or seed of an image
	Split bool              `json:",omitempty"`
}

// fourKeys are always set together, so that half of a change shows.
func fourKeys(rng *rand.Rand) map[string]string {
	gen := fmt.Sprint(rng.Uint64())
	return map[string]string{
		"user.0": gen, "user.1": gen + strings.Repeat("x", rng.IntN(100)), "user.2": gen + strings.Repeat("y", rng.IntN(20_000)), "user.3": gen,
	}
}

// next invents a change that succeeds in state s.
func (s *crashState) next(rng *rand.Rand) crashOp {
	names := slices.Sorted(maps.Keys(s.Containers))
	fps := slices.Sorted(maps.Keys(s.Images))
	pick := func() string { return names[rng.IntN(len(names))] }
	switch k := rng.IntN(20); {
	case len(names) < 5 || k < 3 && len(names) < 40:
		return crashOp{Kind: "add", Name: fmt.Sprintf("c%d", rng.Uint32()), Set: fourKeys(rng)}
	case k < 5:
		return crashOp{Kind: "remove", Name: pick()}
	case k < 12:
		return crashOp{Kind: "config", Name: pick(), Set: fourKeys(rng)}
	case k < 13:
		return crashOp{Kind: "unset", Name: pick(), Unset: []string{"user.0", "user.1", "user.2", "user.3"}}
	case k < 15:
		return crashOp{Kind: "device", Name: pick(), Set: map[string]string{"type": "nic", "name": fmt.Sprint("eth", rng.Uint32())}}
	case k < 17:
		return crashOp{Kind: "bind", Name: pick(), N: 1000 + rng.IntN(1_000_000)}
	case k < 19 && len(fps) < 5:
		return crashOp{Kind: "import", N: int(rng.Uint32()), Split: rng.IntN(2) == 0}
	case len(fps) > 0:
		return crashOp{Kind: "removeImage", Name: fps[rng.IntN(len(fps))]}
	}
	return crashOp{Kind: "config", Name: pick(), Set: fourKeys(rng)}
}

func (o *crashOp) imageParts() (meta, rootfs []byte) {
	meta = imageBytes(o.N, 1000+o.N%300_000)
	if o.Split {
		rootfs = imageBytes(o.N+1, 1000+o.N%70_000)
	}
	return meta, rootfs
}

// on makes the change on a copy of a state.
func (o *crashOp) on(s crashState) crashState {
	s = crashState{maps.Clone(s.Containers), maps.Clone(s.Running), maps.Clone(s.Images)}
	c := s.Containers[o.Name]
	c = containerState{maps.Clone(c.Config), maps.Clone(c.Devices)}
	switch o.Kind {
	case "add":
		s.Containers[o.Name] = containerState{Config: o.Set, Devices: map[string]map[string]string{"eth0": {"type": "nic"}}}
	case "remove":
		delete(s.Containers, o.Name)
		delete(s.Running, o.Name)
	case "config":
		maps.Copy(c.Config, o.Set)
		s.Containers[o.Name] = c
	case "unset":
		maps.DeleteFunc(c.Config, func(key, _ string) bool { return slices.Contains(o.Unset, key) })
		s.Containers[o.Name] = c
	case "device":
		c.Devices["eth0"] = o.Set
		s.Containers[o.Name] = c
	case "bind":
		s.Running[o.Name] = o.N
	case "import":
		meta, rootfs := o.imageParts()
		s.Images[fingerprint(meta, rootfs)] = fmt.Sprintf("public=%v cached=%v %d+%d", !o.Split, o.Split, len(meta), len(rootfs))
	case "removeImage":
		delete(s.Images, o.Name)
	}
	return s
}

// onStore makes the change on a store.
func (o *crashOp) onStore(s *Store) error {
	switch o.Kind {
	case "add":
		return s.AddContainer(source.NewContainer{Name: o.Name, Config: o.Set, Devices: map[string]map[string]string{"eth0": {"type": "nic"}}})
	case "remove":
		return s.RemoveContainer(o.Name)
	case "config", "unset":
		return s.UpdateConfig(o.Name, o.Set, o.Unset)
	case "device":
		return s.SetDevice(o.Name, "eth0", o.Set, nil)
	case "bind":
		if c, ok := s.reg.Container(o.Name); ok && c.Binding() != nil {
			s.reg.Stop(c.Binding())
		}
		return s.Bind(o.Name, source.BindRequest{PID: o.N})
	case "import":
		meta, rootfs := o.imageParts()
		var second io.Reader
		if o.Split {
			second = bytes.NewReader(rootfs)
		}
		_, err := s.ImportImage(bytes.NewReader(meta), second, source.ImageOptions{Public: !o.Split, Cached: o.Split})
		return err
	case "removeImage":
		return s.RemoveImage(o.Name)
	}
	return errors.New("unknown change")
}

// crashBinder knows a process of every pid, the same in each process.
type crashBinder struct{ fakeBinder }

func (b *crashBinder) Open(req source.BindRequest) (source.Process, error) {
	n := uint64(req.PID) + 1<<32
	return &fakeProcess{binder: &b.fakeBinder, facts: source.Facts{PID: req.PID, PidfdInode: n, BootID: "b", CgroupID: n, PidNSIno: n}}, nil
}

func openCrashStore(dir string) (*Store, crashState, *logs, error) {
	reg, l := registry.New(registry.Options{}), new(logs)
	b := new(crashBinder)
	b.use(reg)
	s, err := Open(dir, reg, b, slog.New(l))
	if err != nil {
		return nil, crashState{}, l, err
	}
	all := stateOf(reg)
	state := crashState{Containers: all.Containers, Running: make(map[string]int), Images: make(map[string]string)}
	for _, c := range reg.Containers() {
		if b := c.Binding(); b != nil {
			state.Running[c.Name()] = b.InitPID()
		}
	}
	for fp, i := range all.Images {
		state.Images[fp] = fmt.Sprintf("public=%v cached=%v %d+%d", i.Public, i.Cached, i.Size, i.RootfsSize)
	}
	return s, state, l, nil
}

// crashChild changes a store until it is killed. It announces each change and says when it was acknowledged.
func crashChild(dir string) {
	fail := func(err error) {
		fmt.Printf("E %v\n", err)
		os.Exit(1)
	}
	s, state, _, err := openCrashStore(dir)
	if err != nil {
		fail(err)
	}
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(os.Getpid())))
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
		op := state.next(rng)
		line, err := json.Marshal(op)
		if err != nil {
			fail(err)
		}
		fmt.Printf("B %s\n", line)
		if err := op.onStore(s); err != nil {
			fail(err)
		}
		fmt.Print("A\n")
		state = op.on(state)
	}
}

// TestKill kills a store at random moments. What it acknowledged must be there, what it announced may be there, whole.
func TestKill(t *testing.T) {
	dir := memDir(t)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	state := crashState{Containers: map[string]containerState{}, Running: map[string]int{}, Images: map[string]string{}}
	acknowledged, pending, applied := 0, 0, 0
	for round := range *crashRounds {
		before, open := killOne(t, dir, state, time.Duration(rng.IntN(80_000))*time.Microsecond, &acknowledged)
		s, got, l, err := openCrashStore(dir)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		want := before
		if open != nil {
			pending++
			if after := open.on(before); !reflect.DeepEqual(got, before) {
				applied++
				want = after
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("round %d: after the kill (change under way: %+v) the store holds\n%+v\nwant\n%+v", round, open, got, want)
		}
		checkImageFiles(t, s, got)
		if strings.Contains(l.String(), "WARN") || strings.Contains(l.String(), "ERROR") {
			t.Errorf("round %d: the store complains after a kill:\n%s", round, l)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		state = got
	}
	t.Logf("%d rounds, %d changes acknowledged, %d under way at a kill, %d of them made", *crashRounds, acknowledged, pending, applied)
	if acknowledged == 0 || pending == 0 {
		t.Error("no change was acknowledged, or none under way at a kill: the test shows nothing")
	}
}

// killOne runs a child on dir for about d after its first change, and returns the state it has acknowledged and the change that was
// under way, if any.
func killOne(t *testing.T, dir string, state crashState, d time.Duration, acknowledged *int) (crashState, *crashOp) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), crashDirEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var timer *time.Timer
	var open *crashOp
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if timer == nil {
			timer = time.AfterFunc(d, func() { _ = cmd.Process.Kill() })
		}
		if err != nil {
			break // the last line may be cut
		}
		switch line[0] {
		case 'B':
			open = new(crashOp)
			if err := json.Unmarshal([]byte(line[2:]), open); err != nil {
				t.Fatal(err)
			}
		case 'A':
			state, open = open.on(state), nil
			*acknowledged++
		default:
			t.Errorf("child: %s", line)
		}
	}
	timer.Stop()
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("child ended by itself: %v", err)
	}
	return state, open
}

// checkImageFiles compares the directory with the records, and each file with its fingerprint.
func checkImageFiles(t *testing.T, s *Store, state crashState) {
	t.Helper()
	want := []string{}
	for fp := range state.Images {
		i, _ := s.reg.Image(fp)
		want = append(want, fp)
		parts := [][]byte{[]byte(readAll(t, i.Path))}
		if !i.Unified() {
			want = append(want, fp+rootfsName)
			parts = append(parts, []byte(readAll(t, i.RootfsPath)))
		}
		if got := fingerprint(parts...); got != fp {
			t.Errorf("image %s has the bytes of %s", fp, got)
		}
	}
	slices.Sort(want)
	h := &harness{t: t, dir: s.dir}
	h.wantFiles(want...)
}
