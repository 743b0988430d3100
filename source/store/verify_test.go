package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

// contents are the keys and values of each bucket.
type contents map[string]map[string]string

func verifyBytes(b []byte) (contents, report, error) {
	got := make(contents)
	r, err := verify(bytes.NewReader(b), int64(len(b)), func(bucket string, key, value []byte) {
		if got[bucket] == nil {
			got[bucket] = make(map[string]string)
		}
		got[bucket][string(key)] = string(value)
	})
	return got, r, err
}

// boltFile makes a bbolt file by random transactions, and returns it with what it holds. The same rng gives the same file,
// which takes bbolt's sorted list of free pages: its map hands them out in no order.
func boltFile(t testing.TB, rng *rand.Rand, transactions int) ([]byte, contents) {
	t.Helper()
	path := filepath.Join(memDir(t), "bolt.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistArrayType, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	want := make(contents)
	for range transactions {
		if err := db.Update(func(tx *bbolt.Tx) error { return randomChange(tx, rng, want) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, want
}

func randomChange(tx *bbolt.Tx, rng *rand.Rand, want contents) error {
	name := fmt.Sprintf("bucket%d", rng.IntN(3))
	b, err := tx.CreateBucketIfNotExists([]byte(name))
	if err != nil {
		return err
	}
	if want[name] == nil {
		want[name] = make(map[string]string)
	}
	for range rng.IntN(60) {
		key := fmt.Sprintf("key%03d", rng.IntN(300))
		if rng.IntN(3) == 0 {
			delete(want[name], key)
			if err := b.Delete([]byte(key)); err != nil {
				return err
			}
			continue
		}
		size := rng.IntN(200)
		if rng.IntN(30) == 0 {
			size = rng.IntN(30_000) // overflow pages
		}
		value := bytes.Repeat([]byte{byte(rng.IntN(256))}, size)
		want[name][key] = string(value)
		if err := b.Put([]byte(key), value); err != nil {
			return err
		}
	}
	return nil
}

func TestVerifyReadsWhatBoltWrote(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		file, want := boltFile(t, rand.New(rand.NewPCG(seed, 1)), rapid.IntRange(0, 40).Draw(rt, "transactions"))
		got, r, err := verifyBytes(file)
		if err != nil || r.leaked != 0 {
			rt.Fatalf("verify: %v, %d pages leaked", err, r.leaked)
		}
		for name := range want {
			if !maps.Equal(got[name], want[name]) {
				rt.Fatalf("bucket %s has %d keys; want %d", name, len(got[name]), len(want[name]))
			}
			if r.buckets[name].keys != uint64(len(want[name])) {
				rt.Fatalf("bucket %s counts %d keys; want %d", name, r.buckets[name].keys, len(want[name]))
			}
		}
	})
}

// TestVerifyFindsDamage flips a bit of every byte of each header and table, and of every 13th elsewhere: what verify lets through must
// read as before.
func TestVerifyFindsDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	file, want := boltFile(t, rng, 6)
	found := 0
	for i := range file {
		if i%4096 > 300 && i%13 != 0 {
			continue
		}
		flip := byte(1) << rng.IntN(8)
		file[i] ^= flip
		got, r, err := verifyBytes(file)
		file[i] ^= flip
		var d damage
		if err != nil {
			if !errors.As(err, &d) {
				t.Fatalf("byte %d: error = %v; want damage", i, err)
			}
			found++
			continue
		}
		lost := false
		for name := range want {
			// Values have their own checksum in a state file, and the number of keys is kept there.
			lost = lost || r.buckets[name].keys != uint64(len(want[name]))
			for key := range want[name] {
				_, ok := got[name][key]
				lost = lost || !ok
			}
		}
		if lost && r.leaked == 0 && keys(got) == keys(want) {
			continue // a key was renamed within the order, which the name in the record shows
		}
		if lost && r.leaked == 0 {
			t.Fatalf("byte %d (bit mask %02x): keys are lost, and nothing shows it", i, flip)
		}
	}
	if found == 0 {
		t.Fatal("no damage was found at all")
	}
}

func keys(c contents) int {
	n := 0
	for _, m := range c {
		n += len(m)
	}
	return n
}

// TestVerifyNamed gives one file for each kind of damage.
func TestVerifyNamed(t *testing.T) {
	file, _ := boltFile(t, rand.New(rand.NewPCG(3, 4)), 8)
	size := int(native.Uint32(file[pageHeaderLen+8:]))
	meta := 0
	if native.Uint64(file[pageHeaderLen+48:]) < native.Uint64(file[size+pageHeaderLen+48:]) {
		meta = size
	}
	root := int(native.Uint64(file[meta+pageHeaderLen+16:])) * size
	free := int(native.Uint64(file[meta+pageHeaderLen+32:])) * size
	firstElement := root + pageHeaderLen
	for _, c := range []struct {
		name   string
		damage func(b []byte) []byte
	}{
		{"empty", func(b []byte) []byte { return nil }},
		{"meta page only", func(b []byte) []byte { return b[:100] }},
		{"one page", func(b []byte) []byte { return b[:size] }},
		{"cut in half", func(b []byte) []byte { return b[:len(b)/2/size*size] }},
		{"no bbolt file", func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) }},
		{"zeros", func(b []byte) []byte { clear(b); return b }},
		{"older meta page", func(b []byte) []byte { b[size-meta+pageHeaderLen+20]++; return b }},
		{"newer meta page", func(b []byte) []byte { b[meta+pageHeaderLen+20]++; return b }},
		{"root page beyond the end", func(b []byte) []byte { return reseal(b, meta, 16, 1<<40) }},
		{"root page is a meta page", func(b []byte) []byte { return reseal(b, meta, 16, 1) }},
		{"root page is the freelist", func(b []byte) []byte { return reseal(b, meta, 16, uint64(free/size)) }},
		{"freelist beyond the end", func(b []byte) []byte { return reseal(b, meta, 32, 1<<62) }},
		{"freelist is the root page", func(b []byte) []byte { return reseal(b, meta, 32, uint64(root/size)) }},
		{"page size 1", func(b []byte) []byte { return resealSize(b, 1) }},
		{"page size 2 GiB", func(b []byte) []byte { return resealSize(b, 1<<31) }},
		{"too many pages", func(b []byte) []byte { return reseal(b, meta, 40, 1<<50) }},
		{"no pages", func(b []byte) []byte { return reseal(b, meta, 40, 0) }},
		{"freelist count", func(b []byte) []byte { return set16(b, free+10, 0xfffe) }},
		{"freelist count beyond 64 bits", func(b []byte) []byte {
			native.PutUint64(b[free+pageHeaderLen:], 1<<63)
			return set16(b, free+10, 0xffff)
		}},
		{"root is free", func(b []byte) []byte {
			native.PutUint64(b[free+pageHeaderLen:], uint64(root/size))
			return set16(b, free+10, 1)
		}},
		{"free page 0", func(b []byte) []byte {
			native.PutUint64(b[free+pageHeaderLen:], 0)
			return set16(b, free+10, 1)
		}},
		{"page id", func(b []byte) []byte { b[root]++; return b }},
		{"page type", func(b []byte) []byte { return set16(b, root+8, 4) }},
		{"page count", func(b []byte) []byte { return set16(b, root+10, 0xffff) }},
		{"one entry less", func(b []byte) []byte { return set16(b, root+10, native.Uint16(b[root+10:])-1) }},
		{"overflow", func(b []byte) []byte { native.PutUint32(b[root+12:], 1<<31); return b }},
		{"entry type", func(b []byte) []byte { b[firstElement] = 2; return b }},
		{"record in the root", func(b []byte) []byte { b[firstElement] = 0; return b }},
		{"entry position", func(b []byte) []byte { b[firstElement+4]++; return b }},
		{"entry key length", func(b []byte) []byte { native.PutUint32(b[firstElement+8:], 1<<31); return b }},
		{"entry without key", func(b []byte) []byte { native.PutUint32(b[firstElement+8:], 0); return b }},
		{"entry value length", func(b []byte) []byte { native.PutUint32(b[firstElement+12:], 1<<31); return b }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.damage(bytes.Clone(file))
			var d damage
			if _, _, err := verifyBytes(b); !errors.As(err, &d) {
				t.Errorf("error = %v; want damage", err)
			}
		})
	}
}

