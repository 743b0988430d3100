package report

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// WriteSummary writes a result for people.
func WriteSummary(w io.Writer, r *Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s against %s: %s containers, %s connections, %.1f s\n", r.Title(), r.Target, count(float64(r.Containers)),
		count(float64(r.Connections)), r.Seconds)
	t := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintf(t, "  %s\t%s\t%s/s\t%s errors\t%s lost\n", r.Unit, count(float64(r.Requests)), count(r.RPS),
		count(float64(r.Errors)), count(float64(r.Lost)))
	if l := r.Latency; l.Max > 0 {
		fmt.Fprintf(t, "  latency\tp50 %s\tp90 %s\tp99 %s\tp99.9 %s\tmax %s\n", duration(l.P50), duration(l.P90), duration(l.P99),
			duration(l.P999), duration(l.Max))
	}
	if s := r.Server; s != nil && s.CPUPerRequest == 0 {
		fmt.Fprintf(t, "  server\tRSS %s to %s\n", size(float64(s.RSSBefore)), size(float64(s.RSSAfter)))
	} else if s != nil {
		fmt.Fprintf(t, "  server\t%s CPU each\tRSS %s to %s\t%s a connection\n", duration(s.CPUPerRequest), size(float64(s.RSSBefore)),
			size(float64(s.RSSAfter)), size(s.BytesPerConnection))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, v := range r.Values {
		fmt.Fprintf(&b, "  %s: %s\n", v.Name, quantity(v.Value, v.Unit))
	}
	for _, text := range r.errors() {
		fmt.Fprintf(&b, "  %s\n", text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// errors has a line for each kind.
func (r *Result) errors() (lines []string) {
	for _, kind := range slices.Sorted(maps.Keys(r.ByKind)) {
		line := fmt.Sprintf("error %s: %s", kind, count(float64(r.ByKind[kind])))
		if example := r.Examples[kind]; example != "" {
			line += fmt.Sprintf(", such as %q", example)
		}
		lines = append(lines, line)
	}
	return lines
}

// WriteTable writes the ratios of a comparison, a table for each scenario.
func WriteTable(w io.Writer, c *Comparison) error {
	for i, group := range c.Scenarios() {
		if i > 0 {
			fmt.Fprintln(w)
		}
		first := &group[0]
		fmt.Fprintf(w, "%s (%s containers, %s connections)\n", first.Title(), count(float64(first.Containers)), count(float64(first.Connections)))
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(t, "target\t%s/s\tratio\tCPU each\tratio\tmemory/conn\tratio\tp99\tratio\terrors\tlost\t\n", first.Unit)
		for i := range group {
			for _, cell := range row(&group[i], first) {
				fmt.Fprint(t, cell, "\t")
			}
			fmt.Fprintln(t)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		for _, v := range first.Values {
			var each []string
			for i := range group {
				if value, ok := group[i].value(v.Name); ok {
					each = append(each, group[i].Target+" "+quantity(value, v.Unit))
				}
			}
			fmt.Fprintf(w, "  %s: %s\n", v.Name, strings.Join(each, ", "))
		}
		for i := range group {
			for _, text := range group[i].errors() {
				fmt.Fprintf(w, "  %s: %s\n", group[i].Target, text)
			}
		}
	}
	return nil
}

// row is a line of the table: each ratio is above 1 where first is better.
func row(r, first *Result) []string {
	cpu, cpuRatio, memory, memoryRatio := "-", "-", "-", "-"
	if r.Server != nil {
		cpu, memory = duration(r.Server.CPUPerRequest), size(r.Server.BytesPerConnection)
		if first.Server != nil {
			cpuRatio = ratio(r.Server.CPUPerRequest, first.Server.CPUPerRequest)
			memoryRatio = ratio(r.Server.BytesPerConnection, first.Server.BytesPerConnection)
		}
	}
	return []string{
		r.Target, count(r.RPS), ratio(first.RPS, r.RPS), cpu, cpuRatio, memory, memoryRatio, duration(r.Latency.P99),
		ratio(r.Latency.P99, first.Latency.P99), count(float64(r.Errors)), count(float64(r.Lost)),
	}
}

// ratio is "-" where one of the two was not measured.
func ratio(a, b float64) string {
	if a <= 0 || b <= 0 {
		return "-"
	}
	return strconv.FormatFloat(a/b, 'f', 2, 64)
}

// count writes a number with a comma between thousands.
func count(v float64) string {
	digits := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// duration writes microseconds with three digits.
func duration(us float64) string {
	switch {
	case us >= 999_500:
		return three(us/1e6) + " s"
	case us >= 999.5:
		return three(us/1e3) + " ms"
	}
	return three(us) + " µs"
}

// size writes bytes with three digits and a binary prefix.
func size(bytes float64) string {
	unit := 0
	units := [...]string{"B", "KiB", "MiB", "GiB", "TiB"}
	for math.Abs(bytes) >= 999.5 && unit < len(units)-1 {
		bytes /= 1024
		unit++
	}
	return three(bytes) + " " + units[unit]
}

// three writes a number below 1000 with three digits.
func three(v float64) string {
	switch a := math.Abs(v); {
	case a == 0:
		return "0"
	case a < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case a < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// quantity writes a value in its unit.
func quantity(v float64, unit string) string {
	switch unit {
	case "us":
		return duration(v)
	case "bytes":
		return size(v)
	case "bytes/s":
		return size(v) + "/s"
	case "x", "%":
		return three(v) + " " + unit
	case "":
		return count(v)
	}
	return count(v) + " " + unit
}
