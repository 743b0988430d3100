package wstest

import (
	"bytes"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"devlxd/ws"
)

//go:embed cases/*.txt
var files embed.FS

// Cases reads all cases, in the order of the files' names.
func Cases() ([]Case, error) {
	entries, err := files.ReadDir("cases")
	if err != nil {
		return nil, err
	}
	var all []Case
	for _, e := range entries {
		text, err := files.ReadFile(path.Join("cases", e.Name()))
		if err != nil {
			return nil, err
		}
		cases, err := Parse(e.Name(), string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, cases...)
	}
	return all, nil
}

// Parse reads the cases of one file. An error names the file and the line.
func Parse(file, text string) ([]Case, error) {
	var cases []Case
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		var err error
		switch {
		case trimmed == "" || trimmed[0] == '#':
		case trimmed == strings.TrimRight(line, " \t"):
			id, title, found := strings.Cut(trimmed, " ")
			if !found {
				err = errors.New("a case needs a number and a title")
			}
			cases = append(cases, Case{ID: id, Title: title, File: file, Line: i + 1})
		case len(cases) == 0:
			err = errors.New("a step before the first case")
		default:
			err = cases[len(cases)-1].addLine(trimmed)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
	}
	for i := range cases {
		cases[i].finish()
	}
	return cases, nil
}

// finish repeats the steps, and ends a case in which the server has no reason to close.
func (c *Case) finish() {
	once := c.Steps
	for range c.Times - 1 {
		c.Steps = append(c.Steps, once...)
	}
	for _, s := range c.Steps {
		if s.Kind == Answer && s.Event.Op == ws.OpClose {
			return
		}
	}
	body := binary.BigEndian.AppendUint16(nil, uint16(ws.StatusNormalClosure))
	c.Steps = append(c.Steps,
		Step{Kind: Send, Frame: Frame{Op: ws.OpClose, Fin: true, Payload: body}},
		Step{Kind: Yield, Event: Event{Op: ws.OpClose, Data: body, Code: ws.StatusNormalClosure}},
		Step{Kind: Answer, Event: Event{Op: ws.OpClose, Code: ws.StatusNormalClosure}})
}

// addLine adds one indented line to the case.
func (c *Case) addLine(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "<":
		return c.addFrame(rest)
	case "=":
		return c.addEvent(Yield, rest)
	case ">":
		return c.addEvent(Answer, rest)
	case "max":
		return parseInt(rest, &c.Max)
	case "chop":
		if rest == "frame" {
			c.Chop = ChopFrame
			return nil
		}
		return parseInt(rest, &c.Chop)
	case "times":
		return parseInt(rest, &c.Times)
	}
	return fmt.Errorf("a line must begin with <, =, >, max, chop or times: %q", word)
}

func parseInt(s string, to *int) error {
	n, err := strconv.Atoi(s)
	if err != nil || n <= 0 {
		return fmt.Errorf("not a positive number: %q", s)
	}
	*to = n
	return nil
}

// opByName gives the opcode of a name; "op3" is the reserved opcode 3.
func opByName(name string) (ws.OpCode, error) {
	switch name {
	case "text":
		return ws.OpText, nil
	case "binary":
		return ws.OpBinary, nil
	case "cont", "...":
		return ws.OpContinuation, nil
	case "close":
		return ws.OpClose, nil
	case "ping":
		return ws.OpPing, nil
	case "pong":
		return ws.OpPong, nil
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(name, "op"), 10, 8)
	if err != nil || !strings.HasPrefix(name, "op") || !ws.OpCode(n).IsReserved() {
		return 0, fmt.Errorf("no such opcode: %q", name)
	}
	return ws.OpCode(n), nil
}

