package cloudinit

import (
	"errors"
	"strconv"
	"strings"
	"testing"
)

// The texts that the tests share.
const (
	gh  = "root:gh:me"
	pub = "bob:ssh-ed25519 AAAA bob@host"

	// root is what gh adds to a document without users.
	root = "users:\n- name: root\n  ssh-import-id:\n  - gh:me #lxd:cloud-init.ssh-keys\n" +
		"  ssh_import_id:\n  - gh:me #lxd:cloud-init.ssh-keys\n"
	cc = "#cloud-config\n"
)

// merge returns the Results by key.
func merge(t *testing.T, config map[string]string, sshKeys ...string) map[string]Result {
	t.Helper()
	results := Merge(func(key string) string { return config[key] }, sshKeys)
	if len(results) != 4 {
		t.Fatalf("Merge gave %d results; want 4: %v", len(results), results)
	}
	byKey := make(map[string]Result)
	for _, r := range results {
		byKey[r.Key] = r
	}
	return byKey
}

// TestMergeText: the exact text that each document becomes.
func TestMergeText(t *testing.T) {
	for _, tt := range []struct{ name, data, sshKey, want string }{
		{"absent", "", gh, cc + root},
		{"header only", "#cloud-config", gh, cc + root},
		{"comments only", cc + "# nothing yet\n", gh, cc + "# nothing yet\n" + root},
		{"empty document", cc + "---\n", gh, cc + "---\n" + root},
		{"null", cc + "null\n", gh, cc + root},
		{"empty mapping", cc + "{}\n", gh, cc + root},
		{"public key", "", pub, cc + "users:\n- name: bob\n  ssh-authorized-keys:\n  - ssh-ed25519 AAAA bob@host #lxd:cloud-init.ssh-keys\n" +
			"  ssh_authorized_keys:\n  - ssh-ed25519 AAAA bob@host #lxd:cloud-init.ssh-keys\n"},
		{"without users", cc + "# why\npackages: [ curl ]   # short\nx:   yes\n", gh, cc + "# why\npackages: [ curl ]   # short\nx:   yes\n" + root},
		{"without newline", cc + "x: 0644", gh, cc + "x: 0644\n" + root},
		{"CRLF", cc + "x: 1\r\n", gh, cc + "x: 1\r\n" + root},
		{"jinja", "## template: jinja\n#cloud-config\nruncmd:\n  - echo {{ ds[\"x\"] }}\nhost: {{ v1.name }}\n", gh,
			"## template: jinja\n#cloud-config\nruncmd:\n  - echo {{ ds[\"x\"] }}\nhost: {{ v1.name }}\n" + root},
		{"header on the second line", "\n" + cc + "x: 1\n", gh, "\n" + cc + "x: 1\n" + root},
		{"other user", cc + "users:\n  - default\n  - name: joe\n    shell: /bin/sh\n\n# about x\nx: 1\n", gh,
			cc + "users:\n- default\n- name: joe\n  shell: /bin/sh\n" + root[len("users:\n"):] + "\n# about x\nx: 1\n"},
		{"bare name", cc + "users: [default, root]\n", gh, cc + "users:\n- default\n" + root[len("users:\n"):]},
		{"users as text", cc + "users: joe\n", gh, cc + "users:\n- joe\n" + root[len("users:\n"):]},
		{"users as empty text", cc + "users: ''\n", gh, cc + "users:\n- ''\n" + root[len("users:\n"):]},
		{"empty list", cc + "users: []\nx: 1\n", gh, cc + root + "x: 1\n"},
		{"last of two users", cc + "users: 5\nusers: []\n", gh, cc + "users: 5\n" + root},
		{"both spellings", cc + "users:\n- name: root\n  ssh_import_id: [gh:a]\n  ssh-import-id: [gh:b]\n", gh,
			cc + "users:\n- name: root\n  ssh_import_id:\n  - gh:a\n  - gh:me #lxd:cloud-init.ssh-keys\n  ssh-import-id:\n  - gh:b\n  - gh:me #lxd:cloud-init.ssh-keys\n"},
		{"one spelling, as text", cc + "users:\n- name: root\n  ssh-import-id: gh:a\n", gh,
			cc + "users:\n- name: root\n  ssh-import-id:\n  - gh:a\n  - gh:me #lxd:cloud-init.ssh-keys\n  ssh_import_id:\n  - gh:a\n  - gh:me #lxd:cloud-init.ssh-keys\n"},
		{"there already", cc + "users:\n- name: root\n  ssh_import_id: [gh:me]\n", gh,
			cc + "users:\n- name: root\n  ssh_import_id:\n  - gh:me\n  ssh-import-id:\n  - gh:me\n"},
		{"quoted name", cc + "users:\n- name: 'root'\n  passwd: \"1e3\"\n  uid: \"0\"\n", gh,
			cc + "users:\n- name: 'root'\n  passwd: \"1e3\"\n  uid: \"0\"\n" + root[len("users:\n- name: root\n"):]},
		{"entry without name", cc + "users:\n- {shell: /bin/sh}\n", gh, cc + "users:\n- {shell: /bin/sh}\n" + root[len("users:\n"):]},
		{"null item of an entry", cc + "users:\n- {name: root, x}\n", gh, cc + "users:\n- name: root\n  x: null\n" + root[len("users:\n- name: root\n"):]},
		{"text that YAML 1.1 reads otherwise", "", "yes:on", cc + "users:\n- name: \"yes\"\n  ssh-import-id:\n  - \"on\" #lxd:cloud-init.ssh-keys\n" +
			"  ssh_import_id:\n  - \"on\" #lxd:cloud-init.ssh-keys\n"},
		{"text that needs quotes", "", "a b:k: \"#1\"", cc + "users:\n- name: a b\n  ssh-authorized-keys:\n  - \"k: \\\"#1\\\"\" #lxd:cloud-init.ssh-keys\n" +
			"  ssh_authorized_keys:\n  - \"k: \\\"#1\\\"\" #lxd:cloud-init.ssh-keys\n"},
		{"newline of a file", "", gh + "\n", cc + root},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, key := range []string{"cloud-init.user-data", "user.user-data", "cloud-init.vendor-data", "user.vendor-data"} {
				got := merge(t, map[string]string{key: tt.data}, tt.sshKey)[key]
				if got.Value != tt.want || got.Err != nil {
					t.Errorf("%s = %v\n%s\nwant\n%s", key, got.Err, got.Value, tt.want)
				}
			}
		})
	}
}

