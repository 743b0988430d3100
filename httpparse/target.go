package httpparse

import "bytes"

// splitTarget finds path, query and authority (RFC 9112 §3.2).
func (r *Request) splitTarget() error {
	t := r.Target
	const scheme = "http://"
	switch {
	case t[0] == '/': // §3.2.1 origin-form
		return r.setPath(t)
	case len(t) > len(scheme) && equalFold(t[:len(scheme)], scheme): // §3.2.2 absolute-form
		return r.setURL(t, len(scheme))
	case len(t) == 1 && t[0] == '*' && string(r.Method) == "OPTIONS": // §3.2.4 asterisk-form
		r.Path = t
		return nil
	}
	return ErrTarget // §3.2.3 authority-form is for CONNECT only
}

// setURL takes a target apart whose authority starts at i.
func (r *Request) setURL(t []byte, i int) error {
	end := i
	for end < len(t) && t[end] != '/' && t[end] != '?' {
		end++
	}
	r.Host = t[i:end:end]
	if !validAuthority(r.Host) {
		return ErrAuthority
	}
	if end < len(t) && t[end] == '/' {
		return r.setPath(t[end:])
	}
	// RFC 9112 §3.2.1: an empty path is sent as "/". To stay inside the buffer, take
	// the last slash of the scheme for it.
	r.Path = t[i-1 : i : i]
	if end < len(t) {
		r.Query = t[end+1:]
	}
	return nil
}

// setPath splits t into path and query. Only the path's percent-encoding is checked:
// a query is the business of who reads it.
func (r *Request) setPath(t []byte) error {
	r.Path = t
	if i := bytes.IndexByte(t, '?'); i >= 0 {
		r.Path, r.Query = t[:i:i], t[i+1:]
	}
	if bytes.IndexByte(r.Path, '%') >= 0 && !validPercent(r.Path) {
		return ErrPercent
	}
	return nil
}

// validAuthority takes a host name or IPv4 address with an optional port. RFC 9110
// §4.2.1: an empty host MUST be rejected; §4.2.4: user information is an error.
func validAuthority(a []byte) bool {
	host := a
	if i := bytes.IndexByte(a, ':'); i >= 0 {
		host = a[:i]
		for _, c := range a[i+1:] {
			if c < '0' || c > '9' {
				return false
			}
		}
	}
	return len(host) > 0 && all(host, nameByte)
}

func validPercent(b []byte) bool {
	for i := 0; i < len(b); i++ {
		if b[i] != '%' {
			continue
		}
		if _, ok := percent(b, i); !ok {
			return false
		}
		i += 2
	}
	return true
}

// percent decodes the three bytes of a percent-encoding at i.
func percent(b []byte, i int) (byte, bool) {
	if i+2 >= len(b) {
		return 0, false
	}
	hi, ok1 := unhex(b[i+1])
	lo, ok2 := unhex(b[i+2])
	return hi<<4 | lo, ok1 && ok2
}

// AppendDecodedPath appends a path or a segment of one to dst, with one level of
// percent-encoding removed; "+" stays. On [ErrPercent] it returns dst as it was.
func AppendDecodedPath(dst, seg []byte) ([]byte, error) {
	start := len(dst)
	for i := 0; i < len(seg); i++ {
		c := seg[i]
		if c == '%' {
			var ok bool
			if c, ok = percent(seg, i); !ok {
				return dst[:start], ErrPercent
			}
			i += 2
		}
		dst = append(dst, c)
	}
	return dst, nil
}

// QueryValue returns the value of the first parameter of that key, as Go's
// url.ParseQuery sees it: pairs are separated by "&", "+" is a space, a pair that
// holds ";" or a wrong percent-encoding is skipped. The value is a part of query if
// there is nothing to decode in it; otherwise it is written to scratch, which is
// grown if it is too short.
func QueryValue(query []byte, key string, scratch []byte) (value []byte, found bool) {
	for len(query) > 0 {
		pair := query
		if i := bytes.IndexByte(query, '&'); i >= 0 {
			pair, query = query[:i], query[i+1:]
		} else {
			query = nil
		}
		if len(pair) == 0 || bytes.IndexByte(pair, ';') >= 0 {
			continue
		}
		name, raw, _ := bytes.Cut(pair, equals)
		if !equalDecoded(name, key) {
			continue
		}
		if bytes.IndexByte(raw, '%') < 0 && bytes.IndexByte(raw, '+') < 0 {
			return raw[:len(raw):len(raw)], true
		}
		if value, ok := appendDecodedQuery(scratch[:0], raw); ok {
			return value, true
		}
	}
	return nil, false
}

var equals = []byte("=") // read only

// equalDecoded reports whether raw, decoded, is s. It is false for a wrong encoding.
func equalDecoded(raw []byte, s string) bool {
	n := 0
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			var ok bool
			if c, ok = percent(raw, i); !ok {
				return false
			}
			i += 2
		}
		if n == len(s) || s[n] != c {
			return false
		}
		n++
	}
	return n == len(s)
}

func appendDecodedQuery(dst, raw []byte) ([]byte, bool) {
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			var ok bool
			if c, ok = percent(raw, i); !ok {
				return dst, false
			}
			i += 2
		}
		dst = append(dst, c)
	}
	return dst, true
}
