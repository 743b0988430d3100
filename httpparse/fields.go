package httpparse

// parse parses the field line at i and returns the position behind it.
// RFC 9112 §5: field-line = field-name ":" OWS field-value OWS.
func (f *Field) parse(buf []byte, i int) (int, error) {
	start := i
	for i < len(buf) && classes[buf[i]]&tokenByte != 0 {
		i++
	}
	if i == len(buf) {
		return 0, ErrPartial
	}
	if buf[i] != ':' || i == start {
		return 0, nameError(buf[i], i == start)
	}
	f.Name = buf[start:i:i]

	i++
	for i < len(buf) && isSpace(buf[i]) {
		i++
	}
	start = i
	i = skipText(buf, i)
	if i < len(buf) && buf[i] != '\r' && buf[i] != '\n' {
		return 0, ErrFieldValue
	}
	end := i
	for end > start && isSpace(buf[end-1]) {
		end--
	}
	f.Value = buf[start:end:end]
	return crlf(buf, i)
}

// nameError says what is wrong with a field name that ends in c.
func nameError(c byte, empty bool) error {
	switch {
	case c == '\n':
		return ErrBareLF
	case isSpace(c) && empty: // RFC 9112 §5.2: obs-fold, or §2.2: before the first field
		return ErrFold
	case isSpace(c): // RFC 9112 §5.1: MUST reject
		return ErrSpaceColon
	case c == '\r':
		return ErrNoColon
	}
	return ErrFieldName
}

// wellKnown notes a field that the package or its callers act on.
func (r *Request) wellKnown(f *Field) error {
	switch len(f.Name) {
	case 4:
		if equalFold(f.Name, "host") {
			return r.setHost(f.Value)
		}
	case 5:
		first(&r.Range, f, "range")
	case 6:
		if equalFold(f.Name, "expect") {
			return r.setExpect(f.Value)
		}
		first(&r.Origin, f, "origin")
	case 7:
		first(&r.Upgrade, f, "upgrade")
	case 8:
		first(&r.IfRange, f, "if-range")
	case 10:
		if equalFold(f.Name, "connection") {
			r.setConnection(f.Value)
		}
	case 12:
		first(&r.ContentType, f, "content-type")
	case 14:
		if equalFold(f.Name, "content-length") {
			return r.setContentLength(f.Value)
		}
	case 17:
		if equalFold(f.Name, "transfer-encoding") {
			return r.setTransferEncoding(f.Value)
		}
		first(&r.SecWebSocketKey, f, "sec-websocket-key")
		first(&r.IfModifiedSince, f, "if-modified-since")
	case 21:
		first(&r.SecWebSocketVersion, f, "sec-websocket-version")
	case 22:
		first(&r.SecWebSocketProtocol, f, "sec-websocket-protocol")
	case 24:
		first(&r.SecWebSocketExtensions, f, "sec-websocket-extensions")
	}
	return nil
}

// first keeps the value of the first field of that name.
func first(dst *[]byte, f *Field, name string) {
	if *dst == nil && equalFold(f.Name, name) {
		*dst = f.Value
	}
}

// setHost checks Host as net/http does: any mix of the bytes that a host can have,
// none at all included. RFC 9112 §3.2: more than one MUST be answered with 400.
func (r *Request) setHost(value []byte) error {
	if r.hostField != nil {
		return ErrHostTwice
	}
	if !all(value, hostByte) {
		return ErrHost
	}
	r.hostField = value
	return nil
}

// setExpect knows one expectation. RFC 9110 §10.1.1: any other MAY be answered with 417.
func (r *Request) setExpect(value []byte) error {
	if !equalFold(value, "100-continue") {
		return ErrExpect
	}
	r.expects100 = true
	return nil
}

func (r *Request) setConnection(value []byte) {
	r.wantsClose = r.wantsClose || HasToken(value, "close")
	r.wantsKeep = r.wantsKeep || HasToken(value, "keep-alive")
	if upgrade := HasToken(value, "upgrade"); r.Connection == nil || upgrade && !r.wantsUpgrade {
		r.Connection, r.wantsUpgrade = value, upgrade
	}
}

// setContentLength takes digits only. RFC 9110 §8.6 would allow a repeated equal
// value; RFC 9112 §6.3 (5) requires to refuse everything else.
func (r *Request) setContentLength(value []byte) error {
	switch {
	case r.lengthGiven:
		return ErrContentLengthTwice
	case r.Chunked:
		return ErrTwoLengths
	case len(value) == 0:
		return ErrContentLength
	}
	r.lengthGiven = true
	n, tooLarge := int64(0), false
	for _, c := range value {
		if c < '0' || c > '9' {
			return ErrContentLength
		}
		n = n*10 + int64(c-'0')
		if n > MaxBody {
			n, tooLarge = MaxBody, true // the digits behind must still be digits
		}
	}
	if tooLarge {
		return ErrBodyTooLarge
	}
	r.ContentLength = n
	return nil
}

// setTransferEncoding takes "chunked" alone. RFC 9112 §6.1: unknown codings SHOULD be
// answered with 501, and with HTTP/1.0 the framing is faulty; §6.3 (4): a request whose
// last coding is not chunked MUST be answered with 400.
func (r *Request) setTransferEncoding(value []byte) error {
	switch {
	case r.Minor == 0:
		return ErrTransferVersion
	case r.lengthGiven:
		return ErrTwoLengths
	case r.Chunked:
		return ErrTransferEncoding
	case equalFold(value, "chunked"):
		r.Chunked = true
		return nil
	case len(value) == 0:
		return ErrTransferEncoding
	}
	chunked := false
	for list := value; list != nil; {
		var coding []byte
		coding, list = nextElement(list)
		if chunked || len(coding) == 0 || !all(coding, tokenByte) {
			return ErrTransferEncoding
		}
		chunked = equalFold(coding, "chunked")
	}
	return ErrTransferCoding
}

// finish draws the conclusions that need the whole head.
func (r *Request) finish() error {
	if r.hostField == nil && r.Minor == 1 {
		return ErrHostMissing // RFC 9112 §3.2, also when the target names a host
	}
	if r.Host == nil {
		r.Host = r.hostField
	}
	// RFC 9112 §9.3.
	r.KeepAlive = !r.wantsClose && (r.Minor == 1 || r.wantsKeep)
	// RFC 9110 §10.1.1: MUST be ignored in HTTP/1.0, and a client without a body does
	// not wait.
	r.Expect100 = r.expects100 && r.Minor == 1 && (r.Chunked || r.ContentLength > 0)
	return nil
}