// TestMergeRewrites: documents whose lines cannot be kept.
func TestMergeRewrites(t *testing.T) {
	for _, tt := range []struct{ name, data, want string }{
		{"JSON", cc + `{"packages": ["curl"], "users": [{"name": "root", "shell": "/bin/sh"}], "n": null}`,
			cc + "\"packages\": [\"curl\"]\n\"users\":\n- \"name\": \"root\"\n  \"shell\": \"/bin/sh\"\n" + root[len("users:\n- name: root\n"):] + "\"n\": null\n"},
		{"indented", cc + "  x: yes\n  y: '0644'\n", cc + "x: yes\ny: '0644'\n" + root},
		{"literal without newline", cc + "a:\n- c: |\n    foo", cc + "a:\n- c: |-\n    foo\n" + root},
		{"alias of users", cc + "users: &u [joe]\nx: *u\n", cc + "users:\n- joe\n" + root[len("users:\n"):] + "x: [joe]\n"},
		{"merge key", cc + "b: &b {users: [joe], x: 1, y: 2}\n<<: *b\nx: 3\n",
			cc + "b: {users: [joe], x: 1, y: 2}\nx: 3\nusers:\n- joe\n" + root[len("users:\n"):] + "y: 2\n"},
		{"merge keys", cc + "a: &a {x: 1}\nb: &b {x: 2, y: 2}\n<<: [*a, *b]\nz: 3\n",
			cc + "a: {x: 1}\nb: {x: 2, y: 2}\nz: 3\nx: 1\ny: 2\n" + root},
		{"end marker", cc + "---\nx: 1\n...\n", cc + "x: 1\n" + root},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := merge(t, map[string]string{"user.user-data": tt.data}, gh)["user.user-data"]
			if got.Value != tt.want || got.Err != nil {
				t.Errorf("%v\n%s\nwant\n%s", got.Err, got.Value, tt.want)
			}
		})
	}
}

