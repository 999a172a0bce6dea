package replicator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// Replicate makes a READY replica of one checkpoint or savepoint, or says why there is none. It may be repeated at
// any time: what is at the target with the right length and digest is not copied again. The source is only read.
//
// Errors, by errors.Is: fs.ErrNotExist (no such checkpoint), ErrSuperseded, ErrBroken, ErrRefused, ErrVerify,
// fsutil's, flinkmeta's, or the context's. The Result says how far it came also beside an error.
func Replicate(ctx context.Context, opener Opener, req Request) (Result, error) {
	began := time.Now()
	res := Result{Status: StatusFailed, Warnings: []string{}}
	req, err := req.withDefaults()
	if err != nil {
		return res, err
	}
	r := &run{opener: opener, req: req, began: began}
	err = r.do(ctx)
	if over := ctx.Err(); over != nil && errors.Is(err, fsutil.ErrUnavailable) && !errors.Is(err, over) {
		err = fmt.Errorf("%w: %w", over, err) // it was not waited for any longer
	}
	r.fill(&res)
	switch {
	case err == nil && req.Share != nil:
		res.Status = StatusCopied
		req.Meter.enter(PhaseDone)
	case err == nil:
		res.Status = StatusReady
		res.ManifestCRC, res.ManifestFiles, res.ManifestBytes = r.manifest, len(r.plan.files), r.plan.bytes
		res.AtRisk = r.atRisk
		req.Meter.enter(PhaseDone)
	case errors.Is(err, ErrSuperseded):
		res.Status = StatusSuperseded
	case ctx.Err() != nil:
		res.Status = StatusInterrupted
	}
	return res, err
}

// Preview plans as Replicate does and says what it would copy. Nothing is written anywhere.
func Preview(ctx context.Context, opener Opener, req Request) (Result, error) {
	res := Result{Status: StatusFailed, Warnings: []string{}}
	req, err := req.withDefaults()
	if err != nil {
		return res, err
	}
	r := &run{opener: opener, req: req, began: time.Now()}
	if err := r.prepare(ctx); err != nil {
		r.fill(&res)
		return res, err
	}
	r.fill(&res)
	for i := range r.plan.files {
		f := &r.plan.files[i]
		fi, err := r.dst.Stat(ctx, f.target)
		switch {
		case err == nil && fi.Size == f.bytes && r.known[i].unchanged:
			res.FilesSkipped++
		case err == nil || errors.Is(err, fs.ErrNotExist):
			res.BytesToCopy += f.bytes
		default:
			return res, fmt.Errorf("look at %s: %w", r.dst.Root().Join(f.target), err)
		}
	}
	if r.published {
		res.FilesSkipped++
	}
	res.Status = StatusPlanned
	return res, nil
}

// run is one call of Replicate.
type run struct {
	opener Opener
	req    Request
	began  time.Time

	plan      *plan
	dst       fsutil.FS
	known     []known // of plan.files
	mine      []int   // of plan.files, those that this run brings
	published bool    // the target has this very replica's _metadata already
	manifest  CRC     // of the READY replica's manifest
	atRisk    string
}

// prepare plans, holds the rules about where ckptferry may write, and looks what the target has. It writes nothing.
func (r *run) prepare(ctx context.Context) error {
	r.req.Meter.enter(PhasePlan)
	var err error
	// Before the plan, which may take its time; but a mistyped source at the top of a file system is not found rather
	// than above everything.
	if base := r.req.Maps.Reached(newLayout(r.req.Maps.Named(r.req.Source)).flinks()); base.Path != "/" {
		if err := refuseOverlap(r.req.Target, []fsutil.URI{base}); err != nil {
			return err
		}
	}
	if r.plan, err = makePlan(ctx, r.opener, r.req); err != nil {
		return err
	}
	if err := refuseOverlap(r.req.Target, r.plan.sources.prefixes()); err != nil {
		return err
	}
	if err := refuseInsideBase(ctx, r.opener, r.req.Target); err != nil {
		return err
	}
	if r.dst, err = r.opener.Open(ctx, r.req.Target); err != nil {
		return fmt.Errorf("open the target %s: %w", r.req.Target, err)
	}
	if err := refuseForeignBase(ctx, r.dst); err != nil {
		return err
	}
	var warnings []string
	if r.known, warnings, err = knownFiles(ctx, r.dst, r.plan); err != nil {
		return fmt.Errorf("look what the target has on record: %w", err)
	}
	r.plan.warnings = append(r.plan.warnings, warnings...)
	if r.published, err = published(ctx, r.dst, r.plan); err != nil {
		return err
	}
	r.mine = r.plan.mine()
	r.req.Meter.Files.Store(int64(len(r.mine)))
	for _, i := range r.mine {
		r.req.Meter.Bytes.Add(r.plan.files[i].bytes)
	}
	return nil
}

