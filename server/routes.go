package server

import (
	"bytes"

	"devlxd/httpparse"
)

// route is a resource of the guest API. It is a closed set: each value is a
// label of devlxd_requests_total from the start.
type route uint8

const (
	routeRoot           route = iota // /
	routeAPI                         // /1.0
	routeConfig                      // /1.0/config
	routeConfigKey                   // /1.0/config/KEY
	routeMetaData                    // /1.0/meta-data
	routeDevices                     // /1.0/devices
	routeEvents                      // /1.0/events
	routeImage                       // /1.0/images/FINGERPRINT/export
	routeUbuntuPro                   // /1.0/ubuntu-pro (dialect lxd)
	routeUbuntuProToken              // /1.0/ubuntu-pro/token (dialect lxd)
	routeOther                       // anything else: 404
	routeMalformed                   // the parser refused the request

	numRoutes
)

var routeLabels = [numRoutes]string{
	"root", "api", "config", "config_key", "meta_data", "devices", "events", "image_export",
	"ubuntu_pro", "ubuntu_pro_token", "other", "malformed",
}

// String is the metric label of the route.
func (r route) String() string {
	if r >= numRoutes {
		return "unknown"
	}
	return routeLabels[r]
}

// match finds the route of a raw path and its decoded parameter (a config key
// or a fingerprint). Segments are percent-decoded one level each, so "%2F" is
// part of a key (net/http's ServeMux does the same). scratch backs a parameter
// that needs decoding.
func match(path, scratch []byte) (r route, param []byte, err error) {
	if bytes.IndexByte(path, '%') < 0 {
		r, param = matchPlain(path)
		return r, param, nil
	}
	// A fixed segment that holds an encoded slash is none: it is not in the table.
	var segments [maxSegments][]byte
	n := 0
	for raw := range bytes.SplitSeq(path[1:], slash) {
		if n == maxSegments {
			return routeOther, nil, nil
		}
		start := len(scratch)
		if scratch, err = httpparse.AppendDecodedPath(scratch, raw); err != nil {
			return routeMalformed, nil, err
		}
		segments[n] = scratch[start:]
		n++
	}
	r, param = matchSegments(segments, n)
	return r, param, nil
}

// maxSegments is how many segments the longest route has.
const maxSegments = 4

var slash = []byte{'/'} // read only

// matchPlain matches a path without escapes, the only form that real clients
// send for the fixed paths.
func matchPlain(path []byte) (route, []byte) {
	if len(path) > len(configPrefix) && string(path[:len(configPrefix)]) == configPrefix {
		key := path[len(configPrefix):]
		if bytes.IndexByte(key, '/') >= 0 {
			return routeOther, nil
		}
		return routeConfigKey, key
	}
	switch string(path) {
	case "/":
		return routeRoot, nil
	case "/1.0":
		return routeAPI, nil
	case "/1.0/config":
		return routeConfig, nil
	case "/1.0/meta-data":
		return routeMetaData, nil
	case "/1.0/devices":
		return routeDevices, nil
	case "/1.0/events":
		return routeEvents, nil
	case "/1.0/ubuntu-pro":
		return routeUbuntuPro, nil
	case "/1.0/ubuntu-pro/token":
		return routeUbuntuProToken, nil
	}
	const prefix, suffix = "/1.0/images/", "/export"
	if len(path) > len(prefix)+len(suffix) && string(path[:len(prefix)]) == prefix && string(path[len(path)-len(suffix):]) == suffix {
		fp := path[len(prefix) : len(path)-len(suffix)]
		if bytes.IndexByte(fp, '/') < 0 {
			return routeImage, fp
		}
	}
	return routeOther, nil
}

const configPrefix = "/1.0/config/"

// matchSegments matches n decoded segments.
func matchSegments(seg [maxSegments][]byte, n int) (route, []byte) {
	if string(seg[0]) != "1.0" {
		return routeOther, nil
	}
	last := seg[n-1]
	switch string(seg[1]) {
	case "":
		if n == 1 {
			return routeAPI, nil
		}
	case "config":
		switch {
		case n == 2:
			return routeConfig, nil
		case n == 3 && len(last) > 0:
			return routeConfigKey, last
		}
	case "meta-data":
		if n == 2 {
			return routeMetaData, nil
		}
	case "devices":
		if n == 2 {
			return routeDevices, nil
		}
	case "events":
		if n == 2 {
			return routeEvents, nil
		}
	case "images":
		if n == 4 && len(seg[2]) > 0 && string(last) == "export" {
			return routeImage, seg[2]
		}
	case "ubuntu-pro":
		switch {
		case n == 2:
			return routeUbuntuPro, nil
		case n == 3 && string(last) == "token":
			return routeUbuntuProToken, nil
		}
	}
	return routeOther, nil
}
