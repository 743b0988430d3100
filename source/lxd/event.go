package lxd

import (
	"net/url"
	"strings"
)

// resource is what an announcement is about: a closed set, each a metric label from the start.
type resource uint8

const (
	aboutInstance resource = iota
	aboutProfile
	aboutProject
	aboutImage
	aboutCluster
	aboutOther // nothing that is mirrored: networks, volumes, snapshots, processes that are started

	numResources
)

var resourceLabels = [numResources]string{"instance", "profile", "project", "image", "cluster", "other"}

// String is the metric label.
func (r resource) String() string { return resourceLabels[r] }

// passing are the actions on an instance that change nothing of what is mirrored, and may come often. Any other one has the
// instance read again, so that an action that a later daemon invents is not missed.
var passing = [...]string{"-exec", "-console", "-console-retrieved", "-console-reset", "-ready", "-accessed"}
var passingParts = [...]string{"-file-", "-log-", "-metadata-", "-backup-", "-snapshot-", "-agent-"}

// change is what an announcement says has changed.
type change struct {
	about resource
	keys  []key  // instances, with the names of before
	name  string // of the profile or project
	old   string // its name before it was renamed
	group string // the project of a profile
}

// read says what e is about. The source of an event is the path of the resource, with its project where that is not "default"
// (lxd/lifecycle).
func (e *event) read() change {
	other := change{about: aboutOther}
	u, err := url.Parse(e.Metadata.Source)
	if err != nil {
		return other
	}
	parts := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	if len(parts) < 3 || parts[0] != "1.0" {
		return other
	}
	name, err := url.PathUnescape(parts[2])
	if err != nil || name == "" {
		return other
	}
	project := u.Query().Get("project")
	if project == "" {
		project = orDefault(e.Project)
	}
	switch kind := parts[1]; {
	case kind == "cluster":
		return change{about: aboutCluster}
	case kind == "images":
		return change{about: aboutImage}
	case len(parts) > 3:
	case kind == "instances" || kind == "containers":
		return e.instance(key{project, name})
	case kind == "profiles":
		return change{about: aboutProfile, name: name, old: e.text("old_name"), group: project}
	case kind == "projects":
		return change{about: aboutProject, name: name, old: e.text("old_name")}
	}
	return other
}

func (e *event) instance(k key) change {
	_, action, _ := strings.Cut(e.Metadata.Action, "-")
	action = "-" + action
	for _, p := range passing {
		if action == p {
			return change{about: aboutOther}
		}
	}
	for _, p := range passingParts {
		if strings.HasPrefix(action+"-", p) {
			return change{about: aboutOther}
		}
	}
	c := change{about: aboutInstance, keys: []key{k}}
	old := k
	if name := e.text("old_name"); name != "" {
		old.name = name
	}
	if project := e.text("old_project"); project != "" {
		old.project = project
	}
	if old != k {
		c.keys = append(c.keys, old)
	}
	return c
}
