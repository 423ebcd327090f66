package data

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"peftsearch/data/metric"
)

// Stratified is the way of carving in which every class keeps its share in dev and test.
const Stratified = "stratified"

// carve moves rows of Train to the splits that have no file.
func (d *Dataset) carve() error {
	rows := d.Train
	dev, test := 0, 0
	if d.Task.Dev == "" {
		dev = max(2, int(math.Round(d.Task.DevShare*float64(len(rows)))))
	}
	if d.Task.Test == "" && d.Task.TestShare > 0 {
		test = max(1, int(math.Round(d.Task.TestShare*float64(len(rows)))))
	}
	if dev+test == 0 {
		return nil
	}

	// Whole groups of rows that say much about each other are dealt.
	group, size := make([]int, len(rows)), []int{}
	known := map[string]int{}
	for i, e := range rows {
		key := kinds[d.Task.Kind].group(e.Row)
		g, ok := known[key]
		if !ok {
			g = len(size)
			known[key] = g
			size = append(size, 0)
		}
		group[i] = g
		size[g]++
	}
	seed := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("split"), d.Task.SplitSeed))
	random := rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:])))
	order, kept := random.Perm(len(size)), make([]bool, len(size))
	if d.Task.Split == Stratified && len(d.Labels) > 0 {
		order, kept = d.stratify(group, order)
	}
	target := make([]*[]Example, len(size))
	for _, g := range order {
		switch {
		case kept[g]:
			target[g] = &d.Train
		case dev > 0:
			target[g] = &d.Dev
			dev -= size[g]
		case test > 0:
			target[g] = &d.Test
			test -= size[g]
		default:
			target[g] = &d.Train
		}
	}
	d.Train = nil
	for i, e := range rows {
		*target[group[i]] = append(*target[group[i]], e)
	}
	if len(d.Train) == 0 || dev > 0 || test > 0 {
		return fmt.Errorf("%s: %d rows are too few to carve out dev and test: give files or more rows",
			d.Task.Train, len(rows))
	}
	return nil
}

// stratify brings groups in a random order into one of which every beginning has each class in
// proportion, rounded up: the i-th of n groups of a class stands at i/n. kept marks the last group of each
// class, which stays in train.
func (d *Dataset) stratify(group, order []int) (stratified []int, kept []bool) {
	classes := make([][]int, len(order)) // of each group
	for i, e := range d.Train {
		for _, class := range kinds[d.Task.Kind].counted(e.Target) {
			if !slices.Contains(classes[group[i]], class) {
				classes[group[i]] = append(classes[group[i]], class)
			}
		}
	}
	first := func(g int) int { // a group counts for the first class of its first row
		if len(classes[g]) == 0 {
			return len(d.Labels) // rows without a label are a class of their own
		}
		return classes[g][0]
	}
	count, seen := make([]int, len(d.Labels)+1), make([]int, len(d.Labels)+1)
	for _, g := range order {
		count[first(g)]++
	}
	place := make([]float64, len(order))
	for _, g := range order {
		class := first(g)
		place[g] = float64(seen[class]) / float64(count[class])
		seen[class]++
	}
	stratified = slices.Clone(order)
	slices.SortStableFunc(stratified, func(a, b int) int { return cmp.Compare(place[a], place[b]) })
	kept = make([]bool, len(order))
	safe := make([]bool, len(d.Labels))
	for _, g := range slices.Backward(stratified) {
		for _, class := range classes[g] {
			if !safe[class] {
				safe[class], kept[g] = true, true
			}
		}
	}
	return stratified, kept
}

// checkSplits refuses splits on which no two plans can be told apart.
func (d *Dataset) checkSplits() error {
	advice := "name other rows under task.dev"
	if d.Task.Dev == "" {
		advice = "raise task.dev_share, or name a file under task.dev"
	}
	for _, split := range []struct {
		name string
		rows []Example
		why  string
	}{
		{"train", d.Train, "there is nothing to learn"},
		{"dev", d.Dev, fmt.Sprintf("%s cannot tell plans apart: %s", d.Task.Metric, advice)},
	} {
		what := d.constant(split.rows)
		if what == "" && len(split.rows) > 1 {
			continue
		}
		if len(split.rows) == 1 {
			what = "it has 1 row"
		}
		return fmt.Errorf("%s: %s: %s", split.name, what, split.why)
	}
	return nil
}

// constant says what all rows have in common if their targets do not differ, "" if they do.
func (d *Dataset) constant(rows []Example) string {
	kind, first := kinds[d.Task.Kind], rows[0].Target
	for _, e := range rows {
		same := slices.Equal(e.Target, first)
		if kind.form() == metric.Tags || kind.form() == metric.Classes { // parts are decided one by one
			same = !slices.ContainsFunc(e.Target, func(class float64) bool { return class != first[0] })
		}
		if !same {
			return ""
		}
	}
	if d.Task.Kind.Numeric() {
		return fmt.Sprintf("all %d targets are %g", len(rows), rows[0].Target[0])
	}
	if kind.writes() {
		return fmt.Sprintf("all %d rows have the same text", len(rows))
	}
	labels := slices.Compact(kind.say(rows[0].Row, first, d.Labels))
	return fmt.Sprintf("all %d rows have the label %q", len(rows), cmp.Or(strings.Join(labels, ", "), "none"))
}