func (c *Case) addFrame(line string) error {
	name, rest, _ := strings.Cut(line, " ")
	op, err := opByName(name)
	if err != nil {
		return err
	}
	f := Frame{Op: op, Fin: true, Rest: name == "..."}
	options, payload := splitPayload(rest)
	each := 0
	for i := 0; i < len(options); i++ {
		word, arg := options[i], ""
		if (word == "claims" || word == "each") && i+1 < len(options) {
			i++
			arg = options[i]
		}
		if word == "each" {
			err = parseInt(arg, &each)
		} else {
			err = f.option(word, arg)
		}
		if err != nil {
			return err
		}
	}
	data, err := parsePayload(payload)
	if err != nil {
		return err
	}
	f.Payload = append(f.Payload, data...)
	if each == 0 {
		each = max(len(f.Payload), 1)
	}
	c.addFragments(f, each)
	return nil
}

// addFragments adds f, in fragments of at most size bytes.
func (c *Case) addFragments(f Frame, size int) {
	for len(f.Payload) > size {
		part := f
		part.Fin, part.Payload = false, f.Payload[:size]
		c.Steps = append(c.Steps, Step{Kind: Send, Frame: part})
		f.Op, f.Payload = ws.OpContinuation, f.Payload[size:]
	}
	c.Steps = append(c.Steps, Step{Kind: Send, Frame: f})
}

// option applies one word between opcode and payload.
func (f *Frame) option(word, arg string) (err error) {
	switch {
	case word == "more":
		f.Fin = false
	case word == "bare":
		f.Bare = true
	case word == "in2":
		f.Form = 2
	case word == "in8":
		f.Form = 8
	case word == "claims":
		f.Claimed = true
		f.Claims, err = strconv.ParseUint(arg, 0, 64)
	case len(word) == 4 && word[:3] == "rsv" && word[3] >= '1' && word[3] <= '7':
		f.Rsv = word[3] - '0'
	case f.Op == ws.OpClose:
		f.Payload, err = closeCode(word)
	default:
		err = fmt.Errorf("no such option of a frame: %q", word)
	}
	return err
}

// closeCode is the start of a close frame's body.
func closeCode(word string) ([]byte, error) {
	code, err := strconv.ParseUint(word, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("not a status code: %q", word)
	}
	return binary.BigEndian.AppendUint16(nil, uint16(code)), nil
}

func (c *Case) addEvent(kind Kind, line string) error {
	name, rest, _ := strings.Cut(line, " ")
	op, err := opByName(name)
	if err != nil || op == ws.OpContinuation || op.IsReserved() {
		return fmt.Errorf("no such event: %q", name)
	}
	words, payload := splitPayload(rest)
	data, err := parsePayload(payload)
	if err != nil {
		return err
	}
	e := Event{Op: op, Data: data}
	switch {
	case op != ws.OpClose && len(words) > 0, len(words) > 1:
		return fmt.Errorf("an event has no options: %q", words)
	case op == ws.OpClose && len(words) == 0:
		e.Code = ws.StatusNoStatusRcvd
	case op == ws.OpClose:
		body, err := closeCode(words[0])
		if err != nil {
			return err
		}
		e.Code = ws.StatusCode(binary.BigEndian.Uint16(body))
		e.Data = append(body, data...)
	}
	if kind == Answer {
		switch op {
		case ws.OpPong:
		case ws.OpClose:
			e.Data = nil
		default:
			return fmt.Errorf("a server does not answer with %q by itself", name)
		}
	}
	c.Steps = append(c.Steps, Step{Kind: kind, Event: e})
	return nil
}

// splitPayload cuts a line before its first quote.
func splitPayload(s string) (words []string, payload string) {
	if i := strings.IndexByte(s, '"'); i >= 0 {
		s, payload = s[:i], s[i:]
	}
	return strings.Fields(s), payload
}

// parsePayload joins quoted strings, each of which may have "*N" behind it.
func parsePayload(s string) ([]byte, error) {
	data := []byte{}
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return nil, fmt.Errorf("not a quoted string: %q", s)
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		s = s[len(quoted):]
		times := 1
		if rest, found := strings.CutPrefix(s, "*"); found {
			number := rest
			if i := strings.IndexByte(rest, ' '); i >= 0 {
				number = rest[:i]
			}
			if err := parseInt(number, &times); err != nil {
				return nil, err
			}
			s = rest[len(number):]
		}
		data = append(data, bytes.Repeat([]byte(text), times)...)
	}
	return data, nil
}
