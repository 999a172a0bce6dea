package main

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ckptferry/ckptferry/flinkmeta"
)

// diffReport is what two _metadata files differ in. Its JSON is what `metadata diff -o json` prints.
type diffReport struct {
	A         string      `json:"a"`
	B         string      `json:"b"`
	Identical bool        `json:"identical"`
	PathsOnly bool        `json:"paths_only"` // the same state under other paths
	Header    []diffValue `json:"header"`
	Operators []diffValue `json:"operators"`
	Files     diffFiles   `json:"files"`
	Moved     []diffMoved `json:"moved"` // filled when PathsOnly
}

type diffValue struct {
	What string `json:"what"`
	A    string `json:"a"` // empty: not there
	B    string `json:"b"`
}

type diffFiles struct {
	OnlyA  []string `json:"only_a"`
	OnlyB  []string `json:"only_b"`
	Common int      `json:"common"`
}

type diffMoved struct {
	From string `json:"from"`
	To   string `json:"to"`
}

func (a *app) diffCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two _metadata files: header, operators, files",
		Long:  "Exits 0 when the files are byte-identical, 1 when they differ, above 1 when they can't be compared.",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			stores := a.stores()
			defer func() { _ = stores.Close() }() // only read
			var sides [2]loaded
			for i, arg := range args {
				l, err := a.load(cmd.Context(), stores, arg)
				if err != nil {
					return aboveOne(err)
				}
				sides[i] = l
			}
			report, err := diffMetadata(sides[0], sides[1])
			if err != nil {
				return aboveOne(err)
			}
			if output == "json" {
				err = printJSON(a.out, report)
			} else {
				err = a.printDiff(report)
			}
			if err == nil && !report.Identical {
				return silentError{code: exitFailed, err: errors.New("the two differ")}
			}
			return err
		},
	}
	outputFlag(c, &output)
	return c
}

// aboveOne keeps diff's promise that 1 means "they differ": what would exit with 1 exits with 2.
func aboveOne(err error) error {
	if exitCode(err) == exitFailed {
		return usageError{err}
	}
	return err
}

func diffMetadata(a, b loaded) (diffReport, error) {
	r := diffReport{A: a.file.String(), B: b.file.String(), Identical: bytes.Equal(a.raw, b.raw),
		Header: []diffValue{}, Operators: []diffValue{}, Moved: []diffMoved{}, Files: diffFiles{OnlyA: []string{}, OnlyB: []string{}}}
	for _, v := range []diffValue{
		{"version", fmt.Sprint(a.meta.Version), fmt.Sprint(b.meta.Version)},
		{"checkpoint id", fmt.Sprint(a.meta.CheckpointID), fmt.Sprint(b.meta.CheckpointID)},
		{"kind", string(a.meta.Kind), string(b.meta.Kind)},
		{"master states", fmt.Sprint(len(a.meta.MasterStates)), fmt.Sprint(len(b.meta.MasterStates))},
		{"state handles", fmt.Sprint(len(a.meta.Handles)), fmt.Sprint(len(b.meta.Handles))},
	} {
		if v.A != v.B {
			r.Header = append(r.Header, v)
		}
	}
	r.Operators = diffOperators(a.meta, b.meta)
	refsA, err := a.meta.Refs(a.dir.String())
	if err != nil {
		return r, fmt.Errorf("read the references of %s: %w", a.file, err)
	}
	refsB, err := b.meta.Refs(b.dir.String())
	if err != nil {
		return r, fmt.Errorf("read the references of %s: %w", b.file, err)
	}
	r.Files = diffRefs(refsA, refsB)
	r.PathsOnly = !r.Identical && sameState(a.meta, b.meta) && len(refsA) == len(refsB) && len(r.Operators) == 0
	if r.PathsOnly {
		for i := range refsA {
			if x, y := writtenPath(refsA[i]), writtenPath(refsB[i]); x != y {
				r.Moved = append(r.Moved, diffMoved{x, y})
			}
		}
		r.Files = diffFiles{OnlyA: []string{}, OnlyB: []string{}, Common: len(refsA) - len(r.Moved)}
	}
	return r, nil
}

