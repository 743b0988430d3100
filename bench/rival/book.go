package rival

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// container is what is known of one. Its maps are never changed, only replaced.
type container struct {
	Container
	rootUID uint32 // host uid of the container's root; known to NetHTTP alone
}

// book has the registered containers. It is safe for concurrent use.
type book struct {
	mu     sync.RWMutex
	byName map[string]*container
	byPID  map[int]*container
}

func newBook() *book {
	return &book{byName: make(map[string]*container), byPID: make(map[int]*container)}
}

// put adds a container in place of the one of that name.
func (b *book) put(c *container) error {
	if c.Name == "" {
		return errNoName
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(c.Name)
	b.byName[c.Name] = c
	if c.PID > 0 {
		b.byPID[c.PID] = c
	}
	return nil
}

func (b *book) remove(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.forget(name) {
		return errNoContainer
	}
	return nil
}

// forget wants the lock to be held.
func (b *book) forget(name string) bool {
	c := b.byName[name]
	if c == nil {
		return false
	}
	delete(b.byName, name)
	if b.byPID[c.PID] == c {
		delete(b.byPID, c.PID)
	}
	return true
}

// change sets a key, or removes it with the value "", and returns what it was.
func (b *book) change(name, key, value string) (old string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.byName[name]
	if c == nil {
		return "", errNoContainer
	}
	old = c.Config[key]
	config := maps.Clone(c.Config)
	if config == nil {
		config = make(map[string]string)
	}
	if config[key] = value; value == "" {
		delete(config, key)
	}
	changed := *c
	changed.Config = config
	b.byName[name] = &changed
	if b.byPID[c.PID] == c {
		b.byPID[c.PID] = &changed
	}
	return old, nil
}

func (b *book) named(name string) *container {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byName[name]
}

func (b *book) withInit(pid int) *container {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byPID[pid]
}

// each calls f for every container until it returns false, without the lock.
func (b *book) each(f func(*container) bool) {
	b.mu.RLock()
	all := make([]*container, 0, len(b.byName))
	for _, c := range b.byName {
		all = append(all, c)
	}
	b.mu.RUnlock()
	for _, c := range all {
		if !f(c) {
			return
		}
	}
}

// makesEvent reports whether LXD tells guests of the change: the value has changed, and the key is one of the user's.
func makesEvent(key, old, value string) bool { return old != value && strings.HasPrefix(key, "user.") }

// fixed is what the rivals with a fixed answer have in common: everything but a server.
type fixed struct {
	book   *book
	answer atomic.Pointer[answer]
	named  bool // the answer is a container's; for the control goroutine alone
}

func (f *fixed) init() {
	f.book = newBook()
	f.answer.Store(newAnswer(defaultBody))
}

// register implements server.
func (f *fixed) register(containers []Container) error {
	for i := range containers {
		if err := f.book.put(&container{Container: containers[i]}); err != nil {
			return err
		}
		if !f.named {
			f.named = true
			if body := containers[i].Config[Key]; body != "" {
				f.answer.Store(newAnswer(body))
			}
		}
	}
	return nil
}

// unregister implements server.
func (f *fixed) unregister(name string) error { return f.book.remove(name) }

// set implements server for the rivals without events.
func (f *fixed) set(string, string, string) error { return errNoEvents }

// image implements server for the rivals without images.
func (f *fixed) image(string) (string, error) { return "", errNoImages }

// fingerprintOf is the SHA-256 of a file, as LXD names images.
func fingerprintOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
