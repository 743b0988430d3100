package httpparse

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// llhttp is a Node process with the parser of Node's HTTP server: testdata/llhttp.js.
type llhttp struct {
	in      io.Writer
	out     *bufio.Reader
	version string
	methods []string
}

// seenByLLHTTP is what llhttp made of the first request. In its strings a rune stands for a byte.
type seenByLLHTTP struct {
	Error, Reason        string
	Partial              bool
	Method, Target, Body string
	Fields               []string // name, value, name, value
	Major, Minor         int
	KeepAlive            bool
	Consumed             int
}

// startLLHTTP runs until the test ends; also when this process is killed, because its standard input ends then.
func startLLHTTP(tb testing.TB) *llhttp {
	tb.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		tb.Skip("needs node: ", err)
	}
	cmd := exec.Command(node, "testdata/llhttp.js")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil {
			tb.Errorf("node: %v: %s", err, &stderr)
		}
	})
	p := &llhttp{in: in, out: bufio.NewReader(out)}
	var hello struct {
		LLHTTP  string
		Methods []string
	}
	if err := p.receive(&hello); err != nil {
		tb.Fatalf("node does not start: %v: %s", err, &stderr)
	}
	p.version, p.methods = hello.LLHTTP, hello.Methods
	return p
}

func (p *llhttp) receive(v any) error {
	var length [4]byte
	if _, err := io.ReadFull(p.out, length[:]); err != nil {
		return err
	}
	text := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(p.out, text); err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// read gives llhttp one connection's bytes.
func (p *llhttp) read(raw []byte) (seen seenByLLHTTP, err error) {
	frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...)
	if _, err := p.in.Write(frame); err != nil {
		return seen, err
	}
	err = p.receive(&seen)
	return seen, err
}

