package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kinds of results. The first two are formats of packages.
const (
	deb  = "deb"
	rpm  = "rpm"
	tgz  = "tar"
	sbom = "sbom"
)

var allKinds = []string{deb, rpm, tgz, sbom}

// release is one version that is made. Its fields do not change after check.
type release struct {
	version    string // semantic, without v: 0.1.0, 0.2.0-rc.1
	commit     string // "" where there is none
	time       time.Time
	maintainer string
	arches     []string // as Go calls them
	programs   []string // commands of the project; each has packages of its own
	out        string   // folder of the results
	binaries   string   // folder of programs that are built already; "": they are built
	kinds      []string // of results
	log        io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(2)
	}
	if err := r.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// parse reads the command line.
func parse(args []string) (*release, error) {
	r := &release{log: os.Stderr}
	f := flag.NewFlagSet("release", flag.ContinueOnError)
	f.StringVar(&r.version, "version", "", "version to make, such as 0.1.0 (default: that of cmd/devlxd/version.go)")
	f.StringVar(&r.out, "out", "dist", "folder of the results; files in it are replaced")
	f.StringVar(&r.maintainer, "maintainer", "devlxd maintainers <maintainers@devlxd.invalid>", "who answers for the packages, NAME <ADDRESS>")
	f.StringVar(&r.binaries, "binaries", "", "package the programs in this folder instead of building them; needs one --arch")
	kinds := f.String("make", strings.Join(allKinds, ","), "what is made, with commas; checksums are in any case")
	programs := f.String("programs", "devlxd,devlxd-load", "programs that packages are made of, with commas")
	arches := f.String("arch", "amd64,arm64", "architectures, with commas")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("takes no arguments, %q is too much", f.Arg(0))
	}
	r.kinds = strings.Split(*kinds, ",")
	r.programs = strings.Split(*programs, ",")
	r.arches = strings.Split(*arches, ",")
	return r, r.check()
}

var (
	semantic = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$`)
	declared = regexp.MustCompile(`(?m)^var version = "(.*)"$`)
)

// check completes r, and refuses what cannot be made.
func (r *release) check() error {
	source, err := os.ReadFile("cmd/devlxd/version.go")
	if err != nil {
		return fmt.Errorf("not the root of the project: %w", err)
	}
	if m := declared.FindSubmatch(source); r.version == "" && m != nil {
		r.version = string(m[1])
	}
	r.version = strings.TrimPrefix(r.version, "v")
	if !semantic.MatchString(r.version) {
		return fmt.Errorf("version %q: give one such as 0.1.0 or 0.2.0-rc.1", r.version)
	}
	for _, arch := range r.arches {
		if arch != "amd64" && arch != "arm64" {
			return fmt.Errorf("architecture %q: use amd64 or arm64", arch)
		}
	}
	for _, kind := range r.kinds {
		if !slices.Contains(allKinds, kind) {
			return fmt.Errorf("--make: unknown %q: use some of %s", kind, strings.Join(allKinds, ","))
		}
	}
	for _, program := range r.programs {
		if layout[program] == nil {
			return fmt.Errorf("program %q: use devlxd or devlxd-load", program)
		}
	}
	if r.binaries != "" && len(r.arches) != 1 {
		return errors.New("--binaries: give the architecture of them with --arch")
	}
	r.commit, _ = git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
	return r.setTime()
}

// setTime takes the time that all files get: SOURCE_DATE_EPOCH, or that of the commit (https://reproducible-builds.org/specs/source-date-epoch).
func (r *release) setTime() error {
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	if seconds == "" {
		var err error
		if seconds, err = git("log", "-1", "--format=%ct"); err != nil {
			return fmt.Errorf("no commit whose time the files could have: set SOURCE_DATE_EPOCH: %w", err)
		}
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("SOURCE_DATE_EPOCH is %q: give the seconds since 1970", seconds)
	}
	r.time = time.Unix(n, 0).UTC()
	return nil
}

func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).Output()
	return strings.TrimSpace(string(out)), err
}

// run makes everything.
func (r *release) run(ctx context.Context) error {
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "devlxd-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, arch := range r.arches {
		if err := r.make(ctx, filepath.Join(work, arch), arch); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
	}
	return r.sum()
}

// make makes what there is of one architecture.
func (r *release) make(ctx context.Context, work, arch string) error {
	binaries := r.binaries
	if binaries == "" {
		binaries = filepath.Join(work, "bin")
		if err := r.build(ctx, binaries, arch); err != nil {
			return err
		}
	}
	for _, kind := range r.kinds {
		var stages []string
		for _, program := range r.programs {
			stage := filepath.Join(work, kind, program)
			if err := r.of(ctx, kind, stage, program, arch, binaries); err != nil {
				return err
			}
			stages = append(stages, stage)
		}
		if kind == tgz {
			if err := r.tarball(stages, arch); err != nil {
				return err
			}
		}
	}
	return nil
}

// of makes what there is of one kind and one program; the tarball is of all, and is only staged here.
func (r *release) of(ctx context.Context, kind, stage, program, arch, binaries string) error {
	if kind == sbom {
		return r.materials(ctx, filepath.Join(binaries, program), arch)
	}
	err := r.stage(stage, program, kind, binaries)
	if err != nil || kind == tgz {
		return err
	}
	return r.pack(ctx, stage, program, kind, arch)
}

// file is the path of a result.
func (r *release) file(name string) string { return filepath.Join(r.out, name) }
