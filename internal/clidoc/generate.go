package clidoc

import (
	"bytes"
	"path"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// Folders of the files, from the root of the project.
const (
	manDir        = "packaging/man"
	completionDir = "packaging/completions"
	markdownDir   = "docs/cli"
)

// Reference is what is made of the commands of one program.
type Reference struct {
	// Root makes the program's commands. It is called more than once, since a generator changes what it is given.
	Root func() *cobra.Command
	// Daemon is the path of the command that is a daemon, as in "devlxd serve", and has its page in section 8; "" for none.
	Daemon string
}

// Generate returns contents by the path from the root of the project.
func (r Reference) Generate() (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, generate := range []func(map[string][]byte) error{r.man, r.completions, r.markdown} {
		if err := generate(files); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// commands are the root and all below it that have a page, parents first.
func (r Reference) commands() []*cobra.Command {
	root := r.Root()
	root.DisableAutoGenTag = true // it has the day on which it was made
	for _, sub := range root.Commands() {
		if sub.Name() == "help" || sub.Name() == "completion" { // cobra's own, which every program has
			root.RemoveCommand(sub)
		}
	}
	var walk func(*cobra.Command) []*cobra.Command
	walk = func(c *cobra.Command) []*cobra.Command {
		list := []*cobra.Command{c}
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				list = append(list, walk(sub)...)
			}
		}
		return list
	}
	return walk(root)
}

// heading is the line of a man page that has its date, which is left to whoever packages it.
var heading = regexp.MustCompile(`(?m)^\.TH .*$`)

// option is a flag of a page and the tab before its usage, which only monospaced output shows as an indent.
var option = regexp.MustCompile(`(?m)^(?:\.PP\n)?(\\fB-.*)\n\t`)

// plain keeps what is a mark of Markdown from being one: cobra takes all texts to be Markdown, and ours are not.
var plain = strings.NewReplacer(`[`, `\[`, `<`, `\<`, `*`, `\*`, "`", "\\`")

// man makes a page for each command.
func (r Reference) man(files map[string][]byte) error {
	for _, c := range r.commands() {
		name, section := strings.ReplaceAll(c.CommandPath(), " ", "-"), "1"
		if c.CommandPath() == r.Daemon {
			section = "8"
		}
		c.Long = plain.Replace(c.Long)
		for _, flags := range []*pflag.FlagSet{c.LocalFlags(), c.InheritedFlags()} {
			flags.VisitAll(func(f *pflag.Flag) {
				if !strings.Contains(f.Usage, `\`) { // an inherited one is visited once for each command
					f.Usage = plain.Replace(f.Usage)
				}
			})
		}
		var b bytes.Buffer
		if err := doc.GenMan(c, &doc.GenManHeader{Section: section}, &b); err != nil {
			return err
		}
		th := `.TH "` + strings.ToUpper(name) + `" "` + section + `" "" "` + c.Root().Name() + `" ""`
		text := heading.ReplaceAllLiteralString(b.String(), th)
		// Without a date the comment in front is the only thing that changes from one run to the next; nothing is lost with it.
		text = option.ReplaceAllString(text[strings.Index(text, th):], ".TP\n$1\n")
		files[path.Join(manDir, name+"."+section)] = []byte(r.sections(text, c))
	}
	return nil
}

// sections corrects the references of a page: cobra takes all pages to be of the section of this one.
func (r Reference) sections(text string, c *cobra.Command) string {
	if r.Daemon == "" {
		return text
	}
	if c.CommandPath() == r.Daemon {
		parent := strings.ReplaceAll(c.Parent().CommandPath(), " ", "-")
		return strings.ReplaceAll(text, `\fB`+parent+`(8)\fP`, `\fB`+parent+`(1)\fP`)
	}
	daemon := strings.ReplaceAll(r.Daemon, " ", "-")
	return strings.ReplaceAll(text, `\fB`+daemon+`(1)\fP`, `\fB`+daemon+`(8)\fP`)
}

// completions makes a script for each shell, which asks the program itself.
func (r Reference) completions(files map[string][]byte) error {
	root := r.Root()
	name := root.Name()
	var bash, zsh, fish bytes.Buffer
	if err := root.GenBashCompletionV2(&bash, true); err != nil {
		return err
	}
	if err := root.GenZshCompletion(&zsh); err != nil {
		return err
	}
	if err := root.GenFishCompletion(&fish, true); err != nil {
		return err
	}
	for file, b := range map[string]*bytes.Buffer{name + ".bash": &bash, "_" + name: &zsh, name + ".fish": &fish} {
		files[path.Join(completionDir, file)] = b.Bytes()
	}
	return nil
}

// markdown makes one page of all commands, with links between its sections.
func (r Reference) markdown(files map[string][]byte) error {
	var b bytes.Buffer
	list := r.commands()
	b.WriteString("# " + list[0].Name() + "\n\n")
	link := func(file string) string {
		return "#" + strings.ReplaceAll(strings.TrimSuffix(file, ".md"), "_", "-")
	}
	for i, c := range list {
		if i > 0 {
			b.WriteString("\n")
		}
		if err := doc.GenMarkdownCustom(c, &b, link); err != nil {
			return err
		}
	}
	files[path.Join(markdownDir, list[0].Name()+".md")] = append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
	return nil
}
