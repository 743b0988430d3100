// Package privilege gives up what a daemon that is started as root does not need: capabilities
// (capabilities(7)), the gain of any by exec(2) (PR_SET_NO_NEW_PRIVS), and core dumps.
//
// What is left is in all five sets of capabilities, so that a program that the daemon
// replaces itself with, or starts as its successor, has the same and no more,
// whoever the user is. The kernel keeps capabilities for each thread; everything here holds
// for all of them, also for those that are to come.
package privilege
