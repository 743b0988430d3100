package apitest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Checker holds exchanges against a document, and remembers what of it was
// seen. Safe for concurrent use.
type Checker struct {
	dialects  []string
	documents map[string]*document // by dialect
	tapped    atomic.Int64         // connections of taps that are open

	mu       sync.Mutex
	unseen   map[string]bool // labels of what is documented; true: still not seen
	failures []error
}

// New returns a checker of a document. Without dialects it has one, "".
//
// Errors: [ErrDocument], [ErrReference].
func New(text []byte, dialects ...string) (*Checker, error) {
	c := &Checker{dialects: dialects, documents: make(map[string]*document), unseen: make(map[string]bool)}
	if len(dialects) == 0 {
		c.dialects = []string{""}
	}
	for _, dialect := range c.dialects {
		d, err := newDocument(text, dialect)
		if err != nil {
			return nil, err
		}
		c.documents[dialect] = d
		if err := c.expect(d); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Must is New for documents that are known to be good.
func Must(text []byte, dialects ...string) *Checker {
	c, err := New(text, dialects...)
	if err != nil {
		panic(err)
	}
	return c
}

// methods are those that a path item may have.
var methods = []string{"get", "put", "post", "delete", "patch"} // read only

// general are the responses that belong to no path.
var general = []string{"x-any-request", "x-unknown-path", "x-other-method"} // read only

// expect notes all that a document has, and that its references hold.
func (c *Checker) expect(d *document) error {
	note := func(label string, responses place) error {
		for status := range responses.node {
			if d.child(responses, status).node == nil {
				return fmt.Errorf("%s %s: %w", label, status, ErrReference)
			}
			if _, err := strconv.Atoi(status); err == nil {
				c.unseen[label+" "+status] = true
			}
		}
		return nil
	}
	paths := d.child(d.root(), "paths")
	for path := range paths.node {
		for _, method := range methods {
			label := strings.ToUpper(method) + " " + path
			if err := note(label, d.child(paths, path, method, "responses")); err != nil {
				return err
			}
		}
	}
	for _, key := range general {
		if err := note(key, d.child(d.root(), key)); err != nil {
			return err
		}
	}
	return nil
}

// Exchange is a request and its answer.
type Exchange struct {
	// Method is "" when what was sent is no request that net/http understands: then all documented responses are good.
	Method string
	// Target is the path and query as they were sent.
	Target      string
	RequestType string
	RequestBody []byte
	// Cut says that not all of the request body was seen.
	Cut bool

	Status int
	Header http.Header
	// Body is the answer as it is, or the lines so far of a stream. Partial says that not all of it was seen.
	Body    []byte
	Partial bool
}

func (x *Exchange) String() string {
	return fmt.Sprintf("%s %.80s answered %d", x.Method, x.Target, x.Status)
}

// candidate is a response that would be good.
type candidate struct {
	label     string
	response  place
	operation place // its node is nil for what belongs to no operation
	path      place
}

// Check returns what is not documented of an exchange, nil if all is: one of
// the errors of the package. A dialect "" stands for any.
func (c *Checker) Check(dialect string, x Exchange) error {
	if d, ok := c.documents[dialect]; ok {
		return c.check(d, x)
	}
	var errs []error
	for _, dialect := range c.dialects {
		err := c.check(c.documents[dialect], x)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("dialect %s: %w", dialect, err))
	}
	return errors.Join(errs...)
}

func (c *Checker) check(d *document, x Exchange) error {
	candidates := d.candidates(&x)
	if len(candidates) == 0 {
		return fmt.Errorf("%v: %w", &x, ErrStatus)
	}
	var first error
	for _, candidate := range candidates {
		err := d.checkResponse(candidate.response, &x)
		if err == nil {
			err = d.checkRequest(&candidate, &x)
		}
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.unseen[candidate.label] = false
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return fmt.Errorf("%v: %w", &x, first)
}

// candidates are the documented responses to a request with the status, the
// most special first.
func (d *document) candidates(x *Exchange) (list []candidate) {
	status := strconv.Itoa(x.Status)
	add := func(c candidate, responses place) {
		if r := d.child(responses, status); r.node != nil {
			c.label, c.response = c.label+" "+status, r
			list = append(list, c)
		}
	}
	addGeneral := func(keys ...string) {
		for _, key := range keys {
			add(candidate{label: key}, d.child(d.root(), key))
		}
	}
	path, _, _ := strings.Cut(x.Target, "?")
	if scheme, rest, ok := strings.Cut(path, "://"); ok && strings.EqualFold(scheme, "http") {
		_, path, _ = strings.Cut(rest, "/") // the absolute form of RFC 9112 §3.2.2
		path = "/" + path
	}
	name, item, known := d.template(path)
	switch {
	case x.Method == "":
		paths := d.child(d.root(), "paths")
		for name := range paths.node {
			for _, method := range methods {
				add(candidate{label: strings.ToUpper(method) + " " + name}, d.child(paths, name, method, "responses"))
			}
		}
		addGeneral(general...)
		return list
	case !known:
		addGeneral("x-unknown-path")
	default:
		operation := func(method string) bool {
			// RFC 9110 §9.1: "The method token is case-sensitive".
			lower := strings.ToLower(method)
			op := d.child(item, lower)
			if lower != method && slices.Contains(methods, lower) && op.node != nil {
				add(candidate{label: method + " " + name, operation: op, path: item}, d.child(op, "responses"))
				return true
			}
			return false
		}
		if !operation(x.Method) {
			asGet := d.child(d.root(), "x-as-get")
			if asGet.node[x.Method] != nil || x.Method != http.MethodHead && asGet.node["*"] != nil {
				operation(http.MethodGet)
			}
			addGeneral("x-other-method")
		}
	}
	addGeneral("x-any-request")
	return list
}

// Unseen lists what is documented and was in no exchange: "GET /1.0/config
// 403", or with the name of the extension in place of a method and path.
// Labels in excused are left out; one that was seen nevertheless, or is not
// documented, is listed too, so that the reasons do not outlive what they are
// for.
func (c *Checker) Unseen(excused map[string]string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for label, unseen := range c.unseen {
		if _, ok := excused[label]; unseen && !ok {
			list = append(list, label+": documented, but in no answer of the tests")
		}
	}
	for label := range excused {
		if unseen, ok := c.unseen[label]; !ok || !unseen {
			list = append(list, label+": excused, but seen in an answer, or not documented")
		}
	}
	slices.Sort(list)
	return list
}

// fail keeps an error for Failures.
func (c *Checker) fail(err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, err)
}

// Settle waits until every connection of a tap is closed, and so checked.
//
// Errors: [ErrOpen] after that time.
func (c *Checker) Settle(patience time.Duration) error {
	for deadline := time.Now().Add(patience); c.tapped.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: %d after %v", ErrOpen, c.tapped.Load(), patience)
		}
	}
	return nil
}

// Failures returns, once, what recorders and taps have found.
func (c *Checker) Failures() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	failures := c.failures
	c.failures = nil
	return failures
}

// Properties returns the members that the named schema of components has in
// any dialect, sorted, and those of them that are required.
func (c *Checker) Properties(schema string) (all, required []string) {
	for _, d := range c.documents {
		s := d.child(d.root(), "components", "schemas", schema)
		properties, _ := s.node["properties"].(map[string]any)
		for name := range properties {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
		names, _ := s.node["required"].([]any)
		for _, name := range names {
			if text, ok := name.(string); ok && !slices.Contains(required, text) {
				required = append(required, text)
			}
		}
	}
	slices.Sort(all)
	slices.Sort(required)
	return all, required
}
