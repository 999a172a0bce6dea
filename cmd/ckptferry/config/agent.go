package config

import (
	"path/filepath"
	"time"
)

// Agent is an agent's configuration, checked and with defaults filled in.
type Agent struct {
	Version     int                   `yaml:"version"` // of the file's form: 1
	Node        Node                  `yaml:"node"`
	Listen      Listen                `yaml:"listen"`
	Raft        Raft                  `yaml:"raft"`
	Datacenters map[string]Datacenter `yaml:"datacenters"` // the others, by name
	TLS         TLS                   `yaml:"tls"`
	Insecure    bool                  `yaml:"insecure"` // no TLS, also where others than this machine can reach it
	Stores      map[string]Store      `yaml:"stores"`   // by URI prefix, as Flink names it
	Limits      Limits                `yaml:"limits"`
	Verify      Verify                `yaml:"verify"`
	Retention   Retention             `yaml:"retention"`
	Log         Log                   `yaml:"log"`
	Migrate     Migrate               `yaml:"migrate"`

	// File is where this was read.
	File string
	// Voters are raft.peers, this node too; it alone when there are none.
	Voters []Voter
	// Places are the stores with their URIs read.
	Places []Place
}

// Node is who the agent is.
type Node struct {
	ID      string `yaml:"id"`
	DC      string `yaml:"dc"`
	DataDir string `yaml:"data_dir"` // absolute after reading; in the file it may be relative to the file's directory
}

// Listen is where the agent listens, host:port each. Port 0 is any free one.
type Listen struct {
	API  string `yaml:"api"`
	Peer string `yaml:"peer"`
	Raft string `yaml:"raft"` // empty: the address of raft.peers; another one where that is not the machine's own, as behind NAT
	// HTTP is where metrics and health are answered, over plain HTTP; empty: nowhere.
	HTTP string `yaml:"http"`
	// HTTPInsecure says that HTTP may be an address that others than this machine reach.
	HTTPInsecure bool `yaml:"http_insecure"`
	// Admin is where gRPC's channelz is answered, which tells of connections and streams; empty: nowhere.
	Admin string `yaml:"admin"`
}

// Raft is the group of this datacenter.
type Raft struct {
	Peers []string `yaml:"peers"` // ID=HOST:PORT each, this node too; none: a group of one
	// Join says that this agent joins a group that runs: on an empty data directory it waits for `raft add-voter`.
	Join bool `yaml:"join"`
}

// Voter is one of raft.peers.
type Voter struct{ ID, Addr string }

// Datacenter is another datacenter.
type Datacenter struct {
	Endpoints []string `yaml:"endpoints"` // host:port of its agents' peer listeners
}

// TLS names the files of this agent. Either all are set or none.
type TLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	CAFile   string `yaml:"ca_file"`
}

// Set says whether TLS is on.
func (t TLS) Set() bool { return t != TLS{} }

// Store says how the places below one URI prefix are reached.
type Store struct {
	Also  []string `yaml:"also"`  // other prefixes that name the same place
	Reach string   `yaml:"reach"` // a file: or hdfs: URI; itself when empty
	HDFS  HDFS     `yaml:"hdfs"`
}

// HDFS is how a cluster is reached.
type HDFS struct {
	Namenodes     []string `yaml:"namenodes"` // host:port
	User          string   `yaml:"user"`
	HadoopConfDir string   `yaml:"hadoop_conf_dir"`
	Kerberos      Kerberos `yaml:"kerberos"`
}

// Kerberos is who the agent is on clusters that ask for it.
type Kerberos struct {
	Principal         string `yaml:"principal"`
	KeytabFile        string `yaml:"keytab_file"`
	Krb5Conf          string `yaml:"krb5_conf"`
	NamenodePrincipal string `yaml:"namenode_principal"`
}

