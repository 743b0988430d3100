package admin

import (
	"encoding/json"
	"time"
)

// APIVersion is the version in the path of every resource.
const APIVersion = "1.0"

// Types of a [Response].
const (
	// TypeSync is the type of an answer that carries its result.
	TypeSync = "sync"
	// TypeError is the type of an answer that carries an error.
	TypeError = "error"
)

// Response is the envelope around every answer. Its members and their order
// are those of LXD (shared/api.ResponseRaw), without the pointers of
// asynchronous operations, which this API does not have.
type Response struct {
	Type       string          `json:"type"`
	Status     string          `json:"status"`
	StatusCode int             `json:"status_code"`
	Operation  string          `json:"operation"`
	ErrorCode  int             `json:"error_code"`
	Error      string          `json:"error"`
	Metadata   json.RawMessage `json:"metadata"`
}

// ServerInfo answers GET /1.0.
type ServerInfo struct {
	APIStatus   string            `json:"api_status"`
	APIVersion  string            `json:"api_version"`
	Auth        string            `json:"auth"`
	Public      bool              `json:"public"`
	Environment ServerEnvironment `json:"environment"`
}

// ServerEnvironment is the part of [ServerInfo] that depends on the host.
type ServerEnvironment struct {
	Server        string `json:"server"`
	ServerVersion string `json:"server_version"`
	ServerPID     int    `json:"server_pid"`
	Dialect       string `json:"dialect"`
	RunDir        string `json:"run_dir"`
	StateDir      string `json:"state_dir"`
	IdentityLevel string `json:"identity_level"`
}

// States of a container in [Container.Status]. The codes are LXD's
// (shared/api.StatusCode).
const (
	// StatusRunning: the container is bound to an init process.
	StatusRunning = "Running"
	// StatusStopped: the container is known but not bound.
	StatusStopped = "Stopped"

	statusCodeStopped = 102
	statusCodeRunning = 103
)

// Container is one container as GET /1.0/containers/NAME shows it.
type Container struct {
	Name       string `json:"name"`
	Status     string `json:"status"`
	StatusCode int    `json:"status_code"`
	InstanceID string `json:"instance_id"`
	// Access says whether the guest API is open to the container, and Images
	// whether it may export images.
	Access bool `json:"access"`
	Images bool `json:"images"`
	// Config and Devices are nil in a summary.
	Config  map[string]string            `json:"config,omitzero"`
	Devices map[string]map[string]string `json:"devices,omitzero"`
	// Quotas are by their name; nil in a list.
	Quotas map[string]Quota `json:"quotas,omitzero"`
	// State is nil unless the container is running.
	State *ContainerState `json:"state"`
}

// Quota is how much a container may use of something, and uses.
type Quota struct {
	// Limit is a whole number or "unlimited".
	Limit string `json:"limit"`
	// Used is what counts against the limit now.
	Used int64 `json:"used"`
}

// ContainerState is what is known about one life of a container.
type ContainerState struct {
	// PID is the container's init process in the pid namespace of the server.
	PID int `json:"pid"`
	// CgroupID is the cgroup v2 id of the payload, 0 if it has none of its own.
	CgroupID uint64 `json:"cgroup_id"`
	// PIDNamespace is the inode of the container's pid namespace.
	PIDNamespace uint64 `json:"pid_namespace"`
	// RootUID is the host uid that the container's root maps to.
	RootUID uint32 `json:"root_uid"`
	// Privileged says that the container has no user namespace of its own.
	Privileged bool `json:"privileged"`
	// Ready says that the guest reported state Ready (PATCH /1.0).
	Ready bool `json:"ready"`
	// Since is when the container was bound.
	Since time.Time `json:"since"`
}

// ContainersPost is the body of POST /1.0/containers. PID 0 adds a container
// that is not running; Cgroup and RootUID matter only with a PID, now or at a
// later bind, and are found by the server when they are left out.
type ContainersPost struct {
	Name    string                       `json:"name"`
	Config  map[string]string            `json:"config,omitempty"`
	Devices map[string]map[string]string `json:"devices,omitempty"`
	Cgroup  string                       `json:"cgroup,omitempty"`
	RootUID *uint32                      `json:"root_uid,omitempty"`
	PID     int                          `json:"pid,omitempty"`
}

// BindPost is the body of POST /1.0/containers/NAME/bind.
type BindPost struct {
	PID     int     `json:"pid"`
	Cgroup  string  `json:"cgroup,omitempty"`
	RootUID *uint32 `json:"root_uid,omitempty"`
}

// Change is the body of PATCH .../config and PATCH .../devices/NAME: one
// atomic change. A key may be in Set or in Unset, not in both.
type Change struct {
	Set   map[string]string `json:"set,omitempty"`
	Unset []string          `json:"unset,omitempty"`
}

// DevicesPost is the body of POST /1.0/containers/NAME/devices. PUT on
// .../devices/NAME takes the bare config instead.
type DevicesPost struct {
	Name   string            `json:"name"`
	Config map[string]string `json:"config"`
}

// UpgradePost is the body of POST /1.0/upgrade.
type UpgradePost struct {
	// Binary is the absolute path of the new devlxd; "": the one that the daemon was started from, as it is there now.
	Binary string `json:"binary,omitempty"`
}

// Upgraded answers POST /1.0/upgrade when the new process serves.
type Upgraded struct {
	PID         int    `json:"pid"`
	Version     string `json:"version"`
	Connections int    `json:"connections"`
	// Pause is for how many milliseconds no guest was served.
	Pause float64 `json:"pause_ms"`
}

// Image is one image as GET /1.0/images shows it. Sizes are in bytes.
type Image struct {
	Fingerprint string    `json:"fingerprint"`
	Public      bool      `json:"public"`
	Cached      bool      `json:"cached"`
	Type        string    `json:"type"`
	Split       bool      `json:"split"`
	Size        int64     `json:"size"`
	RootfsSize  int64     `json:"rootfs_size"`
	UploadedAt  time.Time `json:"uploaded_at"`
}
