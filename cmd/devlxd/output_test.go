package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// shown is what show prints.
func shown(t interface{ Fatal(...any) }, format string, v any, rows *table) string {
	var out bytes.Buffer
	cmd := &cobra.Command{}
	cmd.SetOut(&out)
	if err := show(cmd, format, v, rows); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestValuesComeBack: what is printed for programs is read back as it was, whatever it looks like.
func TestValuesComeBack(t *testing.T) {
	odd := rapid.SampledFrom([]string{
		"", "-", "- a", "true", "yes", "Y", "No", "NULL", "web", "a.b/c-d", "off", "null", "~", "1", "1e3", ".inf", ".nan", "0o7", "1_000", "12:30:45", "2001-01-01", "=", "<<",
		"a: b", "a #b", "? a", "%x", "`", "&a", "!x", "\n", "\n\na", " a\n  b", "a\n\n", "a\r\nb", "a\r", "\t", "\ta\nb", "a\tb", "\x00", "\x1b[31m",
		"\u0085", "\u2028", "\ufeffa", "\U0001f600", "\x7f", "<&>", `"`, "'", `\`, "--- a", "x\n...\ny", "#cloud-config\nusers:\n- name: a\n",
	})
	random := rapid.StringOf(rapid.SampledFrom([]rune("ab \n:-#'\"|>\t\r%&*!{}[],?~01.\\é")))
	value := rapid.OneOf(odd, random, rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]map[string]string{"config": rapid.MapOf(value, value).Draw(t, "config")}
		var fromJSON map[string]map[string]string
		if out := shown(t, formatJSON, want, nil); json.Unmarshal([]byte(out), &fromJSON) != nil || !reflect.DeepEqual(fromJSON, want) {
			t.Fatalf("json: %q; want %q", out, want)
		}
		var fromYAML map[string]map[string]any // so that a string that looks like a number is one
		out := shown(t, formatYAML, want, nil)
		if err := yaml.Unmarshal([]byte(out), &fromYAML); err != nil || len(fromYAML["config"]) != len(want["config"]) {
			t.Fatalf("yaml: %q: %v; want %q", out, err, want)
		}
		rows := &table{head: []string{"key", "value"}}
		for key, value := range want["config"] {
			if fromYAML["config"][key] != any(value) {
				t.Fatalf("yaml: %q is %q in %q", key, fromYAML["config"][key], out)
			}
			rows.add(key, value)
		}
		read := csv.NewReader(strings.NewReader(shown(t, formatCSV, want, rows)))
		records, err := read.ReadAll()
		if err != nil || len(records) != len(rows.rows)+1 {
			t.Fatalf("csv: %q, %v; want %q", records, err, rows.rows)
		}
		if lines := strings.Count(shown(t, formatTable, want, rows), "\n"); lines != len(rows.rows)+1 {
			t.Fatalf("table: %d lines for %d rows", lines, len(rows.rows))
		}
	})
}

func TestShow(t *testing.T) {
	type state struct {
		PID    int    `json:"pid"`
		Cgroup uint64 `json:"cgroup"`
	}
	type value struct {
		Name   string            `json:"name"`
		OK     bool              `json:"ok"`
		Load   float64           `json:"load"`
		Config map[string]string `json:"config"`
		Empty  map[string]string `json:"empty"`
		List   []string          `json:"list"`
		None   []string          `json:"none"`
		State  *state            `json:"state"`
		Off    *state            `json:"gone"`
	}
	v := value{Name: "web", OK: true, Load: 0.5, Config: map[string]string{"user.b": "x\ty", "user.a": "1\n2\n"}, Empty: map[string]string{},
		List: []string{"p", "q"}, None: []string{}, State: &state{42, 1<<64 - 1}}
	rows, err := properties(v)
	if err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]string{
		formatJSON: `{"name":"web","ok":true,"load":0.5,"config":{"user.a":"1\n2\n","user.b":"x\ty"},"empty":{},"list":["p","q"],"none":[],` +
			`"state":{"pid":42,"cgroup":18446744073709551615},"gone":null}` + "\n",
		formatYAML: `name: web
ok: true
load: 0.5
config:
  user.a: |
    1
    2
  user.b: "x\ty"
empty: {}
list:
  - p
  - q
none: []
state:
  pid: 42
  cgroup: 18446744073709551615
gone: null
`,
		formatTable: `KEY            VALUE
name           web
ok             true
load           0.5
config.user.a  "1\n2\n"
config.user.b  "x\ty"
list.0         p
list.1         q
state.pid      42
state.cgroup   18446744073709551615
gone           
`,
		formatCSV: "key,value\nname,web\nok,true\nload,0.5\nconfig.user.a,\"1\n2\n\"\nconfig.user.b,x\ty\nlist.0,p\nlist.1,q\n" +
			"state.pid,42\nstate.cgroup,18446744073709551615\ngone,\n",
	} {
		if got := shown(t, format, v, rows); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", format, got, want)
		}
	}
}
