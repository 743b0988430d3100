package httpparse

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"devlxd/httpparse/parsetest"
)

// loadCases reads testdata/*.http.
func loadCases(tb testing.TB) []parsetest.Case {
	tb.Helper()
	cases, err := parsetest.Load("testdata")
	if err != nil {
		tb.Fatal(err)
	}
	return cases
}

// check compares what was found with one expectation.
func (o *outcome) check(e parsetest.Expectation) error {
	yes := map[bool]string{true: "yes", false: "no"}
	orNone := func(s *string) string {
		if s == nil {
			return "none"
		}
		return *s
	}
	got := ""
	switch e.Key {
	case "method":
		got = o.method
	case "target":
		got = o.target
	case "path":
		got = o.path
	case "query":
		got = orNone(o.query)
	case "host":
		got = orNone(o.host)
	case "connection":
		got = orNone(o.connection)
	case "version":
		got = "1." + strconv.Itoa(o.minor)
	case "keep-alive":
		got = yes[o.keepAlive]
	case "expect-100":
		got = yes[o.expect100]
	case "fields":
		got = strconv.Itoa(len(o.fields))
	case "body":
		got = o.body
	case "consumed":
		got = strconv.Itoa(o.consumed)
	case "field":
		name, value, _ := strings.Cut(e.Value, ":")
		for _, f := range o.fields {
			if strings.EqualFold(f[0], name) {
				if f[1] == strings.TrimPrefix(value, " ") {
					return nil
				}
				return fmt.Errorf("field %s = %q; want %q", name, f[1], value)
			}
		}
		return fmt.Errorf("field %s is missing", name)
	default:
		return fmt.Errorf("unknown key %q", e.Key)
	}
	if got != e.Value {
		return fmt.Errorf("%s = %.80q; want %.80q", e.Key, got, e.Value)
	}
	return nil
}

// compare checks the outcomes of a connection against the verdicts of the case.
func compare(c *parsetest.Case, got []outcome) error {
	if len(got) != len(c.Verdicts) {
		return fmt.Errorf("%d outcomes; want %d: %v", len(got), len(c.Verdicts), got)
	}
	for i, v := range c.Verdicts {
		o := &got[i]
		if kind := o.kind(); kind != v.Kind {
			return fmt.Errorf("request %d: %s (%v); want %s", i, kind, o.err, v.Kind)
		}
		if v.Kind == "refuse" && (o.err.Status != v.Status || !strings.Contains(o.err.Text, v.Words)) {
			return fmt.Errorf("request %d: refused with %d %s; want %d %s", i, o.err.Status, o.err.Text, v.Status, v.Words)
		}
		for _, e := range append(v.Want, parsetest.Expectation{Key: "body", Value: v.Get("body")}) {
			if err := o.check(e); err != nil {
				return fmt.Errorf("request %d: %w", i, err)
			}
		}
	}
	return nil
}
