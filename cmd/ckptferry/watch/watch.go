// Package watch shows an answer again and again: on a terminal in one place, else one below the other.
package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// Every is how long an answer stands.
const Every = 2 * time.Second

// What a terminal is told.
const (
	clearAll  = "\x1b[2J"
	home      = "\x1b[H"
	clearLine = "\x1b[K"
	clearRest = "\x1b[J"
)

// Screen is where answers are shown.
type Screen struct {
	Out  io.Writer
	Size func() (columns, rows int) // of the terminal; nil: Out is none
}

// On is a screen on w, which may be a terminal.
func On(w io.Writer) Screen {
	s := Screen{Out: w}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return s
	}
	s.Size = func() (int, int) {
		columns, rows, err := term.GetSize(int(f.Fd()))
		if err != nil || columns < 20 || rows < 3 {
			return 80, 24
		}
		return columns, rows
	}
	return s
}

// Terminal says whether it is one.
func (s Screen) Terminal() bool { return s.Size != nil }

// Run shows what frame writes, each two seconds until ctx ends, which is no error. An error of the first frame is
// returned; later ones are shown in the place of an answer, since whoever watches waits for it to come back.
func (s Screen) Run(ctx context.Context, frame func(ctx context.Context, to io.Writer) error) error {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for first := true; ; first = false {
		var to bytes.Buffer
		err := frame(ctx, &to)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			_, werr := s.Out.Write(to.Bytes())
			return errors.Join(err, werr)
		case err != nil:
			fmt.Fprintf(&to, "error: %v\n", err)
		}
		if err := s.show(to.String(), first); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s Screen) show(text string, first bool) error {
	if !s.Terminal() {
		if !first {
			text = "\n" + text
		}
		_, err := io.WriteString(s.Out, text)
		return err
	}
	var out strings.Builder
	if out.WriteString(home); first {
		out.WriteString(clearAll)
	}
	columns, rows := s.Size()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) > rows-1 {
		lines = append(lines[:rows-2], fmt.Sprintf("… and %d more lines", len(lines)-(rows-2)))
	}
	for _, line := range lines {
		out.WriteString(cut(line, columns) + clearLine + "\r\n")
	}
	out.WriteString(clearRest)
	_, err := io.WriteString(s.Out, out.String())
	return err
}

// cut makes a line fit, so that none takes two rows.
func cut(line string, columns int) string {
	if utf8.RuneCountInString(line) <= columns {
		return line
	}
	return string([]rune(line)[:columns-1]) + "…"
}
