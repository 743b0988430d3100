// Package markdown reads the documents of the project for the tests that run
// what they say: the commands in their code blocks, their links, and the names in
// their text.
//
// # What is a command
//
//   - A fenced block "sh" is a script, which must end with 0.
//   - A fenced block "console" has commands after "$ ", lines that go on with one after
//     "> ", and between them what they print. "..." stands for any text within a line,
//     and alone on a line for any lines. A command must end with 0, unless the next one
//     is "echo $?". "web$ " in place of "$ " is a shell inside of the container web.
//   - Any other language is text. A block without one, and an indented block, is a
//     fault: nobody knows whether it can be run.
//
// # What a reader does not see
//
//   - <!-- run: COMMAND --> is a script that is run at this place: what a reader has
//     already, such as a container.
//   - <!-- not run: REASON --> keeps the block that follows from being run.
package markdown
