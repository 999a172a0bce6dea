package rpc

import (
	"fmt"
	"testing"
	"time"
)

func TestRefusalsAreToldOnceAMinute(t *testing.T) {
	s, at := newSeldom(), time.Unix(1e9, 0)
	told := 0
	for range 300 { // once a second
		if untold, due := s.due("h", at); due {
			if told++; told > 1 && untold != 59 {
				t.Errorf("%d untold", untold)
			}
		}
		at = at.Add(time.Second)
	}
	if told != 5 {
		t.Errorf("told %d times in five minutes", told)
	}
	if _, due := s.due("other", at); !due {
		t.Error("another one waits for the first")
	}
	for i := range 2 * toldMost {
		s.due(fmt.Sprint(i), at)
	}
	if len(s.last) > toldMost {
		t.Errorf("%d are remembered", len(s.last))
	}
	if _, due := s.due("later", at.Add(2*toldEvery)); !due || len(s.last) != 1 {
		t.Errorf("those of long ago are not forgotten: %d", len(s.last))
	}
}
