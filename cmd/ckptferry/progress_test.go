package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/replicator"
)

func TestALogGetsALineAMinute(t *testing.T) {
	for after, want := range map[time.Duration]int{59 * time.Second: 0, 3*time.Minute - time.Second: 2} {
		synctest.Test(t, func(t *testing.T) {
			var (
				log strings.Builder
				m   replicator.Meter
			)
			stop := showProgress(&log, &m)
			time.Sleep(after)
			stop()
			if lines := strings.Count(log.String(), "\n"); lines != want || strings.ContainsAny(log.String(), "\r\x1b") {
				t.Errorf("after %s: %q; want %d plain lines", after, log.String(), want)
			}
		})
	}
}
