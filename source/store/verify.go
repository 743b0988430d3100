package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"
	"path"
	"slices"
)

// bbolt reads its file through a memory map and trusts it: a damaged page makes it fault, run forever or, worst, hand out
// a page that is in use. So the file is walked here first, with bounds on everything, before bbolt sees it. Together with
// the checksum of each record and the number of records kept in each bucket's sequence, every damage is found that
// changes what would be read or where would be written. Layout: bbolt file format version 2 (internal/common/page.go,
// meta.go, bucket.go), native byte order.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	boltNoFreelist = 1<<64 - 1

	pageHeaderLen   = 16 // id uint64, flags uint16, count uint16, overflow uint32
	pageElementLen  = 16 // branch: pos, ksize uint32, page uint64; leaf: flags, pos, ksize, vsize uint32
	bucketHeaderLen = 16 // root page uint64, sequence uint64
	metaLen         = 64 // with the checksum, its last 8 bytes

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketLeaf   = 0x01

	minPageSize = 1 << 10
	maxPageSize = 1 << 16
	// maxDepth is far more than a tree of 2^31 pages needs; it ends a chain of damaged branches.
	maxDepth = 32
)

var native = binary.NativeEndian

// damage says what is wrong with the file.
type damage string

func (d damage) Error() string { return string(d) }

func damagef(format string, args ...any) error { return damage(fmt.Sprintf(format, args...)) }

// bucketInfo is what a bucket holds.
type bucketInfo struct {
	keys     uint64
	sequence uint64
}

// report is what verify found besides damage.
type report struct {
	buckets map[string]bucketInfo
	leaked  int // pages neither used nor free: lost space, no danger
}

type verifier struct {
	r        io.ReaderAt
	pageSize uint64
	pages    uint64 // page ids are below
	free     bitset
	used     bitset
	visit    func(bucket string, key, value []byte)
	report   report
	buffers  [maxDepth + 1][]byte // one page of each depth is looked at at a time
}

// verify walks a bbolt file of size bytes and calls visit for each key and value of each bucket, in order of the keys. It
// returns a damage error, or one of r. The slices are valid during the call.
func verify(r io.ReaderAt, size int64, visit func(bucket string, key, value []byte)) (report, error) {
	v := &verifier{r: r, visit: visit, report: report{buckets: make(map[string]bucketInfo)}}
	meta, err := v.readMeta(size)
	if err != nil {
		return v.report, err
	}
	v.free, v.used = newBitset(v.pages), newBitset(v.pages)
	if meta.freelist != boltNoFreelist {
		if err := v.readFreelist(meta.freelist); err != nil {
			return v.report, err
		}
	}
	if err := v.tree("", meta.root, nil, nil, 0); err != nil {
		return v.report, err
	}
	if meta.freelist != boltNoFreelist {
		v.report.leaked = int(v.pages-2) - v.free.len() - v.used.len()
	}
	return v.report, nil
}

type metaPage struct {
	pageSize, root, freelist, pages, txid uint64
}

// readMeta reads both meta pages. bbolt goes back to the older one when the newer is damaged, which would silently undo
// the last change that was acknowledged. A commit rewrites 64 bytes at the start of a page, less than any disk's
// sector, so that a crash leaves either the old or the new meta page, never a damaged one.
func (v *verifier) readMeta(size int64) (metaPage, error) {
	m0, err := v.parseMeta(0, size)
	if err != nil {
		return metaPage{}, err
	}
	m1, err := v.parseMeta(m0.pageSize, size)
	if err != nil {
		return metaPage{}, err
	}
	if m0.pageSize != m1.pageSize {
		return metaPage{}, damagef("the meta pages disagree on the page size (%d and %d)", m0.pageSize, m1.pageSize)
	}
	m := m0
	if m1.txid > m0.txid {
		m = m1
	}
	if most := uint64(size) / m.pageSize; m.pages > most || m.pages < 4 {
		return metaPage{}, damagef("it has %d pages instead of %d: cut off", most, m.pages)
	}
	v.pageSize, v.pages = m.pageSize, m.pages
	return m, nil
}

