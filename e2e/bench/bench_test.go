package main

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/replicator"
)

func TestGeneratedCheckpointsReplicate(t *testing.T) {
	for name, change := range map[string]func(*checkpoint){
		"one handle per file":   func(*checkpoint) {},
		"five handles per file": func(c *checkpoint) { c.handles = 5 * len(c.files) },
		"less files than subtasks": func(c *checkpoint) {
			c.files = c.files[:3]
			c.handles = 3
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := newCheckpoint("file:"+dir+"/source", 7, 40, sized(1000))
			change(&c)
			if err := c.writeLocal(dir + "/source"); err != nil {
				t.Fatal(err)
			}
			m, err := flinkmeta.Scan(c.metadata())
			if err != nil {
				t.Fatal(err)
			}
			refs, err := m.Refs(c.dir())
			if err != nil || len(refs) != len(c.files) {
				t.Fatalf("%d files referred to, %v; want %d", len(refs), err, len(c.files))
			}
			stores := fsutil.NewStores(fsutil.StoresConfig{})
			defer stores.Close()
			source, err := fsutil.ParseURI(c.dir())
			if err != nil {
				t.Fatal(err)
			}
			res, err := replicator.Replicate(t.Context(), stores, replicator.Request{Source: source, Target: fsutil.URI{Scheme: "file", Path: filepath.Join(dir, "target")}})
			if err != nil || res.Status != replicator.StatusReady || res.BytesCopied != c.bytes() {
				t.Fatalf("Replicate = %+v, %v; want %d bytes copied", res, err, c.bytes())
			}
		})
	}
}

func TestSidesTakeTurnsAndSlowOnesRunLessOften(t *testing.T) {
	var order []string
	b := &bench{runs: 3, progress: io.Discard}
	fake := func(name string, runs int, took time.Duration) side {
		return side{name: name, runs: runs, run: func(context.Context, int) (time.Duration, error) {
			order = append(order, name)
			return took, nil
		}}
	}
	sides := []side{fake("a", 0, time.Second), fake("b", 2, 3*time.Second)}
	took, err := b.race(t.Context(), "test", sides...)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for _, s := range order {
		got.WriteString(s)
	}
	if got.String() != "abba"+"a" {
		t.Errorf("order %s; want abbaa", &got)
	}
	b.compare(versus{what: "test", goal: 2, ours: 0, peer: 1}, took, sides...)
	if r := b.rows[0]; r.Value != 3 || r.Runs != 2 || r.verdict() != "met" {
		t.Errorf("row = %+v, %s; want 3 × of 2 runs, met", r, r.verdict())
	}
}

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := median(tc.values); got != tc.want {
			t.Errorf("median(%v) = %v; want %v", tc.values, got, tc.want)
		}
	}
}
