package demo

// order is what the role "ask" is told, as JSON in its argument.
type order struct {
	// Comm becomes the name of the process, unless it is empty.
	Comm string `json:"comm,omitempty"`
	// Cgroup is made in the container's tree and entered, unless it is empty.
	Cgroup   string    `json:"cgroup,omitempty"`
	Requests []request `json:"requests"`
}

// request is one request of a guest, on a connection of its own.
type request struct {
	Method string            `json:"method"`
	Path   string            `json:"path"`
	Body   string            `json:"body,omitempty"`
	Header map[string]string `json:"header,omitempty"`
}

func get(path string) request { return request{Method: "GET", Path: path} }

// report is what the roles "ask" and "borrow" print.
type report struct {
	Self    self     `json:"self"`
	Answers []answer `json:"answers"`
}

// self is what a guest sees of itself in /proc.
type self struct {
	PID     int    `json:"pid"`
	UID     int    `json:"uid"`
	Cmdline string `json:"cmdline"` // arguments joined by blanks
	Comm    string `json:"comm"`
	Cgroup  string `json:"cgroup"` // path of the cgroup v2, seen from inside
	UserNS  string `json:"userNS"` // as in "user:[4026531837]"
}

// answer is one answer of the server.
type answer struct {
	Status int    `json:"status"`
	Type   string `json:"type"`
	Body   string `json:"body"` // the first bytes of it
	Size   int64  `json:"size"` // bytes of the whole body
	SHA256 string `json:"sha256"`
}

// line is what the role "events" prints, one JSON object a line.
type line struct {
	Kind string `json:"kind"`
	Text string `json:"text,omitempty"` // the event, or how the stream ended
}

// Kinds of a line.
const (
	kindSubscribed = "subscribed"
	kindEvent      = "event"
	kindEnd        = "end"
)

// How the role "events" listens.
const (
	overWebsocket = "websocket"
	overStream    = "stream"
)
