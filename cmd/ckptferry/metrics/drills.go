package metrics

import (
	"strconv"

	"github.com/ckptferry/ckptferry/raftstore"
)

var drillAge = newFamily(gauge, "drill_age_seconds", "Time since the beginning of the newest drill of the job that passed; level says how far it went. Nothing before the first.", "route", "job", "level")

// drills tells of the newest drill of each job that passed. A job whose route is gone is not told of any more.
func (s *scrape) drills() {
	newest := map[[2]string]raftstore.Drill{}
	for d := range s.view.AllDrills() {
		name := [2]string{d.Key.Route, d.Job}
		if d.Passed && !d.StartedAt.Before(newest[name].StartedAt) {
			newest[name] = d
		}
	}
	now := s.Now()
	for name, d := range newest {
		if _, there := s.view.Route(name[0]); there {
			s.tell(drillAge, max(now.Sub(d.StartedAt), 0).Seconds(), name[0], name[1], strconv.Itoa(int(d.Level)))
		}
	}
}