func (v *verifier) parseMeta(offset uint64, size int64) (metaPage, error) {
	b := make([]byte, pageHeaderLen+metaLen)
	if err := v.readAt(b, offset); err != nil {
		return metaPage{}, err
	}
	b = b[pageHeaderLen:]
	h := fnv.New64a()
	h.Write(b[:metaLen-8])
	m := metaPage{
		pageSize: uint64(native.Uint32(b[8:])),
		root:     native.Uint64(b[16:]),
		freelist: native.Uint64(b[32:]),
		pages:    native.Uint64(b[40:]),
		txid:     native.Uint64(b[48:]),
	}
	switch {
	case native.Uint32(b) != boltMagic || native.Uint32(b[4:]) != boltVersion:
		return m, damagef("no bbolt meta page at offset %d", offset)
	case native.Uint64(b[metaLen-8:]) != h.Sum64():
		return m, damagef("checksum mismatch of the meta page at offset %d", offset)
	case m.pageSize < minPageSize || m.pageSize > maxPageSize || bits.OnesCount64(m.pageSize) != 1 || m.pageSize*2 > uint64(size):
		return m, damagef("page size %d in the meta page at offset %d", m.pageSize, offset)
	}
	return m, nil
}

// readFreelist marks the pages that bbolt would hand out. A count of 0xffff says that the first entry holds the count.
func (v *verifier) readFreelist(id uint64) error {
	p, err := v.page(id, 0)
	if err != nil {
		return err
	}
	if native.Uint16(p[8:]) != freelistPage {
		return damagef("page %d is no freelist", id)
	}
	count, ids := uint64(native.Uint16(p[10:])), p[pageHeaderLen:]
	if count == 0xffff {
		count, ids = native.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return damagef("freelist page %d has %d entries, more than fit", id, count)
	}
	for ; count > 0; count, ids = count-1, ids[8:] {
		page := native.Uint64(ids)
		if page < 2 || page >= v.pages || !v.free.set(page) || v.used.has(page) {
			return damagef("freelist page %d names page %d wrongly", id, page)
		}
	}
	return nil
}

// page reads a page with its overflow pages and marks them used. Each page is used once, and is not free. The bytes are
// valid until the next page of that depth is read.
func (v *verifier) page(id uint64, depth int) ([]byte, error) {
	if id < 2 || id >= v.pages {
		return nil, damagef("page %d does not exist", id)
	}
	p := slices.Grow(v.buffers[depth][:0], int(v.pageSize))[:v.pageSize]
	v.buffers[depth] = p
	if err := v.readAt(p, id*v.pageSize); err != nil {
		return nil, err
	}
	overflow := uint64(native.Uint32(p[12:]))
	if native.Uint64(p) != id || overflow >= v.pages-id {
		return nil, damagef("page %d has a wrong header", id)
	}
	for i := id; i <= id+overflow; i++ {
		if v.free.has(i) || !v.used.set(i) {
			return nil, damagef("page %d is used twice", i)
		}
	}
	if overflow == 0 {
		return p, nil
	}
	p = slices.Grow(p, int(overflow*v.pageSize))[:(overflow+1)*v.pageSize]
	v.buffers[depth] = p
	return p, v.readAt(p[v.pageSize:], (id+1)*v.pageSize)
}

func (v *verifier) readAt(p []byte, offset uint64) error {
	n, err := v.r.ReadAt(p, int64(offset))
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return damagef("it ends before offset %d: cut off", offset+uint64(len(p)))
	}
	return err
}