// TestAddedKeysStayWithTheirUser: an anchor on the list of one user does not
// hand the keys to another.
func TestAddedKeysStayWithTheirUser(t *testing.T) {
	data := cc + "users:\n- name: root\n  ssh_import_id: &k [gh:a]\n- name: joe\n  ssh_import_id: *k\n- &base {shell: /bin/sh}\n- {<<: *base, name: ann}\n"
	want := cc + "users:\n- name: root\n  ssh_import_id:\n  - gh:a\n  - gh:me #lxd:cloud-init.ssh-keys\n" +
		"  ssh-import-id:\n  - gh:a\n  - gh:me #lxd:cloud-init.ssh-keys\n" +
		"- name: joe\n  ssh_import_id: ['gh:a']\n- {shell: /bin/sh}\n- {name: ann, shell: /bin/sh}\n"
	if got := merge(t, map[string]string{"user.user-data": data}, gh)["user.user-data"]; got.Value != want || got.Err != nil {
		t.Errorf("%v\n%s\nwant\n%s", got.Err, got.Value, want)
	}
}

func TestSeveralKeys(t *testing.T) {
	want := cc + "users:\n- name: bob\n  ssh-authorized-keys:\n  - ssh-ed25519 AAAA bob@host #lxd:cloud-init.ssh-keys\n" +
		"  ssh_authorized_keys:\n  - ssh-ed25519 AAAA bob@host #lxd:cloud-init.ssh-keys\n" +
		"  ssh-import-id:\n  - gh:b #lxd:cloud-init.ssh-keys\n  - lp:b #lxd:cloud-init.ssh-keys\n" +
		"  ssh_import_id:\n  - gh:b #lxd:cloud-init.ssh-keys\n  - lp:b #lxd:cloud-init.ssh-keys\n" +
		root[len("users:\n"):]
	got := merge(t, nil, "bob:gh:b", "none", gh, pub, "", "bob:lp:b", gh, ":gh:x", "joe:", "bob:gh:b\n")
	if got["cloud-init.user-data"].Value != want {
		t.Errorf("\n%s\nwant\n%s", got["cloud-init.user-data"].Value, want)
	}
	for _, sshKeys := range [][]string{nil, {"none"}, {"", ":", "joe:", ":gh:x", "joe:\n"}} {
		if got := Merge(func(string) string { return cc + "x: 1\n" }, sshKeys); got != nil {
			t.Errorf("Merge with %q = %v; want nothing to do", sshKeys, got)
		}
	}
}

// TestUserDataYields: user-data without users is left alone where it would hide
// those of the vendor-data that cloud-init reads.
func TestUserDataYields(t *testing.T) {
	const none, some, script = cc + "x: 1\n", cc + "users: [joe]\n", "#!/bin/sh\n"
	for _, tt := range []struct {
		name, vendor, oldVendor, user string
		merged                        bool
	}{
		{"vendor-data with users", some, "", none, false},
		{"vendor-data with users, no user-data", some, "", "", false},
		{"both with users", some, "", some, true},
		{"empty list is users", cc + "users: []\n", "", none, false},
		{"users of a wrong shape are users", cc + "users: 5\n", "", none, false},
		{"null is users", cc + "users:\n", "", none, false},
		{"empty text is no users", cc + "users: ''\n", "", none, true},
		{"empty text in user-data", some, "", cc + "users: ''\n", false},
		{"vendor-data without users", none, "", none, true},
		{"no vendor-data", "", "", none, true},
		{"unreadable vendor-data", script, "", none, true},
		{"old vendor-data with users", "", some, none, false},
		{"new vendor-data goes first", none, some, none, true},
		{"new vendor-data with users goes first", some, none, none, false},
		{"new vendor-data goes first, unreadable", script, some, none, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, key := range UserDataKeys {
				got := merge(t, map[string]string{"cloud-init.vendor-data": tt.vendor, "user.vendor-data": tt.oldVendor, key: tt.user}, gh)[key]
				if merged := got.Value != ""; merged != tt.merged || got.Err != nil {
					t.Errorf("%s merged = %v, %v; want %v", key, merged, got.Err, tt.merged)
				}
			}
		})
	}
	t.Run("the key that is asked for", func(t *testing.T) {
		got := merge(t, map[string]string{"cloud-init.user-data": some, "user.user-data": none}, gh)
		if v := got["user.user-data"].Value; v != none+root {
			t.Errorf("user.user-data =\n%s\nwant its own value with the key", v)
		}
		if v := got["cloud-init.vendor-data"].Value; v != cc+root {
			t.Errorf("vendor-data =\n%s\nwant the key alone", v)
		}
	})
}

