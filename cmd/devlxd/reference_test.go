package main

import (
	"testing"

	"devlxd/internal/clidoc"
)

// TestReference: the committed man pages, completions and the page of Markdown are those of the commands.
func TestReference(t *testing.T) {
	clidoc.Reference{Root: newRootCommand, Daemon: "devlxd serve"}.Check(t, "../..", `devlxd-load|devlxd-config\.yaml`)
}
