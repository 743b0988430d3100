package server

import (
	"fmt"
	"strconv"

	"devlxd/registry"
)

// Dialect selects whose bodies and texts the guests see. The zero value is the
// dev-lxd document.
type Dialect uint8

const (
	// DialectDocument is the dev-lxd document (LXD 3.1 to 4.13).
	DialectDocument Dialect = iota
	// DialectLXD is today's LXD (lxd/api_devlxd.go, lxd/devlxd.go).
	DialectLXD
	// DialectIncus is today's Incus (cmd/incusd/dev_incus.go).
	DialectIncus

	numDialects
)

// String is the name that --dialect takes.
func (d Dialect) String() string {
	switch d {
	case DialectDocument:
		return "document"
	case DialectLXD:
		return "lxd"
	case DialectIncus:
		return "incus"
	}
	return "unknown"
}

// ParseDialect is the inverse of String.
func ParseDialect(s string) (Dialect, error) {
	for d := range numDialects {
		if s == d.String() {
			return d, nil
		}
	}
	return 0, fmt.Errorf("unknown dialect %q: use document, lxd or incus", s)
}

// texts is the table of what differs between the dialects: bodies without
// their final newline.
type texts struct {
	unknownFirst bool   // an unknown path is 404 for everybody: the router comes before the look at the peer
	unidentified string // 500: the peer is not a registered container
	forbidden    string // 403: gate off, or a key outside of the guest's namespaces
	notFound     string // 404: no such key
	cloudConfig  bool   // meta-data starts with a #cloud-config line
	instanceUUID bool   // instance-id is the instance's UUID, not its name
	emptyIsGone  bool   // an empty value is answered 404
	rootUngated  bool   // GET / and GET /1.0 are answered with security.devlxd=false
	imageType    bool   // an image export says of which type the image is (X-Incus-Type)
	imageJSON    bool   // a refused image is answered in JSON
	project      bool   // ?project= of an image export must be "default"
	ubuntuPro    bool   // /1.0/ubuntu-pro exists
	sshKeys      bool   // cloud-init.ssh-keys.* are merged into vendor-data and user-data, and not listed
	bodyError    string // prefix of the error for a malformed body
}

func (d Dialect) texts() texts {
	switch d {
	case DialectLXD:
		return texts{
			unidentified: "Process ID not found in container", forbidden: "Forbidden", notFound: "Not Found",
			instanceUUID: true, emptyIsGone: true, imageJSON: true, project: true, ubuntuPro: true, sshKeys: true,
			bodyError: "Invalid request body: ",
		}
	case DialectIncus:
		return texts{
			unknownFirst: true, unidentified: "pid not in container?", forbidden: "not authorized", notFound: "not found",
			cloudConfig: true, instanceUUID: true, rootUngated: true, imageType: true,
		}
	default:
		return texts{
			unknownFirst: true, unidentified: "pid not in container?", forbidden: "not authorized", notFound: "not found",
			cloudConfig: true,
		}
	}
}

// apiBody is the body of GET /1.0. It depends on the server and on the state
// of the container only, so both variants are rendered beforehand.
func (d Dialect) apiBody(location string, ready bool) []byte {
	if d == DialectDocument {
		return []byte(`{"api_version":"1.0"}` + "\n")
	}
	state := stateStarted
	if ready {
		state = stateReady
	}
	b := append([]byte(`{"state":`), strconv.Quote(state)...)
	b = append(b, `,"api_version":"1.0","instance_type":"container","location":`...)
	b = registry.AppendJSONString(b, location)
	if d == DialectLXD {
		b = append(b, `,"auth":"untrusted","supported_storage_drivers":[]`...)
	}
	return append(b, "}\n"...)
}

// methodRefusal is what a dialect answers to a method that a route does not have.
func (d Dialect) methodRefusal(r route, method string) (status int, text string, allow string, refused bool) {
	switch {
	case r == routeUbuntuProToken:
		if method == "POST" {
			return 0, "", "", false
		}
	case method == "GET", method == "PATCH" && r == routeAPI:
		return 0, "", "", false
	}
	switch d {
	case DialectLXD:
		switch method {
		case "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH":
			return 501, "Not Implemented", "", true
		}
		return 404, "Method " + strconv.Quote(method) + " not found", "", true
	case DialectIncus:
		if r != routeAPI {
			return 0, "", "", false // the method is ignored: POST is answered like GET
		}
		return 405, "method " + strconv.Quote(method) + " not allowed", "", true
	default:
		if method == "HEAD" {
			return 0, "", "", false
		}
		allow = "GET, HEAD"
		if r == routeAPI {
			allow = "GET, HEAD, PATCH"
		}
		return 405, "method " + strconv.Quote(method) + " not allowed", allow, true
	}
}