// reseal changes a field of the newer meta page and makes its checksum right again.
func reseal(b []byte, meta, offset int, v uint64) []byte {
	m := b[meta+pageHeaderLen:][:metaLen]
	native.PutUint64(m[offset:], v)
	h := fnv.New64a()
	h.Write(m[:metaLen-8])
	native.PutUint64(m[metaLen-8:], h.Sum64())
	return b
}

func resealSize(b []byte, size uint32) []byte {
	native.PutUint32(b[pageHeaderLen+8:], size)
	return reseal(b, 0, 24, native.Uint64(b[pageHeaderLen+24:]))
}

func set16(b []byte, at int, v uint16) []byte {
	native.PutUint16(b[at:], v)
	return b
}

// TestVerifyLoops points a branch at itself and at its parent: verify must end.
func TestVerifyLoops(t *testing.T) {
	file, _ := boltFile(t, rand.New(rand.NewPCG(5, 6)), 30)
	size := int(native.Uint32(file[pageHeaderLen+8:]))
	loops := 0
	for page := 2 * size; page < len(file); page += size {
		if native.Uint16(file[page+8:]) != branchPage || native.Uint64(file[page:]) != uint64(page/size) {
			continue
		}
		b := bytes.Clone(file)
		native.PutUint64(b[page+pageHeaderLen+8:], uint64(page/size))
		if _, _, err := verifyBytes(b); err != nil {
			loops++
		}
	}
	if loops == 0 {
		t.Fatal("no loop was found: make the file larger, so that it has branches in use")
	}
}

