package rival

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
)

// Texts of LXD, with the status they come with.
const (
	textUnknown   = "Process ID not found in container" // 500
	textNotRoot   = "Access denied for non-root user"   // 401
	textForbidden = "Forbidden"                         // 403
	textNotFound  = "Not Found"                         // 404
)

// handler answers a request of a known container.
type handler func(w http.ResponseWriter, r *http.Request, c *container)

// mux has LXD's routes. A path that is none of them is answered as "/", as in LXD.
func (s *netHTTP) mux() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"/":                                s.getRoot,
		"/1.0":                             s.getAPI,
		"/1.0/config":                      s.getConfigList,
		"/1.0/config/{key}":                s.getConfig,
		"/1.0/meta-data":                   s.getMetaData,
		"/1.0/devices":                     s.getDevices,
		"/1.0/events":                      s.getEvents,
		"/1.0/images/{fingerprint}/export": s.getImage,
	} {
		mux.HandleFunc(pattern, s.identified(h))
	}
	return mux
}

// identified finds out which container asks, for every request anew, and makes LXD's checks in LXD's order.
func (s *netHTTP) identified(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		cred, ok := s.caller(r)
		if !ok {
			http.Error(w, textUnknown, http.StatusInternalServerError)
			return
		}
		c, err := s.book.find(int(cred.Pid))
		switch {
		case err != nil:
			http.Error(w, textUnknown, http.StatusInternalServerError)
		case cred.Uid != c.rootUID:
			http.Error(w, textNotRoot, http.StatusUnauthorized)
		case r.Method != http.MethodGet:
			http.Error(w, "Not Implemented", http.StatusNotImplemented)
		case isFalse(c.Config["security.devlxd"]):
			http.Error(w, textForbidden, http.StatusForbidden)
		default:
			h(w, r, c)
		}
	}
}

func isFalse(value string) bool {
	switch strings.ToLower(value) {
	case "false", "0", "no", "off":
		return true
	}
	return false
}

func isTrue(value string) bool {
	switch strings.ToLower(value) {
	case "true", "1", "yes", "on":
		return true
	}
	return false
}

// writeJSON and writeRaw ignore errors: the client is gone, and net/http finds that out by itself.
func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

func writeRaw(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write([]byte(text))
}

func (s *netHTTP) getRoot(w http.ResponseWriter, _ *http.Request, _ *container) {
	writeJSON(w, []string{"/1.0"})
}

func (s *netHTTP) getAPI(w http.ResponseWriter, _ *http.Request, _ *container) {
	host, _ := os.Hostname()
	writeJSON(w, struct {
		State          string   `json:"state"`
		APIVersion     string   `json:"api_version"`
		InstanceType   string   `json:"instance_type"`
		Location       string   `json:"location"`
		Auth           string   `json:"auth"`
		StorageDrivers []string `json:"supported_storage_drivers"`
	}{"Started", "1.0", "container", host, "untrusted", []string{}})
}

// readable reports whether guests may read the key.
func readable(key string) bool {
	return strings.HasPrefix(key, "user.") || strings.HasPrefix(key, "cloud-init.")
}

func (s *netHTTP) getConfigList(w http.ResponseWriter, _ *http.Request, c *container) {
	list := make([]string, 0, len(c.Config))
	for key := range c.Config {
		if readable(key) && !strings.HasPrefix(key, "cloud-init.ssh-keys.") {
			list = append(list, "/1.0/config/"+key)
		}
	}
	writeJSON(w, list)
}

func (s *netHTTP) getConfig(w http.ResponseWriter, r *http.Request, c *container) {
	key := r.PathValue("key")
	if !readable(key) {
		http.Error(w, textForbidden, http.StatusForbidden)
		return
	}
	value := c.Config[key]
	if value == "" {
		http.Error(w, textNotFound, http.StatusNotFound)
		return
	}
	writeRaw(w, value)
}

func (s *netHTTP) getMetaData(w http.ResponseWriter, _ *http.Request, c *container) {
	id := c.Config["volatile.cloud-init.instance-id"]
	if id == "" {
		id = c.Name
	}
	writeRaw(w, fmt.Sprintf("instance-id: %s\nlocal-hostname: %s\n%s", id, c.Name, c.Config["user.meta-data"]))
}

func (s *netHTTP) getDevices(w http.ResponseWriter, _ *http.Request, c *container) {
	devices := c.Devices
	if devices == nil {
		devices = map[string]map[string]string{}
	}
	writeJSON(w, devices)
}

// getImage exports a file. LXD's errors are those of its main API on this path.
func (s *netHTTP) getImage(w http.ResponseWriter, r *http.Request, c *container) {
	if !isTrue(c.Config["security.devlxd.images"]) {
		imageError(w, http.StatusForbidden, textForbidden)
		return
	}
	fingerprint := r.PathValue("fingerprint")
	s.mu.RLock()
	path := s.images[fingerprint]
	s.mu.RUnlock()
	if path == "" {
		imageError(w, http.StatusNotFound, textNotFound)
		return
	}
	file, err := os.Open(path)
	if err != nil {
		imageError(w, http.StatusNotFound, textNotFound)
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		imageError(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", "inline;filename="+fingerprint)
	http.ServeContent(w, r, fingerprint, info.ModTime(), file)
}

func imageError(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(struct {
		Type       string `json:"type"`
		Status     string `json:"status"`
		StatusCode int    `json:"status_code"`
		Operation  string `json:"operation"`
		ErrorCode  int    `json:"error_code"`
		Error      string `json:"error"`
		Metadata   any    `json:"metadata"`
	}{Type: "error", ErrorCode: code, Error: text})
}
