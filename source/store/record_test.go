package store

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"devlxd/source"
)

func drawRecord(t *rapid.T) *containerRecord {
	texts := rapid.MapOfN(rapid.StringN(1, 8, 40), rapid.String(), 0, 6)
	r := &containerRecord{
		name:       rapid.StringMatching(`[a-z][a-z0-9-]{0,20}`).Draw(t, "name"),
		instanceID: rapid.String().Draw(t, "instance id"),
		cgroup:     rapid.String().Draw(t, "cgroup"),
		config:     texts.Draw(t, "config"),
		devices:    rapid.MapOfN(rapid.StringN(1, 8, 40), texts, 0, 4).Draw(t, "devices"),
	}
	if rapid.Bool().Draw(t, "has root uid") {
		uid := rapid.Uint32().Draw(t, "root uid")
		r.rootUID = &uid
	}
	if rapid.Bool().Draw(t, "bound") {
		uid := rapid.Uint32().Draw(t, "bound root uid")
		r.bound = &boundRecord{
			request: source.BindRequest{PID: rapid.IntRange(0, maxPID).Draw(t, "pid"), Cgroup: r.cgroup, RootUID: &uid},
			facts: source.Facts{
				PID: 1, PidfdInode: rapid.Uint64().Draw(t, "inode"), BootID: "b", CgroupID: math.MaxUint64, PidNSIno: 3, RootUID: uid,
				Privileged: rapid.Bool().Draw(t, "privileged"),
			},
		}
	}
	return r
}

func TestContainerRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		b := want.encode()
		got, err := decodeContainer(bytes.Clone(b))
		if err != nil {
			t.Fatalf("decode: %v", err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("decoded %+v; want %+v", got, want)
		}
		if again := got.clone().encode(); !bytes.Equal(again, b) {
			t.Fatalf("encoded again: %x; want %x", again, b)
		}
		if name, err := checkContainer(b); name != want.name || err != nil {
			t.Fatalf("checkContainer = %q, %v; want %q", name, err, want.name)
		}
	})
}

func TestImageRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(0, math.MaxInt64)
		want := &imageRecord{
			fingerprint: rapid.StringMatching(`[0-9a-f]{64}`).Draw(t, "fingerprint"), typ: rapid.String().Draw(t, "type"),
			public: rapid.Bool().Draw(t, "public"), cached: rapid.Bool().Draw(t, "cached"),
			ext: rapid.String().Draw(t, "ext"), rootfsExt: rapid.String().Draw(t, "rootfs ext"),
			size: size.Draw(t, "size"), rootfsSize: size.Draw(t, "rootfs size"), modTime: size.Draw(t, "time"),
		}
		got, err := decodeImage(want.encode())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("decoded %+v (%v); want %+v", got, err, want)
		}
	})
}

// TestRecordDamage flips each bit and cuts at each byte of a record.
func TestRecordDamage(t *testing.T) {
	uid := uint32(100000)
	rec := &containerRecord{
		name: "c1", instanceID: "id", cgroup: "/c1", rootUID: &uid, config: map[string]string{"user.a": "1", "user.b": "2"},
		devices: map[string]map[string]string{"eth0": {"type": "nic"}}, bound: &boundRecord{request: source.BindRequest{PID: 4}},
	}
	b := rec.encode()
	for i := range b {
		for bit := range 8 {
			damaged := bytes.Clone(b)
			damaged[i] ^= 1 << bit
			if _, err := checkContainer(damaged); !errors.Is(err, errChecksum) {
				t.Errorf("bit %d of byte %d flipped: error = %v; want %v", bit, i, err, errChecksum)
			}
		}
		if _, err := decodeContainer(b[:i]); err == nil {
			t.Errorf("cut to %d bytes: no error", i)
		}
	}
}

