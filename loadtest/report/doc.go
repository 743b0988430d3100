// Package report says what a load run found: a [Result] for each scenario and
// target, written as a table for a terminal, as JSON for a program, and as one
// HTML page without any outside reference for a browser.
//
// The package does no measuring and starts no goroutine. Its values are plain
// data: fill them, then write them.
//
// # Units
//
// Latencies are in microseconds, CPU time in microseconds of all threads of the
// server, memory in bytes, durations in seconds. A [Distribution] is made from an
// HDR histogram of nanoseconds and keeps three significant digits.
//
// # Ratios
//
// [Compare] puts several targets that had the same load side by side. A ratio is
// always that of a target to the first one, and above 1 where the first one is
// better: the comparison reads as "N times as much as devlxd needs".
package report
