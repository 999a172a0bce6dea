package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/units"
)

// parseRate reads bytes per second: "200MiB/s", "1.5GiB", "800k", "1000000". Units are powers of 1024, as rclone's
// --bwlimit has them; "off" and "0" are no bound.
func parseRate(s string) (int64, error) {
	text := strings.TrimSuffix(strings.TrimSpace(s), "/s")
	if text == "" || strings.EqualFold(text, "off") {
		return 0, nil
	}
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	factor := 1.0
	switch unit := strings.ToLower(text[len(number):]); unit {
	case "", "b":
	case "k", "kb", "kib":
		factor = 1 << 10
	case "m", "mb", "mib":
		factor = 1 << 20
	case "g", "gb", "gib":
		factor = 1 << 30
	default:
		return 0, fmt.Errorf("rate %q: unknown unit %q: want one like 200MiB/s", s, unit)
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || v < 0 || math.IsNaN(v) || v*factor > math.MaxInt64/2 {
		return 0, fmt.Errorf("rate %q: want one like 200MiB/s", s)
	}
	if v > 0 && v*factor < 1 {
		return 0, fmt.Errorf("rate %q: less than one byte a second", s)
	}
	return int64(v * factor), nil
}

// humanBytes is a size for a person.
func humanBytes(n int64) string { return units.Bytes(n) }

// humanDuration is a duration for a person.
func humanDuration(d time.Duration) string { return units.Duration(d) }