// TestLeftAlone: data that is not merged, and why.
func TestLeftAlone(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 40 {
		bomb += strings.NewReplacer("I", strconv.Itoa(i+1), "P", strconv.Itoa(i)).Replace("aI: &aI [*aP, *aP, *aP, *aP, *aP]\n")
	}
	for _, tt := range []struct {
		name, data string
		want       error
	}{
		{"script", "#!/bin/sh\n", ErrFormat},
		{"MIME", "Content-Type: multipart/mixed\n\n#cloud-config\n", ErrFormat},
		{"no header", "users: [joe]\n", ErrFormat},
		{"header too late", "\n\n#cloud-config\nx: 1\n", ErrFormat},
		{"another header", "#cloud-config-archive\n- x\n", ErrFormat},
		{"byte order mark", "\ufeff#cloud-config\nx: 1\n", ErrFormat},
		{"blank", "\n", ErrFormat},
		{"not YAML", cc + "x: y: z\n", ErrSyntax},
		{"unknown alias", cc + "x: *y\n", ErrSyntax},
		{"control character", cc + "x: \"\x01\"\n", ErrSyntax},
		{"not UTF-8", cc + "x: \"caf\xe9\"\n", ErrSyntax},
		{"jinja block", "## template: jinja\n" + cc + "{% if x %}\nx: 1\n{% endif %}\n", ErrSyntax},
		{"list", cc + "- x\n", ErrShape},
		{"text", cc + "x\n", ErrShape},
		{"two documents", cc + "x: 1\n---\ny: 1\n", ErrShape},
		{"users is a mapping", cc + "users: {joe: {}}\n", ErrShape},
		{"users is a number", cc + "users: 5\n", ErrShape},
		{"users is null", cc + "users:\n", ErrShape},
		{"item is a list", cc + "users: [[joe]]\n", ErrShape},
		{"item is a number", cc + "users: [5]\n", ErrShape},
		{"keys of a wrong shape", cc + "users:\n- name: root\n  ssh_import_id: {a: b}\n", ErrShape},
		{"keys are null", cc + "users:\n- name: root\n  ssh-import-id:\n", ErrShape},
		{"merge of no mapping", cc + "<<: [x]\n", ErrShape},
		{"too long", cc + "x: " + strings.Repeat("x", MaxData), ErrTooLarge},
		{"too many nodes", cc + "x: [" + strings.Repeat("x,", maxSeparators) + "]", ErrTooLarge},
		{"too many users", cc + "users: [" + strings.Repeat("x,", maxNodes) + "]", ErrTooLarge},
		{"too deep", cc + "users: " + strings.Repeat("[", 1000) + strings.Repeat("]", 1000), ErrTooLarge},
		{"deeper than the reader goes", cc + "x: " + strings.Repeat("[", 20_000), ErrSyntax},
		{"aliases that multiply", cc + bomb + "users: *a40\n", ErrTooLarge},
		{"aliases of a long text", cc + "x: &x \"" + strings.Repeat("x", 1000) + "\"\nusers: [" + strings.Repeat("*x, ", 2000) + "]\n", ErrTooLarge},
		{"alias of itself", cc + "users: &u [*u, *u]\n", ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := merge(t, map[string]string{"cloud-init.vendor-data": tt.data}, gh)["cloud-init.vendor-data"]
			if got.Value != "" || !errors.Is(got.Err, tt.want) || errors.Is(got.Err, errPanic) {
				t.Errorf("= %.200q, %v; want %v", got.Value, got.Err, tt.want)
			}
			if got.Err != nil && strings.Contains(got.Err.Error(), "\n") {
				t.Errorf("error of several lines: %v", got.Err)
			}
		})
	}
	t.Run("aliases that nobody expands", func(t *testing.T) {
		data := cc + bomb
		if got := merge(t, map[string]string{"user.user-data": data}, gh)["user.user-data"]; got.Value != data+root {
			t.Errorf("%v; want the text as it is with the key", got.Err)
		}
	})
}
