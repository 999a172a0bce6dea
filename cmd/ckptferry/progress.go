package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/ckptferry/ckptferry/replicator"
)

// How often the line on a terminal is drawn anew, and how often a line goes into a log.
const (
	progressEvery = 200 * time.Millisecond
	logEvery      = time.Minute
)

// showProgress says how far the work is until the returned function is called: in one line that is drawn anew where w is
// a terminal, else in a plain line each minute, so that a log shows that long work goes on and short work leaves none.
func showProgress(w io.Writer, m *replicator.Meter) (stop func()) {
	every, draw, clear := logEvery, func(line string) { _, _ = fmt.Fprintln(w, line) }, func() {}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		every, draw = progressEvery, func(line string) { _, _ = fmt.Fprintf(w, "\r%s\x1b[K", cut(line, f)) }
		clear = func() { _, _ = io.WriteString(w, "\r\x1b[K") }
	}
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		var rate rateMeter
		rate.at(time.Now(), m.BytesDone.Load())
		for {
			select {
			case <-end:
				clear()
				return
			case now := <-tick.C:
				draw(progressLine(m, rate.at(now, m.BytesDone.Load())))
			}
		}
	}()
	return func() { close(end); <-done }
}

// cut makes a line fit the terminal.
func cut(line string, terminal *os.File) string {
	return line[:min(len(line), columns(terminal)-1)]
}

// columns is the terminal's width, or what most have when it doesn't say.
func columns(terminal *os.File) int {
	width, _, err := term.GetSize(int(terminal.Fd()))
	if err != nil || width < 20 {
		return 80
	}
	return width
}

// progressLine is plain ASCII, so that it can be cut at the terminal's width.
func progressLine(m *replicator.Meter, bytesPerSecond float64) string {
	if m.Phase() != replicator.PhaseCopy {
		return m.Phase().String() + " ..."
	}
	done, all := m.BytesDone.Load(), m.Bytes.Load()
	percent := 100.0
	if all > 0 {
		percent = 100 * float64(done) / float64(all)
	}
	line := fmt.Sprintf("%3.0f%%  %d/%d files  %s/%s  %s/s", percent, m.FilesDone.Load(), m.Files.Load(),
		humanBytes(done), humanBytes(all), humanBytes(int64(bytesPerSecond)))
	if bytesPerSecond > 0 && done < all {
		line += "  ETA " + humanDuration(time.Duration(float64(all-done)/bytesPerSecond*float64(time.Second)).Round(time.Second))
	}
	if n := m.Retries.Load(); n > 0 {
		line += fmt.Sprintf("  %d retries", n)
	}
	return line
}

// rateMeter smooths the rate over the last seconds.
type rateMeter struct {
	times [25]time.Time
	bytes [25]int64
	n     int
}

func (r *rateMeter) at(now time.Time, bytes int64) float64 {
	i := r.n % len(r.times)
	oldest := 0
	if r.n >= len(r.times) {
		oldest = i
	}
	t0, b0 := r.times[oldest], r.bytes[oldest]
	r.times[i], r.bytes[i] = now, bytes
	r.n++
	if r.n == 1 || !now.After(t0) {
		return 0
	}
	return max(0, float64(bytes-b0)/now.Sub(t0).Seconds())
}
