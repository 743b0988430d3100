package lxdapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

var errNoMetadata = errors.New("no metadata")

// answer is the envelope of all answers (shared/api.ResponseRaw), without its metadata.
type answer struct {
	kind      string // "sync" or "async"
	operation string // path of what goes on
	etag      string
}

// envelope reads a whole answer, and has its metadata read. An answer that ends early is an error wherever it ends.
func envelope(d *json.Decoder, read func(*json.Decoder) error) (a answer, err error) {
	if err := delim(d, '{'); err != nil {
		return a, err
	}
	found := false
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return a, err
		}
		var skipped json.RawMessage
		switch {
		case name == "type":
			err = d.Decode(&a.kind)
		case name == "operation":
			err = d.Decode(&a.operation)
		case name == "metadata" && read != nil:
			found = true
			err = read(d)
		default:
			err = d.Decode(&skipped)
		}
		if err != nil {
			return a, err
		}
	}
	if err := delim(d, '}'); err != nil {
		return a, err
	}
	if !found && read != nil {
		return a, errNoMetadata
	}
	return a, nil
}

// Elements calls read for each element of an array, which may be null.
func Elements(d *json.Decoder, read func() error) error {
	t, err := d.Token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('[') {
		return fmt.Errorf("%v where a list belongs", t)
	}
	for d.More() {
		if err := read(); err != nil {
			return err
		}
	}
	return delim(d, ']')
}

func delim(d *json.Decoder, want json.Delim) error {
	t, err := d.Token()
	switch {
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	case t != want:
		return fmt.Errorf("%v where %v belongs", t, want)
	}
	return nil
}
