// Package api holds the OpenAPI 3.1 documents of the two APIs: [Guest], what a
// container is answered on /dev/lxd/sock, and [Admin], what an operator is
// answered on the admin socket. They are the reference for clients in any
// language, and the tests hold every answer against them (package apitest).
//
// Extensions say what OpenAPI has no place for:
//
//   - x-only: [...] on any part: it exists only in these dialects of the guest API, or on
//     these listeners of the admin API ("socket" and "metrics");
//   - x-any-request: responses that every request may get, whatever its path;
//   - x-unknown-path, x-other-method: responses to a path that is not listed, and to a
//     method that the path does not list; x-as-get names the methods that are taken for GET;
//   - x-strict-query: a parameter that is not listed is refused; x-first-value: of a
//     request body the first JSON value is read, and nothing behind it;
//   - x-stream: lines, x-messages: the schema is that of each line of a stream without
//     end, and of each message of a websocket.
package api

import _ "embed"

// Guest is the document of the guest API, in YAML. It must not be changed.
//
//go:embed guest.yaml
var Guest []byte

// Admin is the document of the admin API, in YAML. It must not be changed.
//
//go:embed admin.yaml
var Admin []byte
