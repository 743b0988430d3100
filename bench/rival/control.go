package rival

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Key is the configuration key whose value is the body of the fixed answers.
const Key = "user.load"

// Container is what a rival is told about a guest.
type Container struct {
	Name string `json:"name"`
	// PID is the init process as the rival sees it, 0 when the container does not run.
	PID int `json:"pid"`
	// Config has the keys that are set; images need "security.devlxd.images" to be "true", as in LXD.
	Config map[string]string `json:"config,omitempty"`
	// Devices are answered by NetHTTP.
	Devices map[string]map[string]string `json:"devices,omitempty"`
}

// command is a line on the control input.
type command struct {
	Op         string      `json:"op"`
	Containers []Container `json:"containers,omitempty"`
	Container  string      `json:"container,omitempty"`
	Key        string      `json:"key,omitempty"`
	Value      string      `json:"value,omitempty"`
	Path       string      `json:"path,omitempty"`
}

// The ops of a command.
const (
	opRegister   = "register"
	opUnregister = "unregister"
	opSet        = "set"
	opImage      = "image"
)

// reply is the line that answers a command.
type reply struct {
	Error       string `json:"error,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
}

// Client controls a rival in another process. It is safe for concurrent use; commands wait for each other.
type Client struct {
	mu  sync.Mutex
	enc *json.Encoder
	dec *json.Decoder
}

// NewClient returns a client that writes commands to w and reads answers from r. Closing w, which is the caller's, ends the rival.
func NewClient(w io.Writer, r io.Reader) *Client {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // LimitC takes a value as it stands in the line
	return &Client{enc: enc, dec: json.NewDecoder(r)}
}

func (c *Client) do(cmd command) (reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.enc.Encode(cmd); err != nil {
		return reply{}, fmt.Errorf("%w: %w", ErrGone, err)
	}
	var r reply
	if err := c.dec.Decode(&r); err != nil {
		return reply{}, fmt.Errorf("%w: %w", ErrGone, err)
	}
	if r.Error != "" {
		return reply{}, fmt.Errorf("%w: %s", ErrRefused, r.Error)
	}
	return r, nil
}

// Register makes containers known. One whose name is known already replaces it: that is how a container is bound again.
func (c *Client) Register(containers []Container) error {
	_, err := c.do(command{Op: opRegister, Containers: containers})
	return err
}

// Unregister forgets a container. Its connections stay open, as in LXD.
func (c *Client) Unregister(container string) error {
	_, err := c.do(command{Op: opUnregister, Container: container})
	return err
}

// Set changes a key; "" removes it. It returns when the event was handed to the subscribers: see the package's documentation.
func (c *Client) Set(container, key, value string) error {
	_, err := c.do(command{Op: opSet, Container: container, Key: key, Value: value})
	return err
}

// Image makes a file of the rival's machine an image that can be exported, and returns its fingerprint (SHA-256). Limit exports
// the newest one whatever the path names.
func (c *Client) Image(path string) (fingerprint string, err error) {
	r, err := c.do(command{Op: opImage, Path: path})
	return r.Fingerprint, err
}
