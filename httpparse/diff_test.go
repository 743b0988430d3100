package httpparse

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// stricter lists the reasons for which requests are refused here that net/http and
// fasthttp both take. A reason that is not in it means that this package has become
// stricter by accident.
var stricter = map[*Error]string{
	ErrMethodTooLong:    "a limit of this package",
	ErrTargetTooLong:    "a limit of this package",
	ErrTooManyFields:    "a limit of this package",
	ErrHeadTooLarge:     "a limit of this package",
	ErrTrailerTooLarge:  "a limit of this package",
	ErrConnect:          "they serve proxies too",
	ErrTarget:           "they take any scheme; net/http takes an asterisk with any method",
	ErrTargetByte:       "they take '#' and bytes above ASCII",
	ErrAuthority:        "they take user information, IP literals and an empty host",
	ErrVersion:          "they read any version as the nearest they know",
	ErrBareLF:           "they take a lone LF for a line end",
	ErrFold:             "they unfold",
	ErrSpaceColon:       "net/http keeps a name with a space within as it is",
	ErrHost:             "checked by net/http in its server, not its reader: see TestServerOfNetHTTP",
	ErrExpect:           "checked by net/http in its server, not its reader",
	ErrContentLength:    "they unfold it",
	ErrTransferEncoding: "they unfold it",
	ErrTwoLengths:       "they let Transfer-Encoding win",
	ErrChunkSize:        "they take more digits, and white space behind them",
	ErrChunkExtension:   "they drop extensions",
	ErrTrailer:          "they look at names only, or tolerate spaces in them",
}

// difference returns what net/http or fasthttp see otherwise in a request that is
// accepted here, or nil. The allowed differences are in the comments.
func difference(raw []byte, o *outcome) error {
	// net/http skips an empty line only after a POST, fasthttp skips it always.
	skipped := 0
	if bytes.HasPrefix(raw, []byte("\r\n")) {
		raw, skipped = raw[2:], 2
	}
	consumed := o.consumed - skipped
	path, err := AppendDecodedPath(nil, []byte(o.path))
	if err != nil {
		return err
	}

	p := readByNetHTTP(raw)
	if p.err != nil && strings.Contains(p.err.Error(), "bad trailer key") {
		// net/http refuses a Trailer field that announces Content-Length and the
		// like. Here trailers are dropped unread.
		return nil
	}
	if p.path == "" {
		p.path = "/" // net/http leaves the path of http://host empty
	}
	host := ""
	if o.host != nil {
		host = *o.host
	}
	query := ""
	if o.query != nil {
		query = *o.query
	}
	want := seenByPeer{nil, o.method, o.target, string(path), query, host, o.body, consumed}
	if p != want {
		return fmt.Errorf("net/http: %.400q; here: %.400q", fmt.Sprint(p), fmt.Sprint(want))
	}

	f := readByFasthttp(raw)
	if f.err != nil && strings.Contains(f.err.Error(), "forbidden trailer") {
		return nil // as above, and also in the trailer section itself
	}
	if f.err != nil && o.minor == 1 && len(fieldOf(o, "host")) == 0 {
		return nil // it does not tell an empty Host from none
	}
	f.path, f.query = want.path, want.query // fasthttp reads them from the target on demand
	if !bytes.Equal([]byte(f.host), fieldOf(o, "host")) {
		return fmt.Errorf("fasthttp: host %q", f.host)
	}
	f.host = want.host
	if f != want {
		return fmt.Errorf("fasthttp: %.400q; here: %.400q", fmt.Sprint(f), fmt.Sprint(want))
	}
	return nil
}

func fieldOf(o *outcome, name string) []byte {
	for _, f := range o.fields {
		if strings.EqualFold(f[0], name) {
			return []byte(f[1])
		}
	}
	return nil
}

