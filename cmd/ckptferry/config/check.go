package config

import (
	"maps"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// agentCheck looks whether a configuration makes sense.
type agentCheck struct {
	*document
	cfg *Agent
}

func (c agentCheck) all() {
	c.version()
	c.node()
	c.addresses()
	c.voters()
	c.datacenters()
	c.security()
	c.stores()
	c.limits()
	c.hooks()
	c.oneOf(keys{"log", "level"}, c.cfg.Log.Level, "debug", "info", "warn", "error")
	c.oneOf(keys{"log", "format"}, c.cfg.Log.Format, "text", "json")
}

func (c agentCheck) version() {
	switch {
	case !c.has("version"):
		c.problem(nil, "version is missing: write version: 1")
	case c.cfg.Version != 1:
		c.problem(keys{"version"}, "version %d: this ckptferry reads version 1", c.cfg.Version)
	}
}

// namePattern is what agents and datacenters are called: it stands in certificates and in file names.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// name checks one that must be there.
func (d *document) name(p keys, name string) {
	switch {
	case name == "":
		d.problem(p, "%s is missing", describe(p))
	case !namePattern.MatchString(name):
		d.problem(p, "%s: %q: want letters, digits, dots, dashes and underscores, at most 63", describe(p), name)
	}
}

func (d *document) oneOf(p keys, value string, known ...string) {
	if !slices.Contains(known, value) {
		d.problem(p, "%s: unknown %q%s", describe(p), value, didYouMean(value, known))
	}
}

func (c agentCheck) node() {
	c.name(keys{"node", "id"}, c.cfg.Node.ID)
	c.name(keys{"node", "dc"}, c.cfg.Node.DC)
	if c.cfg.Node.DataDir == "" {
		c.problem(keys{"node", "data_dir"}, "node.data_dir is missing: name a directory of this agent alone, on a local disk")
	}
}

// address checks a host:port; to is true where somebody dials it.
func (d *document) address(p keys, addr string, to bool) bool {
	host, port, err := net.SplitHostPort(addr)
	n, perr := strconv.Atoi(port)
	switch {
	case err != nil || perr != nil || n < 0 || n > 65535:
		d.problem(p, "%s: %q: want HOST:PORT", describe(p), addr)
	case to && (host == "" || n == 0):
		d.problem(p, "%s: %q: want the host and the port that others can dial", describe(p), addr)
	default:
		return true
	}
	return false
}

func (c agentCheck) addresses() {
	taken := map[string]string{}
	for _, l := range []struct{ key, addr string }{{"api", c.cfg.Listen.API}, {"peer", c.cfg.Listen.Peer}, {"http", c.cfg.Listen.HTTP}, {"admin", c.cfg.Listen.Admin}} {
		at := keys{"listen", l.key}
		if (l.key == "http" || l.key == "admin") && l.addr == "" {
			continue
		}
		c.address(at, l.addr, false)
		if other, twice := taken[l.addr]; twice && !strings.HasSuffix(l.addr, ":0") {
			c.problem(at, "listen.%s and listen.%s are both %s: give each its own", other, l.key, l.addr)
		}
		taken[l.addr] = l.key
	}
	if host, _, err := net.SplitHostPort(c.cfg.Listen.HTTP); err == nil && !isLoopback(host) && !c.cfg.Listen.HTTPInsecure && !c.cfg.Insecure {
		c.problem(keys{"listen", "http"}, "listen.http: %s is not a loopback address, and it is plain HTTP that tells whoever asks the names and the lag of jobs: "+
			"name a loopback address, or say http_insecure: true beside it", c.cfg.Listen.HTTP)
	}
}

// voters reads raft.peers.
func (c agentCheck) voters() {
	self, peers := c.cfg.Node.ID, c.cfg.Raft.Peers
	if len(peers) == 0 && c.cfg.Raft.Join {
		c.problem(keys{"raft", "join"}, "raft.join: name this agent's own address in raft.peers: that is where the group will reach it")
	}
	if len(peers) == 0 {
		c.cfg.Voters = []Voter{{ID: self}}
		if c.has("listen", "raft") {
			c.problem(keys{"listen", "raft"}, "listen.raft: a group of one has no raft listener: leave it out, or name the group in raft.peers")
		}
		return
	}
	byID := map[string]string{}
	whole := true
	for i, peer := range peers {
		at := keys{"raft", "peers", strconv.Itoa(i)}
		id, addr, ok := strings.Cut(peer, "=")
		if !ok || !namePattern.MatchString(id) {
			c.problem(at, "%s: %q: want ID=HOST:PORT", describe(at), peer)
			whole = false
			continue
		}
		whole = c.address(at, addr, true) && whole
		if _, twice := byID[id]; twice {
			c.problem(at, "%s: agent %q is there twice", describe(at), id)
			whole = false
		}
		byID[id] = addr
		c.cfg.Voters = append(c.cfg.Voters, Voter{id, addr})
	}
	if !whole {
		return
	}
	if n := len(peers); n != 1 && n != 3 && n != 5 && !c.cfg.Raft.Join {
		c.problem(keys{"raft", "peers"}, "raft.peers: %d agents: a group has 1, 3 or 5 (an even number survives no more failures than one less)", n)
	}
	if _, among := byID[self]; !among && self != "" {
		c.problem(keys{"raft", "peers"}, "raft.peers: this agent, %q, is not among them", self)
	}
	at := keys{"listen", "raft"}
	if listen := c.cfg.Listen.Raft; listen != "" && c.address(at, listen, false) && strings.HasSuffix(listen, ":0") {
		c.problem(at, "listen.raft: %q: want the port that raft.peers says", listen)
	}
}

func (c agentCheck) datacenters() {
	for _, name := range slices.Sorted(maps.Keys(c.cfg.Datacenters)) {
		at := keys{"datacenters", name}
		if !namePattern.MatchString(name) {
			c.problem(at, "datacenters: %q: want letters, digits, dots, dashes and underscores, at most 63", name)
		}
		if name == c.cfg.Node.DC {
			c.problem(at, "datacenters: %q is this agent's own (node.dc): list the others only", name)
		}
		endpoints := c.cfg.Datacenters[name].Endpoints
		if len(endpoints) == 0 {
			c.problem(at, "%s: endpoints are missing: the peer addresses (listen.peer) of its agents", describe(at))
		}
		for i, endpoint := range endpoints {
			c.address(at.in("endpoints").in(strconv.Itoa(i)), endpoint, true)
		}
	}
}

// security holds the rule that nothing is plaintext beyond this machine unless somebody says so.
func (c agentCheck) security() {
	if c.cfg.TLS.Set() {
		for key, file := range map[string]string{"cert_file": c.cfg.TLS.CertFile, "key_file": c.cfg.TLS.KeyFile, "ca_file": c.cfg.TLS.CAFile} {
			if file == "" {
				c.problem(keys{"tls"}, "tls.%s is missing: cert_file, key_file and ca_file belong together", key)
			}
		}
		if c.cfg.Insecure {
			c.problem(keys{"insecure"}, "insecure: true contradicts tls: leave one of them out")
		}
		return
	}
	if c.cfg.Insecure {
		return
	}
	open := func(p keys, addr string) {
		if host, _, err := net.SplitHostPort(addr); err == nil && !isLoopback(host) {
			c.problem(p, "%s: %s is not a loopback address and there is no tls: set tls (`ckptferry init` makes development certificates), or insecure: true to say that plaintext is wanted",
				describe(p), addr)
		}
	}
	open(keys{"listen", "api"}, c.cfg.Listen.API)
	open(keys{"listen", "peer"}, c.cfg.Listen.Peer)
	if c.cfg.Listen.Admin != "" {
		open(keys{"listen", "admin"}, c.cfg.Listen.Admin)
	}
	if c.cfg.Listen.Raft != "" {
		open(keys{"listen", "raft"}, c.cfg.Listen.Raft)
	}
	for i, v := range c.cfg.Voters {
		if v.Addr != "" {
			open(keys{"raft", "peers", strconv.Itoa(i)}, v.Addr)
		}
	}
	for name, dc := range c.cfg.Datacenters {
		for i, endpoint := range dc.Endpoints {
			open(keys{"datacenters", name, "endpoints", strconv.Itoa(i)}, endpoint)
		}
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c agentCheck) limits() {
	l := c.cfg.Limits
	for key, n := range map[string]int{"parallel": l.Parallel, "files": l.Files} {
		if n < 1 || n > 1024 {
			c.problem(keys{"limits", key}, "limits.%s: %d: want 1 to 1024", key, n)
		}
	}
	for key, v := range map[string]time.Duration{"poll": l.Poll, "silent_after": l.SilentAfter} {
		if v < 10*time.Millisecond || v > 24*time.Hour {
			c.problem(keys{"limits", key}, "limits.%s: %s: want 10ms to 24h", key, v)
		}
	}
	if v := c.cfg.Verify.ScrubEvery; v != 0 && (v < time.Minute || v > 366*24*time.Hour) {
		c.problem(keys{"verify", "scrub_every"}, "verify.scrub_every: %s: want 1m to 366 days (8784h), or 0 for never", v)
	}
	if v := c.cfg.Retention.Every; v < time.Second || v > 24*time.Hour {
		c.problem(keys{"retention", "every"}, "retention.every: %s: want 1s to 24h", v)
	}
	if l.SilentAfter <= l.Poll && l.Poll <= 24*time.Hour {
		c.problem(keys{"limits", "silent_after"}, "limits.silent_after: %s is not longer than limits.poll, %s: every source would look silent", l.SilentAfter, l.Poll)
	}
}

// hooks are commands that whoever may start a migration has run: which they are is said here alone.
func (c agentCheck) hooks() {
	for _, name := range slices.Sorted(maps.Keys(c.cfg.Migrate.Hooks)) {
		at := keys{"migrate", "hooks", name}
		if !namePattern.MatchString(name) {
			c.problem(at, "migrate.hooks: %q: want letters, digits, dots, dashes and underscores, at most 63", name)
		}
		switch argv := c.cfg.Migrate.Hooks[name]; {
		case len(argv) == 0:
			c.problem(at, "%s: it is empty: name a program by its whole path, and its arguments", describe(at))
		case !filepath.IsAbs(argv[0]):
			c.problem(at, "%s: %q: name the program by its whole path, and a shell where you want one: [/bin/sh, -c, …]", describe(at), argv[0])
		}
	}
}
