package settings

import (
	"bytes"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"devlxd/registry"
	"devlxd/server"
)

var update = flag.Bool("update", false, "write packaging/config.yaml anew")

// examplePath is the default file as packages ship it.
const examplePath = "../../packaging/config.yaml"

// written is a configuration file.
func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// resolved is what a file alone gives.
func resolved(t *testing.T, path string) (Values, *Config) {
	t.Helper()
	f, err := Read(path, false)
	if err != nil {
		t.Fatal(err)
	}
	values, c, err := Resolve(Input{File: f})
	if err != nil {
		t.Fatal(err)
	}
	return values, c
}

// TestFile: each mistake in a file is told with its line and what to do, all of them at once.
func TestFile(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"comments alone", "# a\n\n#dialect: lxd\n", ""},
		{"an empty document", "---\n", ""},
		{"a section that is commented out", "limits:\n#  images: 3\nlog:\n", ""},
		{"all kinds", "dialect: lxd\nmetrics: {address: off, per-container: 5}\ndiscover:\n  - lxc\n  - podman\nlimits:\n  images: 3\n  requests: unlimited\n", ""},
		{"quoted", "\"dialect\": 'lxd'\nlimits: {\"images\": \"unlimited\"}\n", ""},
		{"an unknown key", "a: 1\n", `F:1: unknown key "a": there are run-dir, state-dir, metrics, dialect, identity-proof, privileges, discover, source, loops, limits, log`},
		{"a key that is near", "\ndialekt: lxd\n", `F:2: unknown key "dialekt": perhaps dialect`},
		{"a section that is near", "limit:\n  images: 3\n", `F:1: unknown key "limit": perhaps limits`},
		{"a key in a section that is near", "limits:\n  image: 3\n", `F:2: unknown key "limits.image": perhaps limits.images`},
		{"underscores", "run_dir: /a\nmetrics:\n  per_container: 3\n", ""},
		{"a key in both spellings", "run-dir: /a\nrun_dir: /b\n", `F:2: run-dir is given twice: give it once`},
		{"a flag for a key", "log-level: debug\n", `F:1: unknown key "log-level": perhaps log.level`},
		{"a dotted key", "log.level: debug\n", `F:1: unknown key "log.level": write log: {level: ...}`},
		{"a key out of its section", "connections: 5\n", `F:1: unknown key "connections": perhaps limits.connections`},
		{"an unknown key of a section", "log:\n  zebra-crossing: 1\n", `F:2: unknown key "log.zebra-crossing": in log there are level, format`},
		{"a value of no kind", "dialect: klingon\n", `F:1: dialect: unknown dialect "klingon": use document, lxd or incus`},
		{"a number for a text", "run-dir: 5\n", `F:1: run-dir: has to be text: put it in quotes`},
		{"a mapping for a text", "dialect:\n  lxd: true\n", `F:1: dialect: has to be text: put it in quotes`},
		{"no value", "dialect:\n", `F:1: dialect: has no value: give one, or put # before the line`},
		{"an empty value", "run-dir: ''\n", `F:1: run-dir is empty: give a directory`},
		{"a text for a number", "loops: many\n", `F:1: loops: has to be a whole number, in plain decimal digits`},
		{"a number out of range", "loops: -1\n", `F:1: loops: "-1" is no whole number from 0 to 1024: give one`},
		{"an octal number", "loops: 010\n", `F:1: loops: has to be a whole number, in plain decimal digits`},
		{"a hexadecimal number", "loops: 0x10\n", `F:1: loops: has to be a whole number, in plain decimal digits`},
		{"underscores in a number", "limits:\n  requests: 1_000\n", `F:2: limits.requests: has to be a whole number, in plain decimal digits, or unlimited`},
		{"a fraction", "limits:\n  requests: 1.5\n", `F:2: limits.requests: has to be a whole number, in plain decimal digits, or unlimited`},
		{"a quota of zero", "limits:\n  images: 0\n", `F:2: limits.images: limit is malformed: use a whole number from 1 to 1000000000, or unlimited`},
		{"a word for a quota", "limits:\n  images: many\n", `F:2: limits.images: limit is malformed: use a whole number from 1 to 1000000000, or unlimited`},
		{"true for a number", "loops: true\n", `F:1: loops: has to be a whole number, in plain decimal digits`},
		{"a word for a list", "discover: lxc\n", `F:1: discover: has to be a list of words: write [A, B]`},
		{"commas in a list", "discover: ['lxc,podman']\n", `F:1: discover: has to be a list of words: write [A, B]`},
		{"an unknown word in a list", "discover: [lxc, docker]\n", `F:1: discover: unknown runtime "docker": use lxc, nspawn and podman, with commas between them`},
		{"a value for a section", "metrics: off\n", `F:1: metrics has keys of its own, not a value: write it as metrics:   address: ...`},
		{"a list for the file", "- dialect\n", `F:1: the file is not made of keys and values: write KEY: VALUE`},
		{"a word for the file", "dialect\n", `F:1: the file is not made of keys and values: write KEY: VALUE`},
		{"an alias", "state-dir: &a /a\nrun-dir: *a\n", `F:1: state-dir: anchors, aliases and tags are not understood: write the value itself; F:2: run-dir: anchors, aliases and tags are not understood: write the value itself`},
		{"a tag", "loops: !!int 3\n", `F:1: loops: anchors, aliases and tags are not understood: write the value itself`},
		{"two documents", "dialect: lxd\n---\ndialect: incus\n", `F:3: a second document: put everything into one, without ---`},
		{"two mistakes", "dialect: lxd\nlops: 3\nlog:\n  level: loud\n", `F:2: unknown key "lops": perhaps loops; F:4: log.level: unknown level "loud": use debug, info, warn or error`},
		{"a key twice", "dialect: lxd\nloops: 3\ndialect: incus\n", `F:3: not YAML: <any>`},
		{"a section twice", "log: {level: info}\nlog: {level: warn}\n", `F:2: not YAML: <any>`},
		{"no YAML", "dialect: [\n", `F:1: not YAML: <any>`},
		{"a tab", "log:\n\tlevel: info\n", `F:<any>: not YAML: <any>`},
		{"control bytes", "dialect: \"\x1b[31m\\n\"\n", `F:1: <any>`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := written(t, tt.text)
			_, err := Read(path, false)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("it is taken")
			}
			got := strings.ReplaceAll(err.Error(), path, "F")
			pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(tt.want), "<any>", ".*") + "$"
			if !errors.As(err, new(*FileError)) || !regexp.MustCompile(pattern).MatchString(got) {
				t.Errorf("%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// TestReadFile: a file that cannot be read is refused, without a wait; one that nobody named may be missing.
func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	if f, err := Read(filepath.Join(dir, "none"), true); f != nil || err != nil {
		t.Errorf("a missing default file: %v, %v", f, err)
	}
	large := written(t, "#"+strings.Repeat("x", maxFile))
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file", dir: "not a regular file", "/dev/zero": "not a regular file", large: "too large",
	} {
		var e *FileError
		if _, err := Read(path, false); !errors.As(err, &e) || !strings.HasPrefix(err.Error(), path+": "+want) {
			t.Errorf("%s: %v; want %s", path, err, want)
		}
	}
}