// TestRecordForm gives records whose checksum is right and whose form is wrong.
func TestRecordForm(t *testing.T) {
	fields := func(version byte, fields ...any) []byte {
		b := []byte{version}
		for _, f := range fields {
			switch f := f.(type) {
			case int:
				b = append(b, byte(f))
			case string:
				b = appendString(b, f)
			case []byte:
				b = append(b, f...)
			}
		}
		return appendChecksum(b)
	}
	const empty = ""
	huge := bytes.Repeat([]byte{0xff}, 9)
	for _, c := range []struct {
		name string
		b    []byte
		want error
	}{
		{"nothing", nil, errShort},
		{"checksum only", appendChecksum(nil), errShort},
		{"version 0", fields(0, "c", "i", empty, 0, 0, 0, 0), errVersion},
		{"version 2", fields(2, "c", "i", empty, 0, 0, 0, 0), errVersion},
		{"good", fields(1, "c", "i", empty, 0, 0, 0, 0), nil},
		{"one byte more", fields(1, "c", "i", empty, 0, 0, 0, 0, 0), errTrailing},
		{"no fields", fields(1), errShort},
		{"string too long", fields(1, []byte{200, 1, 'c'}), errShort},
		{"number too long", fields(1, huge, []byte{2}), errNumber},
		{"number without end", fields(1, huge, []byte{0xff}), errShort},
		{"uid too big", fields(1, "c", "i", empty, []byte{0x81, 0x80, 0x80, 0x80, 0x20}, 0, 0, empty), errNumber},
		{"more keys than bytes", fields(1, "c", "i", empty, 0, []byte{0xff, 0xff, 0xff, 0x7f}), errShort},
		{"keys out of order", fields(1, "c", "i", empty, 0, 2, "b", "1", "a", "2", 0, 0), errOrder},
		{"key twice", fields(1, "c", "i", empty, 0, 2, "a", "1", "a", "2", 0, 0), errOrder},
		{"bound, nothing more", fields(1, "c", "i", empty, 0, 0, 0, 1), errShort},
		{"bound as privileged, nothing more", fields(1, "c", "i", empty, 0, 0, 0, 2), errShort},
		{"neither bound nor not", fields(1, "c", "i", empty, 0, 0, 0, 3), errNumber},
		{"devices out of order", fields(1, "c", "i", empty, 0, 0, 2, "e", 0, "d", 0, 0), errOrder},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := decodeContainer(c.b); !errors.Is(err, c.want) {
				t.Errorf("decodeContainer: error = %v; want %v", err, c.want)
			}
			if _, err := checkContainer(c.b); !errors.Is(err, c.want) {
				t.Errorf("checkContainer: error = %v; want %v", err, c.want)
			}
		})
	}
	if _, err := decodeImage(fields(1, "f", "t", "e", "", 4, 1, 1, 1)); !errors.Is(err, errNumber) {
		t.Errorf("image flags 4: error = %v; want %v", err, errNumber)
	}
}

// TestCloneIsDeep guards the readers of a stored record from those who change a copy.
func TestCloneIsDeep(t *testing.T) {
	r := &containerRecord{config: map[string]string{"user.a": "1"}, devices: map[string]map[string]string{"d": {"type": "none"}}}
	c := r.clone()
	c.config["user.a"], c.devices["d"]["type"], c.devices["e"] = "2", "nic", nil
	if got, want := fmt.Sprint(r.config, r.devices), "map[user.a:1] map[d:map[type:none]]"; got != want {
		t.Errorf("after a change of its clone the record is %s; want %s", got, want)
	}
	if c := new(containerRecord).clone(); c.config == nil || c.devices == nil {
		t.Error("clone of an empty record has nil maps")
	}
}

func FuzzDecodeContainer(f *testing.F) {
	uid := uint32(1)
	for _, r := range []*containerRecord{
		{name: "c"},
		{name: "c1", instanceID: "i", cgroup: "/c", rootUID: &uid, config: map[string]string{"user.a": "1"},
			devices: map[string]map[string]string{"d": {"type": "nic"}}, bound: &boundRecord{}},
	} {
		b := r.encode()
		f.Add(b[:len(b)-checksumLen])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeContainer(appendChecksum(b))
		if err != nil {
			return
		}
		again := r.encode()
		if r2, err := decodeContainer(again); err != nil || !reflect.DeepEqual(r, r2) {
			t.Fatalf("decoded %+v, then %+v (%v)", r, r2, err)
		}
	})
}

// TestFactsAreStored fails when source.Facts or source.BindRequest gets a field that records do not keep. One that is no part of a request from
// outside (json "-") is not kept.
func TestFactsAreStored(t *testing.T) {
	uid := uint32(7)
	want := &containerRecord{name: "c", bound: &boundRecord{
		request: source.BindRequest{PID: 1, Cgroup: "/c", RootUID: &uid},
		facts:   source.Facts{PID: 2, PidfdInode: 3, BootID: "b", CgroupID: 4, PidNSIno: 5, RootUID: 6, Privileged: true},
	}}
	for _, v := range []reflect.Value{reflect.ValueOf(want.bound.request), reflect.ValueOf(want.bound.facts)} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() && v.Type().Field(i).Tag.Get("json") != "-" {
				t.Errorf("%s.%s is not set here: encode it, and set it here", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
	got, err := decodeContainer(want.encode())
	if err != nil || !reflect.DeepEqual(got.bound, want.bound) {
		t.Errorf("decoded %+v (%v); want %+v", got.bound, err, want.bound)
	}
}