func (r *run) do(ctx context.Context) error {
	r.req.Meter.reset()
	if err := r.prepare(ctx); err != nil {
		return err
	}
	name, meter := r.plan.layout.name(), r.req.Meter
	a := newAttempt(r.dst, name)
	defer a.end(ctx)
	if err := retrying(ctx, meter, func(int) error { return a.begin(ctx) }); err != nil {
		return fmt.Errorf("begin in %s: %w", r.req.Target.Join(ownDir), err)
	}
	err := r.copyAndPublish(ctx, a)
	if errors.Is(err, ErrSuperseded) {
		r.hideExclusive(ctx, a)
	}
	if err != nil || r.req.Share != nil {
		return err
	}
	err = retrying(ctx, meter, func(int) error {
		r.manifest, _, err = readBack(ctx, r.dst, own("manifest", name, ".jsonl"), make([]byte, ownBufferBytes))
		if err == nil {
			r.atRisk, err = r.risk(ctx)
		}
		return err
	})
	if err != nil {
		return err
	}
	if r.atRisk != "" {
		r.plan.warnings = append([]string{r.atRisk}, r.plan.warnings...) // of many only the first ones are kept on record
	}
	// The manifest vouches for the files from here on. A journal that stays is only read in vain.
	_ = removeTree(ctx, r.dst, own("journal", name, ""))
	_ = a.removeStaleJournals(ctx, name)
	return nil
}

// risk says why Flink may delete files of the replica. It is asked last: who claims a replica marks it first, and fences out
// with the promotion whoever copies for the job. One that is claimed itself is copied only by a group that lost its record.
func (r *run) risk(ctx context.Context) (string, error) {
	c, err := readClaims(ctx, r.dst)
	if err != nil {
		return "", err
	}
	name := r.plan.layout.name()
	if c.marked[name] {
		return fmt.Sprintf("Flink claimed this very replica (%s is marked so on the storage), and whoever has it made does not know: it is Flink's, which deletes its files as its job goes on, "+
			"so it is never offered (AT_RISK). After a group lost its record, rebuild the catalogue before routes pull", name), nil
	}
	return c.atRisk(ctx, name, append([]string{r.plan.layout.top()}, r.plan.borrows()...))
}

func (r *run) copyAndPublish(ctx context.Context, a *attempt) error {
	meter := r.req.Meter
	meter.enter(PhaseCopy)
	c := &copier{plan: r.plan, mine: r.mine, dst: r.dst, known: r.known, attempt: a, journal: startJournal(ctx, a, r.plan),
		limits: append([]*Limit{NewLimit(r.req.BytesPerSecond)}, r.req.Limits...), buffers: newBufferPool(r.req.Parallel)}
	c.partials = c.findPartials(ctx)
	c.origins, c.spent = r.findOrigins(ctx), make([]bool, len(r.plan.files))
	err := c.run(ctx)
	journalErr := c.journal.close()
	if err != nil {
		return err
	}
	meter.marks.verified.set()
	if mended := c.mendedWarning(); mended != "" {
		r.plan.warnings = append(r.plan.warnings, mended)
	}
	if journalErr != nil && r.req.Share != nil {
		return fmt.Errorf("put the share on record: %w", journalErr) // what is not on record would be copied again
	}
	if journalErr != nil {
		r.plan.warnings = append(r.plan.warnings, fmt.Sprintf("the record for resuming could not be written: %v", journalErr))
	}
	if r.req.Share != nil {
		return nil
	}
	r.dropLeftOut()
	if r.published && meter.FilesSkipped.Load() == int64(len(r.plan.files)) {
		whole, err := onRecord(ctx, r.dst, r.plan)
		if err != nil {
			return err
		}
		if whole {
			meter.FilesSkipped.Add(1) // _metadata
			return nil                // READY already, and every byte of it was just seen
		}
	}
	meter.enter(PhasePublish)
	b := &publisher{plan: r.plan, dst: r.dst, attempt: a, before: r.published, now: r.began}
	return retrying(ctx, meter, func(int) error { return b.publish(ctx) })
}