// TestVerifyBranchKey lowers the keys of a branch, each still in order: none is the key that the page below starts with.
func TestVerifyBranchKey(t *testing.T) {
	path := filepath.Join(memDir(t), "bolt.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("bucket"))
		for i := 1; i < 1000 && err == nil; i += 2 {
			err = b.Put(fmt.Appendf(nil, "key%04d", i), []byte("value"))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size, branches := int(native.Uint32(file[pageHeaderLen+8:])), 0
	for page := 2 * size; page < len(file); page += size {
		if native.Uint16(file[page+8:]) != branchPage {
			continue
		}
		list, _ := entries(file[page : page+size])
		for _, e := range list {
			branches++
			e.key[len(e.key)-1]--
			var d damage
			if _, _, err := verifyBytes(file); !errors.As(err, &d) {
				t.Errorf("branch key %q: error = %v; want damage", e.key, err)
			}
			e.key[len(e.key)-1]++
		}
	}
	if branches == 0 {
		t.Fatal("the file has no branch: write more keys")
	}
}

// TestVerifyInlineBucket changes each byte of the page header of a bucket small enough to stand in its parent's page. The
// page id is the one that matters most: bbolt frees the page of that id.
func TestVerifyInlineBucket(t *testing.T) {
	path := filepath.Join(memDir(t), "bolt.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("bucket"))
		if err != nil {
			return err
		}
		return b.Put([]byte("key"), []byte("value"))
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(file, []byte("bucket")) + len("bucket") + bucketHeaderLen
	for i := range pageHeaderLen {
		file[at+i] ^= 4
		var d damage
		if _, _, err := verifyBytes(file); !errors.As(err, &d) {
			t.Errorf("byte %d of the page header: error = %v; want damage", i, err)
		}
		file[at+i] ^= 4
	}
	if _, _, err := verifyBytes(file); err != nil {
		t.Errorf("the file as it was: %v", err)
	}
}

// TestVerifyReadError tells a disk that fails from a file that is wrong.
func TestVerifyReadError(t *testing.T) {
	file, _ := boltFile(t, rand.New(rand.NewPCG(7, 8)), 5)
	boom := errors.New("input/output error")
	for _, n := range []int64{0, 4096, int64(len(file)) / 2} {
		r := io.ReaderAt(failingReader{bytes.NewReader(file), n, boom})
		if _, err := verify(r, int64(len(file)), func(string, []byte, []byte) {}); !errors.Is(err, boom) {
			t.Errorf("reading fails at %d: error = %v; want %v", n, err, boom)
		}
	}
}

type failingReader struct {
	io.ReaderAt
	from int64
	err  error
}

func (r failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= r.from {
		return 0, r.err
	}
	return r.ReaderAt.ReadAt(p, off)
}

// FuzzVerify changes a state file in 8 places: verify neither panics nor runs on, and what it lets through bbolt can read and write.
func FuzzVerify(f *testing.F) {
	file, _ := boltFile(f, rand.New(rand.NewPCG(9, 10)), 12)
	f.Add(uint64(1), []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(uint64(99), []byte{0xff})
	f.Fuzz(func(t *testing.T, seed uint64, values []byte) {
		rng, b := rand.New(rand.NewPCG(seed, 0)), bytes.Clone(file)
		for _, v := range values[:min(len(values), 8)] {
			at := rng.IntN(len(b))
			if rng.IntN(2) == 0 { // headers and tables are where damage matters
				at = at/4096*4096 + rng.IntN(64)
			}
			b[at] = v
		}
		if _, _, err := verifyBytes(b); err == nil {
			useBolt(t, b)
		}
	})
}

// useBolt reads all of a bbolt file and writes to it.
func useBolt(t *testing.T, file []byte) {
	path := filepath.Join(t.TempDir(), "bolt.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType, NoSync: true})
	if err != nil {
		t.Fatalf("bbolt does not open what verify let through: %v", err)
	}
	defer db.Close()
	rng := rand.New(rand.NewPCG(binary.LittleEndian.Uint64(file[pageHeaderLen:]), 1))
	for range 4 {
		if err := db.Update(func(tx *bbolt.Tx) error { return randomChange(tx, rng, make(contents)) }); err != nil {
			t.Fatalf("bbolt does not write to what verify let through: %v", err)
		}
	}
}
