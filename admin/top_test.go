package admin_test

import (
	"encoding/json"
	"strings"
	"testing"

	"devlxd/admin"
)

// TestTop: order and number are those that were asked for, the health is filled in, and a wrong word is refused with the right ones.
func TestTop(t *testing.T) {
	var asked []any
	f := start(t, func(_ *fixture, o *admin.Options) {
		o.Top = func(by admin.TopSort, limit int) admin.Top {
			asked = []any{by, limit}
			return admin.Top{Monotonic: 5, Containers: []admin.TopContainer{{Name: "c1"}}}
		}
	})
	for query, want := range map[string][]any{
		"": {admin.SortRequests, admin.DefaultTop}, "?sort=lag&limit=1": {admin.SortLag, 1}, "?limit=10000": {admin.SortRequests, admin.MaxTop},
	} {
		resp, body := f.ask("GET", "/1.0/top"+query, "")
		if resp.StatusCode != 200 || len(asked) != 2 || asked[0] != want[0] || asked[1] != want[1] {
			t.Errorf("%q: %d, asked for %v; want %v", query, resp.StatusCode, asked, want)
		}
		var envelope struct{ Metadata admin.Top }
		if err := json.Unmarshal([]byte(body), &envelope); err != nil {
			t.Fatal(err)
		}
		if top := envelope.Metadata; top.Sort != want[0] || top.Daemon.Health != admin.HealthOK || top.Monotonic != 5 || len(top.Containers) != 1 {
			t.Errorf("%q: %s", query, body)
		}
	}
	const sorts = "requests, connections, subscribers, events, bytes, waits, lag, lost or name"
	for query, want := range map[string]string{
		"?sort=cpu": `parameter "sort" has the value "cpu": use ` + sorts, "?limit=0": `parameter "limit" has the value "0": use 1 to 10000`,
		"?limit=x": `parameter "limit" has the value "x": use 1 to 10000`, "?limit=10001": `parameter "limit" has the value "10001": use 1 to 10000`,
		"?order=1": `unknown parameter "order"`,
	} {
		step{"GET", "/1.0/top" + query, "", 400, failed(400, want), ""}.run(f)
	}
	none := start(t, nil)
	step{"GET", "/1.0/top", "", 501, failed(501, "this server does not count by container"), ""}.run(none)
}

// TestHealth: the state is that of the worst reason, whatever their order; not being ready is one.
func TestHealth(t *testing.T) {
	degraded := admin.HealthReason{Name: "a", State: admin.HealthDegraded, Detail: "a is bad"}
	failing := admin.HealthReason{Name: "b", State: admin.HealthFailing, Detail: "b is worse"}
	for _, c := range []struct {
		reasons []admin.HealthReason
		ready   bool
		want    admin.HealthState
		names   string
	}{
		{nil, true, admin.HealthOK, ""},
		{[]admin.HealthReason{degraded}, true, admin.HealthDegraded, "a"},
		{[]admin.HealthReason{degraded, failing}, true, admin.HealthFailing, "a b"},
		{[]admin.HealthReason{failing, degraded}, true, admin.HealthFailing, "b a"},
		{[]admin.HealthReason{degraded}, false, admin.HealthFailing, admin.ReasonNotReady + " a"},
	} {
		f := start(t, func(_ *fixture, o *admin.Options) {
			o.Health = func() []admin.HealthReason { return c.reasons }
			o.Ready = func() bool { return c.ready }
		})
		for _, path := range []string{"/1.0/health", "/1.0/status"} {
			_, body := f.ask("GET", path, "")
			var envelope struct{ Metadata json.RawMessage }
			if err := json.Unmarshal([]byte(body), &envelope); err != nil {
				t.Fatal(err)
			}
			var h admin.Health
			var s admin.Status
			if err := json.Unmarshal(envelope.Metadata, &h); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(envelope.Metadata, &s); err != nil {
				t.Fatal(err)
			}
			if s.Health.State != "" {
				h = s.Health
			}
			var names []string
			for _, r := range h.Reasons {
				names = append(names, r.Name)
			}
			if h.State != c.want || strings.Join(names, " ") != c.names || h.Reasons == nil {
				t.Errorf("%s: %+v; want %s of %q", path, h, c.want, c.names)
			}
		}
	}
}
