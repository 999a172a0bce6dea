// Package scaffold writes what `ckptferry init` writes: commented configurations and development certificates for two
// datacenters of agents on one machine.
//
// It never overwrites a file. Start at Write.
package scaffold

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/devcert"
)

// ErrExists says that a file is there that would be overwritten. Nothing was written.
var ErrExists = errors.New("is there already")

// Request says what is laid out.
type Request struct {
	Dir    string // made if absent
	From   string // the datacenter that exports
	To     string // the datacenter that pulls
	Agents int    // in each of them, 1 or 3
}

// namePattern is stricter than a configuration has to be: the name becomes a host name in certificates.
var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)

// Validate says what of a request can't be.
func (r Request) Validate() error {
	for _, name := range []string{r.From, r.To} {
		if !namePattern.MatchString(name) {
			return fmt.Errorf("datacenter %q: want small letters, digits and dashes", name)
		}
	}
	switch {
	case r.From == r.To:
		return fmt.Errorf("both datacenters are called %q: name two", r.From)
	case r.Agents != 1 && r.Agents != 3:
		return fmt.Errorf("%d agents in a datacenter: want 1 or 3", r.Agents)
	}
	return nil
}

// agent is one agent that a configuration is written for, as the templates see it.
type agent struct {
	ID, DC, Other          string
	API, Peer              string
	APIs                   string // of all agents of its datacenter, as --endpoint takes them
	Voters, OtherEndpoints []string
	Storage                string // file: URI
	Config                 string // absolute
	dir, storageDir        string // below Dir
}

// file is to be written below Dir.
type file struct {
	name string
	mode fs.FileMode
	body []byte
}

// Write lays everything out, and tells to next what to do with it. All of it is made in memory first, so that what
// can't be made leaves nothing behind.
func Write(r Request, now time.Time, next io.Writer) error {
	if err := r.Validate(); err != nil {
		return err
	}
	dir, err := filepath.Abs(r.Dir)
	if err != nil {
		return err
	}
	r.Dir = dir
	agents := r.layout()
	files, err := makeFiles(agents, now)
	if err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Join(dir, f.name)
		if _, err := os.Lstat(name); err == nil {
			return fmt.Errorf("%s %w: nothing was written. Name another directory", name, ErrExists)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, f := range files {
		if err := f.writeNew(filepath.Join(dir, f.name)); err != nil {
			return err
		}
	}
	for _, a := range agents {
		if err := os.MkdirAll(filepath.Join(dir, a.storageDir), 0o755); err != nil {
			return err
		}
	}
	return nextSteps.Execute(next, map[string]any{"Dir": dir, "Agents": agents, "From": agents[0], "To": agents[r.Agents]})
}

// layout gives each agent three ports, from 7070 in the first datacenter and from 7170 in the second.
func (r Request) layout() []agent {
	var all []agent
	apis, peers, voters := map[string][]string{}, map[string][]string{}, map[string][]string{}
	for d, dc := range []string{r.From, r.To} {
		for n := range r.Agents {
			id := fmt.Sprintf("%s-%c", dc, 'a'+n)
			port := 7070 + 100*d + 10*n
			all = append(all, agent{
				ID: id, DC: dc, Other: []string{r.To, r.From}[d],
				API: fmt.Sprintf("127.0.0.1:%d", port), Peer: fmt.Sprintf("127.0.0.1:%d", port+1),
				Storage:    "file:" + filepath.ToSlash(filepath.Join(r.Dir, "storage", dc)),
				storageDir: filepath.Join("storage", dc), dir: id, Config: filepath.Join(r.Dir, id, "agent.yaml"),
			})
			apis[dc] = append(apis[dc], fmt.Sprintf("127.0.0.1:%d", port))
			peers[dc] = append(peers[dc], fmt.Sprintf("127.0.0.1:%d", port+1))
			voters[dc] = append(voters[dc], fmt.Sprintf("%s=127.0.0.1:%d", id, port+2))
		}
	}
	for i := range all {
		all[i].APIs = strings.Join(apis[all[i].DC], ",")
		all[i].OtherEndpoints = peers[all[i].Other]
		if r.Agents > 1 {
			all[i].Voters = voters[all[i].DC]
		}
	}
	return all
}

func makeFiles(agents []agent, now time.Time) ([]file, error) {
	ca, err := devcert.NewCA(now)
	if err != nil {
		return nil, err
	}
	files := pairFiles("ca", ca.Pair)
	admin, err := ca.Client("admin", "admin")
	if err != nil {
		return nil, err
	}
	files = append(files, pairFiles("admin", admin)...)
	for _, a := range agents {
		pair, err := ca.Agent(a.DC, a.ID)
		if err != nil {
			return nil, err
		}
		files = append(files, pairFiles(filepath.Join(a.dir, "agent"), pair)...)
		body, err := render(agentConfig, a)
		if err != nil {
			return nil, err
		}
		files = append(files, file{filepath.Join(a.dir, "agent.yaml"), 0o644, body})
	}
	body, err := render(routesExample, map[string]any{"From": agents[0], "To": agents[len(agents)/2]})
	if err != nil {
		return nil, err
	}
	return append(files, file{"routes.yaml", 0o644, body}), nil
}

// pairFiles are a certificate and its key, which is for its owner alone.
func pairFiles(name string, p devcert.Pair) []file {
	return []file{{name + ".crt", 0o644, p.Cert}, {name + ".key", 0o600, p.Key}}
}

func render(t *template.Template, data any) ([]byte, error) {
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}

// writeNew writes a file that must not be there, with its mode from its first byte on.
func (f file) writeNew(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	w, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode)
	if err != nil {
		return err
	}
	_, err = w.Write(f.body)
	return errors.Join(err, w.Close())
}
