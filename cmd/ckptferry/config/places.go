package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ckptferry/ckptferry/fsutil"
)

// Place is one of the stores, its URIs read.
type Place struct {
	Prefixes []fsutil.URI // what Flink names it: the store's key, then `also`
	Reach    fsutil.URI   // where it is reached from here
	HDFS     HDFS
}

// stores reads them into Places, in the order of their prefixes.
func (c agentCheck) stores() {
	if len(c.cfg.Stores) == 0 {
		c.problem(keys{"stores"}, "stores is missing: say by URI prefix, as Flink names it, which places this agent may use, like `hdfs://dc1: {}`")
		return
	}
	seen := map[fsutil.URI]string{}
	for _, key := range slices.Sorted(maps.Keys(c.cfg.Stores)) {
		store := c.cfg.Stores[key]
		at := keys{"stores", key}
		place := Place{HDFS: store.HDFS}
		names := map[string]keys{key: at}
		for i, also := range store.Also {
			names[also] = at.in("also").in(strconv.Itoa(i))
		}
		for _, name := range append([]string{key}, store.Also...) {
			u, ok := c.uri(names[name], name)
			if !ok {
				continue
			}
			if other, twice := seen[u]; twice {
				c.problem(names[name], "stores: %q is there twice, also as %q", name, other)
			}
			seen[u] = name
			place.Prefixes = append(place.Prefixes, u)
		}
		if c.reach(at, key, store, &place) {
			c.cfg.Places = append(c.cfg.Places, place)
		}
	}
}

// uri reads one that Flink writes, or that says where a place is reached.
func (d *document) uri(p keys, s string) (fsutil.URI, bool) {
	u, err := fsutil.ParseURI(s)
	switch {
	case err != nil:
		d.problem(p, "%v", err)
	case !strings.HasPrefix(s, u.Scheme+":"):
		d.problem(p, "%q: want a URI, like hdfs://dc1/flink or file:/mnt/flink", s)
	default:
		return u, true
	}
	return u, false
}

// reach finds where the place is reached from here, and with which settings.
func (c agentCheck) reach(at keys, key string, store Store, place *Place) bool {
	ok := len(place.Prefixes) == 1+len(store.Also)
	if ok {
		place.Reach = place.Prefixes[0]
	}
	from := at
	if store.Reach != "" {
		from = at.in("reach")
		var read bool
		place.Reach, read = c.uri(from, store.Reach)
		ok = ok && read
	}
	if !ok {
		return false
	}
	before := len(c.problems)
	switch scheme := place.Reach.Scheme; {
	case scheme != "file" && scheme != "hdfs":
		c.problem(from, "stores: %s can't be reached by scheme %q: say with `reach:` where it is as a directory (file:/mnt/…) or on HDFS", key, scheme)
	case scheme == "file" && c.has("stores", key, "hdfs"):
		c.problem(at.in("hdfs"), "stores: %s is reached at %s, which is not HDFS: leave hdfs out", key, place.Reach)
	}
	if len(store.HDFS.Namenodes) > 0 && place.Reach.Authority == "" {
		c.problem(at.in("hdfs").in("namenodes"), "stores: %s names no nameservice, so namenodes belong to none: write hdfs://NAME", key)
	}
	for i, addr := range store.HDFS.Namenodes {
		c.address(at.in("hdfs").in("namenodes").in(strconv.Itoa(i)), addr, true)
	}
	if k := store.HDFS.Kerberos; (k.Principal == "") != (k.KeytabFile == "") {
		c.problem(at.in("hdfs").in("kerberos"), "stores: %s: kerberos needs both principal and keytab_file", key)
	}
	return len(c.problems) == before
}
