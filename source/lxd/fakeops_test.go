package lxd

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// What an operator does with the daemon. Each announces what the daemon would, after the change.

func (f *fake) create(k key, config map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := &fakeInstance{config: maps.Clone(config), devices: map[string]map[string]string{"root": {"type": "disk", "path": "/"}}}
	if i.config == nil {
		i.config = make(map[string]string)
	}
	i.config["volatile.cloud-init.instance-id"] = "id-" + k.name
	i.instance = instance{Name: k.name, Project: k.project, Type: typeContainer, Location: "here", Profiles: []string{"default"}}
	f.instances[k] = i
	f.announce("instance-created", k, map[string]any{"type": "container"})
}

func (f *fake) start(k key) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.instances[k]
	i.pid = f.host.start(k.registryName())
	f.announce("instance-started", k, nil)
	return i.pid
}

// stop ends the process; late: the host has yet to notice when the daemon says so.
func (f *fake) stop(k key, late bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.instances[k]
	f.host.end(i.pid, late)
	i.pid = 0
	delete(i.config, keyReady)
	f.announce("instance-stopped", k, nil)
}

func (f *fake) restart(k key, late bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.instances[k]
	f.host.end(i.pid, late)
	delete(i.config, keyReady)
	i.pid = f.host.start(k.registryName())
	f.announce("instance-restarted", k, nil)
}

func (f *fake) remove(k key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := f.instances[k]; i.pid != 0 {
		f.host.end(i.pid, false)
	}
	delete(f.instances, k)
	f.announce("instance-deleted", k, nil)
}

func (f *fake) rename(from, to key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.instances[from]
	delete(f.instances, from)
	i.Name, i.Project = to.name, to.project
	f.instances[to] = i
	f.announce("instance-renamed", to, map[string]any{"old_name": from.name})
}

// move migrates an instance to another member of the cluster, or back. It is stopped.
func (f *fake) move(k key, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.instances[k].Location = to
	f.announce("instance-migrated", k, nil)
}

// set sets config keys, or unsets those with "".
func (f *fake) set(k key, config map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, value := range config {
		if f.instances[k].config[name] = value; value == "" {
			delete(f.instances[k].config, name)
		}
	}
	f.announce("instance-updated", k, nil)
}

// device sets a device, or removes it with nil.
func (f *fake) device(k key, name string, config map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.instances[k].devices[name] = config; config == nil {
		delete(f.instances[k].devices, name)
	}
	f.announce("instance-updated", k, nil)
}

// profile changes the profile of all instances. Only what is about the profile itself is announced.
func (f *fake) profile(config map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.profiles["default"], config)
	f.announceAbout("profile-updated", "/1.0/profiles/default", defaultProject, nil)
}

// image adds an image with its file.
func (f *fake) image(fp, content string, cached bool) {
	if err := os.WriteFile(filepath.Join(f.dir, imagesDir, fp), []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[fp] = image{Fingerprint: fp, Type: typeContainer, Cached: cached}
	f.announceAbout("image-created", "/1.0/images/"+fp, defaultProject, nil)
}

func (f *fake) removeImage(fp string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.images, fp)
	f.announceAbout("image-deleted", "/1.0/images/"+fp, defaultProject, nil)
}

// count is how often something was asked for.
func (f *fake) count(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[what]
}

func fingerprint(c byte) string { return strings.Repeat(string(c), 64) }
