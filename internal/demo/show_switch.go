package demo

import (
	"context"
	"fmt"
)

// showSwitch closes the API to web and db, which still listen, and opens it again.
func (t *Tour) showSwitch(ctx context.Context) error {
	read := exchange{get(pathSecret), rawAnswer(t.secrets["web"])}
	refused := exchange{get(pathSecret), t.texts.gate()}
	if err := t.exchange(ctx, "web", read); err != nil {
		return err
	}
	for _, s := range []struct {
		*subscription
		end string
	}{{t.web, "1008 not authorized"}, {t.db, "end of the stream"}} {
		if err := t.command(ctx, "config", "set", s.name, "security.devlxd=false"); err != nil {
			return err
		}
		end, err := s.ended(ctx)
		if err != nil {
			return err
		}
		if end != s.end {
			return fmt.Errorf("%s: the events ended with %q, must end with %q", s.name, end, s.end)
		}
		t.p.check("%s: its events end: %s", s.name, end)
		if err := t.exchange(ctx, s.name, refused); err != nil {
			return err
		}
	}
	t.p.say("The others are not concerned, and it can be opened again:")
	if err := t.exchange(ctx, "cache", exchange{get(pathSecret), rawAnswer(t.secrets["cache"])}); err != nil {
		return err
	}
	for _, name := range []string{"web", "db"} {
		if err := t.command(ctx, "config", "unset", name, "security.devlxd"); err != nil {
			return err
		}
	}
	return t.exchange(ctx, "web", read)
}
