package httpparse

// bodyState is where in a body a [Body] stands.
type bodyState uint8

const (
	bodyDone     bodyState = iota // nothing is left
	bodyPlain                     // in data of known length
	chunkSize                     // in the digits of a chunk size
	chunkSizeLF                   // behind the CR of a chunk size
	chunkData                     // in the data of a chunk
	chunkDataCR                   // behind the data of a chunk
	chunkDataLF                   // behind the CR that follows it
	trailerLine                   // at the start of a trailer line
	trailerName                   // in the name of a trailer field
	trailerValue                  // in its value
	trailerLF                     // behind its CR
	trailerEndLF                  // behind the CR of the empty line that ends all
)

// maxChunkDigits leaves room for leading zeros, which some clients pad with.
const maxChunkDigits = 8

// Body decodes the body that a request announces, as its bytes arrive. It is a small
// value, holds no reference to any buffer, and one goroutine at a time may use it. Its
// zero value is a body that is done.
type Body struct {
	left  int64     // bytes left of the plain body or of the chunk
	total int64     // bytes announced by all chunks so far
	count uint16    // digits of the chunk size, then bytes of the trailer
	state bodyState // what the next byte must be
}

// Body returns the decoder of the body that follows the head.
func (r *Request) Body() Body {
	switch {
	case r.Chunked:
		return Body{state: chunkSize}
	case r.ContentLength > 0:
		return Body{state: bodyPlain, left: r.ContentLength}
	}
	return Body{}
}

// Done reports whether the body has ended. What follows is the next request.
func (b *Body) Done() bool { return b.state == bodyDone }

// Next decodes the start of buf, the bytes that follow those used before. It returns
// the decoded data, which lies inside buf, and the number n of bytes used; n may be
// more than len(data), and data empty, because of the framing. It returns at most one
// piece of data: call it again with buf[n:] until Done. [ErrPartial] says that buf was
// empty; after an [*Error] the body must not be used again.
//
// Chunk extensions are refused. Trailer fields are checked for their syntax, limited
// to [MaxTrailer] bytes, and dropped.
func (b *Body) Next(buf []byte) (data []byte, n int, err error) {
	if b.state == bodyDone {
		return nil, 0, nil
	}
	if len(buf) == 0 {
		return nil, 0, ErrPartial
	}
	for i := 0; i < len(buf); {
		if b.state == bodyPlain || b.state == chunkData {
			end := i + int(min(b.left, int64(len(buf)-i)))
			b.left -= int64(end - i)
			if b.left == 0 {
				b.state = b.afterData()
			}
			return buf[i:end:end], end, nil
		}
		if err := b.step(buf[i]); err != nil {
			return nil, 0, err
		}
		i++
		if b.state == bodyDone {
			return nil, i, nil
		}
	}
	return nil, len(buf), nil
}

func (b *Body) afterData() bodyState {
	if b.state == bodyPlain {
		return bodyDone
	}
	return chunkDataCR
}

// step takes one byte of the framing of chunks.
// RFC 9112 §7.1: chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF.
func (b *Body) step(c byte) error {
	switch b.state {
	case chunkSize:
		return b.sizeByte(c)
	case chunkSizeLF:
		if b.left == 0 {
			b.count = 0
			return b.want(c, '\n', trailerLine, ErrBareCR)
		}
		return b.want(c, '\n', chunkData, ErrBareCR)
	case chunkDataCR:
		return b.want(c, '\r', chunkDataLF, ErrChunkEnd)
	case chunkDataLF:
		b.count = 0
		return b.want(c, '\n', chunkSize, ErrChunkEnd)
	}
	return b.trailerByte(c)
}

// want moves on if c is the one byte that is allowed.
func (b *Body) want(c, allowed byte, next bodyState, otherwise error) error {
	if c != allowed {
		return otherwise
	}
	b.state = next
	return nil
}

// sizeByte takes a byte of the line with the size of a chunk.
func (b *Body) sizeByte(c byte) error {
	if digit, ok := unhex(c); ok {
		b.count++
		b.left = b.left<<4 | int64(digit)
		if b.total+b.left > MaxBody {
			return ErrBodyTooLarge
		}
		if b.count > maxChunkDigits {
			return ErrChunkSize
		}
		return nil
	}
	switch {
	case c == '\n':
		return ErrBareLF
	case b.count == 0:
		return ErrChunkSize
	case c == ';':
		return ErrChunkExtension
	case c != '\r':
		return ErrChunkSize
	}
	b.total += b.left
	b.state = chunkSizeLF
	return nil
}

// trailerByte takes a byte behind the last chunk.
// RFC 9112 §7.1.2: trailer-section = *( field-line CRLF ).
func (b *Body) trailerByte(c byte) error {
	if b.count++; b.count > MaxTrailer {
		return ErrTrailerTooLarge
	}
	if c == '\n' && b.state != trailerLF && b.state != trailerEndLF {
		return ErrBareLF
	}
	token := classes[c]&tokenByte != 0
	switch b.state {
	case trailerLine:
		switch {
		case c == '\r':
			b.state = trailerEndLF
		case token:
			b.state = trailerName
		case isSpace(c):
			return ErrFold
		default:
			return ErrTrailer
		}
	case trailerName:
		switch {
		case c == ':':
			b.state = trailerValue
		case !token:
			return ErrTrailer
		}
	case trailerValue:
		switch {
		case c == '\r':
			b.state = trailerLF
		case !isText(c):
			return ErrTrailer
		}
	case trailerLF:
		return b.want(c, '\n', trailerLine, ErrBareCR)
	case trailerEndLF:
		return b.want(c, '\n', bodyDone, ErrBareCR)
	}
	return nil
}
