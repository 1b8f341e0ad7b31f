package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/libvirt"
)

// benchReport is the result, with times in seconds and sizes in bytes.
type benchReport struct {
	Host     libvirt.Info  `json:"host"`
	Rows     []benchRow    `json:"rows"`
	Template float64       `json:"template_seconds"` // to make the template
	Memory   *benchMemory  `json:"memory,omitempty"`
	Refill   []benchRefill `json:"refill,omitempty"`
}

// benchRow is one way to come by a machine.
type benchRow struct {
	Name    string    `json:"name"`
	Seconds []float64 `json:"seconds"` // to the first output
	Median  float64   `json:"median"`
}

type benchMemory struct {
	Forks   int   `json:"forks"`
	Private int64 `json:"private"` // median of what a fork has for itself
	Total   int64 `json:"total"`   // of all forks, what they share counted once
}

type benchRefill struct {
	Beside    string  `json:"beside"` // what check ran meanwhile
	Forks     int     `json:"forks"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	if len(sorted)%2 == 1 {
		return sorted[len(sorted)/2]
	}
	return (sorted[len(sorted)/2-1] + sorted[len(sorted)/2]) / 2
}

func (b *bench) row(name string) (benchRow, bool) {
	i := slices.IndexFunc(b.report.Rows, func(r benchRow) bool { return r.Name == name })
	if i < 0 {
		return benchRow{}, false
	}
	return b.report.Rows[i], true
}

// print prints the table: each row's median, and how many times quicker than the
// cold boots before it.
func (b *bench) print() error {
	if b.o.json {
		return json.NewEncoder(b.e.out).Encode(b.report)
	}
	tw := tabwriter.NewWriter(b.e.out, 2, 8, 2, ' ', 0)
	against := []string{"cold boot", "cold, boot over"}
	if len(b.o.deb) > 0 {
		against = append(against, "cold, configured")
	}
	fmt.Fprintf(tw, "\tmedian\tagainst %s\n", strings.Join(against, "\tagainst "))
	for _, r := range b.report.Rows {
		fmt.Fprintf(tw, "%s\t%.3f s", r.Name, r.Median)
		for _, name := range against {
			if cold, ok := b.row(name); ok {
				fmt.Fprintf(tw, "\t%.1f times", cold.Median/r.Median)
			}
		}
		fmt.Fprintln(tw)
	}
	if m := b.report.Memory; m != nil {
		fmt.Fprintf(tw, "memory of a fork\t%s\t%d alive: %s\n", runner.Bytes(m.Private), m.Forks, runner.Bytes(m.Total))
	}
	for _, r := range b.report.Refill {
		fmt.Fprintf(tw, "pool refills\t%.1f a second\tbeside %s\n", r.PerSecond, r.Beside)
	}
	return tw.Flush()
}
