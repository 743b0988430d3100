package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// bodyReader reads a request body to its announced end. fasthttp reports a
// body that a client broke off as a whole one; here it is [errBodyShort].
type bodyReader struct {
	r    *request
	src  io.Reader
	left int64 // to come; -1: chunked, which says itself when it ends
}

// hasBody reports whether the request announced a body.
func (r *request) hasBody() bool {
	length := r.Request.Header.ContentLength()
	return length > 0 || length == -1
}

// reader returns the body. Each read may take as long as a request head may,
// so that a large body is not hurried but a stalled one is given up.
func (r *request) reader() io.Reader {
	src := r.RequestBodyStream()
	if src == nil {
		return bytes.NewReader(r.Request.Body())
	}
	return &bodyReader{r: r, src: src, left: int64(r.Request.Header.ContentLength())}
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if err := b.r.SetReadDeadline(time.Now().Add(headTimeout)); err != nil {
		return 0, err
	}
	n, err := b.src.Read(p)
	if b.left >= 0 {
		b.left -= int64(n)
	}
	switch {
	case errors.Is(err, io.EOF) && b.left > 0, err != nil && !errors.Is(err, io.EOF):
		b.r.SetConnectionClose()
		return n, errBodyShort
	}
	return n, err
}

// readBody reads a body of at most MaxBody bytes into memory.
func (r *request) readBody() ([]byte, error) {
	if r.Request.Header.ContentLength() > MaxBody {
		r.SetConnectionClose()
		return nil, errBodyLarge
	}
	body, err := io.ReadAll(io.LimitReader(r.reader(), MaxBody+1))
	if err != nil {
		return nil, err
	}
	if len(body) > MaxBody {
		r.SetConnectionClose()
		return nil, errBodyLarge
	}
	return body, nil
}

// decode reads the body as one JSON object into v. Whatever v has no place for
// is refused.
func (r *request) decode(v any) error {
	body, err := r.readBody()
	if err != nil {
		return err
	}
	return decodeStrict(body, v)
}

func decodeStrict(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return errBodyMissing
	}
	// encoding/json puts U+FFFD where bytes are wrong: silently another value.
	if !utf8.Valid(body) {
		return errBodyUTF8
	}
	if bytes.TrimSpace(body)[0] != '{' {
		return errorf(http.StatusBadRequest, "request body is not a JSON object: send {...}")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return bodyError(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errBodyAfter
	}
	// The optional fields of a struct may be null, but no value in a map.
	_, isMap := v.(*map[string]string)
	return checkValues(json.NewDecoder(bytes.NewReader(body)), "", false, !isMap)
}

// bodyError says what encoding/json found, in the terms of the API.
func bodyError(err error) error {
	var typ *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &typ) && typ.Field != "":
		return errorf(http.StatusBadRequest, "field %q has a wrong value: %s is no %s", typ.Field, typ.Value, kindName(typ.Type.String()))
	case errors.As(err, &typ):
		return errorf(http.StatusBadRequest, "request body has a wrong type: %s is no %s", typ.Value, kindName(typ.Type.String()))
	case errors.As(err, &syntax):
		return errorf(http.StatusBadRequest, "request body is not JSON: %v at byte %d", syntax, syntax.Offset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errorf(http.StatusBadRequest, "request body is not JSON: it ends too early")
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return errorf(http.StatusBadRequest, "unknown field %s in the request body", field)
	}
	return errorf(http.StatusBadRequest, "request body is malformed: %v", err)
}

// kindName names a Go type in the words of JSON.
func kindName(typ string) string {
	switch {
	case strings.HasPrefix(typ, "map"), strings.HasPrefix(typ, "admin."):
		return "object"
	case strings.HasPrefix(typ, "[]"):
		return "array"
	case strings.HasPrefix(typ, "uint"):
		return "whole number from 0 to 4294967295"
	case strings.HasPrefix(typ, "int"):
		return "whole number"
	}
	return typ
}

// checkValues refuses what encoding/json takes in silence: an object with one
// name twice, of which it keeps the last, and null for a string, which it
// reads as "". Neither is what the sender meant. The text is known to be valid
// JSON of bounded depth; nullable and members allow null for the value at path
// and for its members.
func checkValues(dec *json.Decoder, path string, nullable, members bool) error {
	token, err := dec.Token()
	if err != nil {
		return bodyError(err)
	}
	if token == nil && !nullable {
		return errorf(http.StatusBadRequest, "field %q is null: give a value, or leave it out", path)
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	if path != "" {
		path += "."
	}
	seen := make(map[string]bool)
	for i := 0; dec.More(); i++ {
		name := strconv.Itoa(i)
		if delim == '{' {
			if token, err = dec.Token(); err != nil {
				return bodyError(err)
			}
			name, _ = token.(string)
			if seen[name] {
				return errorf(http.StatusBadRequest, "field %q is given more than once", path+name)
			}
			seen[name] = true
		}
		if err := checkValues(dec, path+name, members, false); err != nil {
			return err
		}
	}
	if _, err = dec.Token(); err != nil {
		return bodyError(err)
	}
	return nil
}

// flag reads a parameter that is true or false.
func (r *request) flag(name string) (bool, error) {
	switch value := r.query.Get(name); value {
	case "", "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	default:
		return false, errorf(http.StatusBadRequest, "parameter %q has the value %q: use true or false", name, value)
	}
}
