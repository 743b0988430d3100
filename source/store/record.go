package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"maps"
	"math"
	"slices"

	"devlxd/source"
)

// A record is a version byte, fields, and the CRC-32C of both, big endian. A field is a uvarint, or a string as a uvarint
// length and bytes; a map is a count and its entries with ascending keys, so that a container has one encoding only. It is
// read three times as fast as JSON, which counts when a daemon starts with 100,000 containers.
const (
	containerVersion = 1
	imageVersion     = 1
	checksumLen      = 4
)

// What a container record says of the last bind, before its facts.
const (
	neverBound = iota
	boundBefore
	boundPrivileged
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Reasons why a record is not one.
var (
	errShort    = errors.New("record ends too early")
	errChecksum = errors.New("checksum mismatch")
	errVersion  = errors.New("unknown record version")
	errOrder    = errors.New("keys out of order")
	errNumber   = errors.New("number out of range")
	errTrailing = errors.New("bytes after the last field")
)

// containerRecord is what the file holds of one container.
type containerRecord struct {
	name       string
	instanceID string
	cgroup     string  // default of later binds
	rootUID    *uint32 // default of later binds
	config     map[string]string
	devices    map[string]map[string]string
	bound      *boundRecord // nil: never bound
}

// boundRecord is the last bind: what was asked for, and the facts of the process that was found.
type boundRecord struct {
	request source.BindRequest
	facts   source.Facts
}

// imageRecord is what the file holds of one image.
type imageRecord struct {
	fingerprint    string
	typ            string
	public, cached bool
	ext, rootfsExt string // rootfsExt "": unified
	size           int64
	rootfsSize     int64
	modTime        int64 // Unix seconds
}

// clone returns a record whose maps can be changed.
func (r *containerRecord) clone() *containerRecord {
	c := *r
	c.config = maps.Clone(r.config)
	if c.config == nil {
		c.config = make(map[string]string)
	}
	c.devices = make(map[string]map[string]string, len(r.devices))
	for dev, config := range r.devices {
		c.devices[dev] = maps.Clone(config)
	}
	return &c
}

func (r *containerRecord) encode() []byte {
	b := append(make([]byte, 0, 512), containerVersion)
	b = appendString(b, r.name)
	b = appendString(b, r.instanceID)
	b = appendString(b, r.cgroup)
	b = appendUID(b, r.rootUID)
	b = appendMap(b, r.config)
	b = binary.AppendUvarint(b, uint64(len(r.devices)))
	for _, dev := range slices.Sorted(maps.Keys(r.devices)) {
		b = appendString(b, dev)
		b = appendMap(b, r.devices[dev])
	}
	if r.bound == nil {
		return appendChecksum(append(b, neverBound))
	}
	q, f := &r.bound.request, &r.bound.facts
	mark := byte(boundBefore)
	if f.Privileged {
		mark = boundPrivileged
	}
	b = binary.AppendUvarint(append(b, mark), uint64(q.PID))
	b = appendUID(appendString(b, q.Cgroup), q.RootUID)
	b = appendString(b, f.BootID)
	for _, n := range [...]uint64{uint64(f.PID), f.PidfdInode, f.CgroupID, f.PidNSIno, uint64(f.RootUID)} {
		b = binary.AppendUvarint(b, n)
	}
	return appendChecksum(b)
}

// decodeContainer reads a record; it keeps nothing of b.
func decodeContainer(b []byte) (*containerRecord, error) {
	d := openRecord(b, containerVersion)
	d.keep = true
	return d.container()
}

// checkContainer reads a record for its form only, and returns the name.
func checkContainer(b []byte) (name string, err error) {
	d := openRecord(b, containerVersion)
	r, err := d.container()
	if err != nil {
		return "", err
	}
	return r.name, nil
}

func (d *decoder) container() (*containerRecord, error) {
	r := &containerRecord{name: d.string(), instanceID: d.string(), cgroup: d.string(), rootUID: d.uid()}
	r.config = d.stringMap()
	count := d.count()
	if d.keep {
		r.devices = make(map[string]map[string]string, count)
	}
	for last, i := "", 0; i < count && d.err == nil; i++ {
		dev := d.string()
		if i > 0 && dev <= last {
			d.fail(errOrder)
		}
		last = dev
		if config := d.stringMap(); d.keep {
			r.devices[dev] = config
		}
	}
	if mark := d.uvarint(boundPrivileged); mark != neverBound {
		r.bound = new(boundRecord)
		r.bound.request = source.BindRequest{PID: int(d.uvarint(maxPID)), Cgroup: d.string(), RootUID: d.uid()}
		r.bound.facts = source.Facts{
			BootID: d.string(), PID: int(d.uvarint(maxPID)), PidfdInode: d.uvarint(math.MaxUint64), CgroupID: d.uvarint(math.MaxUint64),
			PidNSIno: d.uvarint(math.MaxUint64), RootUID: uint32(d.uvarint(math.MaxUint32)),
			Privileged: mark == boundPrivileged,
		}
	}
	return r, d.close()
}

func (r *imageRecord) encode() []byte {
	b := append(make([]byte, 0, 192), imageVersion)
	for _, s := range [...]string{r.fingerprint, r.typ, r.ext, r.rootfsExt} {
		b = appendString(b, s)
	}
	var flags uint64
	if r.public {
		flags |= 1
	}
	if r.cached {
		flags |= 2
	}
	for _, n := range [...]uint64{flags, uint64(r.size), uint64(r.rootfsSize), uint64(r.modTime)} {
		b = binary.AppendUvarint(b, n)
	}
	return appendChecksum(b)
}

func decodeImage(b []byte) (*imageRecord, error) {
	d := openRecord(b, imageVersion)
	r := &imageRecord{fingerprint: d.string(), typ: d.string(), ext: d.string(), rootfsExt: d.string()}
	flags := d.uvarint(3)
	r.public, r.cached = flags&1 != 0, flags&2 != 0
	r.size = int64(d.uvarint(math.MaxInt64))
	r.rootfsSize = int64(d.uvarint(math.MaxInt64))
	r.modTime = int64(d.uvarint(math.MaxInt64))
	if err := d.close(); err != nil {
		return nil, err
	}
	return r, nil
}

// maxPID is the largest pid_t.
const maxPID = math.MaxInt32

func appendString[S string | []byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendMap(b []byte, m map[string]string) []byte {
	b = binary.AppendUvarint(b, uint64(len(m)))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		b = appendString(appendString(b, key), m[key])
	}
	return b
}

// appendUID appends an optional uid: 0, or the uid plus 1.
func appendUID(b []byte, uid *uint32) []byte {
	if uid == nil {
		return binary.AppendUvarint(b, 0)
	}
	return binary.AppendUvarint(b, uint64(*uid)+1)
}

func appendChecksum(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decoder reads the fields of a record. The first failure sticks, after which every field is empty. Strings share one
// copy of the record.
type decoder struct {
	rest string
	keep bool // false: maps are read and not made
	err  error
}

func (d *decoder) uid() *uint32 {
	v := d.uvarint(math.MaxUint32 + 1)
	if v == 0 {
		return nil
	}
	uid := uint32(v - 1)
	return &uid
}

func openRecord(b []byte, version byte) decoder {
	if len(b) < 1+checksumLen {
		return decoder{err: errShort}
	}
	body, sum := b[:len(b)-checksumLen], b[len(b)-checksumLen:]
	switch {
	case !bytes.Equal(sum, binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, castagnoli))):
		return decoder{err: errChecksum}
	case body[0] != version:
		return decoder{err: errVersion}
	}
	return decoder{rest: string(body[1:])}
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.rest = ""
}