// tree walks a page of a bucket and those below it. Below a branch, low is the key that the branch has for the page, which
// is the page's first one: bbolt finds the entry of a page that it rewrites by that key, and with another one it would
// leave the entry behind, naming a page that it then hands out again. All keys are below high unless that is nil.
func (v *verifier) tree(bucket string, id uint64, low, high []byte, depth int) error {
	if depth > maxDepth {
		return damagef("page %d is too deep in the tree", id)
	}
	p, err := v.page(id, depth)
	if err != nil {
		return err
	}
	kind := native.Uint16(p[8:])
	if kind != branchPage && kind != leafPage {
		return damagef("page %d has a wrong type", id)
	}
	list, ok := entries(p)
	if !ok || !ordered(list, high) {
		return damagef("page %d has a wrong table of entries", id)
	}
	if low != nil && (len(list) == 0 || !bytes.Equal(list[0].key, low)) {
		return damagef("page %d does not start with key %q, as the branch above says", id, low)
	}
	if kind == leafPage {
		return v.leaf(bucket, list, depth)
	}
	if len(list) == 0 {
		return damagef("page %d is an empty branch", id)
	}
	for i, e := range list {
		end := high
		if i+1 < len(list) {
			end = list[i+1].key
		}
		if err := v.tree(bucket, e.page, e.key, end, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// leaf visits the entries of a leaf. The root bucket holds buckets only.
func (v *verifier) leaf(bucket string, list []entry, depth int) error {
	info := v.report.buckets[bucket]
	for _, e := range list {
		switch {
		case e.flags == bucketLeaf:
			if err := v.bucket(path.Join(bucket, string(e.key)), e.value, depth); err != nil {
				return err
			}
		case e.flags != 0 || bucket == "":
			return damagef("entry %q of bucket %q has a wrong type", e.key, bucket)
		default:
			v.visit(bucket, e.key, e.value)
		}
		info.keys++
	}
	v.report.buckets[bucket] = info
	return nil
}

// bucket walks a bucket that is the value of an entry: a header, and when it names no page, one leaf in place. A leaf in
// place has no page id: bbolt would free the page of that id when it rewrites the bucket.
func (v *verifier) bucket(name string, value []byte, depth int) error {
	if len(value) < bucketHeaderLen {
		return damagef("bucket %q has no header", name)
	}
	root, inline := native.Uint64(value), value[bucketHeaderLen:]
	v.report.buckets[name] = bucketInfo{sequence: native.Uint64(value[8:])}
	if root != 0 {
		return v.tree(name, root, nil, nil, depth+1)
	}
	if len(inline) < pageHeaderLen || native.Uint16(inline[8:]) != leafPage {
		return damagef("bucket %q has no page", name)
	}
	if native.Uint64(inline) != 0 || native.Uint32(inline[12:]) != 0 {
		return damagef("bucket %q has a wrong page header", name)
	}
	list, ok := entries(inline)
	if !ok || !ordered(list, nil) {
		return damagef("bucket %q has a wrong table of entries", name)
	}
	return v.leaf(name, list, depth+1)
}

// entry is one of a branch page (key, page) or of a leaf page (flags, key, value).
type entry struct {
	flags      uint32
	page       uint64
	key, value []byte
}

// entries reads a page. bbolt writes the data of the entries one after another behind the table, so that a wrong count,
// position or length shows.
func entries(p []byte) ([]entry, bool) {
	count, leaf := int(native.Uint16(p[10:])), native.Uint16(p[8:]) == leafPage
	next := uint64(pageHeaderLen + count*pageElementLen)
	if next > uint64(len(p)) {
		return nil, false
	}
	list := make([]entry, count)
	for i := range list {
		at := pageHeaderLen + i*pageElementLen
		b, e := p[at:at+pageElementLen], &list[i]
		var pos, keyLen, valueLen uint64
		if leaf {
			e.flags, pos = native.Uint32(b), uint64(native.Uint32(b[4:]))
			keyLen, valueLen = uint64(native.Uint32(b[8:])), uint64(native.Uint32(b[12:]))
		} else {
			pos, keyLen, e.page = uint64(native.Uint32(b)), uint64(native.Uint32(b[4:])), native.Uint64(b[8:])
		}
		end := next + keyLen
		if uint64(at)+pos != next || keyLen == 0 || end+valueLen > uint64(len(p)) {
			return nil, false
		}
		e.key, e.value = p[next:end], p[end:end+valueLen]
		next = end + valueLen
	}
	return list, true
}

// ordered reports whether the keys ascend, and stay below high unless that is nil.
func ordered(list []entry, high []byte) bool {
	for i := 1; i < len(list); i++ {
		if bytes.Compare(list[i-1].key, list[i].key) >= 0 {
			return false
		}
	}
	return len(list) == 0 || high == nil || bytes.Compare(list[len(list)-1].key, high) < 0
}

// bitset is a set of page ids.
type bitset []uint64

func newBitset(n uint64) bitset { return make(bitset, (n+63)/64) }

func (s bitset) has(i uint64) bool { return s[i/64]&(1<<(i%64)) != 0 }

// set adds i, and reports whether it was not there.
func (s bitset) set(i uint64) bool {
	if s.has(i) {
		return false
	}
	s[i/64] |= 1 << (i % 64)
	return true
}

func (s bitset) len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}
