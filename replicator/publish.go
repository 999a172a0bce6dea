package replicator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// publisher makes a replica READY, and is the only code that does.
type publisher struct {
	plan    *plan
	dst     fsutil.FS
	attempt *attempt
	before  bool // it was published when the plan was made
	now     time.Time
}

// publish is called when every file is at the target and was read back. It looks once more that all files are there
// with their lengths, that the source still has the checkpoint as it was read (Flink may have deleted it meanwhile,
// or, with a fixed job id, begun to write another in its place), puts original and manifest on record, and renames
// `_metadata` in last. Publishing twice is publishing once.
func (b *publisher) publish(ctx context.Context) error {
	if err := b.allThere(ctx); err != nil {
		return err
	}
	if err := b.sourceUnchanged(ctx); err != nil {
		return err
	}
	p, name := b.plan, b.plan.layout.name()
	if err := b.attempt.claim(ctx, p.rewrite); err != nil {
		return err
	}
	// Another may have published since the plan. What it put on record is what is known of the replica elsewhere, so it
	// stays: a second manifest, of another moment, would make the first one's checksum wrong.
	if now, err := published(ctx, b.dst, p); err != nil {
		return err
	} else if now && !b.before {
		if whole, err := onRecord(ctx, b.dst, p); whole || err != nil {
			return err
		}
	}
	files := []written{
		{tmp: b.attempt.tmp("original"), name: own("original", name, "/"+metadataName), content: verbatim(p.original)},
		{tmp: b.attempt.tmp("manifest"), name: own("manifest", name, ".jsonl"), content: b.manifest},
	}
	for _, top := range p.borrows() {
		files = append(files, written{tmp: b.attempt.tmp("borrowed"), name: borrower(top, name), content: verbatim([]byte(name))})
	}
	for _, w := range files {
		if err := writeFile(ctx, b.dst, w); err != nil {
			return err
		}
	}
	// Once more, since it is on record now what the replica needs: a sweep that had not seen the record has moved files
	// away by now, or will see it before it is over and put them back.
	if err := b.allThere(ctx); err != nil {
		return err
	}
	if err := writeFile(ctx, b.dst, written{tmp: b.attempt.tmp("metadata"), name: path.Join(name, metadataName), content: verbatim(p.rewrite)}); err != nil {
		return err
	}
	// Once more under the final names: from here on somebody may start Flink from it.
	whole, err := onRecord(ctx, b.dst, p)
	if err != nil {
		return err
	}
	if !whole {
		return fmt.Errorf("%w: %s, its original or its manifest does not hold what was just written: somebody else writes there", ErrVerify, b.dst.Root().Join(path.Join(name, metadataName)))
	}
	return nil
}

// published says whether the target has the very _metadata that p's replica has. Only that may stay: ErrRefused for
// another checkpoint under the same name, or a replica that was made for another place.
func published(ctx context.Context, dst fsutil.ReadFS, p *plan) (bool, error) {
	name := p.layout.name()
	same, err := sameBytes(ctx, dst, path.Join(name, metadataName), p.rewrite)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if same || err != nil {
		return same, err
	}
	where := dst.Root().Join(name)
	head, ok, err := findManifest(ctx, dst, name, nil)
	switch {
	case errors.Is(err, errManifest) || err == nil && !ok:
		return false, refuse("%s holds a _metadata that ckptferry has no record of. Choose another target, or move that directory away", where)
	case err != nil:
		return false, err
	case head.OriginalCRC != checksum(p.original) || head.OriginalBytes != int64(len(p.original)):
		return false, refuse("%s is a replica of another checkpoint with the same job id and number (made %s from %s). A READY replica is never overwritten: choose another target",
			where, head.Created.Format(time.RFC3339), head.Source)
	case head.MetadataCRC == checksum(p.rewrite) && head.MetadataBytes == int64(len(p.rewrite)):
		return false, refuse("the _metadata there has other bytes than were published: somebody changed %s, or it rotted. Move that file away and run again", where.Join(metadataName))
	}
	return false, refuse("%s is READY with %s paths below %s, and %s paths below %s were asked for. Choose another target",
		where, head.Paths, head.Root, p.req.Paths, p.req.As)
}

