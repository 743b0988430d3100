package cloudinit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// FuzzMerge: whatever seed data and keys there are, what comes out is a cloud-config that says the same but for its users, and
// has each key under its user, or the data is left alone with a reason.
func FuzzMerge(f *testing.F) {
	for _, data := range []string{
		"", "#cloud-config", cc + "x: 1\n", cc + "users: [joe]\nx: 1\n", cc + "users:\n  - name: root\n    ssh_import_id: [gh:a]\n# end\nx: {y: 0644}\n",
		cc + "b: &b {users: [joe], x: 1}\n<<: *b\n", cc + "users: &u [joe]\nx: *u\n", cc + "{\"users\": [{\"name\": \"root\"}], \"n\": null}",
		"## template: jinja\n" + cc + "x: {{ y }}\n", cc + "---\nx: |\n  a\n\n  b\n...\n", "#!/bin/sh\n", cc + "users: ''\r\nx: on\r\n",
	} {
		f.Add(data, gh)
		f.Add(data, pub)
	}
	f.Fuzz(func(t *testing.T, data, sshKey string) {
		const key = "user.vendor-data"
		watchdog := time.AfterFunc(10*time.Second, func() { panic(fmt.Sprintf("no end with %q, %q", data, sshKey)) })
		defer watchdog.Stop()
		for _, r := range Merge(func(k string) string { return map[string]string{key: data}[k] }, []string{sshKey}) {
			if r.Err != nil && (r.Value != "" || strings.ContainsRune(r.Err.Error(), '\n')) {
				t.Fatalf("%s = %q with error %q", r.Key, r.Value, r.Err)
			}
			if r.Key == key && r.Value != "" {
				checkMerged(t, data, sshKey, r.Value)
			}
		}
	})
}

func checkMerged(t *testing.T, data, sshKey, merged string) {
	if !isCloudConfig(merged) {
		t.Fatalf("no header:\n%s", merged)
	}
	doc, err := load(merged)
	if err != nil || doc == nil {
		t.Fatalf("%v:\n%s", err, merged)
	}
	name, text, _ := strings.Cut(strings.TrimRight(sshKey, "\r\n"), ":")
	fields := importIDFields
	if strings.Contains(text, " ") {
		fields = publicKeyFields
	}
	for _, field := range fields {
		if !hasKey(doc, name, field, text) {
			t.Errorf("%s of user %q has no %q:\n%s", field, name, text, merged)
		}
	}
	before, err := load(data)
	if err != nil || before == nil || before.Kind != yaml.MappingNode || hasMergeKey(before) {
		return
	}
	for i := 0; i+1 < len(before.Content); i += 2 {
		if k := before.Content[i]; k.Kind == yaml.ScalarNode && k.Value != "users" && k.Anchor == "" && k.ShortTag() == "!!str" {
			want, err := expand(get(before, k.Value))
			if err != nil {
				continue
			}
			got := get(doc, k.Value)
			if got == nil {
				t.Fatalf("%q is gone:\n%s", k.Value, merged)
			}
			if got, err = expand(got); err != nil || !same(got, want) {
				t.Errorf("%q has changed (%v):\n%s", k.Value, err, merged)
			}
		}
	}
}

func hasKey(doc *yaml.Node, name, field, text string) bool {
	users := get(doc, "users")
	if users == nil {
		return false
	}
	for _, user := range users.Content {
		if user.Kind != yaml.MappingNode {
			continue
		}
		n, list := get(user, "name"), get(user, field)
		if n == nil || !isText(n, name) || list == nil {
			continue
		}
		for _, item := range list.Content {
			if resolve(item).Value == text {
				return true
			}
		}
	}
	return false
}
