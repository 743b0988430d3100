package admin

import (
	"net/http"
)

// listDevices: GET /1.0/containers/NAME/devices.
func (s *Server) listDevices(r *request) (reply, error) {
	c, err := r.container()
	if err != nil {
		return reply{}, err
	}
	return reply{metadata: devicesOf(c.Snapshot())}, nil
}

// showDevice: GET /1.0/containers/NAME/devices/DEVICE.
func (s *Server) showDevice(r *request) (reply, error) {
	c, err := r.container()
	if err != nil {
		return reply{}, err
	}
	snapshot := c.Snapshot()
	for i := range snapshot.Devices() {
		if d := &snapshot.Devices()[i]; d.Name == r.args[1] {
			return reply{metadata: deviceConfig(d)}, nil
		}
	}
	return reply{}, errorf(http.StatusNotFound, "device %q not found: list what there is, and check the name", r.args[1])
}

// addDevice: POST /1.0/containers/NAME/devices.
func (s *Server) addDevice(r *request) (reply, error) {
	var body DevicesPost
	if err := r.decode(&body); err != nil {
		return reply{}, err
	}
	return s.newDevice(r.args[0], body.Name, body.Config)
}

// putDevice: PUT /1.0/containers/NAME/devices/DEVICE. It adds, as POST does:
// a device that exists is changed by PATCH.
func (s *Server) putDevice(r *request) (reply, error) {
	var config map[string]string
	if err := r.decode(&config); err != nil {
		return reply{}, err
	}
	return s.newDevice(r.args[0], r.args[1], config)
}

func (s *Server) newDevice(name, dev string, config map[string]string) (reply, error) {
	return reply{location: pathOf("containers", name, "devices", dev)}, s.writer().AddDevice(name, dev, config)
}

// setDevice: PATCH /1.0/containers/NAME/devices/DEVICE, one atomic change.
func (s *Server) setDevice(r *request) (reply, error) {
	body, err := r.change()
	if err != nil {
		return reply{}, err
	}
	return reply{}, s.writer().SetDevice(r.args[0], r.args[1], body.Set, body.Unset)
}

// removeDevice: DELETE /1.0/containers/NAME/devices/DEVICE.
func (s *Server) removeDevice(r *request) (reply, error) {
	return reply{}, s.writer().RemoveDevice(r.args[0], r.args[1])
}
