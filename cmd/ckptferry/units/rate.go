package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseRate reads bytes per second: "200MiB/s", "1.5GiB", "800k", "1000000". Units are powers of 1024, as rclone's
// --bwlimit has them; "none", "off" and "0" are 0, no bound.
func ParseRate(s string) (int64, error) {
	text := strings.TrimSuffix(strings.TrimSpace(s), "/s")
	if text == "" || strings.EqualFold(text, "off") || strings.EqualFold(text, "none") {
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

// Rate is bytes per second for a person.
func Rate(bytesPerSecond int64) string {
	if bytesPerSecond <= 0 {
		return "none"
	}
	return Bytes(bytesPerSecond) + "/s"
}
