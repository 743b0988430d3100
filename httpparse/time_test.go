package httpparse

import (
	"net/http"
	"testing"
	"time"
)

func TestParseHTTPTime(t *testing.T) {
	want := time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC)
	good := map[string]time.Time{
		"Sun, 06 Nov 1994 08:49:37 GMT":     want,
		"Sunday, 06-Nov-94 08:49:37 GMT":    want,
		"Sun Nov  6 08:49:37 1994":          want,
		"Wed Nov 16 08:49:37 1994":          want.AddDate(0, 0, 10),
		"Mon, 29 Feb 2016 23:59:59 GMT":     time.Date(2016, 2, 29, 23, 59, 59, 0, time.UTC),
		"Wednesday, 01-Jan-69 00:00:00 GMT": time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC),
		"Saturday, 01-Dec-68 00:00:00 GMT":  time.Date(2068, 12, 1, 0, 0, 0, 0, time.UTC),
		"Thu, 01 Jan 1970 00:00:00 GMT":     time.Unix(0, 0),
		"Fri, 31 Dec 9999 23:59:59 GMT":     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	for text, want := range good {
		t.Run(text, func(t *testing.T) {
			got, ok := ParseHTTPTime([]byte(text))
			if !ok || !got.Equal(want) {
				t.Errorf("%v, %t; want %v", got, ok, want)
			}
			if theirs, err := http.ParseTime(text); err != nil || !theirs.Equal(got) {
				t.Errorf("net/http: %v, %v", theirs, err)
			}
		})
	}
	for _, text := range []string{
		"", "0", "Sun", "Sun,", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC",
		"Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 6 Nov 1994 08:49:37 GMT", "sun, 06 Nov 1994 08:49:37 GMT",
		"Sun, 06 nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:00 GMT",
		"Sun, 06 Nov 1994 08:49:60 GMT", "Sun, 31 Apr 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
		"Sun, 29 Feb 2015 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37.5 GMT", "Sun, +6 Nov 1994 08:49:37 GMT",
		"Xyz, 06 Nov 1994 08:49:37 GMT", "Sun, 06 an  1994 08:49:37 GMT", "Someday, 06-Nov-94 08:49:37 GMT",
		"Sunday, 06-Nov-1994 08:49:37 GMT", "Sunday, 06 Nov 94 08:49:37 GMT", "Sunday", "Sunday,",
		"Sun Nov 6 08:49:37 1994", "Sun Nov  6 08:49:37 94", "Sun Nov  6 08:49:37 1994 GMT", "Sun Nov   6 08:49:37 1994",
		"1994-11-06T08:49:37Z", "Sun, 06 Nov 1994 08:49:37 +0000",
	} {
		t.Run("not "+text, func(t *testing.T) {
			if got, ok := ParseHTTPTime([]byte(text)); ok {
				t.Errorf("accepted as %v", got)
			}
		})
	}
}

func TestParseHTTPTimeRoundTrip(t *testing.T) {
	for at := time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2068; at = at.Add(1234567 * time.Second) {
		for _, layout := range []string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
			if got, ok := ParseHTTPTime([]byte(at.Format(layout))); !ok || !got.Equal(at) {
				t.Fatalf("%q: %v, %t", at.Format(layout), got, ok)
			}
		}
	}
}

func TestConditions(t *testing.T) {
	modified := time.Date(2026, 2, 28, 12, 0, 0, 500, time.UTC)
	const before, same, after = "Sat, 28 Feb 2026 11:59:59 GMT", "Sat, 28 Feb 2026 12:00:00 GMT", "Sat, 28 Feb 2026 12:00:01 GMT"
	tests := []struct {
		field       string
		at          time.Time
		notModified bool
		ranged      bool
	}{
		{"", modified, false, true},
		{before, modified, false, false},
		{same, modified, true, true},
		{after, modified, true, false},
		{"yesterday", modified, false, false},
		{`"tag"`, modified, false, false},
		{same, time.Time{}, false, false},
		{"Thu, 01 Jan 1970 00:00:00 GMT", time.Unix(0, 0), false, false},
	}
	for _, tt := range tests {
		t.Run(tt.field+" of "+tt.at.String(), func(t *testing.T) {
			if got := NotModified([]byte(tt.field), tt.at); got != tt.notModified {
				t.Errorf("NotModified = %t; want %t", got, tt.notModified)
			}
			if got := RangeApplies([]byte(tt.field), tt.at); got != tt.ranged {
				t.Errorf("RangeApplies = %t; want %t", got, tt.ranged)
			}
		})
	}
}