// TestPrecedence: of each setting, and of each quota by itself, the flag counts, or else the variable, the file, the default.
func TestPrecedence(t *testing.T) {
	path := written(t, "dialect: lxd\nloops: 3\nlimits:\n  images: 7\n  bytes: 8\n  requests: 9\n")
	f, err := Read(path, false)
	if err != nil {
		t.Fatal(err)
	}
	lookup := func(m map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) {
			text, ok := m[name]
			return text, ok
		}
	}
	values, c, err := Resolve(Input{
		File: f,
		Env:  lookup(map[string]string{"DEVLXD_DIALECT": "incus", "DEVLXD_LOOPS": "", "DEVLXD_LIMITS": "images=2,bytes=unlimited", "DEVLXD_LOG_LEVEL": "warn"}),
		Flag: lookup(map[string]string{"limits": "images=1", "log-level": "error", "metrics-per-container": "20"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string][2]string{
		"dialect": {"incus", "environment DEVLXD_DIALECT"}, "loops": {"3", path + ":2"}, "limits.images": {"1", "flag --limits"},
		"limits.bytes": {"unlimited", "environment DEVLXD_LIMITS"}, "limits.requests": {"9", path + ":6"}, "limits.connections": {"256", "default"},
		"log.level": {"error", "flag --log-level"}, "source": {"store", "default"},
	} {
		if v := values.Get(key); v.Text != want[0] || v.Origin != want[1] {
			t.Errorf("%s is %s of %s; want %v", key, v.Text, v.Origin, want)
		}
	}
	if c.Dialect != server.DialectIncus || c.PerContainer != 20 || c.Limits[registry.LimitBytes] != registry.Unlimited || c.Limits[registry.LimitImages] != 1 {
		t.Errorf("config %+v", c)
	}
}

// TestWrongInput: a flag or variable that is wrong is named, also where its part is not the one in use.
func TestWrongInput(t *testing.T) {
	for _, tt := range []struct{ flag, env, text, want string }{
		{flag: "dialect", text: "klingon", want: `--dialect: unknown dialect "klingon": use document, lxd or incus`},
		{env: "DEVLXD_DIALECT", text: "klingon", want: `DEVLXD_DIALECT: unknown dialect "klingon": use document, lxd or incus`},
		{flag: "limits", text: "cpu=3", want: `--limits: unknown quota: give QUOTA=VALUE,... and use connections, subscribers, requests, bytes or images: "cpu"`},
		{env: "DEVLXD_LIMITS", text: "images=0", want: `DEVLXD_LIMITS: images: limit is malformed: use a whole number from 1 to 1000000000, or unlimited`},
		{flag: "metrics", text: "9778", want: "--metrics: address 9778: missing port in address: give HOST:PORT or off"},
		{flag: "run-dir", text: "", want: "--run-dir is empty: give a directory"},
		{flag: "metrics-per-container", text: "-1", want: `--metrics-per-container: "-1" is no whole number from 0 to 10000: give one`},
	} {
		one := func(name string) func(string) (string, bool) {
			return func(n string) (string, bool) { return tt.text, n == name && name != "" }
		}
		if _, _, err := Resolve(Input{Flag: one(tt.flag), Env: one(tt.env)}); err == nil || err.Error() != tt.want {
			t.Errorf("%s%s %q: %v\nwant %s", tt.flag, tt.env, tt.text, err, tt.want)
		}
	}
	_, _, err := Resolve(Input{Flag: func(name string) (string, bool) {
		text, ok := map[string]string{"discover": "lxc", "source": "lxd"}[name]
		return text, ok
	}})
	if err == nil || !strings.Contains(err.Error(), "discover (flag --discover) and source (flag --source) exclude each other") {
		t.Errorf("discover and a mirror: %v", err)
	}
}

// TestYesAndNo: the file may say true for the usual number, and keys with the underscores of Prometheus.
func TestYesAndNo(t *testing.T) {
	for text, want := range map[string]int{"true": 20, "false": 0, "7": 7} {
		if _, c := resolved(t, written(t, "metrics:\n  per_container: "+text+"\n")); c.PerContainer != want {
			t.Errorf("%s: %d containers, want %d", text, c.PerContainer, want)
		}
	}
}

// TestWarnings: what is given and has no effect is told.
func TestWarnings(t *testing.T) {
	values, _ := resolved(t, written(t, "metrics:\n  address: off\n  per-container: 5\n"))
	got := Warnings(values, []string{"DEVLXD_DIALCT=lxd", "DEVLXD_OTHER=1", "DEVLXD_LOOPS=", "PATH=/", "DEVLXD_SOURCE=store", "DEVLXD_QUITE_SOMETHING_ELSE=1"},
		func(name string) bool { return name == "DEVLXD_OTHER" })
	want := []string{
		"environment DEVLXD_DIALCT is no setting: perhaps DEVLXD_DIALECT", "environment DEVLXD_LOOPS is empty, which is as if it was not there",
		"environment DEVLXD_QUITE_SOMETHING_ELSE is no setting",
		"metrics.per-container (" + values.Get("metrics.per-container").Origin + ") shows on the admin socket alone, as metrics.address is off",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// TestTable: the table is whole: each key, flag and variable is there once, but for parts; each default is valid, and one of the choices.
func TestTable(t *testing.T) {
	if _, _, err := Resolve(Input{}); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	keys, flags := make(map[string]bool), make(map[string]bool)
	for _, s := range All() {
		if keys[s.Key] || flags[s.Flag] && s.Part == "" {
			t.Errorf("%s is there twice", s.Key)
		}
		keys[s.Key], flags[s.Flag] = true, true
		if want := "DEVLXD_" + strings.ToUpper(strings.ReplaceAll(s.Flag, "-", "_")); s.Env != want {
			t.Errorf("%s has the variable %s; want %s", s.Key, s.Env, want)
		}
		if s.Usage == "" || strings.Count(s.Key, ".") > 1 || s.Kind == KindNumber && s.Unit == "" {
			t.Errorf("%s lacks something", s.Key)
		}
		if len(s.Choices) > 0 && !strings.Contains(" "+strings.Join(s.Choices, " ")+" ", " "+s.Default+" ") {
			t.Errorf("%s: the default %q is none of %q", s.Key, s.Default, s.Choices)
		}
		for _, choice := range s.Choices {
			if err := s.set(new(Config), choice); err != nil {
				t.Errorf("%s: %v", s.Key, err)
			}
		}
	}
}

// TestExample: the file that packages ship is the table's, means nothing as it is, and the defaults with every key in effect.
func TestExample(t *testing.T) {
	if *update {
		if err := os.WriteFile(examplePath, []byte(Example()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != Example() {
		t.Fatalf("%s is not what the table makes (-update writes it anew)", examplePath)
	}
	_, defaults, err := Resolve(Input{})
	if err != nil {
		t.Fatal(err)
	}
	values, c := resolved(t, examplePath)
	for _, v := range values {
		if v.From != FromDefault {
			t.Errorf("%s is %s of %s", v.Setting.Key, v.Text, v.Origin)
		}
	}
	if !reflect.DeepEqual(c, defaults) {
		t.Errorf("as shipped %+v\nwant %+v", c, defaults)
	}
	// A key is behind its #, prose behind one and a space.
	text := regexp.MustCompile(`(?m)^#((?:  )?[a-z])`).ReplaceAllString(string(data), "$1")
	values, c = resolved(t, written(t, text))
	for _, v := range values {
		if v.From != FromFile {
			t.Errorf("%s is not in the file", v.Setting.Key)
		}
	}
	if !reflect.DeepEqual(c, defaults) {
		t.Errorf("with every key in effect %+v\nwant %+v", c, defaults)
	}
}

// TestAnyText: no text panics or hangs, what is refused has lines that exist, and what is taken is not refused later.
func TestAnyText(t *testing.T) {
	seeds := []string{
		strings.ReplaceAll(Example(), "\n#", "\n"), "dialect: lxd\nlimits: {images: 3}\n", "a: &a [*a]\n", "<<: {dialect: lxd}\n", "? [a]\n: b\n", "- - -\n", "|\n x",
	}
	const alphabet = "\x00\t\n :-[]{}&*!|>'\"#,?\xffa0"
	random := rand.New(rand.NewPCG(1, 2))
	for _, seed := range seeds {
		for range 300 {
			data := []byte(seed)[:random.IntN(len(seed)+1)]
			for range random.IntN(4) {
				if len(data) > 0 {
					data[random.IntN(len(data))] = alphabet[random.IntN(len(alphabet))]
				}
			}
			file, err := parse("F", data)
			if err == nil {
				if _, _, err := Resolve(Input{File: file}); err != nil && !strings.Contains(err.Error(), "exclude each other") {
					t.Errorf("taken, and then refused: %v\n%q", err, data)
				}
				continue
			}
			var e *FileError
			if !errors.As(err, &e) || len(e.Problems) == 0 || len(e.Problems) > maxProblems {
				t.Fatalf("refused with %v", err)
			}
			for _, p := range e.Problems {
				if p.Line < 0 || p.Line > bytes.Count(data, []byte("\n"))+2 {
					t.Errorf("line %d of %q", p.Line, data)
				}
			}
		}
	}
}
