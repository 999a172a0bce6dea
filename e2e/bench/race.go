package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// side is one of those who do the same work.
type side struct {
	name string
	runs int // 0: as often as the bench says
	// run does the work once, round n, and says how long it took. What it prepares and removes isn't counted.
	run func(ctx context.Context, n int) (time.Duration, error)
}

// times are what the sides took, by the sides' order and by round; a side with fewer runs has fewer rounds.
type times [][]time.Duration

// race lets the sides take turns, each time another one first, so that what the machine does beside hits all alike.
func (b *bench) race(ctx context.Context, what string, sides ...side) (times, error) {
	took := make(times, len(sides))
	for n := range b.runs {
		for i := range sides {
			at := (i + n) % len(sides)
			s := sides[at]
			if s.runs > 0 && n >= s.runs {
				continue
			}
			d, err := s.run(ctx, n)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", what, s.name, err)
			}
			took[at] = append(took[at], d)
			b.logf("%s: round %d: %-40s %8.3fs", what, n+1, s.name, d.Seconds())
		}
	}
	return took, nil
}

// median of an even number of values is the mean of the middle two.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

func (t times) seconds(side int) []float64 {
	out := make([]float64, len(t[side]))
	for i, d := range t[side] {
		out[i] = d.Seconds()
	}
	return out
}

// ratios are how many times longer peer took than ours, round by round: the machine drifts between rounds.
func (t times) ratios(ours, peer int) []float64 {
	var out []float64
	for i := range min(len(t[ours]), len(t[peer])) {
		out = append(out, t[peer][i].Seconds()/t[ours][i].Seconds())
	}
	return out
}

// versus is the line of the table for two sides of a race.
type versus struct {
	section, what string
	goal          float64 // 0: none, for information
	ours, peer    int     // sides
	note          string
}

func (b *bench) compare(v versus, t times, sides ...side) {
	r := t.ratios(v.ours, v.peer)
	row := row{Section: v.section, What: v.what, Value: median(r), Unit: "×", Least: v.goal, Low: slices.Min(r), High: slices.Max(r), Runs: len(r), Note: v.note,
		Ours: &measured{sides[v.ours].name, median(t.seconds(v.ours)), "s"},
		Peer: &measured{sides[v.peer].name, median(t.seconds(v.peer)), "s"}}
	b.add(row)
}
