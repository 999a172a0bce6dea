package units

import (
	"testing"
)

func TestRates(t *testing.T) {
	for text, want := range map[string]int64{
		"200MiB/s": 200 << 20, "200M": 200 << 20, "1.5GiB": 3 << 29, "800k": 800 << 10, "1000000": 1_000_000, " 7 b/s ": 7, "2 MB/s": 2 << 20,
		"none": 0, "None": 0, "off": 0, "0": 0, "0MiB/s": 0, "": 0,
	} {
		got, err := ParseRate(text)
		if err != nil || got != want {
			t.Errorf("ParseRate(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"-1", "-1MiB/s", "fast", "1Mbit/s", "MiB/s", "0.1b", "1e300", "NaN", "9999999999GiB", "1 2MiB"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("ParseRate(%q) = %d, want an error", text, got)
		}
	}
}

func TestARateThatWasWrittenReadsAsWhatItWas(t *testing.T) {
	for bytesPerSecond, want := range map[int64]string{0: "none", 7: "7 B/s", 1 << 20: "1.0 MiB/s", 200 << 20: "200.0 MiB/s", 3 << 29: "1.5 GiB/s"} {
		text := Rate(bytesPerSecond)
		if back, err := ParseRate(text); text != want || err != nil || back != bytesPerSecond {
			t.Errorf("Rate(%d) = %q, want %q; it reads as %d, %v", bytesPerSecond, text, want, back, err)
		}
	}
}
