package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"

	"golang.org/x/sys/unix"
)

// profileVariable names a directory for profiles of a serving daemon. It is a matter of development and has no flag.
const profileVariable = "DEVLXD_PROFILE"

// profiler writes cpu.pprof, of its whole life, and heap.pprof, of the moment of the last SIGUSR1.
type profiler struct {
	dir     string
	cpu     *os.File
	signals chan os.Signal
	done    chan struct{}
}

// startProfiler profiles into the directory that profileVariable names; nil and no error where it names none.
func startProfiler(log *slog.Logger) (*profiler, error) {
	dir := os.Getenv(profileVariable)
	if dir == "" {
		return nil, nil
	}
	cpu, err := os.Create(filepath.Join(dir, "cpu.pprof"))
	if err != nil {
		return nil, fmt.Errorf("cannot profile: %w: give a directory in %s", err, profileVariable)
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot profile: %w", err), cpu.Close())
	}
	p := &profiler{dir: dir, cpu: cpu, signals: make(chan os.Signal, 1), done: make(chan struct{})}
	signal.Notify(p.signals, unix.SIGUSR1)
	go p.run(log)
	return p, nil
}

// run writes a heap profile for each signal.
func (p *profiler) run(log *slog.Logger) {
	defer close(p.done)
	for range p.signals {
		if err := p.heap(); err != nil {
			log.Error("cannot write a heap profile", "error", err)
		}
	}
}

// heap writes what is on the heap after a collection. The file appears when it is whole.
func (p *profiler) heap() error {
	path := filepath.Join(p.dir, "heap.pprof")
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	runtime.GC()
	err = pprof.Lookup("heap").WriteTo(f, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// stop ends profiling. p may be nil.
func (p *profiler) stop() error {
	if p == nil {
		return nil
	}
	signal.Stop(p.signals)
	close(p.signals)
	<-p.done
	pprof.StopCPUProfile()
	return p.cpu.Close()
}
