package migrate

import (
	"slices"
	"sync"
	"time"

	"github.com/ckptferry/ckptferry/replicator/agent"
)

// What is remembered of copies: enough for a median, and few enough that last week's network is forgotten.
const (
	copiesOfJob   = 5
	copiesOfRoute = 20
)

// rateFrom is how many bytes a copy must have read before it says anything of a rate: of a small one the round trips are
// what takes time.
const rateFrom = 1 << 20

// Copies remembers how fast this agent has copied, also before it led. It is an agent.Observer; the zero value is ready.
// What the other agents of the group have copied is not in it: their links are taken to be alike.
type Copies struct {
	mu     sync.Mutex
	routes map[string][]measured
	jobs   map[[2]string][]measured // by route and job
}

// measured is one copy.
type measured struct {
	bytes int64 // read at the source
	took  time.Duration
}

// CopyEnded implements agent.Observer.
func (c *Copies) CopyEnded(of agent.Copy) {
	if of.Result != agent.CopyReady || of.Times.Started.IsZero() || of.Times.Ended.IsZero() {
		return
	}
	job := measured{of.Bytes, of.Times.Ended.Sub(of.Times.Started)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.jobs == nil {
		c.routes, c.jobs = map[string][]measured{}, map[[2]string][]measured{}
	}
	key := [2]string{of.Route, of.Job}
	c.jobs[key] = last(append(c.jobs[key], job), copiesOfJob)
	if moving := of.Times.Verified.Sub(of.Times.FirstByte); !of.Times.FirstByte.IsZero() && of.Bytes >= rateFrom && moving > 0 {
		c.routes[of.Route] = last(append(c.routes[of.Route], measured{of.Bytes, moving}), copiesOfRoute)
	}
}

func last[T any](all []T, n int) []T {
	return slices.Clone(all[max(0, len(all)-n):])
}

// Rate is what the route's recent copies together read and verified in a second; 0: nothing was measured.
func (c *Copies) Rate(route string) (bytesPerSecond float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var bytes int64
	var took time.Duration
	for _, m := range c.routes[route] {
		bytes += m.bytes
		took += m.took
	}
	if took <= 0 {
		return 0
	}
	return float64(bytes) / took.Seconds()
}

// Delta is what the job's recent copies had to read, their median; false: nothing was measured.
func (c *Copies) Delta(route, job string) (bytes int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []int64
	for _, m := range c.jobs[[2]string{route, job}] {
		all = append(all, m.bytes)
	}
	if len(all) == 0 {
		return 0, false
	}
	return median(all), true
}

// median is the middle one; of two the larger. all must not be empty.
func median[T int64 | time.Duration](all []T) T {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}