// bytesOf undoes the one rune for each byte.
func bytesOf(s string) string {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

// refuses lists why llhttp may refuse what is accepted here.
var refuses = []struct {
	code, reason string
	ok           func(p *llhttp, raw []byte, o *outcome) bool
}{
	{"HPE_INVALID_METHOD", "it knows a list of methods; here any token is one, for the server to answer with 405", func(p *llhttp, _ []byte, o *outcome) bool {
		return !slices.Contains(p.methods, o.method)
	}},
	{"HPE_INVALID_CONSTANT", "SOURCE is for ICE only there", func(_ *llhttp, _ []byte, o *outcome) bool { return o.method == "SOURCE" }},
	{"HPE_INVALID_TRANSFER_ENCODING", "a tab behind the coding is not white space there", func(_ *llhttp, raw []byte, _ *outcome) bool {
		return codingThenTab.Match(raw)
	}},
	{"HPE_INVALID_TRANSFER_ENCODING", "no framing fields in a trailer there; here all trailer fields are dropped", framedTrailer},
	{"HPE_INVALID_CONTENT_LENGTH", "no framing fields in a trailer there; here all trailer fields are dropped", framedTrailer},
	{"HPE_UNEXPECTED_CONTENT_LENGTH", "no framing fields in a trailer there; here all trailer fields are dropped", framedTrailer},
}

var (
	codingThenTab = regexp.MustCompile(`(?i)\ntransfer-encoding:[ \t]*chunked[ \t]*\t`)
	framingField  = regexp.MustCompile(`(?i)\n(transfer-encoding|content-length)[ \t]*:`)
)

// framedTrailer reports whether the trailer of a request in chunks has a framing field.
func framedTrailer(_ *llhttp, raw []byte, o *outcome) bool {
	_, body, _ := bytes.Cut(bytes.TrimPrefix(raw, []byte("\r\n")), []byte("\r\n\r\n"))
	return o.chunked && framingField.Match(body)
}

// closesAnyway: RFC 9112 §9.3 has "close" win over "keep-alive" in HTTP/1.0; llhttp has it the other way round.
func closesAnyway(o *outcome) bool {
	return o.minor == 0 && !o.keepAlive && slices.ContainsFunc(o.fields, func(f [2]string) bool {
		return strings.EqualFold(f[0], "connection") && HasToken([]byte(f[1]), "keep-alive")
	})
}

// difference returns what llhttp sees otherwise in a request that is accepted here, or nil.
func (p *llhttp) difference(raw []byte, seen *seenByLLHTTP, o *outcome) error {
	for _, known := range refuses {
		if seen.Error == known.code && known.ok(p, raw, o) {
			return nil
		}
	}
	if seen.Error != "" || seen.Partial {
		return fmt.Errorf("llhttp: %s %s, partial %t", seen.Error, seen.Reason, seen.Partial)
	}
	got := outcome{method: seen.Method, target: bytesOf(seen.Target), minor: seen.Minor, keepAlive: seen.KeepAlive, body: bytesOf(seen.Body), consumed: seen.Consumed}
	for i := 0; i+1 < len(seen.Fields); i += 2 {
		got.fields = append(got.fields, [2]string{bytesOf(seen.Fields[i]), bytesOf(seen.Fields[i+1])})
	}
	want := outcome{method: o.method, target: o.target, minor: o.minor, keepAlive: o.keepAlive || closesAnyway(o), body: o.body, consumed: o.consumed, fields: o.fields}
	if seen.Major != 1 || got.String() != want.String() {
		return fmt.Errorf("llhttp: %.600s; here: %.600s", got, want)
	}
	return nil
}

// judge compares the verdict about the first request. strict is the reason to refuse what llhttp takes.
func (p *llhttp) judge(raw []byte) (strict *Error, err error) {
	seen, err := p.read(raw)
	if err != nil {
		return nil, err
	}
	o := feed(raw)[0]
	accepted := seen.Error == "" && !seen.Partial
	switch o.kind() {
	case "accept":
		return nil, p.difference(raw, &seen, &o)
	case "partial":
		if accepted {
			return nil, fmt.Errorf("incomplete here, but llhttp accepts %q", seen.Method+" "+seen.Target)
		}
		return nil, nil
	}
	if accepted {
		return o.err, nil
	}
	return nil, nil
}

// stricterThanLLHTTP lists the reasons for which requests are refused here that llhttp takes. A reason that is not in it means that
// this package has become stricter by accident.
var stricterThanLLHTTP = map[*Error]string{
	ErrTargetTooLong:    "a limit of this package",
	ErrTooManyFields:    "a limit of this package",
	ErrHeadTooLarge:     "a limit of this package",
	ErrTrailerTooLarge:  "a limit of this package",
	ErrConnect:          "it serves proxies too",
	ErrRequestLine:      "it takes HTTP/0.9, and several spaces before a version",
	ErrVersion:          "it takes HTTP/0.9 and 2.0",
	ErrTarget:           "it takes any scheme, and an asterisk with any method",
	ErrTargetByte:       "it takes fragments and bytes above ASCII",
	ErrAuthority:        "it looks at no host",
	ErrPercent:          "it does not look at percent-encoding",
	ErrBareCR:           "it skips any CR and LF before a request",
	ErrBareLF:           "it takes a lone LF behind HTTP/0.9",
	ErrHostMissing:      "checked by Node's server, not by its parser",
	ErrHostTwice:        "not checked",
	ErrHost:             "not checked",
	ErrExpect:           "left to Node's server",
	ErrTransferEncoding: "it takes an empty one for none",
	ErrTransferCoding:   "it takes any list that ends in chunked",
	ErrTransferVersion:  "it takes chunks in HTTP/1.0",
	ErrChunkSize:        "it takes more digits",
	ErrChunkExtension:   "it drops extensions",
}

// What is accepted here llhttp accepts too, with the same method, target, version, fields, body and end.
func TestLLHTTP(t *testing.T) {
	p := startLLHTTP(t)
	seen := judgeMutants(t, rand.New(rand.NewPCG(3, 4)), "llhttp", p.judge, stricterThanLLHTTP)
	for e := range stricterThanLLHTTP {
		// Other versions may have become stricter.
		if !seen[e] && strings.HasPrefix(p.version, "9.") {
			t.Errorf("listed as stricter than llhttp %s, but no request shows it: %s", p.version, e.Text)
		}
	}
}

// FuzzLLHTTP: the same for any bytes.
func FuzzLLHTTP(f *testing.F) {
	p := startLLHTTP(f)
	for _, c := range loadCases(f) {
		if len(c.Raw) <= wholeCuts {
			f.Add(c.Raw)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := p.judge(raw); err != nil {
			t.Error(err)
		}
	})
}