// dropLeftOut forgets files beside the closure that could not be had.
func (r *run) dropLeftOut() {
	if !slices.ContainsFunc(r.plan.files, func(f planFile) bool { return f.target == "" }) {
		return
	}
	var (
		files   = make([]planFile, 0, len(r.plan.files))
		records = make([]known, 0, len(r.plan.files))
		gone    []string
	)
	for i, f := range r.plan.files {
		if f.target == "" {
			gone = append(gone, f.source.String())
			r.plan.bytes -= f.bytes
			continue
		}
		files, records = append(files, f), append(records, r.known[i])
	}
	r.plan.files, r.known = files, records
	r.plan.warnings = append(r.plan.warnings, fmt.Sprintf("%d file(s) in taskowned/ that nothing refers to vanished or changed while they were copied and were left out: %s", len(gone), few(gone)))
}

// few lists the first names of many.
func few(names []string) string {
	if len(names) > 3 {
		return strings.Join(names[:3], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// hideExclusive removes what a superseded checkpoint left in its own directory, and in its directories elsewhere (with
// entropy injection there are many): no later checkpoint uses that. Shared files stay for the next. Files are left where they are, which is not visible as a replica, when somebody
// else may need them: another run that is at work on the same checkpoint, or a READY replica (of a job that claimed a
// savepoint, say, and refers to files in its directory).
func (r *run) hideExclusive(ctx context.Context, a *attempt) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hideFor)
	defer cancel()
	if alone, err := a.giveUp(ctx); err != nil || !alone {
		return
	}
	name := r.plan.layout.name()
	if now, err := a.now(ctx); err == nil {
		_ = removePartials(ctx, r.dst, now, func(p partialRecord) bool { return strings.Contains("/"+p.Name, "/"+name+"/") })
	}
	if there, err := exists(ctx, r.dst, path.Join(name, metadataName)); err != nil || there {
		return // READY from an earlier run: not ours to take away
	}
	now, _, err := knownFiles(ctx, r.dst, r.plan)
	if err != nil {
		return
	}
	for i, f := range r.plan.files {
		if k := now[i]; strings.Contains("/"+f.target, "/"+name+"/") && k.replica == "" && k.unsure == "" && k.claimed == "" {
			_ = r.dst.Remove(ctx, f.target) // a leftover is not visible as a replica
		}
	}
	_ = r.dst.Remove(ctx, name)
}

func (r *run) fill(res *Result) {
	m := r.req.Meter
	res.FilesSkipped = int(m.FilesSkipped.Load())
	res.BytesCopied = m.BytesCopied.Load()
	res.BytesLocal = m.BytesLocal.Load()
	res.Duration = time.Since(r.began)
	res.Seconds = res.Duration.Seconds()
	if r.plan == nil {
		return
	}
	res.Replica = r.plan.replicaURI().String()
	if r.plan.layout.top() != r.plan.layout.name() {
		res.Job = r.plan.layout.top()
	}
	res.CheckpointID = r.plan.meta.CheckpointID
	res.Facts = r.plan.facts
	res.Files = len(r.plan.files) + 1
	res.Bytes = r.plan.bytes + int64(len(r.plan.rewrite))
	if r.req.Share != nil {
		res.Files, res.Bytes = int(m.Files.Load()), m.Bytes.Load()
	}
	res.Warnings = append(res.Warnings, r.plan.warnings...)
	res.Manifest = r.req.As.Join(own("manifest", r.plan.layout.name(), ".jsonl")).String()
}
