package admin_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"devlxd/admin"
)

// TestTypesAreDocumented: the members of what is sent are those of the document, and those that always come are required there.
func TestTypesAreDocumented(t *testing.T) {
	for name, value := range map[string]any{
		"Status": admin.Status{}, "TakenOver": admin.TakenOver{}, "Mirror": admin.Mirror{}, "Server": admin.ServerInfo{}, "Container": admin.Container{},
		"ContainerState": admin.ContainerState{}, "Image": admin.Image{}, "Upgraded": admin.Upgraded{}, "Sync": admin.Response{}, "Error": admin.Response{}, "Health": admin.Health{}, "Top": admin.Top{},
	} {
		var all, always []string
		typ := reflect.TypeOf(value)
		for i := range typ.NumField() {
			member, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			all = append(all, member)
			if options == "" {
				always = append(always, member)
			}
		}
		slices.Sort(all)
		slices.Sort(always)
		documented, required := documented.Properties(name)
		if !slices.Equal(documented, all) || !slices.Equal(required, always) {
			t.Errorf("%s: api/admin.yaml has %q, requires %q;\nsent are %q, always %q", name, documented, required, all, always)
		}
	}
}