// Limits bound the agent's work.
type Limits struct {
	Parallel    int           `yaml:"parallel"`     // checkpoints copied at a time
	Files       int           `yaml:"files"`        // files of one checkpoint copied at a time
	Poll        time.Duration `yaml:"poll"`         // between two looks at an export
	SilentAfter time.Duration `yaml:"silent_after"` // without news of a source, it counts as silent
	LinkRate    Rate          `yaml:"link_rate"`    // of all copies of this agent together
	ScrubRate   Rate          `yaml:"scrub_rate"`   // of all scrubs of this agent together
}

// Verify says how what is READY is looked at again.
type Verify struct {
	ScrubEvery time.Duration `yaml:"scrub_every"` // each replica's every byte is read so often; 0: never by itself
}

// Retention says when what the routes' rules don't keep is deleted.
type Retention struct {
	Every time.Duration `yaml:"every"` // between two passes
}

// Migrate is what migrations may do on this machine.
type Migrate struct {
	// Hooks are the commands that may start a job once it is moved, by name: a program's whole path and its arguments.
	Hooks map[string][]string `yaml:"hooks"`
}

// Log is what is logged, to stderr.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // text, json
}

// defaults are what a file may leave out.
func defaults() Agent {
	return Agent{
		Listen: Listen{API: "127.0.0.1:7070", Peer: "127.0.0.1:7071"},
		Limits: Limits{Parallel: 4, Files: 16, Poll: 5 * time.Second, SilentAfter: 30 * time.Second, ScrubRate: 50 << 20},
		Verify: Verify{ScrubEvery: 24 * time.Hour}, Retention: Retention{Every: time.Minute},
		Log: Log{Level: "info", Format: "text"},
	}
}

// ReadAgent reads an agent's configuration. CKPTFERRY_NODE_ID and CKPTFERRY_LOG_LEVEL, asked of env, win over the file.
// What is wrong with the file is *Errors; that it can't be read is an error of the file system.
func ReadAgent(file string, env func(string) string) (Agent, error) {
	cfg, _, err := readAgent(file, env)
	return cfg, err
}

// readAgent is ReadAgent, which also gives where everything stands.
func readAgent(file string, env func(string) string) (Agent, *document, error) {
	cfg := defaults()
	d, err := read(file, &cfg)
	if err != nil {
		return Agent{}, nil, err
	}
	if len(d.at) == 0 && len(d.problems) > 0 {
		return Agent{}, nil, d.err() // no YAML at all: what is missing in it is no news
	}
	for name, to := range map[string]*string{"CKPTFERRY_NODE_ID": &cfg.Node.ID, "CKPTFERRY_LOG_LEVEL": &cfg.Log.Level} {
		if v := env(name); v != "" {
			*to = v
		}
	}
	c := agentCheck{document: d, cfg: &cfg}
	c.all()
	if err := d.err(); err != nil {
		return Agent{}, nil, err
	}
	cfg.fromDirectory(filepath.Dir(file))
	cfg.File = file
	return cfg, d, nil
}

// fromDirectory makes names of local files absolute: in the file they are relative to the file's directory.
func (a *Agent) fromDirectory(dir string) {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	names := []*string{&a.Node.DataDir, &a.TLS.CertFile, &a.TLS.KeyFile, &a.TLS.CAFile}
	for i := range a.Places {
		h := &a.Places[i].HDFS
		names = append(names, &h.HadoopConfDir, &h.Kerberos.KeytabFile, &h.Kerberos.Krb5Conf)
	}
	for _, name := range names {
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(dir, *name)
		}
	}
}

// Files are the local files that the configuration names, but for those of tls: CheckCertificates reads them.
func (a Agent) Files() []string {
	var files []string
	add := func(names ...string) {
		for _, name := range names {
			if name != "" {
				files = append(files, name)
			}
		}
	}
	for _, p := range a.Places {
		add(p.HDFS.HadoopConfDir, p.HDFS.Kerberos.KeytabFile, p.HDFS.Kerberos.Krb5Conf)
	}
	return files
}
