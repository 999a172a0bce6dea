package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/flinkmeta"
)

func (a *app) inspectCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "inspect PATH",
		Short: "Show what a _metadata file says: operators, state, files",
		Long: `PATH is a _metadata file, under whatever name, or the directory that holds one. Only that file is read: whether the
files it names are there is what "metadata verify" tells.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			stores := a.stores()
			defer func() { _ = stores.Close() }() // only read
			l, err := a.load(cmd.Context(), stores, args[0])
			if err != nil {
				return err
			}
			seen, err := l.meta.Inspect(l.dir.String())
			if err != nil {
				return fmt.Errorf("inspect %s: %w", l.file, err)
			}
			seen.Path = l.file.String()
			if output == "json" {
				return printJSON(a.out, seen)
			}
			return a.printInspection(seen, len(l.raw))
		},
	}
	outputFlag(c, &output)
	return c
}

func (a *app) printInspection(i *flinkmeta.Inspection, size int) error {
	var b bytes.Buffer
	kind := string(i.Kind)
	if kind == "" {
		kind = "snapshot"
	}
	fmt.Fprintf(&b, "%s\n%s %d, _metadata version %d, %s\n\n", i.Path, kind, i.CheckpointID, i.Version, humanBytes(int64(size)))

	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "OPERATOR\tNAME\tPARALLELISM\tMAX\tSUBTASKS\tSTATE")
	for _, o := range slices.SortedStableFunc(slices.Values(i.Operators), func(x, y flinkmeta.InspectedOperator) int {
		return cmp.Compare(y.StateBytes, x.StateBytes)
	}) {
		subtasks := fmt.Sprint(o.Subtasks)
		switch {
		case o.FullyFinished:
			subtasks = "finished"
		case o.Finished > 0:
			subtasks = fmt.Sprintf("%d (%d finished)", o.Subtasks, o.Finished)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\n", o.ID, orDash(o.Name), o.Parallelism, o.MaxParallelism, subtasks, humanBytes(o.StateBytes))
	}
	_ = w.Flush() // into memory

	fmt.Fprintln(&b)
	w = tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FILES\tCOUNT\tBYTES NEEDED\tREFERENCES\tOUTSIDE THE JOB'S DIRECTORY")
	type sum struct {
		count, refs, outside int
		bytes                int64
	}
	byRole := map[flinkmeta.Role]sum{}
	for _, f := range i.Files {
		s := byRole[f.Role]
		s.count++
		s.refs += f.References
		s.bytes += f.NeedBytes
		if f.Outside {
			s.outside++
		}
		byRole[f.Role] = s
	}
	for _, role := range slices.Sorted(maps.Keys(byRole)) {
		s := byRole[role]
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\n", role, s.count, humanBytes(s.bytes), s.refs, s.outside)
	}
	inline, inlineBytes := 0, int64(0)
	for _, h := range i.Handles {
		if h.Kind == flinkmeta.InlineHandle.String() {
			inline++
			inlineBytes += h.Size
		}
	}
	fmt.Fprintf(w, "inline in _metadata\t%d\t%s\t%d\t\n", inline, humanBytes(inlineBytes), inline)
	_ = w.Flush() // into memory
	for _, warning := range i.Warnings {
		fmt.Fprintf(&b, "\nwarning: %s", warning)
	}
	if len(i.Warnings) > 0 {
		fmt.Fprintln(&b)
	}
	_, err := a.out.Write(b.Bytes())
	return err
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
