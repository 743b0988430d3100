package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Paths of the guest API.
const (
	pathAPI     = "/1.0"
	pathConfig  = "/1.0/config"
	pathRole    = "/1.0/config/user.role"
	pathSecret  = "/1.0/config/user.secret"
	pathMeta    = "/1.0/meta-data"
	pathDevices = "/1.0/devices"
)

// inspect asks the operator's side for a container.
func (t *Tour) inspect(ctx context.Context, name string) (s shown, err error) {
	out, err := t.options.Command(ctx, "container", "show", name, "-f", "json")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return s, fmt.Errorf("devlxd container show printed %q: %w", out, err)
	}
	return s, nil
}

// metaData is the answer to GET /1.0/meta-data.
func (t *Tour) metaData(ctx context.Context, name string) (answer, error) {
	id := name
	if t.texts.instanceUUID {
		s, err := t.inspect(ctx, name)
		if err != nil {
			return answer{}, err
		}
		id = s.InstanceID
	}
	return rawAnswer(t.texts.metaDataHead + "instance-id: " + id + "\nlocal-hostname: " + name + "\n"), nil
}

// showPaths asks for everything, also for what is refused.
func (t *Tour) showPaths(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	meta, err := t.metaData(ctx, "web")
	if err != nil {
		return err
	}
	keys := []string{"cloud-init.user-data", "user.role", "user.secret"}
	started, ready := t.texts.api(host, "Started"), t.texts.api(host, "Ready")
	patch := func(state string) request {
		return request{Method: "PATCH", Path: pathAPI, Body: `{"state":"` + state + `"}`}
	}
	t.p.say("What it may read:")
	err = t.exchange(ctx, "web",
		exchange{get("/"), jsonAnswer(`["/1.0"]` + "\n")},
		exchange{get(pathAPI), jsonAnswer(started)},
		exchange{get(pathConfig), jsonAnswer(`["/1.0/config/` + strings.Join(keys, `","/1.0/config/`) + `"]` + "\n")},
		exchange{get(pathRole), rawAnswer(settings()["web"].role)},
		exchange{get("/1.0/config/cloud-init.user-data"), rawAnswer(userData)},
		exchange{get(pathMeta), meta},
		exchange{get(pathDevices), jsonAnswer(settings()["web"].shown + "\n")},
	)
	if err != nil {
		return err
	}
	t.p.say("What it may say, and what is refused:")
	err = t.exchange(ctx, "web",
		exchange{patch("Ready"), rawAnswer("")},
		exchange{get(pathAPI), jsonAnswer(ready)},
		exchange{patch("Sleepy"), textAnswer(400, "Invalid state \"Sleepy\"\n")},
		exchange{get("/1.0/config/user.none"), textAnswer(404, t.texts.notFound)},
		exchange{get("/1.0/config/security.devlxd"), t.texts.gate()},
		exchange{get("/1.0/nope"), textAnswer(404, "404 page not found\n")},
	)
	if err != nil {
		return err
	}
	t.p.command("", "devlxd", "container", "show", "web", "-f", "json")
	s, err := t.inspect(ctx, "web")
	if err != nil {
		return err
	}
	if !s.State.Ready {
		return errors.New("web said that it is ready, and the operator is not shown that")
	}
	t.p.check("the operator sees \"ready\":true")
	return nil
}

// showSeparation compares what the containers are told.
func (t *Tour) showSeparation(ctx context.Context) error {
	for _, name := range names {
		err := t.exchange(ctx, name, exchange{get(pathSecret), rawAnswer(t.secrets[name])},
			exchange{get(pathDevices), jsonAnswer(settings()[name].shown + "\n")})
		if err != nil {
			return err
		}
	}
	requests := []request{
		get("/"), get(pathAPI), get(pathConfig), get(pathRole), get(pathSecret), get(pathMeta), get(pathDevices),
		get("/1.0/config/user.secret?container=db"), {Method: "GET", Path: pathSecret, Header: map[string]string{"Host": "db", "X-Container": "db"}},
	}
	heard, compared := make(map[string]string), 0
	for _, name := range names {
		r, err := t.ask(ctx, name, order{Requests: requests}, nil)
		if err != nil {
			return err
		}
		for _, a := range r.Answers {
			heard[name] += a.Body + "\n"
			compared++
		}
	}
	for _, name := range names {
		for _, other := range names {
			if has := strings.Contains(heard[name], t.secrets[other]); has != (name == other) {
				return fmt.Errorf("%s is told %q by all paths together: the secret of %s must be there: %t", name, heard[name], other, name == other)
			}
		}
	}
	t.p.check("%d answers compared, some to requests that name another container: each secret is told to its owner only", compared)
	return nil
}
