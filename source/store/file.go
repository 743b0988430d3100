package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"devlxd/source"
)

const (
	stateName  = "state.db"
	lockName   = "lock"
	imagesName = "images"

	dirMode  = 0o700
	fileMode = 0o600

	lockRetry = 20 * time.Millisecond

	// schemaVersion is the layout of buckets and records. A file with a higher one is refused.
	schemaVersion = 1
)

// The buckets of the file. The sequence of each holds the number of its keys, so that a lost record shows.
var (
	bucketMeta       = []byte("meta")       // keySchema: uint32 big endian and its CRC-32C, in every version
	bucketContainers = []byte("containers") // name: containerRecord
	bucketImages     = []byte("images")     // fingerprint: imageRecord
	bucketUnfinished = []byte("unfinished") // fingerprint: nothing; files without an image record belong to no image
)

var keySchema = []byte("schema")

// lockDir takes the directory for this process. The lock ends with the process, however that ends.
func lockDir(dir string, timeout time.Duration) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, storageError("open the state directory", err)
	}
	if err := flock(f, timeout); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, storageError("lock "+path, err)
		}
		holder := make([]byte, 20)
		n, _ := f.ReadAt(holder, 0)
		return nil, fmt.Errorf("state directory %s is %w (pid %s): stop that one, or use another directory",
			dir, source.ErrLocked, strings.TrimSpace(string(holder[:n])))
	}
	// The pid serves the message above only.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

func flock(f *os.File, timeout time.Duration) error {
	for deadline := time.Now().Add(timeout); ; time.Sleep(lockRetry) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || err != unix.EINTR && (err != unix.EWOULDBLOCK || time.Now().After(deadline)) {
			return err
		}
	}
}

// createState makes an empty state file. It appears under its name only when complete, so that a file of any other form
// is damaged, even an empty one.
func createState(dir string) error {
	path := filepath.Join(dir, stateName)
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(temp, fileMode, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketContainers, bucketImages, bucketUnfinished} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return put(tx, bucketMeta, keySchema, encodeSchema(schemaVersion))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		_ = os.Remove(temp)
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(dir)
}

// openState opens the state file of a locked directory, after all of it was found sound. The file is the one that db uses.
func openState(dir string, timeout time.Duration) (db *bbolt.DB, f *os.File, leaked int, err error) {
	path := filepath.Join(dir, stateName)
	if f, err = openFile(dir, path); err != nil {
		return nil, nil, 0, err
	}
	if leaked, err = checkState(f, path, timeout); err != nil {
		_ = f.Close()
		return nil, nil, 0, err
	}
	err = guard(func() error {
		db, err = bbolt.Open(path, fileMode, &bbolt.Options{
			FreelistType: bbolt.FreelistMapType,
			OpenFile:     func(string, int, os.FileMode) (*os.File, error) { return f, nil },
		})
		return err
	})
	if err != nil {
		_ = f.Close() // bbolt may have done so
		return nil, nil, 0, storageError("open "+path, err)
	}
	return db, f, leaked, nil
}

func openFile(dir, path string) (*os.File, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := createState(dir); err != nil {
			return nil, storageError("create "+path, err)
		}
		info, err = os.Lstat(path)
	}
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w state file %s: not a regular file, move it away", source.ErrInvalid, path)
	}
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, storageError("open "+path, err)
	}
	return f, nil
}

// checkState verifies the file and every record in it. Nothing is written.
func checkState(f *os.File, path string, timeout time.Duration) (leaked int, err error) {
	// The directory is ours, but a bbolt tool may have the file open.
	if err := flock(f, timeout); err != nil {
		return 0, fmt.Errorf("state file %s is locked by another program: close that one: %w", path, source.ErrLocked)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, storageError("read "+path, err)
	}
	var c stateChecker
	r, err := verify(f, info.Size(), c.visit)
	var d damage
	switch {
	case errors.As(err, &d):
		return 0, damagedError(path, d.Error())
	case err != nil:
		return 0, storageError("read "+path, err)
	case c.schema > schemaVersion:
		return 0, fmt.Errorf("state file %s is %w (schema %d, this one knows %d): install that version again",
			path, source.ErrNewer, c.schema, schemaVersion)
	case c.schema == 0:
		return 0, damagedError(path, "it holds no schema version of devlxd")
	case c.err != nil:
		return 0, damagedError(path, c.err.Error())
	}
	for _, name := range [][]byte{bucketMeta, bucketContainers, bucketImages, bucketUnfinished} {
		b, ok := r.buckets[string(name)]
		if !ok || b.keys != b.sequence {
			return 0, damagedError(path, fmt.Sprintf("bucket %q has %d records instead of %d", name, b.keys, b.sequence))
		}
	}
	return r.leaked, nil
}

// stateChecker decodes every record. The first bad one is kept, and counts only if the schema is ours.
type stateChecker struct {
	schema uint32
	err    error
}

func (c *stateChecker) visit(bucket string, key, value []byte) {
	var name string
	var err error
	switch bucket {
	case string(bucketMeta):
		if string(key) == string(keySchema) {
			c.schema, err = decodeSchema(value)
			name = string(key)
		}
	case string(bucketContainers):
		name, err = checkContainer(value)
	case string(bucketImages):
		var r *imageRecord
		if r, err = decodeImage(value); err == nil {
			name = r.fingerprint
		}
	default:
		name = string(key)
	}
	if err == nil && bucket != string(bucketMeta) && name != string(key) {
		err = fmt.Errorf("it is the record of %q", name)
	}
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("%s %q: %v", strings.TrimSuffix(bucket, "s"), key, err)
	}
}

func encodeSchema(version uint32) []byte {
	return appendChecksum(binary.BigEndian.AppendUint32(nil, version))
}

func decodeSchema(b []byte) (uint32, error) {
	if len(b) != 4+checksumLen {
		return 0, errShort
	}
	version := binary.BigEndian.Uint32(b)
	if string(encodeSchema(version)) != string(b) {
		return 0, errChecksum
	}
	return version, nil
}

// put stores a record, and counts it if it is new.
func put(tx *bbolt.Tx, bucket, key, value []byte) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return bolterrors.ErrBucketNotFound
	}
	if b.Get(key) == nil {
		if err := b.SetSequence(b.Sequence() + 1); err != nil {
			return err
		}
	}
	return b.Put(key, value)
}

// remove deletes a record if it is there, and counts it.
func remove(tx *bbolt.Tx, bucket, key []byte) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return bolterrors.ErrBucketNotFound
	}
	if b.Get(key) == nil {
		return nil
	}
	if err := b.SetSequence(b.Sequence() - 1); err != nil {
		return err
	}
	return b.Delete(key)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
