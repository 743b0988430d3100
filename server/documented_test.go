package server

import (
	"testing"
)

// TestWhoIsRefusedEverywhere: every resource refuses the same callers, in each dialect. That the answers are those of the document is
// found out by the recorder of each connection.
func TestWhoIsRefusedEverywhere(t *testing.T) {
	for d := range numDialects {
		t.Run(d.String(), func(t *testing.T) {
			r := newRig(t, Options{Dialect: d})
			r.container("closed", map[string]string{"security.devlxd": "false"})
			for _, resource := range [][2]string{
				{"GET", "/"}, {"GET", "/1.0"}, {"PATCH", "/1.0"}, {"GET", "/1.0/config"}, {"GET", "/1.0/config/user.a"}, {"GET", "/1.0/meta-data"},
				{"GET", "/1.0/devices"}, {"GET", "/1.0/events"}, {"GET", "/1.0/images/ab/export"}, {"GET", "/1.0/ubuntu-pro"}, {"POST", "/1.0/ubuntu-pro/token"},
				{"POST", "/1.0/devices"},
			} {
				method, path := resource[0], resource[1]
				if _, _, _, refused := d.methodRefusal(routeDevices, method); refused && path == "/1.0/devices" {
					continue // for its method
				}
				for who, want := range map[string]int{nonRoot: 401, stranger: 500, "closed": 403} {
					route, _ := matchPlain([]byte(path))
					switch {
					case (route == routeUbuntuPro || route == routeUbuntuProToken) && !d.texts().ubuntuPro:
						continue
					case who == "closed" && d.texts().rootUngated && (route == routeRoot || route == routeAPI && method == "GET"):
						want = 200
					}
					c := r.dial(who)
					c.send(method + " " + path + " HTTP/1.1\r\nHost: lxd\r\nContent-Length: 2\r\n\r\n{}")
					if got := c.answer(method).status; got != want {
						t.Errorf("%s asks %s %s: %d; want %d", who, method, path, got, want)
					}
				}
			}
		})
	}
}
