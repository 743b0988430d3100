package main

import (
	"runtime"
	"runtime/debug"
)

// version is the release; packagers set it with -ldflags "-X main.version=...".
var version = "0.1.0-dev"

// builtFrom is the commit of a release, where Go is not to find out itself; packagers set it as they set version.
var builtFrom string

// revision is the commit that the binary was built from, "" when unknown.
func revision() string {
	if builtFrom != "" {
		return builtFrom
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

func goVersion() string { return runtime.Version() }
