package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/replicator"
)

// version is set when a release is built (-ldflags -X main.version=…).
var version = ""

// app is what the commands share.
type app struct {
	streams
	quiet     bool
	hdfs      fsutil.HDFSConfig
	namenodes []string
}

func newRoot(s streams) *cobra.Command {
	a := &app{streams: s}
	root := &cobra.Command{
		Use:   "ckptferry",
		Short: "Flink checkpoints, alive in the other datacenter",
		Long: `ckptferry makes replicas of Apache Flink checkpoints and savepoints in another directory or another HDFS cluster.
A replica is READY when every byte of it was read back and compared, and its _metadata names nothing but the
replica's own files: Flink starts from it after the source is gone.

PATH, SRC and DST are local paths, file:/… or hdfs://… URIs.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 not found, 4 file system or agent unreachable, or no leader (try
again), 5 permission denied, 6 refused, 7 missing or different bytes, 8 lag over the limit or unknown, 9 done in part, 10 a wait timed out, 11 superseded (Flink
deleted the checkpoint meanwhile), 130 interrupted.`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	flags := root.PersistentFlags()
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no notes on stderr")
	flags.StringVar(&a.hdfs.ConfDir, "hadoop-conf", os.Getenv("HADOOP_CONF_DIR"), "directory with core-site.xml and hdfs-site.xml (default $HADOOP_CONF_DIR)")
	flags.StringVar(&a.hdfs.User, "hdfs-user", "", "user name at HDFS (default $HADOOP_USER_NAME, then your own)")
	flags.StringArrayVar(&a.namenodes, "namenodes", nil, "NAMESERVICE=HOST:PORT,…: where a nameservice's namenodes are, when --hadoop-conf does not say (repeatable)")
	flags.StringVar(&a.hdfs.Kerberos.Principal, "kerberos-principal", "", "Kerberos principal, with --keytab")
	flags.StringVar(&a.hdfs.Kerberos.KeytabFile, "keytab", "", "keytab file of the Kerberos principal")
	flags.StringVar(&a.hdfs.Kerberos.Krb5Conf, "krb5-conf", "", "Kerberos configuration (default $KRB5_CONFIG, then /etc/krb5.conf)")
	root.AddCommand(a.replicateCommand(), a.metadataCommand(), a.restoreCommandCommand(), a.demoCommand(), a.versionCommand(), a.protosetCommand())
	root.AddCommand(a.agentCommand(), a.configCommand(), a.initCommand())
	root.AddCommand(a.exportCommand(), a.routeCommand(), a.statusCommand(), a.lagCommand(), a.raftCommand())
	root.AddCommand(a.jobCommand(), a.replicaCommand(), a.transferCommand(), a.catalogCommand(), a.drillCommand())
	root.AddCommand(a.migrateCommand())
	root.AddCommand(a.failoverCommand(), a.failbackCommand(), a.auditCommand())
	markArgs(root)
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		var err error
		a.hdfs.Namenodes, err = parseNamenodes(a.namenodes)
		return err
	}
	return root
}

// markArgs makes a wrong number of arguments, and a missing or unknown subcommand, a usage error.
func markArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{fmt.Errorf("%s: %w", cmd.CommandPath(), err)}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		markArgs(sub)
	}
}

// stores opens file systems as the global flags say.
func (a *app) stores() *fsutil.Stores {
	return fsutil.NewStores(fsutil.StoresConfig{HDFS: a.hdfs})
}

// note tells a person something that is not data.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		_, _ = fmt.Fprintf(a.err, format+"\n", args...)
	}
}

// outputFlag adds -o to a command.
func outputFlag(c *cobra.Command, to *string) {
	c.Flags().StringVarP(to, "output", "o", "table", "table or json")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

func checkOutput(o string) error {
	if o != "table" && o != "json" {
		return usageError{fmt.Errorf("--output %q: want table or json", o)}
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// mapsFlag adds --map to a command.
func mapsFlag(c *cobra.Command, to *[]string) {
	c.Flags().StringArrayVar(to, "map", nil, "FROM=TO: what _metadata names below FROM is reached from here below TO (repeatable)")
}

func parseMaps(raw []string) (replicator.PrefixMaps, error) {
	var maps replicator.PrefixMaps
	for _, s := range raw {
		from, to, ok := strings.Cut(s, "=")
		if !ok || from == "" || to == "" {
			return nil, usageError{fmt.Errorf("--map %q: want FROM=TO", s)}
		}
		f, err := fsutil.ParseURI(from)
		if err != nil {
			return nil, usageError{fmt.Errorf("--map %q: %w", s, err)}
		}
		t, err := fsutil.ParseURI(to)
		if err != nil {
			return nil, usageError{fmt.Errorf("--map %q: %w", s, err)}
		}
		maps = append(maps, replicator.PrefixMap{From: f, To: t})
	}
	return maps, nil
}

func parseNamenodes(raw []string) (map[string][]string, error) {
	out := map[string][]string{}
	for _, s := range raw {
		name, list, ok := strings.Cut(s, "=")
		if !ok || name == "" || list == "" {
			return nil, usageError{fmt.Errorf("--namenodes %q: want NAMESERVICE=HOST:PORT,HOST:PORT", s)}
		}
		for _, addr := range strings.Split(list, ",") {
			if _, _, err := net.SplitHostPort(addr); err != nil {
				return nil, usageError{fmt.Errorf("--namenodes %q: %w", s, err)}
			}
			out[name] = append(out[name], addr)
		}
	}
	return out, nil
}

// checkpointDir reads an argument that names a checkpoint: its directory, or the _metadata file in it.
func checkpointDir(arg string) (fsutil.URI, error) {
	u, err := fsutil.ParseURI(arg)
	if err != nil {
		return u, usageError{err}
	}
	if u.Base() == metadataFile {
		u = u.Dir()
	}
	return u, nil
}

const metadataFile = "_metadata"

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v, commit, goVersion := build()
			if commit != "" {
				commit = "commit " + commit + ", "
			}
			_, err := fmt.Fprintf(a.out, "ckptferry %s (%s%s)\nreads and writes Flink _metadata versions 2 to 6 (Flink 1.3 to 2.3)\n", v, commit, goVersion)
			return err
		},
	}
}

// build says what this program was built from: its version, the commit (empty when it is not known), and Go's version.
func build() (v, commit, goVersion string) {
	v = version
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v, "", ""
	}
	if v == "" {
		v = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			commit = s.Value
		}
	}
	return v, commit, info.GoVersion
}