// writtenPath is a relative path as it is written, which is the same in every copy, and else the file's URI.
func writtenPath(ref flinkmeta.FileRef) string {
	if ref.Relative {
		return ref.Path
	}
	return ref.URI
}

// sameState says whether two files hold the same handles, paths and their form aside.
func sameState(a, b *flinkmeta.Metadata) bool {
	if a.CheckpointID != b.CheckpointID || a.Version != b.Version || len(a.Handles) != len(b.Handles) {
		return false
	}
	for i, h := range a.Handles {
		g := b.Handles[i]
		if h.Where != g.Where || h.Operator != g.Operator || h.Subtask != g.Subtask || h.Size != g.Size || h.Start != g.Start ||
			h.IsFile() != g.IsFile() || !bytes.Equal(a.Inline(h), b.Inline(g)) {
			return false
		}
	}
	return true
}

func diffOperators(a, b *flinkmeta.Metadata) []diffValue {
	out := []diffValue{}
	describe := func(o *flinkmeta.Operator) string {
		return fmt.Sprintf("parallelism %d of %d, %d subtasks (%d finished), %s of state", o.Parallelism, o.MaxParallelism, o.Subtasks, o.FinishedSubtasks, humanBytes(o.StateBytes))
	}
	inB := map[flinkmeta.OperatorID]*flinkmeta.Operator{}
	for i := range b.Operators {
		inB[b.Operators[i].ID] = &b.Operators[i]
	}
	for i := range a.Operators {
		o := &a.Operators[i]
		v := diffValue{What: "operator " + operatorName(o), A: describe(o)}
		if other, ok := inB[o.ID]; ok {
			v.B = describe(other)
			delete(inB, o.ID)
		}
		if v.A != v.B {
			out = append(out, v)
		}
	}
	for i := range b.Operators {
		if o := &b.Operators[i]; inB[o.ID] != nil {
			out = append(out, diffValue{What: "operator " + operatorName(o), B: describe(o)})
		}
	}
	return out
}

func operatorName(o *flinkmeta.Operator) string {
	if o.Name == "" {
		return o.ID.String()
	}
	return o.ID.String() + " (" + o.Name + ")"
}

func diffRefs(a, b []flinkmeta.FileRef) diffFiles {
	out := diffFiles{OnlyA: []string{}, OnlyB: []string{}}
	inB := map[string]bool{}
	for _, ref := range b {
		inB[ref.URI] = true
	}
	for _, ref := range a {
		if inB[ref.URI] {
			out.Common++
			delete(inB, ref.URI)
		} else {
			out.OnlyA = append(out.OnlyA, ref.URI)
		}
	}
	for _, ref := range b {
		if inB[ref.URI] {
			out.OnlyB = append(out.OnlyB, ref.URI)
		}
	}
	return out
}

func (a *app) printDiff(r diffReport) error {
	var b bytes.Buffer
	if r.Identical {
		fmt.Fprintf(&b, "identical: %s and %s\n", r.A, r.B)
	} else {
		fmt.Fprintf(&b, "--- %s\n+++ %s\n", r.A, r.B)
	}
	for _, v := range append(r.Header, r.Operators...) {
		fmt.Fprintf(&b, "~ %s\n", v.What)
		if v.A != "" {
			fmt.Fprintf(&b, "  - %s\n", v.A)
		}
		if v.B != "" {
			fmt.Fprintf(&b, "  + %s\n", v.B)
		}
	}
	if r.PathsOnly {
		fmt.Fprintf(&b, "same state, %d of %d files under other paths\n", len(r.Moved), len(r.Moved)+r.Files.Common)
	}
	for _, m := range r.Moved {
		fmt.Fprintf(&b, "- %s\n+ %s\n", m.From, m.To)
	}
	for _, f := range r.Files.OnlyA {
		fmt.Fprintf(&b, "- %s\n", f)
	}
	for _, f := range r.Files.OnlyB {
		fmt.Fprintf(&b, "+ %s\n", f)
	}
	if !r.Identical && !r.PathsOnly {
		fmt.Fprintf(&b, "files: %d only in the first, %d only in the second, %d in both\n", len(r.Files.OnlyA), len(r.Files.OnlyB), r.Files.Common)
	}
	_, err := a.out.Write(b.Bytes())
	return err
}
