package httpparse

import (
	"bytes"
	"time"
)

// timeFormat is the one form of a date that may be sent: RFC 9110 §5.6.7, IMF-fixdate.
const timeFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

const (
	dayNames   = "Sun Mon Tue Wed Thu Fri Sat "
	monthNames = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec "
)

// ParseHTTPTime reads a date in one of the three forms of RFC 9110 §5.6.7, as UTC:
//
//	Sun, 06 Nov 1994 08:49:37 GMT    IMF-fixdate
//	Sunday, 06-Nov-94 08:49:37 GMT   RFC 850
//	Sun Nov  6 08:49:37 1994         asctime
//
// A year of two digits is from 1969 to 2068, as in Go. The day of the week is not
// compared with the date. Nothing else is accepted, no leap second either.
func ParseHTTPTime(value []byte) (time.Time, bool) {
	d := date{rest: value}
	comma := bytes.IndexByte(value, ',')
	switch {
	case comma == 3:
		d.name(dayNames)
		d.literal(", ")
		d.day = d.number(2)
		d.literal(" ")
		d.month = d.name(monthNames)
		d.literal(" ")
		d.year = d.number(4)
		d.literal(" ")
		d.clock()
		d.literal(" GMT")
	case comma > 3:
		d.weekday()
		d.literal(", ")
		d.day = d.number(2)
		d.literal("-")
		d.month = d.name(monthNames)
		d.literal("-")
		d.year = d.number(2)
		d.literal(" ")
		d.clock()
		d.literal(" GMT")
		if d.year += 1900; d.year < 1969 {
			d.year += 100
		}
	default:
		d.name(dayNames)
		d.literal(" ")
		d.month = d.name(monthNames)
		d.literal(" ")
		d.day = d.padded()
		d.literal(" ")
		d.clock()
		d.literal(" ")
		d.year = d.number(4)
	}
	return d.time()
}

// date takes a date apart from the left. After a fault it stays faulty.
type date struct {
	rest                                   []byte
	bad                                    bool
	year, month, day, hour, minute, second int
}

// take removes n bytes, or returns nil.
func (d *date) take(n int) []byte {
	if d.bad || len(d.rest) < n {
		d.bad = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *date) literal(s string) {
	if string(d.take(len(s))) != s {
		d.bad = true
	}
}

func (d *date) number(width int) int {
	n, ok := digits(d.take(width))
	d.bad = d.bad || !ok
	return int(n)
}

// padded reads a number of two columns whose first may be a space.
func (d *date) padded() int {
	if len(d.rest) > 0 && d.rest[0] == ' ' {
		d.take(1)
		return d.number(1)
	}
	return d.number(2)
}

// name reads a name of three letters and returns its number in the list, from 1.
func (d *date) name(list string) int {
	b := d.take(3)
	for i := 0; i+4 <= len(list) && b != nil; i += 4 {
		if string(b) == list[i:i+3] {
			return i/4 + 1
		}
	}
	d.bad = true
	return 0
}

// weekday reads the long name of a day.
func (d *date) weekday() {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if name := day.String(); len(d.rest) > len(name) && string(d.rest[:len(name)]) == name {
			d.take(len(name))
			return
		}
	}
	d.bad = true
}

func (d *date) clock() {
	d.hour = d.number(2)
	d.literal(":")
	d.minute = d.number(2)
	d.literal(":")
	d.second = d.number(2)
}

// time returns the date if there is such a day and nothing is left over.
func (d *date) time() (time.Time, bool) {
	if d.bad || len(d.rest) > 0 || d.hour > 23 || d.minute > 59 || d.second > 59 {
		return time.Time{}, false
	}
	t := time.Date(d.year, time.Month(d.month), d.day, d.hour, d.minute, d.second, 0, time.UTC)
	return t, t.Day() == d.day // 31 April would have become 1 May
}
