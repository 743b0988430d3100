package main

import (
	"fmt"
	"io"
	"os"

	"devlxd/loadtest/report"
)

// writeFile writes a report to a file, to standard output for "-".
func writeFile(path string, write func(io.Writer) error) error {
	if path == "-" {
		return write(os.Stdout)
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	if err := write(f); err != nil {
		_ = f.Close()
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return f.Close()
}

// writeResults writes what a scenario found: a summary for people, and the files that are asked for. A scenario with one phase is one
// JSON object, one with several is an array of them.
func (f *flags) writeResults(results []report.Result) error {
	machine := report.ThisMachine(commandLine())
	summary := io.Writer(os.Stdout)
	if f.jsonFile == "-" {
		summary = os.Stderr
	}
	for i := range results {
		results[i].Machine = &machine
		if f.opt.Hold != nil {
			continue // the process that started this one sums up
		}
		if err := report.WriteSummary(summary, &results[i]); err != nil {
			return err
		}
	}
	if f.jsonFile != "" {
		var value any = results
		if len(results) == 1 {
			value = &results[0]
		}
		if err := writeFile(f.jsonFile, func(w io.Writer) error { return report.WriteJSON(w, value) }); err != nil {
			return err
		}
	}
	if f.htmlFile != "" {
		return writeFile(f.htmlFile, func(w io.Writer) error {
			if len(results) == 1 {
				return report.WriteHTML(w, &results[0])
			}
			return report.WriteComparisonHTML(w, &report.Comparison{Machine: machine, Results: results})
		})
	}
	return nil
}

// passed is an error if any of the results has one.
func passed(results []report.Result) error {
	for i := range results {
		if !results[i].OK() {
			return errWrong
		}
	}
	return nil
}
