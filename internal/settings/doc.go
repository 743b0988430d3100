// Package settings is what "devlxd serve" can be told: a table of settings ([All]), and the values that they have ([Resolve]).
//
// A setting has, of these, the first that gives it: its flag, its environment variable, the configuration file, its default. The file is YAML,
// read by [Read], and refused whole if anything in it is wrong: every mistake has its line, and an unknown key the known one
// that is nearest. Nothing is read twice by two rules: flag, variable and file give the same text, which the setting's own
// function checks and puts into a [Config].
//
// The table is data: flags, the output of "devlxd check", the example file ([Example]) and the documentation are made from it. It knows
// nothing of how flags are parsed, nor of the daemon.
package settings