// onRecord says whether the target has the replica's _metadata, and the original and a manifest that belong to it.
func onRecord(ctx context.Context, dst fsutil.ReadFS, p *plan) (bool, error) {
	name := p.layout.name()
	for dir, want := range map[string][]byte{name: p.rewrite, own("original", name, ""): p.original} {
		same, err := sameBytes(ctx, dst, path.Join(dir, metadataName), want)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fsutil.ErrCorrupt) || err == nil && !same {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	head, ok, err := findManifest(ctx, dst, name, nil)
	if errors.Is(err, errManifest) || errors.Is(err, fsutil.ErrCorrupt) || err == nil && !ok {
		return false, nil
	}
	return head.Root == p.req.As.String() && head.Paths == string(p.req.Paths) && head.OriginalBytes == int64(len(p.original)) &&
		head.OriginalCRC == checksum(p.original) && head.MetadataBytes == int64(len(p.rewrite)) && head.MetadataCRC == checksum(p.rewrite), err
}

// borrows names the other jobs and savepoints from whose directories the replica needs files.
func (p *plan) borrows() []string {
	tops := map[string]bool{}
	for _, f := range p.files {
		top, _, _ := strings.Cut(f.target, "/")
		tops[top] = true
	}
	delete(tops, p.layout.top())
	return slices.Sorted(maps.Keys(tops))
}

func (b *publisher) allThere(ctx context.Context) error {
	files := b.plan.files
	places := make([]located, len(files))
	for i, f := range files {
		places[i] = located{b.dst, f.target}
	}
	found, err := lookAt(ctx, places)
	if err != nil {
		return err
	}
	for i, f := range files {
		switch at := b.dst.Root().Join(f.target); {
		case found[i].info == (fsutil.FileInfo{}):
			return fmt.Errorf("%w: %s vanished from the target after it was copied: somebody else deletes there", ErrVerify, at)
		case !found[i].there || found[i].info.Size != f.bytes:
			return fmt.Errorf("%w: %s has %d bytes, %d were copied: somebody else writes there", ErrVerify, at, found[i].info.Size, f.bytes)
		}
	}
	return nil
}

func (b *publisher) sourceUnchanged(ctx context.Context) error {
	p := b.plan
	same, err := sameBytes(ctx, p.sources.base, path.Join(p.layout.name(), metadataName), p.original)
	if errors.Is(err, fs.ErrNotExist) {
		return &SupersededError{Checkpoint: p.req.Source, File: p.layout.dir.Join(metadataName)}
	}
	if err != nil {
		return fmt.Errorf("look once more at the source: %w", err)
	}
	if !same {
		return fmt.Errorf("%w: %s is another one than when the copy began: a new life of the job has the same job id and checkpoint number. Nothing of it is visible at the target", ErrSuperseded, p.layout.dir.Join(metadataName))
	}
	if p.req.Label.Completed.IsZero() { // without it a survey can't order it among other JobIDs, which keeps nobody from restoring
		if fi, err := p.sources.base.Stat(ctx, path.Join(p.layout.name(), metadataName)); err == nil {
			p.req.Label.Completed = fi.ModTime.UTC()
		}
	}
	return nil
}

func (b *publisher) manifest(out io.Writer) error {
	p, w := b.plan, manifestWriter{w: out}
	err := w.line(ManifestHeader{
		Format: manifestFormat, Replica: p.layout.name(), Root: p.req.As.String(), WrittenTo: p.req.Target.String(), Source: p.layout.dir.String(),
		CheckpointID: p.meta.CheckpointID, Kind: string(p.meta.Kind), FlinkFormat: p.meta.Version, Paths: string(p.req.Paths),
		OriginalBytes: int64(len(p.original)), OriginalCRC: checksum(p.original),
		MetadataBytes: int64(len(p.rewrite)), MetadataCRC: checksum(p.rewrite),
		Created: b.now.UTC(), Warnings: p.warnings, Label: p.req.Label,
	})
	if err != nil {
		return err
	}
	for i := range p.files {
		if err := w.file(p.manifestFile(i)); err != nil {
			return err
		}
	}
	return w.close()
}
