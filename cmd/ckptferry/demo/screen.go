package demo

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
)

// screen is where the demo speaks. On a terminal some lines below all that was said are drawn anew each time.
type screen struct {
	out   io.Writer
	width func() int // of the terminal; nil: there is none
	drawn []string
}

// say prints a line that stays.
func (s *screen) say(format string, args ...any) {
	text := s.erase() + fmt.Sprintf(format, args...) + "\n" + s.lines(s.drawn)
	_, _ = io.WriteString(s.out, text)
}

// draw prints lines in the place of those that were drawn before. It is for a terminal.
func (s *screen) draw(lines []string) {
	text := s.erase() + s.lines(lines)
	s.drawn = slices.Clone(lines)
	_, _ = io.WriteString(s.out, text)
}

// erase moves to the first of the lines that were drawn, and clears from there.
func (s *screen) erase() string {
	if len(s.drawn) == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", len(s.drawn))
}

// lines cuts each at the terminal's width: one that wraps would not be erased.
func (s *screen) lines(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		if runes := []rune(line); s.width != nil && len(runes) >= s.width() {
			line = string(runes[:s.width()-1])
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// lagLine is one job's lag.
func lagLine(j *ckptferryv1.JobLag) string {
	ready, time, rpo := "nothing", "unknown", "unknown"
	if j.ReadyCheckpointId != nil {
		ready = fmt.Sprintf("chk-%d", j.GetReadyCheckpointId())
	}
	if j.GetTimeLag() != nil {
		time = seconds(j.GetTimeLag().AsDuration())
	}
	if j.GetRpo() != nil {
		rpo = seconds(j.GetRpo().AsDuration())
	}
	line := fmt.Sprintf("%-26s  %-13s  READY %-7s  lag %-7s  RPO %-7s", j.GetJob(), strings.TrimPrefix(j.GetState().String(), "LAG_STATE_"), ready, time, rpo)
	return strings.TrimRight(line+"  "+j.GetReason(), " ")
}

// seconds writes a time for people.
func seconds(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
