package httpparse

// Parser remembers between two calls how far a head has been looked at. It belongs
// to a connection; its zero value is ready. One goroutine at a time may use it.
//
// The first call parses what is there. While the head is incomplete, later calls
// look only at the bytes that are new, for an empty line or a byte that no head may
// hold, and parse again when there is one, or when the head has doubled: so each
// byte is looked at a bounded number of times however slowly it comes, and
// nonsense is refused before it has grown to twice its length.
type Parser struct {
	seen  int32 // in the bytes before it there is no empty line
	again int32 // length at which to parse again whatever the new bytes are
}

// Reset makes the parser ready for another head. Head does so itself when it
// returns anything but ErrPartial.
func (p *Parser) Reset() { *p = Parser{} }

// Head parses the head at the start of buf into req. It returns the number of
// bytes of the head, empty line included; or [ErrPartial]: call again with the same
// bytes and more behind them, moved to another buffer if that is convenient; or an
// [*Error]. The content of req is meaningful only if err is nil.
//
// The body, if any, follows in buf[n:]: see [Request.Body].
func (p *Parser) Head(buf []byte, req *Request) (n int, err error) {
	if len(buf) > MaxHead {
		buf = buf[:MaxHead]
	}
	if int(p.seen) > len(buf) {
		p.Reset() // not the bytes of the last call
	}
	if len(buf) < int(p.again) && !p.settled(buf) {
		return 0, ErrPartial
	}
	n, err = req.parse(buf)
	if err != ErrPartial {
		p.Reset()
		return n, err
	}
	if len(buf) == MaxHead {
		p.Reset()
		return 0, ErrHeadTooLarge
	}
	p.seen = int32(len(buf))
	if p.seen > 0 && buf[p.seen-1] == '\r' {
		p.seen-- // what it is depends on the next byte
	}
	p.again = int32(min(2*len(buf), MaxHead))
	return 0, ErrPartial
}

// settled reports whether the new bytes decide the matter: they hold an empty line,
// or a byte for which the head is refused wherever it stands.
func (p *Parser) settled(buf []byte) bool {
	for i := int(p.seen); ; i += 2 {
		i = skipText(buf, i)
		p.seen = int32(i)
		if i == len(buf) {
			return false
		}
		if buf[i] != '\r' {
			return true
		}
		if i+1 == len(buf) {
			return false
		}
		// The line feed before this line was part of a CRLF, or we would not be here.
		if buf[i+1] != '\n' || i > 0 && buf[i-1] == '\n' {
			return true
		}
	}
}

// parse does the whole of a head in one pass. Whatever it refuses in buf it also
// refuses in every buffer that starts with buf.
func (r *Request) parse(buf []byte) (n int, err error) {
	r.Reset()
	i := 0
	// RFC 9112 §2.2: a server SHOULD ignore at least one empty line received prior to
	// the request line. One is enough for the clients that send it.
	if len(buf) > 0 && buf[0] == '\r' {
		if i, err = crlf(buf, 0); err != nil {
			return 0, err
		}
	}
	if i, err = r.requestLine(buf, i); err != nil {
		return 0, err
	}
	for {
		if i == len(buf) {
			return 0, ErrPartial
		}
		if buf[i] == '\r' {
			if i, err = crlf(buf, i); err != nil {
				return 0, err
			}
			if err = r.finish(); err != nil {
				return 0, err
			}
			return i, nil
		}
		if r.count == MaxFields {
			return 0, ErrTooManyFields
		}
		f := &r.fields[r.count]
		if i, err = f.parse(buf, i); err != nil {
			return 0, err
		}
		r.count++
		if err = r.wellKnown(f); err != nil {
			return 0, err
		}
	}
}

// requestLine parses the request line at i and returns the position behind it.
// RFC 9112 §3: request-line = method SP request-target SP HTTP-version.
func (r *Request) requestLine(buf []byte, i int) (int, error) {
	start := i
	for i < len(buf) && classes[buf[i]]&tokenByte != 0 {
		i++
	}
	switch {
	case i-start > MaxMethod:
		return 0, ErrMethodTooLong
	case i == len(buf):
		return 0, ErrPartial
	case buf[i] != ' ' || i == start:
		return 0, methodError(buf[i])
	}
	r.Method = buf[start:i:i]
	if string(r.Method) == "CONNECT" {
		return 0, ErrConnect
	}

	i++
	start = i
	for i < len(buf) && classes[buf[i]]&targetByte != 0 {
		i++
	}
	switch {
	case i-start > MaxTarget:
		return 0, ErrTargetTooLong
	case i == len(buf):
		return 0, ErrPartial
	case buf[i] != ' ' || i == start:
		return 0, targetError(buf[i])
	}
	r.Target = buf[start:i:i]
	return r.version(buf, i+1)
}

// version parses the version at i and the end of the request line. The target is
// judged only then, so that a client of HTTP/2 is told about the version.
func (r *Request) version(buf []byte, i int) (int, error) {
	const form = "HTTP/d.d"
	for j := range len(form) {
		if i+j == len(buf) {
			return 0, ErrPartial
		}
		c := buf[i+j]
		ok := c == form[j]
		if form[j] == 'd' {
			ok = '0' <= c && c <= '9'
		}
		if !ok && c == '\n' {
			return 0, ErrBareLF
		}
		if !ok {
			return 0, ErrRequestLine
		}
	}
	major, minor := buf[i+5], buf[i+7]
	if major != '1' || minor > '1' {
		return 0, ErrVersion
	}
	r.Minor = int(minor - '0')
	i += len(form)
	if i < len(buf) && buf[i] != '\r' && buf[i] != '\n' {
		return 0, ErrRequestLine
	}
	i, err := crlf(buf, i)
	if err != nil {
		return 0, err
	}
	return i, r.splitTarget()
}

func methodError(c byte) error {
	switch c {
	case '\n':
		return ErrBareLF
	case '\r':
		return ErrRequestLine
	}
	return ErrMethod
}

func targetError(c byte) error {
	switch c {
	case '\n':
		return ErrBareLF
	case '\r', ' ':
		return ErrRequestLine
	}
	return ErrTargetByte
}

// crlf returns the position behind the line end at i. It is given a position at a
// CR, an LF or the end of buf.
func crlf(buf []byte, i int) (int, error) {
	switch {
	case i == len(buf):
		return 0, ErrPartial
	case buf[i] != '\r':
		return 0, ErrBareLF
	case i+1 == len(buf):
		return 0, ErrPartial
	case buf[i+1] != '\n':
		return 0, ErrBareCR
	}
	return i + 2, nil
}
