package httpparse

import (
	"bytes"
	"math"
	"time"
)

// RangeResult says what to do with a Range field.
type RangeResult uint8

const (
	RangeWhole     RangeResult = iota // 200: there is no range, or several, or nothing to take a part of
	RangePart                         // 206: the part that was found
	RangeNoOverlap                    // 416 with a Content-Range: the range begins behind the end
	RangeInvalid                      // 416 without: the field is not one that net/http understands
)

// AllRangeResults returns every result.
func AllRangeResults() []RangeResult {
	return []RangeResult{RangeWhole, RangePart, RangeNoOverlap, RangeInvalid}
}

// String returns a label, which is also the text that net/http answers a 416 with.
func (r RangeResult) String() string {
	switch r {
	case RangeWhole:
		return "whole"
	case RangePart:
		return "part"
	case RangeNoOverlap:
		return "invalid range: failed to overlap"
	}
	return "invalid range"
}

// ParseRange reads a Range field for a representation of size bytes (RFC 9110 §14.2).
// start and length, both in bytes, are those of the part to send; for RangeWhole they
// are 0 and size, for a refusal 0 and 0.
//
// The verdict is that of net/http.ServeContent, but: several ranges are answered with
// the whole, as §14.2 permits, not with multipart/byteranges; the range "-0" overlaps
// nothing (§14.1.2); every valid range of an empty file is the whole; numbers
// are digits without a sign.
func ParseRange(value []byte, size int64) (start, length int64, result RangeResult) {
	if len(value) == 0 {
		return 0, size, RangeWhole
	}
	const unit = "bytes="
	if len(value) < len(unit) || string(value[:len(unit)]) != unit {
		return 0, 0, RangeInvalid
	}
	parts, missed := 0, false
	for list := value[len(unit):]; len(list) > 0; {
		var spec []byte
		if spec, list = nextElement(list); len(spec) == 0 {
			continue
		}
		from, n, ok := rangeSpec(spec, size)
		switch {
		case !ok:
			return 0, 0, RangeInvalid
		case n == 0:
			missed = true
		default:
			parts++
			start, length = from, n
		}
	}
	switch {
	case parts == 1:
		return start, length, RangePart
	case parts == 0 && missed && size > 0:
		return 0, 0, RangeNoOverlap
	}
	return 0, size, RangeWhole
}

// rangeSpec reads one range. Its length is 0 if it does not overlap.
// RFC 9110 §14.1.2: int-range = first-pos "-" [ last-pos ]; suffix-range = "-" suffix-length.
func rangeSpec(spec []byte, size int64) (start, length int64, ok bool) {
	i := bytes.IndexByte(spec, '-')
	if i < 0 {
		return 0, 0, false
	}
	first, last := trim(spec[:i]), trim(spec[i+1:])
	if len(first) == 0 {
		n, ok := digits(last)
		n = min(n, size)
		return size - n, n, ok
	}
	start, ok = digits(first)
	if !ok {
		return 0, 0, false
	}
	end := size - 1
	if len(last) > 0 {
		end, ok = digits(last)
	}
	switch {
	case start >= size:
		// net/http does not look at what follows a start behind the end.
		return 0, 0, true
	case !ok || end < start:
		return 0, 0, false
	}
	return start, min(end, size-1) - start + 1, true
}

// digits reads a decimal number that fits 63 bits.
func digits(b []byte) (n int64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := int64(c - '0')
		if n > (math.MaxInt64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, len(b) > 0
}

// RangeApplies reports whether Range is to be obeyed under an If-Range field, nil for
// none, for a file of that modification time (RFC 9110 §13.1.5). Files have no entity
// tag here, so no tag ever matches.
func RangeApplies(ifRange []byte, modified time.Time) bool {
	if len(ifRange) == 0 {
		return true
	}
	t, ok := ParseHTTPTime(ifRange)
	return ok && hasTime(modified) && t.Unix() == modified.Unix()
}

// NotModified reports whether a GET or HEAD with that If-Modified-Since field, nil for
// none, is to be answered with 304 (RFC 9110 §13.1.3). A field that is no date is ignored.
func NotModified(ifModifiedSince []byte, modified time.Time) bool {
	if len(ifModifiedSince) == 0 || !hasTime(modified) {
		return false
	}
	t, ok := ParseHTTPTime(ifModifiedSince)
	return ok && modified.Unix() <= t.Unix()
}

// hasTime reports whether a modification time is known: neither zero value says so.
func hasTime(t time.Time) bool { return !t.IsZero() && t.Unix() != 0 }
