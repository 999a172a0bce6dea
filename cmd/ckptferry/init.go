package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/devcert"
	"github.com/ckptferry/ckptferry/replicator"
)

type initFlags struct {
	dc, peer string
	agents   int
}

func (a *app) initCommand() *cobra.Command {
	var f initFlags
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "Write commented configurations and development certificates for two datacenters of agents on this machine",
		Long: `Writes into DIR, for each agent of two datacenters, a directory with its configuration and certificate; a CA and the
certificate of an administrator; and an example of exports and routes. All addresses are on 127.0.0.1, each datacenter's
storage is a directory below DIR, so that it runs as it is. What it takes to use HDFS and other machines is said in the
comments. The certificates are for development: in production they come from your own CA.

Nothing is overwritten.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.initialize(args[0], f) },
	}
	flags := c.Flags()
	flags.StringVar(&f.dc, "dc", "dc1", "the datacenter that exports")
	flags.StringVar(&f.peer, "peer", "dc2", "the datacenter that pulls")
	flags.IntVar(&f.agents, "agents", 1, "agents in each datacenter: 1 or 3")
	return c
}

// datacenterName is stricter than a configuration has to be: it becomes a host name in certificates.
var datacenterName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)

func (f initFlags) check() error {
	for flag, name := range map[string]string{"dc": f.dc, "peer": f.peer} {
		if !datacenterName.MatchString(name) {
			return usageError{fmt.Errorf("--%s %q: want small letters, digits and dashes", flag, name)}
		}
	}
	switch {
	case f.dc == f.peer:
		return usageError{fmt.Errorf("--dc and --peer are both %q: name two datacenters", f.dc)}
	case f.agents != 1 && f.agents != 3:
		return usageError{fmt.Errorf("--agents %d: want 1 or 3", f.agents)}
	}
	return nil
}

// initAgent is one agent that init writes a configuration for.
type initAgent struct {
	ID, DC, Other          string
	API, Peer              string
	Voters, OtherEndpoints []string
	Storage                string // file: URI
	Config                 string // absolute
	dir, storageDir        string // below DIR
}

// layout lays them out: three ports each, from 7070 in the first datacenter and from 7170 in the second.
func (f initFlags) layout(dir string) []initAgent {
	var all []initAgent
	peers, voters := map[string][]string{}, map[string][]string{}
	for d, dc := range []string{f.dc, f.peer} {
		for n := range f.agents {
			id := fmt.Sprintf("%s-%c", dc, 'a'+n)
			ports := 7070 + 100*d + 10*n
			all = append(all, initAgent{
				ID: id, DC: dc, Other: []string{f.peer, f.dc}[d],
				API: fmt.Sprintf("127.0.0.1:%d", ports), Peer: fmt.Sprintf("127.0.0.1:%d", ports+1),
				Storage:    "file:" + filepath.ToSlash(filepath.Join(dir, "storage", dc)),
				storageDir: filepath.Join("storage", dc), dir: id, Config: filepath.Join(dir, id, "agent.yaml"),
			})
			peers[dc] = append(peers[dc], fmt.Sprintf("127.0.0.1:%d", ports+1))
			voters[dc] = append(voters[dc], fmt.Sprintf("%s=127.0.0.1:%d", id, ports+2))
		}
	}
	for i := range all {
		all[i].OtherEndpoints = peers[all[i].Other]
		if f.agents > 1 {
			all[i].Voters = voters[all[i].DC]
		}
	}
	return all
}

// initFile is a file to be written below DIR.
type initFile struct {
	name string
	mode fs.FileMode
	body []byte
}

func (a *app) initialize(arg string, f initFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	dir, err := filepath.Abs(arg)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	agents := f.layout(dir)
	files, err := initFiles(agents)
	if err != nil {
		return err
	}
	for _, file := range files {
		if _, err := os.Lstat(filepath.Join(dir, file.name)); err == nil {
			return fmt.Errorf("%w: %s is there already: nothing was written. Name another directory", replicator.ErrRefused, filepath.Join(dir, file.name))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("init: %w", err)
		}
	}
	for _, file := range files {
		if err := writeNew(filepath.Join(dir, file.name), file); err != nil {
			return fmt.Errorf("init: %w", err)
		}
	}
	for _, agent := range agents {
		if err := os.MkdirAll(filepath.Join(dir, agent.storageDir), 0o755); err != nil {
			return fmt.Errorf("init: %w", err)
		}
	}
	return initNext.Execute(a.out, map[string]any{
		"Dir": dir, "Agents": agents, "From": agents[0], "To": agents[len(agents)/2],
	})
}

// writeNew writes a file that must not be there; a private key is for its owner alone from its first byte on.
func writeNew(name string, file initFile) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, file.mode)
	if err != nil {
		return err
	}
	_, err = f.Write(file.body)
	return errors.Join(err, f.Close())
}

// initFiles makes everything in memory, so that a failure leaves nothing behind.
func initFiles(agents []initAgent) ([]initFile, error) {
	ca, err := devcert.NewCA(time.Now())
	if err != nil {
		return nil, err
	}
	files := pairFiles("ca", ca.Pair)
	admin, err := ca.Client("admin", "admin")
	if err != nil {
		return nil, err
	}
	files = append(files, pairFiles("admin", admin)...)
	for _, agent := range agents {
		pair, err := ca.Agent(agent.DC, agent.ID)
		if err != nil {
			return nil, err
		}
		files = append(files, pairFiles(filepath.Join(agent.dir, "agent"), pair)...)
		body, err := render(initConfig, agent)
		if err != nil {
			return nil, err
		}
		files = append(files, initFile{filepath.Join(agent.dir, "agent.yaml"), 0o644, body})
	}
	body, err := render(initRoutes, map[string]any{"From": agents[0], "To": agents[len(agents)/2]})
	if err != nil {
		return nil, err
	}
	return append(files, initFile{"routes.yaml", 0o644, body}), nil
}

func pairFiles(name string, p devcert.Pair) []initFile {
	return []initFile{{name + ".crt", 0o644, p.Cert}, {name + ".key", 0o600, p.Key}}
}

func render(t *template.Template, data any) ([]byte, error) {
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	return []byte(b.String()), nil
}
