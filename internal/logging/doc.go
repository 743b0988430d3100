// Package logging is how the daemon logs with log/slog: where lines go and in which format ([Sink]), text that guests have chosen
// ([Guest]), and how many lines a container may cause ([Limiter]).
//
// Whatever a container can choose (a path, a key, the name of a cgroup, an error that repeats one of them) is given as [Guest]. As a second
// line, a Sink escapes and cuts every string that comes without: no line of the log can be made to look like two, to move a cursor, or
// to fill a disk.
//
// Level and format can change while the daemon runs. A line below the level costs one atomic load, if its arguments are made
// behind a look at [slog.Logger.Enabled].
//
// Everything is safe for concurrent use.
package logging
