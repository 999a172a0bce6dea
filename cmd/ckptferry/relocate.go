package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/replicator"
)

func (a *app) relocateCommand() *cobra.Command {
	var to, out, from, paths string
	var maps []string
	c := &cobra.Command{
		Use:   "relocate PATH --to URI --out FILE",
		Short: "Rewrite the paths in a _metadata file for another place; no data is moved",
		Long: `Writes to FILE what PATH's _metadata is when the files it names lie below URI: all that is absolute and below --from
moves to the same place below --to. A path outside of --from is refused unless a --map FROM=TO covers it (TO: where
it lies at the new place). Onto the same root the bytes are identical.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" || out == "" {
				return usageError{errors.New("--to and --out are needed")}
			}
			if paths != string(replicator.PathsAbsolute) && paths != string(replicator.PathsRelative) {
				return usageError{fmt.Errorf("--paths %q: want absolute or relative", paths)}
			}
			m, err := parseMaps(maps)
			if err != nil {
				return err
			}
			target, err := fsutil.ParseURI(to)
			if err != nil {
				return usageError{fmt.Errorf("--to: %w", err)}
			}
			stores := a.stores()
			defer func() { _ = stores.Close() }() // only read
			l, err := a.load(cmd.Context(), stores, args[0])
			if err != nil {
				return err
			}
			rebase := flinkmeta.Rebase{From: from, To: target.String(), Relative: paths == string(replicator.PathsRelative)}
			if from != "" {
				f, err := fsutil.ParseURI(from)
				if err != nil {
					return usageError{fmt.Errorf("--from: %w", err)}
				}
				rebase.From = f.String()
			} else if rebase.From, err = flinkmeta.InferBase(l.meta, l.dir.String()); err != nil {
				return fmt.Errorf("find what to move (say it with --from URI): %w", err)
			}
			for _, pm := range m {
				rebase.Map = append(rebase.Map, flinkmeta.PrefixMove{From: pm.From.String(), To: pm.To.String()})
			}
			moved, warnings, err := l.meta.Rebase(l.dir.String(), rebase)
			if err != nil {
				return fmt.Errorf("relocate %s from %s to %s: %w", l.file, rebase.From, rebase.To, err)
			}
			for _, w := range warnings {
				a.note("warning: %s", w)
			}
			if err := refuseInPlace(cmd.Context(), stores, out, l.file); err != nil {
				return err
			}
			if err := writeLocal(out, moved); err != nil {
				return err
			}
			a.note("%s: %s, from %s to %s", out, humanBytes(int64(len(moved))), rebase.From, rebase.To)
			return nil
		},
	}
	flags := c.Flags()
	flags.StringVar(&to, "to", "", "the base at the new place, as Flink there names it")
	flags.StringVar(&out, "out", "", "local file to write (replaced as a whole)")
	flags.StringVar(&from, "from", "", "what moves (default: the base that holds the job's directory)")
	flags.StringVar(&paths, "paths", string(replicator.PathsAbsolute), "absolute or relative (portable as a directory, NO_CLAIM only)")
	flags.StringArrayVar(&maps, "map", nil, "FROM=TO: what _metadata names below FROM lies below TO at the new place (repeatable)")
	return c
}

// refuseInPlace keeps relocate from writing over the checkpoint that it reads, and over the _metadata of a READY
// replica: neither is ever changed.
func refuseInPlace(ctx context.Context, stores *fsutil.Stores, out string, input fsutil.URI) error {
	to, err := fsutil.ParseURI(out)
	if err != nil {
		return usageError{fmt.Errorf("--out: %w", err)}
	}
	if fsutil.Canonical(to) == fsutil.Canonical(input) {
		return fmt.Errorf("--out %s is the file that is read, and a checkpoint is never changed in place: name another file: %w", out, replicator.ErrRefused)
	}
	if to.Base() != metadataFile {
		return nil
	}
	published, err := replicator.Published(ctx, stores, to.Dir())
	if err == nil && published {
		err = fmt.Errorf("--out %s is a READY replica's, which is never changed: name another file: %w", out, replicator.ErrRefused)
	}
	return err
}

// writeLocal writes a file whole or not at all.
func writeLocal(name string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".ckptferry-*")
	if err != nil {
		return fmt.Errorf("write %s: %v: name a file in a directory that is there", name, err)
	}
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %v", name, errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}
