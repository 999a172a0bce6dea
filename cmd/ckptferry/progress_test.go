package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckptferry/ckptferry/replicator"
)

func TestALogGetsALineAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			log strings.Builder
			m   replicator.Meter
		)
		stop := showProgress(&log, &m)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if log.Len() > 0 {
			t.Errorf("within the first minute: %q", log.String())
		}
		time.Sleep(2 * time.Minute)
		stop()
		if lines := strings.Count(log.String(), "\n"); lines != 2 || strings.ContainsAny(log.String(), "\r\x1b") {
			t.Errorf("after three minutes: %q; want two plain lines", log.String())
		}
	})
}
