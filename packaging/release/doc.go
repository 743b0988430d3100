// Command release makes what is published of a version, and nothing else: static
// binaries for each architecture, .deb and .rpm packages, a tarball, a bill of
// materials and the checksums of all of them.
//
//	go run ./packaging/release --version 0.1.0
//
// It is run in the root of the project. The bytes are a function of the source,
// the version, the commit and its time, and the versions of Go and of the tools
// (packaging/tools/go.mod): not of the folder, the user or the day.
//
// nfpm is run as the program that it is, with its own configuration files, so that
// whoever knows nfpm can change a package; its module file is a nested one, so that
// devlxd does not depend on what nfpm depends on.
package main
