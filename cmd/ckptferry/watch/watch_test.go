package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// run shows three frames, the second of which fails, and returns what was written.
func run(t *testing.T, size func() (int, int), frame func(n int) (string, error)) (string, error) {
	t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 2*Every+time.Millisecond)
	defer cancel()
	n := 0
	err := Screen{Out: &out, Size: size}.Run(ctx, func(_ context.Context, to io.Writer) error {
		text, err := frame(n)
		n++
		_, _ = io.WriteString(to, text)
		return err
	})
	return out.String(), err
}

func TestWithoutATerminalAnswersFollowEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := run(t, nil, func(n int) (string, error) {
			if n == 1 {
				return "", errors.New("no agent")
			}
			return fmt.Sprintf("answer %d\n", n), nil
		})
		if want := "answer 0\n\nerror: no agent\n\nanswer 2\n"; got != want || err != nil {
			t.Errorf("wrote %q, %v; want %q", got, err, want)
		}
	})
}

func TestOnATerminalAnAnswerTakesThePlaceOfTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := run(t, func() (int, int) { return 20, 5 }, func(int) (string, error) {
			return "short\n" + strings.Repeat("ä", 30) + "\n3\n4\n5\n6\n", nil
		})
		frame := "short" + clearLine + "\r\n" + strings.Repeat("ä", 19) + "…" + clearLine + "\r\n3" + clearLine + "\r\n… and 3 more lines" + clearLine + "\r\n" + clearRest
		if want := home + clearAll + frame + home + frame + home + frame; got != want || err != nil {
			t.Errorf("wrote %q, %v; want %q", got, err, want)
		}
	})
}

func TestAFirstAnswerThatFailsEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("no such job")
		if got, err := run(t, nil, func(int) (string, error) { return "", broken }); !errors.Is(err, broken) || got != "" {
			t.Errorf("wrote %q, %v; want nothing, and the error", got, err)
		}
	})
}
