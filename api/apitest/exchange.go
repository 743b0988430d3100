package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// framing are fields of the connection and of the message, which the documents
// do not repeat for each answer (RFC 9110 §6.4, §7.6; RFC 9112 §6).
var framing = map[string]bool{ // read only
	"Date": true, "Connection": true, "Content-Length": true, "Content-Type": true, "Transfer-Encoding": true, "Server": true, "Trailer": true,
}

// checkResponse holds an answer against a documented response.
func (d *document) checkResponse(response place, x *Exchange) error {
	documented := d.child(response, "headers")
	for name := range x.Header {
		if framing[name] {
			continue
		}
		header := place{}
		for known := range documented.node {
			if http.CanonicalHeaderKey(known) == name {
				header = d.child(documented, known)
			}
		}
		if header.node == nil {
			return fmt.Errorf("%w: %s is not documented", ErrHeader, name)
		}
		for _, value := range x.Header.Values(name) {
			if err := d.validate(header, value); err != nil {
				return fmt.Errorf("%w: %s: %v", ErrHeader, name, err)
			}
		}
	}
	for name := range documented.node {
		if d.child(documented, name).node["required"] == true && x.Header.Get(name) == "" {
			return fmt.Errorf("%w: %s is missing", ErrHeader, name)
		}
	}
	return d.checkContent(response, x)
}

func (d *document) checkContent(response place, x *Exchange) error {
	kind := x.Header.Get("Content-Type")
	content := d.child(response, "content")
	if content.node == nil {
		if kind != "" || len(x.Body) > 0 && response.node["x-messages"] == nil {
			return fmt.Errorf("%w: there is none, but %q of %d bytes came", ErrContent, kind, len(x.Body))
		}
		return d.checkMessages(response, x)
	}
	media, ok := d.media(content, kind)
	switch {
	case !ok:
		return fmt.Errorf("%w: %q is not documented", ErrContent, kind)
	case x.Method == http.MethodHead:
		return nil
	case media.node["x-stream"] == "lines":
		for line := range bytes.Lines(x.Body) {
			if !bytes.HasSuffix(line, []byte("\n")) {
				continue // it is on its way
			}
			if err := d.checkBody(media, "application/json", line); err != nil {
				return err
			}
		}
		return nil
	case x.Partial:
		return nil
	}
	return d.checkBody(media, kind, x.Body)
}

// media finds the media type of an answer. One that is documented without
// parameters is good with any.
func (d *document) media(content place, kind string) (place, bool) {
	if m := d.child(content, kind); m.node != nil {
		return m, true
	}
	bare, _, err := mime.ParseMediaType(kind)
	if err != nil {
		return place{}, false
	}
	m := d.child(content, bare)
	return m, m.node != nil
}

func (d *document) checkBody(media place, kind string, body []byte) error {
	value, err := decode(kind, body)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrContent, err)
	}
	if err := d.validate(media, value); err != nil {
		return fmt.Errorf("%w: %.300q: %v", ErrContent, body, err)
	}
	return nil
}

// checkMessages holds what came over a websocket against its schema.
func (d *document) checkMessages(response place, x *Exchange) error {
	at := d.child(response, "x-messages")
	if at.node == nil {
		return nil
	}
	s, err := d.schema(at)
	if err != nil {
		return err
	}
	for _, message := range messages(x.Body) {
		value, err := decode("application/json", message)
		if err != nil {
			return fmt.Errorf("%w: %v", ErrContent, err)
		}
		if err := s.Validate(value); err != nil {
			return fmt.Errorf("%w: message %.300q: %v", ErrContent, message, err)
		}
	}
	return nil
}

// decode makes a body a value for a schema.
func decode(kind string, body []byte) (any, error) {
	bare, params, _ := mime.ParseMediaType(kind)
	switch bare {
	case "application/json":
		return jsonschema.UnmarshalJSON(bytes.NewReader(body))
	case "multipart/form-data":
		form, err := multipart.NewReader(bytes.NewReader(body), params["boundary"]).ReadForm(32 << 20)
		if err != nil {
			return nil, err
		}
		defer func() { _ = form.RemoveAll() }()
		parts := make(map[string]any)
		for name := range form.File {
			parts[name] = ""
		}
		for name := range form.Value {
			parts[name] = ""
		}
		return parts, nil
	}
	return string(body), nil
}

// checkRequest refuses that a server takes what is not documented: parameters,
// where an unknown one is refused, and the body.
func (d *document) checkRequest(c *candidate, x *Exchange) error {
	if c.operation.node == nil || x.Status >= 300 {
		return nil
	}
	if d.tree["x-strict-query"] == true {
		if err := d.checkQuery(c, x); err != nil {
			return err
		}
	}
	body := d.child(c.operation, "requestBody", "content")
	if body.node == nil || x.Cut || len(x.RequestBody) == 0 {
		return nil
	}
	kind := x.RequestType
	media, ok := d.media(body, kind)
	if !ok { // servers do not look at the type where there is one alone
		kind = "application/json"
		if media, ok = d.media(body, kind); !ok {
			kind = "application/octet-stream"
			media, ok = d.media(body, kind)
		}
	}
	if !ok {
		return fmt.Errorf("%w: body of type %q", ErrRequest, x.RequestType)
	}
	sent := x.RequestBody
	if media.node["x-first-value"] == true { // what follows it is not looked at
		var first json.RawMessage
		if err := json.NewDecoder(bytes.NewReader(sent)).Decode(&first); err == nil {
			sent = first
		}
	}
	if err := d.checkBody(media, kind, sent); err != nil {
		return fmt.Errorf("%w: %v", ErrRequest, err)
	}
	return nil
}

func (d *document) checkQuery(c *candidate, x *Exchange) error {
	_, raw, _ := strings.Cut(x.Target, "?")
	query, err := url.ParseQuery(raw)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrRequest, err)
	}
	for name, values := range query {
		parameter := d.parameter(c, name)
		if parameter.node == nil {
			return fmt.Errorf("%w: parameter %s", ErrRequest, name)
		}
		if err := d.validate(parameter, values[0]); err != nil {
			return fmt.Errorf("%w: parameter %s: %v", ErrRequest, name, err)
		}
	}
	return nil
}

// parameter finds a query parameter of an operation.
func (d *document) parameter(c *candidate, name string) place {
	for _, of := range []place{c.operation, c.path} {
		list, _ := of.node["parameters"].([]any)
		for i, node := range list {
			m, _ := node.(map[string]any)
			p := d.resolve(place{fmt.Sprintf("%s/parameters/%d", of.pointer, i), m})
			if p.node["in"] == "query" && p.node["name"] == name {
				return p
			}
		}
	}
	return place{}
}