// judge compares the verdict about the first request with both peers.
func judge(raw []byte) (strict *Error, err error) {
	o := feed(raw)[0]
	switch o.kind() {
	case "accept":
		return nil, difference(raw, &o)
	case "partial":
		if p := readByNetHTTP(raw); p.err == nil {
			return nil, fmt.Errorf("incomplete here, but net/http accepts %q", p.method+" "+p.target)
		}
		return nil, nil
	}
	if readByNetHTTP(raw).err == nil && readByFasthttp(raw).err == nil {
		return o.err, nil
	}
	return nil, nil
}

// judgeMutants judges all cases and a hundred mutants of each. Who is stricter here than peers are has to be listed; it returns what was
// seen of that.
func judgeMutants(t *testing.T, rng *rand.Rand, peers string, judge func(raw []byte) (*Error, error), stricter map[*Error]string) map[*Error]bool {
	cases := loadCases(t)
	seen := map[*Error]bool{}
	for _, c := range cases {
		if len(c.Raw) > 64<<10 {
			continue
		}
		mutants := [][]byte{c.Raw}
		for range 100 {
			other := cases[rng.IntN(len(cases))].Raw
			mutants = append(mutants, mutate(rng, c.Raw, other[:min(len(other), 512)]))
		}
		t.Run(c.Name(), func(t *testing.T) {
			for _, raw := range mutants {
				strict, err := judge(raw)
				if err != nil {
					t.Errorf("%.300q: %v", raw, err)
				}
				if strict != nil && stricter[strict] == "" {
					t.Errorf("%.300q: %s would take it; refused here: %v", raw, peers, strict)
				}
				seen[strict] = true
			}
		})
	}
	return seen
}

// What is accepted here, net/http and fasthttp accept too, with the same method, target,
// path, host, body and end. So whatever they all should refuse is refused.
func TestDifferential(t *testing.T) {
	seen := judgeMutants(t, rand.New(rand.NewPCG(1, 2)), "net/http and fasthttp", judge, stricter)
	for e := range stricter {
		if !seen[e] {
			t.Errorf("listed as stricter than both, but no request shows it: %s", e.Text)
		}
	}
}

// mutate changes a request in one to three places, as an attacker would.
func mutate(rng *rand.Rand, raw, other []byte) []byte {
	b := slices.Clone(raw)
	bits := []string{
		"\r", "\n", "\r\n", "\r\n\r\n", " ", "\t", ":", ",", ";", "\x00", "\x0b", "\x7f", "\xff", "%", "#", "?", "/", "*",
		"0", "1", "9", "+", "-", "x", "\"", "Host: b\r\n", "Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n",
		"\r\n ", "Connection: close\r\n", "Trailer: X\r\n", "http://", "HTTP/1.1", "HTTP/1.0",
	}
	for range 1 + rng.IntN(3) {
		at := rng.IntN(len(b) + 1)
		end := min(at+rng.IntN(4), len(b))
		switch rng.IntN(5) {
		case 0:
			b = slices.Delete(b, at, end)
		case 1:
			b = slices.Replace(b, at, end, []byte(bits[rng.IntN(len(bits))])...)
		case 2:
			b = slices.Insert(b, at, []byte(bits[rng.IntN(len(bits))])...)
		case 3: // move a line
			lines := bytes.SplitAfter(b, []byte("\n"))
			i, j := rng.IntN(len(lines)), rng.IntN(len(lines))
			lines[i], lines[j] = lines[j], lines[i]
			b = bytes.Join(lines, nil)
		case 4: // put the start of another request in
			b = slices.Insert(b, at, other...)
		}
	}
	return b
}

// The server of net/http, which checks Host and Expect too, answers 200 to every case
// that is accepted here.
func TestServerOfNetHTTP(t *testing.T) {
	for _, c := range loadCases(t) {
		if c.Verdicts[0].Kind != "accept" || bytes.HasPrefix(c.Raw, []byte("\r\n")) {
			continue // it skips an empty line only after a POST
		}
		t.Run(c.Name(), func(t *testing.T) {
			if code := serveByNetHTTP(c.Raw); code != 200 {
				t.Errorf("net/http answers %d", code)
			}
		})
	}
}
