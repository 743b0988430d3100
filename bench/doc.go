// Package bench measures the parts of devlxd beside what else could do their work: Go's net/http and fasthttp, the websocket
// libraries, plain maps, and the way LXD does it. It has no code of its own, only benchmarks:
//
//	go test -run XXX -bench . ./bench
//	go test -run XXX -bench //ratio ./bench
//
// # What is promised
//
//   - Every rival does its work in the same process, on the same inputs, as its own documentation says that it is used at
//     best. What it does less or more than devlxd's code stands beside it.
//   - A group of ways to do the same thing ends with the benchmark "ratio", which takes turns with all of them in slices of
//     milliseconds. Its figures are medians, "WAY-ns/op", and "WAY-x-of-FIRST", the median of the ratios within a turn: what
//     a busy machine does to one of them it does to all, so the ratios can be compared where nanoseconds cannot.
//   - "go test ./bench" does every piece of work that is measured once, and checks the promises of zero allocations, so that
//     no benchmark rots.
//
// # Limits
//
// The heap is shared: what a rival allocates is collected in devlxd's turns too, which makes devlxd look worse, never better.
// The benchmarks of identity and of whole requests need root and cgroup v2, since their peers are real containers; elsewhere
// they are skipped with the reason.
package bench
