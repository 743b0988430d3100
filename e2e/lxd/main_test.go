package lxd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"devlxd/internal/daemontest"
	"devlxd/internal/lxdtest"
)

func TestMain(m *testing.M) {
	os.Exit(lxdtest.Main(m, func(dir string) error {
		_, err := daemontest.Build(dir)
		return errors.Join(err, lxdtest.BuildAgent(dir))
	}))
}

// binary is the built devlxd.
func binary() string { return filepath.Join(lxdtest.Dir(), "devlxd") }
