package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one flow at one host.
type row struct {
	flow, direction, role, state string
	parts, bytes                 int64
	took                         time.Duration // 0: nothing was moved
	equal                        string
}

// The columns with numbers. They are aligned to the right, which a tabwriter does for all columns or none.
const firstNumber, lastNumber = 4, 7

// writeTable writes the rows under their headings.
func writeTable(w io.Writer, rows []row) error {
	lines := [][]string{{"FLOW", "DIRECTION", "ROLE", "STATE", "PARTS", "BYTES", "SECONDS", "MB/S", "SHA-256 EQUAL"}}
	for _, r := range rows {
		lines = append(lines, r.cells())
	}
	for column := firstNumber; column <= lastNumber; column++ {
		alignRight(lines, column)
	}
	return align(w, lines)
}

// writeHosts writes where the hosts are.
func writeHosts(w io.Writer, hosts []*host) error {
	lines := [][]string{{"HOST", "SIGNALING", "PUBLIC", "ADMIN", "LOG"}}
	for _, h := range hosts {
		lines = append(lines, []string{h.name, address(h.signaling), address(h.public), address(h.admin), shorten(h.log)})
	}
	return align(w, lines)
}

// align writes lines of cells as columns.
func align(w io.Writer, lines [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, cells := range lines {
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

func alignRight(lines [][]string, column int) {
	width := 0
	for _, cells := range lines {
		width = max(width, len(cells[column]))
	}
	for _, cells := range lines {
		cells[column] = fmt.Sprintf("%*s", width, cells[column])
	}
}

func (r row) cells() []string {
	seconds, speed := "-", "-"
	if r.took > 0 {
		seconds = strconv.FormatFloat(r.took.Seconds(), 'f', 2, 64)
		speed = strconv.FormatFloat(float64(r.bytes)/1e6/r.took.Seconds(), 'f', 1, 64)
	}
	return []string{r.flow, r.direction, r.role, r.state, grouped(r.parts), grouped(r.bytes), seconds, speed, r.equal}
}
