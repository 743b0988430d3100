package server

import (
	"container/heap"
	"slices"
)

// best keeps the first few of many values. It is a heap with the last of those that it keeps at the root.
type best[T any] struct {
	limit  int // above 0
	before func(a, b *T) bool
	list   []T
}

// add keeps a copy of x if it is among the first.
func (h *best[T]) add(x *T) {
	switch {
	case len(h.list) < h.limit:
		heap.Push(h, *x)
	case h.before(x, &h.list[0]):
		h.list[0] = *x
		heap.Fix(h, 0)
	}
}

// sorted gives those that are kept in their order.
func (h *best[T]) sorted() []T {
	slices.SortFunc(h.list, func(a, b T) int {
		if h.before(&a, &b) {
			return -1
		}
		return 1
	})
	return h.list
}

// Len implements heap.Interface.
func (h *best[T]) Len() int { return len(h.list) }

// Less implements heap.Interface.
func (h *best[T]) Less(i, j int) bool { return h.before(&h.list[j], &h.list[i]) }

// Swap implements heap.Interface.
func (h *best[T]) Swap(i, j int) { h.list[i], h.list[j] = h.list[j], h.list[i] }

// Push implements heap.Interface.
func (h *best[T]) Push(x any) { h.list = append(h.list, x.(T)) }

// Pop implements heap.Interface.
func (h *best[T]) Pop() any {
	last := len(h.list) - 1
	x := h.list[last]
	h.list = h.list[:last]
	return x
}
