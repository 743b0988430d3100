package lxd

import (
	"context"
	"sync"
	"time"
)

// task is what there is to read again.
type task struct {
	kind taskKind
	key  key // of one instance
}

type taskKind uint8

const (
	readInstance  taskKind = iota // one instance
	readInstances                 // all of them
	readImages                    // the list of images
)

// queue holds what is to be read again, each thing once, however often it was announced. What is announced while it is being read is read
// again afterwards, since the answer may be of before. Safe for concurrent use.
type queue struct {
	known func() int // how many instances there are; called without mu, since who asks for len may hold what it locks
	now   func() time.Time

	mu      sync.Mutex
	order   []task // the oldest first
	states  map[task]*taskState
	singles int // of readInstance in order
	wake    chan struct{}
}

// taskState is that of a task that waits, is being read, or both.
type taskState struct {
	waits   bool
	reading bool
	since   time.Time // announced first, of what waits
	tries   int       // that have failed in a row
}

func newQueue(known func() int, now func() time.Time) *queue {
	return &queue{known: known, now: now, states: make(map[task]*taskState), wake: make(chan struct{}, 1)}
}

// add puts t into the queue unless it waits there.
func (q *queue) add(t task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.put(t, q.now())
}

// begin says that t is being read by somebody who did not take it. Done ends that.
func (q *queue) begin(t task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.state(t).reading = true
}

// again has everything that is being read of instances read once more: what is announced may be about them, and it is known of none of them
// yet what profiles it has.
func (q *queue) again() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for t, s := range q.states {
		if s.reading && t.kind != readImages {
			q.put(t, q.now())
		}
	}
}

// state is that of t, a new one if it has none.
func (q *queue) state(t task) *taskState {
	s := q.states[t]
	if s == nil {
		s = new(taskState)
		q.states[t] = s
	}
	return s
}

func (q *queue) put(t task, since time.Time) {
	s := q.state(t)
	if s.waits {
		return
	}
	s.waits, s.since = true, since
	q.order = append(q.order, t)
	if t.kind == readInstance {
		q.singles++
	}
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// The list costs the daemon a sixth of reading each instance by itself.
const (
	singlesAtLeast = 32 // fewer are always read one by one
	listShare      = 4  // more than one in listShare of all: the list is read
)

// next waits for a task that nobody is reading, and returns when it was announced. It returns ctx.Err when ctx is done.
func (q *queue) next(ctx context.Context) (t task, since time.Time, err error) {
	for {
		if t, since, ok := q.take(); ok {
			return t, since, nil
		}
		select {
		case <-ctx.Done():
			return task{}, time.Time{}, ctx.Err()
		case <-q.wake:
		}
	}
}

func (q *queue) take() (t task, since time.Time, ok bool) {
	known := q.known()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.singles > singlesAtLeast && q.singles*listShare > known {
		q.merge()
	}
	for i, t := range q.order {
		s := q.states[t]
		if s.reading {
			continue
		}
		q.order = append(q.order[:i], q.order[i+1:]...)
		if t.kind == readInstance {
			q.singles--
		}
		s.waits, s.reading = false, true
		if len(q.order) > 0 {
			q.signal() // for another worker
		}
		return t, s.since, true
	}
	return task{}, time.Time{}, false
}

// merge has all instances read in place of many. Those that are being read are so to their end before the list is.
func (q *queue) merge() {
	var rest []task
	since := q.now()
	for _, t := range q.order {
		if t.kind != readInstance {
			rest = append(rest, t)
			continue
		}
		s := q.states[t]
		if s.since.Before(since) {
			since = s.since
		}
		if s.waits = false; !s.reading {
			delete(q.states, t)
		}
	}
	q.order, q.singles = rest, 0
	q.put(task{kind: readInstances}, since)
}

// done says that t was read. With failed it returns how often that was so in a row.
func (q *queue) done(t task, failed bool) (tries int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.states[t]
	s.reading = false
	s.tries++
	if !failed {
		s.tries = 0
	}
	tries = s.tries
	if s.waits {
		q.signal()
	} else if !failed {
		delete(q.states, t)
	}
	return tries
}

// len is how much there is to read, and is being read.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.states)
}
