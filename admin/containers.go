package admin

import (
	"bufio"
	"net/http"
	"net/url"

	"devlxd/registry"
	"devlxd/source"
)

// pathOf returns the path of a resource, each name percent-encoded.
func pathOf(names ...string) string {
	path := "/" + APIVersion
	for _, name := range names {
		path += "/" + url.PathEscape(name)
	}
	return path
}

// container finds the container that the path names.
func (r *request) container() (*registry.Container, error) {
	name := r.args[0]
	if c, ok := r.server.options.Registry.Container(name); ok {
		return c, nil
	}
	return nil, errorf(http.StatusNotFound, "container %q not found: list what there is, and check the name", name)
}

// describe makes what is shown of a container; a summary has neither config
// nor devices.
func describe(c *registry.Container, summary bool) Container {
	snapshot := c.Snapshot()
	d := Container{
		Name:       c.Name(),
		Status:     StatusStopped,
		StatusCode: statusCodeStopped,
		InstanceID: snapshot.InstanceID(),
		Access:     snapshot.Allowed(),
		Images:     snapshot.Allowed() && snapshot.ImagesAllowed(),
	}
	if b := c.Binding(); b != nil && !b.Dead() {
		d.Status, d.StatusCode = StatusRunning, statusCodeRunning
		_, ino := b.PidNS()
		d.State = &ContainerState{
			PID: b.InitPID(), CgroupID: b.CgroupID(), PIDNamespace: ino, RootUID: b.RootUID(),
			Privileged: b.Privileged(), Ready: b.Ready(), Since: b.Since(),
		}
	}
	if !summary {
		d.Config, d.Devices = configOf(snapshot), devicesOf(snapshot)
	}
	return d
}

func configOf(s *registry.Snapshot) map[string]string {
	entries := s.Config()
	config := make(map[string]string, len(entries))
	for i := range entries {
		config[entries[i].Key] = string(entries[i].Value())
	}
	return config
}

func devicesOf(s *registry.Snapshot) map[string]map[string]string {
	devices := make(map[string]map[string]string, len(s.Devices()))
	for i := range s.Devices() {
		d := &s.Devices()[i]
		devices[d.Name] = deviceConfig(d)
	}
	return devices
}

func deviceConfig(d *registry.Device) map[string]string {
	config := make(map[string]string, len(d.Config))
	for _, kv := range d.Config {
		config[kv.Key] = kv.Value
	}
	return config
}

// listContainers: GET /1.0/containers. recursion=1 gives objects in place of
// paths, and summary=true leaves config and devices out of them.
func (s *Server) listContainers(r *request) (reply, error) {
	recursion, err := r.recursion()
	if err != nil {
		return reply{}, err
	}
	summary, err := r.flag("summary")
	if err != nil {
		return reply{}, err
	}
	containers := s.options.Registry.Containers()
	if recursion {
		s.streamList(r, containers, summary)
		return reply{done: true}, nil
	}
	paths := make([]string, len(containers))
	for i, c := range containers {
		paths[i] = pathOf("containers", c.Name())
	}
	return reply{metadata: paths}, nil
}

// streamList sends the envelope one container at a time: the config of all
// containers of a host together is too much to hold twice.
func (s *Server) streamList(r *request, containers []*registry.Container, summary bool) {
	r.SetContentType(contentJSON)
	r.SetBodyStreamWriter(func(w *bufio.Writer) {
		defer func() {
			if p := recover(); p != nil {
				s.panicked(p)
			}
		}()
		// The members of Response in their order; metadata is the last.
		_, _ = w.WriteString(`{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":[`)
		for i, c := range containers {
			body, err := encode(describe(c, summary))
			if err != nil {
				return
			}
			if i > 0 {
				_ = w.WriteByte(',')
			}
			if _, err := w.Write(body[:len(body)-1]); err != nil {
				return
			}
		}
		_, _ = w.WriteString("]}\n")
	})
}

// recursion reads LXD's parameter of that name.
func (r *request) recursion() (bool, error) {
	switch value := r.query.Get("recursion"); value {
	case "", "0":
		return false, nil
	case "1", "2":
		return true, nil
	default:
		return false, errorf(http.StatusBadRequest, "parameter \"recursion\" has the value %q: use 0 or 1", value)
	}
}

// addContainer: POST /1.0/containers.
func (s *Server) addContainer(r *request) (reply, error) {
	var body ContainersPost
	if err := r.decode(&body); err != nil {
		return reply{}, err
	}
	err := s.writer().AddContainer(source.NewContainer{
		Name: body.Name, Config: body.Config, Devices: body.Devices,
		Cgroup: body.Cgroup, RootUID: body.RootUID, PID: body.PID,
	})
	return reply{location: pathOf("containers", body.Name)}, err
}

// showContainer: GET /1.0/containers/NAME.
func (s *Server) showContainer(r *request) (reply, error) {
	c, err := r.container()
	if err != nil {
		return reply{}, err
	}
	d := describe(c, false)
	if s.options.Quotas != nil {
		d.Quotas = s.options.Quotas(c)
	}
	return reply{metadata: d}, nil
}

// removeContainer: DELETE /1.0/containers/NAME.
func (s *Server) removeContainer(r *request) (reply, error) {
	return reply{}, s.writer().RemoveContainer(r.args[0])
}

// bindContainer: POST /1.0/containers/NAME/bind.
func (s *Server) bindContainer(r *request) (reply, error) {
	var body BindPost
	if err := r.decode(&body); err != nil {
		return reply{}, err
	}
	return reply{}, s.writer().Bind(r.args[0], source.BindRequest{PID: body.PID, Cgroup: body.Cgroup, RootUID: body.RootUID})
}

// showConfig: GET /1.0/containers/NAME/config.
func (s *Server) showConfig(r *request) (reply, error) {
	c, err := r.container()
	if err != nil {
		return reply{}, err
	}
	return reply{metadata: configOf(c.Snapshot())}, nil
}

// updateConfig: PATCH /1.0/containers/NAME/config, one atomic change.
func (s *Server) updateConfig(r *request) (reply, error) {
	body, err := r.change()
	if err != nil {
		return reply{}, err
	}
	return reply{}, s.writer().UpdateConfig(r.args[0], body.Set, body.Unset)
}

// change reads a [Change], and refuses one that says nothing.
func (r *request) change() (Change, error) {
	var body Change
	if err := r.decode(&body); err != nil {
		return body, err
	}
	if len(body.Set) == 0 && len(body.Unset) == 0 {
		return body, errorf(http.StatusBadRequest, "change is empty: give set, unset or both")
	}
	return body, nil
}
