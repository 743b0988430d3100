package demo

import (
	"fmt"
	"strconv"
)

// Content types of the answers.
const (
	asJSON = "application/json"
	asRaw  = "application/octet-stream"
	asText = "text/plain; charset=utf-8"
)

// texts is what the dialects answer differently, written down a second time: taken from
// the server, it would prove nothing.
type texts struct {
	name         string
	unidentified string
	forbidden    string
	notFound     string
	metaDataHead string
	instanceUUID bool // instance-id is not the name
	imageJSON    bool // a refused image is answered in JSON
	api          func(host, state string) string
	imageGone    func(fingerprint string) string
}

func dialects() map[string]texts {
	document := texts{
		name: "document", unidentified: "pid not in container?\n", forbidden: "not authorized\n", notFound: "not found\n",
		metaDataHead: "#cloud-config\n",
		api:          func(string, string) string { return `{"api_version":"1.0"}` + "\n" },
		imageGone:    func(string) string { return "not found" },
	}
	incus := document
	incus.name, incus.instanceUUID = "incus", true
	incus.api = func(host, state string) string {
		return fmt.Sprintf(`{"state":%q,"api_version":"1.0","instance_type":"container","location":%q}`+"\n", state, host)
	}
	incus.imageGone = func(fingerprint string) string { return `Image "` + fingerprint + `" not found` }
	lxd := texts{
		name: "lxd", unidentified: "Process ID not found in container\n", forbidden: "Forbidden\n", notFound: "Not Found\n",
		instanceUUID: true, imageJSON: true,
		api: func(host, state string) string {
			return fmt.Sprintf(`{"state":%q,"api_version":"1.0","instance_type":"container","location":%q,`+
				`"auth":"untrusted","supported_storage_drivers":[]}`+"\n", state, host)
		},
		imageGone: func(string) string { return "Not Found" },
	}
	return map[string]texts{document.name: document, lxd.name: lxd, incus.name: incus}
}

func jsonAnswer(body string) answer { return answer{Status: 200, Type: asJSON, Body: body} }
func rawAnswer(body string) answer  { return answer{Status: 200, Type: asRaw, Body: body} }

func textAnswer(status int, body string) answer {
	return answer{Status: status, Type: asText, Body: body}
}

// imageAnswer is the error form of the image routes.
func imageAnswer(status int, text string) answer {
	return answer{Status: status, Type: asJSON, Body: fmt.Sprintf(`{"type":"error","status":"","status_code":0,"operation":"",`+
		`"error_code":%d,"error":%s,"metadata":null}`+"\n", status, strconv.Quote(text))}
}

// gate is the answer to what security.* does not allow.
func (t *texts) gate() answer { return textAnswer(403, t.forbidden) }

// imageGate is the same on an image route.
func (t *texts) imageGate() answer {
	if t.imageJSON {
		return imageAnswer(403, t.forbidden[:len(t.forbidden)-1])
	}
	return t.gate()
}
