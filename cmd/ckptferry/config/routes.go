package config

import (
	"path"
	"strconv"
	"strings"
	"time"
)

// Routes is a file of exports and routes: what a datacenter lets others read, and what it pulls. Either may be absent.
type Routes struct {
	Exports []Export `yaml:"exports"`
	Routes  []Route  `yaml:"routes"`
}

// Export is what the source datacenter lets others read.
type Export struct {
	Name         string   `yaml:"name"`
	Bases        []string `yaml:"bases"` // URIs as Flink names them, with the element {job} once
	AlsoReadable []string `yaml:"also_readable"`
	To           []string `yaml:"to"` // datacenters
}

// Route is what the target datacenter pulls.
type Route struct {
	Name string `yaml:"name"`
	From From   `yaml:"from"`
	Root string `yaml:"root"` // as Flink at the target names it
	Jobs Jobs   `yaml:"jobs"`
	Mode string `yaml:"mode"` // continuous (also when empty), paused or on_demand
	Keep int32  `yaml:"keep"` // READY checkpoints of a job; 0: all
	// KeepFor and KeepDaily keep more of them: those that are younger, and the last one of each of so many days.
	KeepFor        time.Duration `yaml:"keep_for"`
	KeepDaily      int32         `yaml:"keep_daily"`
	KeepSavepoints int32         `yaml:"keep_savepoints"` // READY savepoints of a job; 0: all
	// Grace is how long files that no replica needs lie before they go to the trash, and how long they lie there; 0: 24 h.
	Grace    time.Duration `yaml:"grace"`
	Priority int32         `yaml:"priority"`
	Paths    string        `yaml:"paths"` // absolute (also when empty) or relative
	Rate     Rate          `yaml:"rate"`  // of all copies of the route together
}

// From names an export of another datacenter.
type From struct {
	DC     string `yaml:"dc"`
	Export string `yaml:"export"`
}

// Jobs chooses jobs by patterns of their names (path.Match).
type Jobs struct {
	Include []string `yaml:"include"`
	Exclude []string `yaml:"exclude"`
}

// ReadRoutes reads a file of exports and routes. What is wrong with it is *Errors. The group checks once more, and
// what only it knows.
func ReadRoutes(file string) (Routes, error) {
	var r Routes
	d, err := read(file, &r)
	if err != nil {
		return Routes{}, err
	}
	exports, routes := map[string]bool{}, map[string]bool{}
	for i := range r.Exports {
		at := at("exports", i)
		d.unique(at, r.Exports[i].Name, exports)
		d.export(at, r.Exports[i])
	}
	for i := range r.Routes {
		at := at("routes", i)
		d.unique(at, r.Routes[i].Name, routes)
		d.route(at, &r.Routes[i])
	}
	if err := d.err(); err != nil {
		return Routes{}, err
	}
	return r, nil
}

// at is the path of a list's element.
func at(list string, i int) keys { return keys{list, strconv.Itoa(i)} }

// unique checks the name of an element of a list.
func (d *document) unique(p keys, name string, seen map[string]bool) {
	d.name(p.in("name"), name)
	if name != "" && seen[name] {
		d.problem(p.in("name"), "%s: %q is there twice", describe(p), name)
	}
	seen[name] = true
}

func (d *document) export(p keys, e Export) {
	if len(e.Bases) == 0 {
		d.problem(p.in("bases"), "%s: bases are missing: where jobs keep checkpoints, like hdfs://dc1/flink/checkpoints/{job}", describe(p))
	}
	for i, base := range e.Bases {
		here := p.in("bases").in(strconv.Itoa(i))
		u, ok := d.uri(here, base)
		if ok && jobElements(u.Path) != 1 {
			d.problem(here, "%q: want {job} once, as a whole element of the path: it stands for the job's name; the JobID directories lie below", base)
		}
	}
	for i, place := range e.AlsoReadable {
		d.uri(p.in("also_readable").in(strconv.Itoa(i)), place)
	}
	if len(e.To) == 0 {
		d.problem(p.in("to"), "%s: to is missing: the datacenters that may read", describe(p))
	}
	for i, dc := range e.To {
		d.name(p.in("to").in(strconv.Itoa(i)), dc)
	}
}

// jobElements counts {job}; one that is only a part of an element makes it wrong.
func jobElements(p string) int {
	n := 0
	for element := range strings.SplitSeq(p, "/") {
		switch {
		case element == "{job}":
			n++
		case strings.ContainsAny(element, "{}"):
			return -1
		}
	}
	return n
}

func (d *document) route(p keys, r *Route) {
	d.name(p.in("from").in("dc"), r.From.DC)
	d.name(p.in("from").in("export"), r.From.Export)
	if r.Root == "" {
		d.problem(p.in("root"), "%s: root is missing: the directory for replicas, as Flink here names it", describe(p))
	} else if u, ok := d.uri(p.in("root"), r.Root); ok && u.Path == "/" {
		d.problem(p.in("root"), "%q: name a directory of ckptferry's own, not the root of the file system", r.Root)
	}
	if r.Mode == "" {
		r.Mode = "continuous"
	}
	if r.Paths == "" {
		r.Paths = "absolute"
	}
	d.oneOf(p.in("mode"), r.Mode, "continuous", "paused", "on_demand")
	d.oneOf(p.in("paths"), r.Paths, "absolute", "relative")
	if r.Keep < 0 {
		d.problem(p.in("keep"), "keep: %d: want 0 (all) or more", r.Keep)
	}
	for key, n := range map[string]int32{"keep_daily": r.KeepDaily, "keep_savepoints": r.KeepSavepoints} {
		if n < 0 {
			d.problem(p.in(key), "%s: %d: want 0 or more", key, n)
		}
	}
	for key, v := range map[string]time.Duration{"keep_for": r.KeepFor, "grace": r.Grace} {
		if v < 0 {
			d.problem(p.in(key), "%s: %s: want 0 or more", key, v)
		}
	}
	if r.Keep == 0 && (r.KeepFor > 0 || r.KeepDaily > 0) {
		d.problem(p.in("keep"), "%s: keep_for and keep_daily keep more than keep does, and without keep (or with 0) all are kept: say keep: 1 or more", describe(p))
	}
	for list, patterns := range map[string][]string{"include": r.Jobs.Include, "exclude": r.Jobs.Exclude} {
		for i, pattern := range patterns {
			if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
				d.problem(p.in("jobs").in(list).in(strconv.Itoa(i)), "%q is no pattern of names: * and ? stand for any letters, [a-z] for one of them", pattern)
			}
		}
	}
}
