package httpparse

// Limits of a request. They are part of the contract with guests.
const (
	MaxTarget  = 8 << 10  // bytes of a request target; more is 414
	MaxHead    = 16 << 10 // bytes of a head with its empty line; more is 431
	MaxFields  = 64       // fields of a head; more is 431
	MaxBody    = 1 << 20  // bytes of a body once decoded; more is 413
	MaxTrailer = 1 << 10  // bytes behind the last chunk; more is 431
	MaxMethod  = 32       // bytes of a method; more is 501
)

// Field is one field line of a head. Both slices lie in the buffer that was parsed.
type Field struct {
	Name  []byte // as sent: compare without regard to case
	Value []byte // without white space at its ends; may hold bytes above ASCII
}

// Request is the head of a request. It is filled by [Parser.Head] and meant to be
// used again and again by its owner; one goroutine at a time may use it. It is
// about 3.5 KiB large. All slices lie in the buffer given to Head and are valid as
// long as that buffer is left alone; they are nil where the request has nothing.
type Request struct {
	Method []byte // any token: what is implemented is for the caller to say
	Target []byte // as sent
	Path   []byte // undecoded; starts with "/", or is "*" for OPTIONS
	Query  []byte // undecoded, without the "?"; nil if there is no "?"

	Minor         int   // HTTP/1.Minor: 0 or 1
	KeepAlive     bool  // the client wants to send more on this connection (RFC 9112 §9.3)
	Expect100     bool  // the client waits for a 100 before it sends its body (RFC 9110 §10.1.1)
	ContentLength int64 // 0 when none was given
	Chunked       bool  // the body is in chunks and its length unknown

	// Host is the authority of an absolute target, else the Host field (RFC 9112
	// §3.2.2). An empty field, as clients of Unix sockets send it, is not nil.
	Host []byte

	// The first field of each name.
	Upgrade, Origin, ContentType         []byte
	Range, IfRange, IfModifiedSince      []byte
	SecWebSocketKey, SecWebSocketVersion []byte
	SecWebSocketProtocol                 []byte
	SecWebSocketExtensions               []byte

	// Connection is the first Connection field that lists "upgrade", or just the
	// first: a handshake may spread its options over several fields.
	Connection []byte

	hostField    []byte
	lengthGiven  bool // Content-Length was seen
	wantsClose   bool // Connection lists "close"
	wantsKeep    bool // Connection lists "keep-alive"
	wantsUpgrade bool // Connection lists "upgrade"
	expects100   bool // Expect is 100-continue
	count        int
	fields       [MaxFields]Field
}

// Fields returns the fields in the order sent. The slice is overwritten by the next Head.
func (r *Request) Fields() []Field { return r.fields[:r.count] }

// Get returns the value of the first field of that name, nil if there is none.
// ASCII case does not matter.
func (r *Request) Get(name string) []byte {
	for i := range r.count {
		if equalFold(r.fields[i].Name, name) {
			return r.fields[i].Value
		}
	}
	return nil
}

// Reset forgets the request, so that its buffer can be collected. Head does it first.
func (r *Request) Reset() {
	clear(r.fields[:r.count])
	r.count = 0
	r.Method, r.Target, r.Path, r.Query = nil, nil, nil, nil
	r.Minor, r.KeepAlive, r.Expect100, r.ContentLength, r.Chunked = 0, false, false, 0, false
	r.Host, r.hostField = nil, nil
	r.Upgrade, r.Origin, r.ContentType, r.Connection = nil, nil, nil, nil
	r.Range, r.IfRange, r.IfModifiedSince = nil, nil, nil
	r.SecWebSocketKey, r.SecWebSocketVersion = nil, nil
	r.SecWebSocketProtocol, r.SecWebSocketExtensions = nil, nil
	r.lengthGiven, r.wantsClose, r.wantsKeep, r.wantsUpgrade, r.expects100 = false, false, false, false, false
}
