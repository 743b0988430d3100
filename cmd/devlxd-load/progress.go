package main

import (
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// bars shows progress on a terminal, and nothing anywhere else.
type bars struct {
	terminal bool
	bar      *progressbar.ProgressBar
}

func newBars() *bars { return &bars{terminal: term.IsTerminal(int(os.Stderr.Fd()))} }

// resolution is how many steps a bar has.
const resolution = 1000

// begin shows a new bar and returns what moves it.
func (b *bars) begin(what string) func(done, total float64) {
	if !b.terminal {
		return func(float64, float64) {}
	}
	b.end()
	b.bar = progressbar.NewOptions(resolution,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(what), progressbar.OptionSetWidth(40),
		progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(65_000_000), progressbar.OptionSetPredictTime(false),
	)
	return func(done, total float64) {
		if total > 0 {
			_ = b.bar.Set(int(min(done/total, 0.999) * resolution)) // a bar that cannot be drawn is no reason to end
		}
	}
}

// end clears the bar.
func (b *bars) end() {
	if b.bar != nil {
		_ = b.bar.Finish()
		b.bar = nil
	}
}
