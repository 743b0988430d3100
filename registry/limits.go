package registry

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Limit names a quota of a container. It is a closed set: each value is a metric label from the start.
type Limit uint8

// The quotas.
const (
	LimitConnections Limit = iota // guest connections that are open
	LimitSubscribers              // event subscriptions
	LimitRequests                 // requests a second
	LimitBytes                    // bytes of requests that are incomplete and of answers that are not taken
	LimitImages                   // image downloads under way

	NumLimits = 5
)

// Unlimited is the value of a quota that bounds nothing.
const Unlimited = math.MaxInt64

// MaxLimit is the largest value of a quota that bounds something: a request a nanosecond, which the bucket can just tell apart.
const MaxLimit = 1_000_000_000

// unlimited is the word for Unlimited.
const unlimited = "unlimited"

// LimitKeyPrefix begins the config keys that set a quota for one container; the label of the quota follows. The guest cannot read them.
const LimitKeyPrefix = "limits.devlxd."

// AllLimits lists the closed set.
func AllLimits() []Limit {
	return []Limit{LimitConnections, LimitSubscribers, LimitRequests, LimitBytes, LimitImages}
}

// String is the metric label of the quota.
func (l Limit) String() string {
	switch l {
	case LimitConnections:
		return "connections"
	case LimitSubscribers:
		return "subscribers"
	case LimitRequests:
		return "requests"
	case LimitBytes:
		return "bytes"
	case LimitImages:
		return "images"
	}
	return "unknown"
}

// Limits are values of the quotas by Limit; 0: not set.
type Limits [NumLimits]int64

// ParseLimit reads the value of a quota: a whole number from 1 to MaxLimit, or "unlimited". ErrLimit: anything else.
func ParseLimit(text string) (int64, error) {
	if text == unlimited {
		return Unlimited, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > MaxLimit || text[0] == '+' {
		return 0, ErrLimit
	}
	return n, nil
}

// FormatLimit is the inverse of ParseLimit.
func FormatLimit(n int64) string {
	if n == Unlimited {
		return unlimited
	}
	return strconv.FormatInt(n, 10)
}

// LimitOfKey finds the quota that a config key sets.
func LimitOfKey(key string) (Limit, bool) {
	if label, ok := strings.CutPrefix(key, LimitKeyPrefix); ok {
		return ParseLimitName(label)
	}
	return 0, false
}

// ParseLimitName is the inverse of Limit.String.
func ParseLimitName(label string) (Limit, bool) {
	for _, l := range AllLimits() {
		if label == l.String() {
			return l, true
		}
	}
	return 0, false
}

// Limits returns the quotas that the config sets, nil when it sets none. A value that ParseLimit refuses is none: a source that mirrors
// another daemon takes what that accepts.
func (s *Snapshot) Limits() *Limits { return s.limits }

// readLimits sets what Limits returns. The keys stand together because entries are sorted.
func (s *Snapshot) readLimits() {
	i, _ := s.find(LimitKeyPrefix)
	for ; i < len(s.entries) && strings.HasPrefix(s.entries[i].Key, LimitKeyPrefix); i++ {
		limit, ok := LimitOfKey(s.entries[i].Key)
		if !ok {
			continue
		}
		n, err := ParseLimit(string(s.entries[i].Value()))
		if err != nil {
			continue
		}
		if s.limits == nil {
			s.limits = new(Limits)
		}
		s.limits[limit] = n
	}
}

// ParseLimits reads quotas as "QUOTA=VALUE,...", each once; "" sets none. The error is a line that says what is wrong and what to do.
func ParseLimits(text string) (limits Limits, err error) {
	if text == "" {
		return limits, nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(pair, "=")
		l, ok := ParseLimitName(name)
		if !ok {
			return limits, fmt.Errorf("%w: %q", ErrLimitName, name)
		}
		if limits[l] != 0 {
			return limits, fmt.Errorf("%w: %s", ErrLimitTwice, name)
		}
		if limits[l], err = ParseLimit(value); err != nil {
			return limits, fmt.Errorf("%s: %w", name, err)
		}
	}
	return limits, nil
}