// uvarint reads a number up to most.
func (d *decoder) uvarint(most uint64) uint64 {
	var v uint64
	for i := 0; i < len(d.rest) && i < binary.MaxVarintLen64; i++ {
		c := d.rest[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c >= 0x80 {
			continue
		}
		if i == binary.MaxVarintLen64-1 && c > 1 || v > most {
			d.fail(errNumber)
			return 0
		}
		d.rest = d.rest[i+1:]
		return v
	}
	d.fail(errShort)
	return 0
}

// count reads the number of entries that follow. Each takes a byte at least, so that a wrong number cannot make the
// caller allocate more than the record is long.
func (d *decoder) count() int {
	n := d.uvarint(math.MaxInt64)
	if n > uint64(len(d.rest)) {
		d.fail(errShort)
		return 0
	}
	return int(n)
}

func (d *decoder) string() string {
	n := d.uvarint(math.MaxInt64)
	if n > uint64(len(d.rest)) {
		d.fail(errShort)
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) stringMap() map[string]string {
	count := d.count()
	var m map[string]string
	if d.keep {
		m = make(map[string]string, count)
	}
	for last, i := "", 0; i < count && d.err == nil; i++ {
		key := d.string()
		if i > 0 && key <= last {
			d.fail(errOrder)
		}
		last = key
		if value := d.string(); d.keep {
			m[key] = value
		}
	}
	return m
}

func (d *decoder) close() error {
	if d.err == nil && d.rest != "" {
		d.err = errTrailing
	}
	return d.err
}
