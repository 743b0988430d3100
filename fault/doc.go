// Package fault keeps account of what the host does not give the daemon at the moment: descriptors, memory, space on
// the disk, a view of cgroups or processes.
//
// A [Board] is told when a condition is met ([Board.Enter]) and when it has passed ([Board.Leave]), as often as the
// caller comes by: a condition is entered once, until it is left. What a [Kind] says in the log and in the metrics stands
// in one table, so that an operator finds the same word in both:
//
//   - entering is a line, at level ERROR for all but NoCgroups, that says what does not work and what to do, leaving one at INFO. A condition that
//     comes and goes logs at most one pair in [Interval], and then says how often it came in between;
//   - devlxd_fault_active{fault} is 1 while a condition holds, devlxd_faults_total{fault} counts how often it was entered.
//     Every kind is there from the start, at zero.
//
// The package does nothing about a condition: that is for whoever meets it.
package fault
