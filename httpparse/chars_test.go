package httpparse

import (
	"strings"
	"testing"
)

func TestHasToken(t *testing.T) {
	tests := map[string]bool{
		"":                       false,
		"upgrade":                true,
		"UpGrade":                true,
		"keep-alive, Upgrade":    true,
		"keep-alive ,\tupgrade ": true,
		",,upgrade,":             true,
		"upgraded":               false,
		"x upgrade":              false,
		"keep-alive":             false,
		"upgrade;q=1":            false,
	}
	for list, want := range tests {
		t.Run(list, func(t *testing.T) {
			if got := HasToken([]byte(list), "Upgrade"); got != want {
				t.Errorf("HasToken = %t; want %t", got, want)
			}
		})
	}
}

func TestSkipText(t *testing.T) {
	for c := range 256 {
		for at := range 20 {
			b := []byte(strings.Repeat("\xffa\t ", 5))
			b[at] = byte(c)
			want := at
			if c >= 0x20 && c != 0x7f || c == '\t' {
				want = len(b)
			}
			for from := 0; from <= at; from++ {
				if got := skipText(b, from); got != want {
					t.Fatalf("byte %#02x at %d, from %d: %d; want %d", c, at, from, got, want)
				}
			}
		}
	}
}
