package scaffold

import (
	"strings"
	"text/template"
)

// funcs has list, which renders a YAML list on one line.
var funcs = template.FuncMap{"list": func(items []string) string { return "[" + strings.Join(items, ", ") + "]" }}

func parse(name, text string) *template.Template {
	return template.Must(template.New(name).Funcs(funcs).Parse(text))
}

// agentConfig is one agent's configuration (an agent).
var agentConfig = parse("agent.yaml", `# Agent {{.ID}} in {{.DC}}, for development on one machine. Written by ckptferry init.
#   start:  ckptferry agent run --config THIS-FILE
#   check:  ckptferry config validate THIS-FILE
# An unknown key is an error. Names of local files are relative to this file's directory.
version: 1

node:
  id: {{.ID}}        # unique in the datacenter, the same at every start
  dc: {{.DC}}
  data_dir: data     # Raft's log and snapshots: this agent's alone, on a local disk

listen:              # in production: an address that the others can dial
  api: {{.API}}     # people and tools: ckptferry status, grpcurl
  peer: {{.Peer}}    # agents of other datacenters
#  admin: 127.0.0.1:7074    # gRPC's channelz: connections and streams, for whoever looks why they don't do what they should
#  http: 127.0.0.1:7073     # Prometheus (/metrics), /healthz, /readyz; plain HTTP. For others than this machine also http_insecure: true

{{if .Voters}}raft:                # all agents of this datacenter, the same list in each of their files: 1, 3 or 5
  peers: {{list .Voters}}
{{else}}# One agent is a group of its own. With three, one may be lost; each of them then has the same list:
#raft:
#  peers: [{{.DC}}-a=10.1.0.11:7072, {{.DC}}-b=10.1.0.12:7072, {{.DC}}-c=10.1.0.13:7072]
{{end}}
datacenters:         # the others, and where their agents listen for peers
  {{.Other}}: {endpoints: {{list .OtherEndpoints}}}

tls:                 # read again when the files change
  cert_file: agent.crt   # names this agent: URI:ckptferry://{{.DC}}/{{.ID}}
  key_file: agent.key
  ca_file: ../ca.crt
# Without tls only loopback addresses are allowed, unless you say:
#insecure: true

stores:              # by URI prefix, as Flink names it; what lies outside of them is refused
  {{printf "%q" .Storage}}: {}
#  hdfs://{{.DC}}:
#    also: ["hdfs://nn1.{{.DC}}:8020"]       # other names of the same place in _metadata
#    hdfs:                                # left out: HADOOP_CONF_DIR and HADOOP_USER_NAME say it
#      namenodes: [nn1.{{.DC}}:8020, nn2.{{.DC}}:8020]
#      user: flink
#      kerberos: {principal: ckptferry@EXAMPLE.COM, keytab_file: agent.keytab, krb5_conf: /etc/krb5.conf}
#  hdfs://other:
#    reach: file:/mnt/other               # a place that is mounted here

limits:
  parallel: 4        # checkpoints copied at a time
  files: 16          # files of one checkpoint at a time
  poll: 5s           # how often the exports are looked at
  silent_after: 30s  # without news of the source, it counts as silent
#  link_rate: 400MiB/s # of all copies of this agent together; left out: as fast as it goes. It is read again when this file changes
#  scrub_rate: 50MiB/s # of all scrubs of this agent together

# What is below is for the target:
#verify: {scrub_every: 24h}   # each READY replica's every byte is read again so often; 0: never
#retention: {every: 1m}       # how often it is looked what the routes' rules don't keep

# Commands that may start a job once a migration has moved it here (ckptferry migrate run --hook NAME):
#migrate: {hooks: {flink: [/usr/local/bin/start-job]}}

log: {level: info, format: text}
`)

// routesExample is an example of an export and a route.
var routesExample = parse("routes.yaml", `# What {{.From.DC}} lets others read, and what {{.To.DC}} pulls. It is state of a group, not of one agent:
#   ckptferry export apply -f THIS-FILE --endpoint {{.From.APIs}}     at the source
#   ckptferry route  apply -f THIS-FILE --endpoint {{.To.APIs}}     at the target
exports:
  - name: prod
    bases:           # {job} stands for the job's name; Flink's JobID directories lie below
      - {{printf "%q" (print .From.Storage "/checkpoints/{job}")}}
#    also_readable: ["hdfs://{{.From.DC}}/flink/changelog"]
    to: [{{.To.DC}}]
routes:
  - name: prod
    from: {dc: {{.From.DC}}, export: prod}
    root: {{printf "%q" (print .To.Storage "/replicas/prod")}}   # a directory of ckptferry's own
#    jobs: {include: ["orders*"], exclude: ["*-test"]}
    mode: continuous # or paused, or on_demand: only jobs that a migration moves
    keep: 3          # READY checkpoints of a job at least, the newest; 0: all
#    keep_for: 48h    # and those that are younger
#    keep_daily: 7    # and the last one of each of so many days (UTC)
#    keep_savepoints: 5 # the newest savepoints of a job; 0: all
#    grace: 24h       # how long files that no replica needs lie before they go to the trash, and how long they lie there
#    rate: 200MiB/s   # of all its copies together; ckptferry transfer throttle changes it, also while they run
    paths: absolute  # or relative: can be moved, for NO_CLAIM restores only
`)

// nextSteps says what to do with what init wrote.
var nextSteps = parse("next", `Two datacenters are laid out in {{.Dir}}. Start the agents, each in a terminal of its own:

{{range .Agents}}  ckptferry agent run --config {{.Config}}
{{end}}
Let job JOB keep its checkpoints below {{.From.Storage}}/checkpoints/JOB, and then:

  export CKPTFERRY_CA={{.Dir}}/ca.crt CKPTFERRY_CERT={{.Dir}}/admin.crt CKPTFERRY_KEY={{.Dir}}/admin.key
  ckptferry export apply -f {{.Dir}}/routes.yaml --endpoint {{.From.APIs}}
  ckptferry route apply -f {{.Dir}}/routes.yaml --endpoint {{.To.APIs}}
  ckptferry lag --endpoint {{.To.APIs}}
  grpcurl -cacert {{.Dir}}/ca.crt -cert {{.Dir}}/admin.crt -key {{.Dir}}/admin.key {{.To.API}} ckptferry.v1.ReplicaService/GetReplicaLag
`)
