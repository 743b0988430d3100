package discover

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Runtime is one whose containers can be found.
type Runtime uint8

// The runtimes, in the order in which they are listed.
const (
	LXC Runtime = iota
	Nspawn
	Podman
	numRuntimes
)

// String is the name that [ParseRuntimes] takes, and the value of the label "runtime" of the metrics.
func (r Runtime) String() string {
	switch r {
	case LXC:
		return "lxc"
	case Nspawn:
		return "nspawn"
	case Podman:
		return "podman"
	}
	return "unknown"
}

// Runtimes returns all of them.
func Runtimes() []Runtime { return []Runtime{LXC, Nspawn, Podman} }

// ParseRuntimes reads a list with commas, such as "lxc,podman"; "" is none. The error is [ErrRuntime].
func ParseRuntimes(text string) ([]Runtime, error) {
	if text == "" {
		return nil, nil
	}
	var list []Runtime
	for word := range strings.SplitSeq(text, ",") {
		i := slices.IndexFunc(Runtimes(), func(r Runtime) bool { return r.String() == word })
		if i < 0 {
			return nil, fmt.Errorf("%w %q: use lxc, nspawn and podman, with commas between them", ErrRuntime, word)
		}
		if r := Runtimes()[i]; !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	return list, nil
}

// kind is what a directory of the tree is to a runtime.
type kind uint8

const (
	kindNone    kind = iota // nothing of the runtime's
	kindPlace               // its containers, or further places, are directly below
	kindPayload             // the own cgroup of a container
)

// rules are those of one runtime.
type rules struct {
	runtime Runtime
	// kind tells what a cgroup is by its path below the root of the tree, "" for the root.
	kind func(dir string) kind
	// named says how the container in a payload cgroup is called, and what names it over restarts of its init.
	named func(p *procs, dir string, init process) (name, identity string, err error)
}

// allRules are the rules by runtime.
func allRules() [numRuntimes]rules {
	return [numRuntimes]rules{LXC: lxcRules(), Nspawn: nspawnRules(), Podman: podmanRules()}
}

// parts splits the path of a cgroup; none for the root.
func parts(dir string) []string {
	if dir == "" {
		return nil
	}
	return strings.Split(dir, "/")
}

// below joins the path of a cgroup and a name in it.
func below(dir, name string) string { return path.Join(dir, name) }

// between returns what is between prefix and suffix in s, which must not be empty.
func between(s, prefix, suffix string) (string, bool) {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return "", false
	}
	rest, ok = strings.CutSuffix(rest, suffix)
	return rest, ok && rest != ""
}
