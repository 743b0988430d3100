package settings

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

// nearest is the key that somebody most likely meant who wrote name in a section ("": at the top of the file); "" if none is near. A name
// that belongs elsewhere, or is that of a flag, is near too.
func nearest(section, name string) string {
	plain := func(s string) string { return strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(s)) }
	if len(name) > 64 {
		return ""
	}
	best, least := "", 1+min(max(len(name)/3, 1), 3)
	consider := func(key, spelling string, penalty int) {
		if d := levenshtein.ComputeDistance(plain(name), plain(spelling)) + penalty; d < least {
			best, least = key, d
		}
	}
	for _, s := range All() {
		if s.Section() == section {
			consider(s.Key, s.Name(), 0)
		}
	}
	for _, s := range All() {
		if section == "" && s.Section() != "" {
			consider(s.Section(), s.Section(), 0)
		}
		consider(s.Key, s.Key, 0)
		if s.Part == "" {
			consider(s.Key, s.Flag, 0)
		}
		if s.Section() != section {
			consider(s.Key, s.Name(), 1)
		}
	}
	return best
}

// nearestEnv is the environment variable that is most like a name; "" if none is near.
func nearestEnv(name string) string {
	if len(name) > 64 {
		return ""
	}
	best, least := "", 4
	for _, f := range append(Flags(), Flag{Env: FileEnv}) {
		if d := levenshtein.ComputeDistance(name, f.Env); d < least {
			best, least = f.Env, d
		}
	}
	return best
}
