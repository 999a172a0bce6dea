package main

import (
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/units"
)

// humanBytes is a size for a person.
func humanBytes(n int64) string { return units.Bytes(n) }

// humanDuration is a duration for a person.
func humanDuration(d time.Duration) string { return units.Duration(d) }
