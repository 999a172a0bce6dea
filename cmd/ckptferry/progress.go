package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/ckptferry/ckptferry/replicator"
)

// progressEvery is how often the line is drawn anew.
const progressEvery = 200 * time.Millisecond

// showProgress keeps one line on a terminal up to date until the returned function is called. When stderr is no
// terminal nothing is drawn, so that logs and pipes stay clean.
func showProgress(w io.Writer, m *replicator.Meter) (stop func()) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		var rate rateMeter
		for {
			select {
			case <-end:
				_, _ = io.WriteString(w, "\r\x1b[K")
				return
			case now := <-tick.C:
				width, _, err := term.GetSize(int(f.Fd()))
				if err != nil || width < 20 {
					width = 80
				}
				line := progressLine(m, rate.at(now, m.BytesDone.Load()))
				if len(line) > width-1 {
					line = line[:width-1]
				}
				_, _ = fmt.Fprintf(w, "\r%s\x1b[K", line)
			}
		}
	}()
	return func() { close(end); <-done }
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
