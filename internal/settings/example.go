package settings

import (
	"fmt"
	"strings"
)

// Example is the default configuration file: every key, commented out, with its default, its unit and what it takes to change it. With the
// "#" before each key taken away it says what holds without a file.
func Example() string {
	var b strings.Builder
	b.WriteString(`# Settings of devlxd. 'devlxd check' shows those in effect and where each comes from, and finds mistakes here.
#
# Flags of 'devlxd serve' and variables DEVLXD_* come before what is said here. Each key is shown with its default: take the # at its
# line away, and the one at the line of its section. SIGHUP (systemctl kill -s HUP devlxd) has the file read again, and what can
# change while devlxd runs changes; the rest waits for 'devlxd upgrade' (systemctl reload devlxd), or for a restart where it says so.
# A file with a mistake is refused as a whole, and what held before holds on.
`)
	section := ""
	for _, s := range All() {
		indent := ""
		if s.Section() != "" {
			indent = "  "
		}
		if s.Section() != section || section == "" {
			b.WriteByte('\n')
		}
		if s.Section() != section && s.Section() != "" {
			fmt.Fprintf(&b, "%s#%s:\n", sectionComment(s.Section()), s.Section())
		}
		section = s.Section()
		for _, line := range comment(&s) {
			fmt.Fprintf(&b, "# %s\n", line)
		}
		fmt.Fprintf(&b, "#%s%s: %s\n", indent, s.Name(), yamlDefault(&s))
	}
	return b.String()
}

// sectionComment is what is said of a section.
func sectionComment(section string) string {
	if section == "limits" {
		return "# Quotas of each container whose config has no limits.devlxd.QUOTA.\n"
	}
	return ""
}

// comment is what is said of a setting.
func comment(s *Setting) []string {
	line := strings.ToUpper(s.Usage[:1]) + s.Usage[1:]
	if s.Kind == KindList {
		line = strings.Replace(line, ", with commas", "", 1)
	}
	if s.Unit != "" {
		line += " (" + s.Unit
		if s.Kind == KindLimit {
			line += ", or unlimited"
		}
		line += ")"
	}
	line += "."
	if s.Change == ChangeRestart {
		line += " Needs a restart."
	}
	if s.Change == ChangeLive && s.Section() != "limits" && s.Section() != "log" {
		line += " Changes with SIGHUP."
	}
	lines := []string{line}
	if s.Note != "" {
		lines = append(lines, s.Note)
	}
	return lines
}

// yamlDefault is the default as the file has it.
func yamlDefault(s *Setting) string {
	if s.Kind == KindList {
		return "[" + strings.ReplaceAll(s.Default, ",", ", ") + "]"
	}
	return s.Default
}
