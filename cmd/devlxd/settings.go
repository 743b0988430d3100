package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"devlxd/internal/settings"
)

// settingFlag is the text of a flag of the settings' table. What it means, and whether it is right, is for the table.
type settingFlag struct {
	text string
	kind settings.Kind
}

// String gives the text.
func (f *settingFlag) String() string { return f.text }

// Set takes any text.
func (f *settingFlag) Set(text string) error {
	f.text = text
	return nil
}

// Type is what help prints for the value.
func (f *settingFlag) Type() string {
	if f.kind == settings.KindNumber {
		return "int"
	}
	return "string"
}

// options are the settings that serve, check and doctor take: the flags of one of them, the environment and the file.
type options struct {
	cmd  *cobra.Command
	file string // --config
}

// bind declares the flags on cmd.
func (o *options) bind(cmd *cobra.Command) {
	o.cmd = cmd
	cmd.Flags().StringVar(&o.file, "config", settings.DefaultFile, "file of the settings, which may be missing unless it is named (or "+settings.FileEnv+")")
	for _, f := range settings.Flags() {
		cmd.Flags().Var(&settingFlag{f.Default, f.Kind}, f.Name, fmt.Sprintf("%s (or %s)", f.Usage, f.Env))
	}
}

// load reads the file anew, and gives each setting its value. What is wrong is a usage error, or a *settings.FileError.
func (o *options) load() (loaded, error) {
	named := o.cmd.Flags().Changed("config")
	path := o.file
	if env := os.Getenv(settings.FileEnv); !named && env != "" {
		path, named = env, true
	}
	if path == "" {
		return loaded{}, usageError(errors.New("--config is empty: give a file, or leave it out"))
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return loaded{}, err
	}
	file, err := settings.Read(path, !named)
	if err != nil {
		return loaded{}, err
	}
	l := loaded{}
	if file != nil {
		l.File = file.Path
	}
	flags := o.cmd.Flags()
	l.Values, l.Config, err = settings.Resolve(settings.Input{
		Flag: func(name string) (string, bool) { return flags.Lookup(name).Value.String(), flags.Changed(name) }, Env: os.LookupEnv, File: file,
	})
	if err != nil {
		return loaded{}, usageError(err)
	}
	return l, nil
}

// loaded is what load has found.
type loaded struct {
	File   string // "": there is none
	Values settings.Values
	Config *settings.Config
}

// warnings are what was given and has no effect.
func (l *loaded) warnings() []string {
	return settings.Warnings(l.Values, os.Environ(), func(name string) bool {
		return name == profileVariable || name == upgradeVariable || strings.HasPrefix(name, "DEVLXD_TEST_")
	})
}

// daemonConfig is what startDaemon takes, but for the log and what privileges are given up.
func (l *loaded) daemonConfig() daemonConfig {
	c := l.Config
	return daemonConfig{
		RunDir: c.RunDir, StateDir: c.StateDir, Metrics: c.Metrics, Dialect: c.Dialect, Loops: c.Loops, Limits: c.Limits, Source: c.Source,
		ProofAlways: c.ProofAlways, Discover: c.Discover, PerContainer: c.PerContainer,
	}
}

// defaultRunDir is where clients look for the daemon.
func defaultRunDir() string {
	for _, f := range settings.Flags() {
		if f.Name == "run-dir" {
			return cmp.Or(os.Getenv(f.Env), f.Default)
		}
	}
	return ""
}

// newCheckCommand is "devlxd check".
func newCheckCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the settings of serve and print them with their origin",
		Long: `Check the settings that serve would run with, from its flags, the environment and the
configuration file, and print each with its origin. A setting that is wrong ends it
with exit code 2, and each mistake in the file has a line. What is given and has no
effect is told on standard error. Whether the host is fit for the settings is what
"devlxd doctor" says.`,
		Example: "  devlxd check\n  devlxd check --config /tmp/new.yaml\n  DEVLXD_DIALECT=lxd devlxd check --metrics off -f json",
	}
	format := formatFlag(cmd, formatTable)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		l, err := o.load()
		if err != nil {
			return err
		}
		for _, w := range l.warnings() {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: warning: %s\n", cmd.CommandPath(), w)
		}
		type row struct {
			Name   string `json:"name"`
			Value  string `json:"value"`
			Origin string `json:"origin"`
		}
		var rows []row
		t := &table{head: []string{"name", "value", "origin"}}
		for _, v := range l.Values {
			rows = append(rows, row{v.Setting.Key, v.Text, v.Origin})
			t.add(v.Setting.Key, v.Text, v.Origin)
		}
		return show(cmd, *format, rows, t)
	}
	o.bind(cmd)
	return cmd
}
