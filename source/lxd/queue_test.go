package lxd

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestQueueAsksUnlocked: a status that is asked for while a burst of changes is made one list waits for nobody who waits for it.
func TestQueueAsksUnlocked(t *testing.T) {
	var q *queue
	q = newQueue(func() int {
		if !q.mu.TryLock() {
			t.Error("the queue is locked while it asks how many instances there are")
			return 0
		}
		q.mu.Unlock()
		return 0
	}, time.Now)
	for n := range singlesAtLeast + 1 {
		q.add(task{readInstance, key{"p", fmt.Sprint(n)}})
	}
	if next, _, ok := q.take(); !ok || next.kind != readInstances {
		t.Errorf("took %v", next)
	}
}

// TestQueueModel: whatever is added while whatever is read, each thing is read after it was added last, and never twice at a time.
func TestQueueModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		known := rapid.IntRange(0, 200).Draw(rt, "known")
		q := newQueue(func() int { return known }, time.Now)
		owed := make(map[task]bool) // added and not yet taken
		reading := make(map[task]bool)
		tasks := rapid.Custom(func(t *rapid.T) task {
			return task{readInstance, key{"p", fmt.Sprint(rapid.IntRange(0, 100).Draw(t, "n"))}}
		})
		rt.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				for _, k := range rapid.SliceOfN(tasks, 1, 40).Draw(t, "tasks") {
					q.add(k)
					owed[k] = true
				}
			},
			"take": func(t *rapid.T) {
				k, _, ok := q.take()
				if !ok {
					for o := range owed {
						// They may be part of a list that waits for the end of the one before.
						if !reading[o] && !reading[task{kind: readInstances}] {
							t.Fatalf("%v is owed and not given", o)
						}
					}
					return
				}
				if reading[k] {
					t.Fatalf("%v is read twice at a time", k)
				}
				if k.kind == readInstances {
					// What is being read and was added again is covered too, by the lock that the list takes.
					maps.DeleteFunc(owed, func(t task, _ bool) bool { return t.kind == readInstance })
				}
				delete(owed, k)
				reading[k] = true
			},
			"done": func(t *rapid.T) {
				if len(reading) == 0 {
					t.Skip()
				}
				list := slices.SortedFunc(maps.Keys(reading), func(a, b task) int { return bytes.Compare(fmt.Append(nil, a), fmt.Append(nil, b)) })
				k := rapid.SampledFrom(list).Draw(t, "task")
				delete(reading, k)
				q.done(k, false)
			},
		})
		for k := range reading {
			q.done(k, false)
		}
		for {
			k, _, ok := q.take()
			if !ok {
				break
			}
			if k.kind == readInstances {
				clear(owed)
			}
			delete(owed, k)
			q.done(k, false)
		}
		if len(owed) > 0 || q.len() != 0 {
			rt.Fatalf("owed %v, %d left", owed, q.len())
		}
	})
}

// TestQueueBegin: what is read by somebody who did not take it is not given to others meanwhile, and once more afterwards, also where it was
// announced before that or has to be read again.
func TestQueueBegin(t *testing.T) {
	all := task{kind: readInstances}
	for what, announce := range map[string]func(q *queue){
		"before": func(q *queue) { q.add(all); q.begin(all) },
		"after":  func(q *queue) { q.begin(all); q.add(all) },
		"again":  func(q *queue) { q.begin(all); q.again() },
	} {
		q := newQueue(func() int { return 0 }, time.Now)
		announce(q)
		if _, _, ok := q.take(); ok {
			t.Errorf("announced %s: it is read twice at a time", what)
		}
		q.done(all, false)
		if next, _, ok := q.take(); !ok || next != all {
			t.Errorf("announced %s: it is not read again", what)
		}
		q.done(all, false)
		if _, _, ok := q.take(); ok || q.len() != 0 {
			t.Errorf("announced %s: %d are left", what, q.len())
		}
	}
}
