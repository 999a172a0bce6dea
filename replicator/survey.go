package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/fsutil"
)

// Label is what a group knows of a replica beside its bytes. It is written into the manifest, so that the storage alone can
// tell it when the group is lost.
type Label struct {
	// Job is what an operator calls the job.
	Job string `json:"job,omitempty"`
	// Route is the name of the target's route.
	Route string `json:"route,omitempty"`
	// Attempt is the replica's.
	Attempt uint64 `json:"attempt,omitempty"`
	// Completed is when the source's checkpoint was, by its storage's clock. Where the caller doesn't know, it is the time at
	// which the source's _metadata was written last.
	Completed time.Time `json:"completed,omitzero"`
}

// Surveyed is a replica as the storage alone tells of it.
type Surveyed struct {
	Replica  string     // its name below the root
	Dir      fsutil.URI // where it lies
	Header   ManifestHeader
	Manifest CRC // of the manifest
	Files    int
	Bytes    int64
	Facts    RestoreFacts
	Problem  string // why Flink can't be trusted to restore from it; empty when it is whole
	Standing        // what marks on the storage say: whether Flink owns it, or may delete its files
}

// Job is what an operator calls its job; sure is false where the manifest doesn't say: then it is the JobID, or the
// savepoint's name.
func (s Surveyed) Job() (name string, sure bool) {
	if s.Header.Label.Job != "" {
		return s.Header.Label.Job, true
	}
	return Top(s.Replica), false
}

// Completed is when the source's checkpoint was; where the manifest doesn't say, when the replica was made.
func (s Surveyed) Completed() time.Time {
	if !s.Header.Label.Completed.IsZero() {
		return s.Header.Label.Completed
	}
	return s.Header.Created
}

// NewerThan says that the source's checkpoint is newer than another one of the same job. The ids of one JobID grow, whenever the
// replicas were made and in whichever order. Between JobIDs, and between savepoints, the times tell at which the source completed
// them; one whose time nobody knows counts as older. It orders what is of one JobID, or of one each: not a mix of both.
func (s Surveyed) NewerThan(other Surveyed) bool {
	if s.JobID() != "" && s.JobID() == other.JobID() && s.Header.CheckpointID != other.Header.CheckpointID {
		return s.Header.CheckpointID > other.Header.CheckpointID
	}
	return cmp.Or(s.Header.Label.Completed.Compare(other.Header.Label.Completed), s.Header.Created.Compare(other.Header.Created),
		strings.Compare(s.Replica, other.Replica)) > 0
}

// JobID is Flink's JobID, as far as the replica's place tells; empty for a savepoint.
func (s Surveyed) JobID() string {
	if top := Top(s.Replica); jobID.MatchString(top) && chkName.MatchString(path.Base(s.Replica)) {
		return top
	}
	return ""
}

// Savepoint says that it is one of a savepoint.
func (s Surveyed) Savepoint() bool {
	return s.JobID() == "" && !chkName.MatchString(path.Base(s.Replica))
}

// SurveyRequest is a replica root.
type SurveyRequest struct {
	Root fsutil.URI
	Deep bool // read every byte; else lengths and _metadata alone are compared
}

// Survey looks at every replica below a root that there is a manifest of, one after the other by name, and hands it to each.
// Nothing is written, and nothing but the storage is asked. Errors: that of each, or what kept it from looking.
func Survey(ctx context.Context, opener Opener, req SurveyRequest, each func(Surveyed) error) error {
	root, err := opener.OpenRead(ctx, req.Root)
	if err != nil {
		return fmt.Errorf("open %s: %w", req.Root, err)
	}
	claims, err := readClaims(ctx, root)
	if err != nil {
		return fmt.Errorf("look what below %s was claimed: %w", req.Root, err)
	}
	const suffix = ".jsonl"
	base := path.Join(ownDir, "manifest")
	return walkFiles(ctx, root, base, func(name string) error {
		replica, ok := strings.CutSuffix(strings.TrimPrefix(name, base+"/"), suffix)
		if !ok || validReplica(replica) != nil {
			return nil
		}
		s, err := surveyOne(ctx, opener, root, surveying{req, replica, claims})
		if err != nil {
			return err
		}
		return each(s)
	})
}

type surveying struct {
	SurveyRequest
	replica string
	claims  *claims
}

func surveyOne(ctx context.Context, opener Opener, root fsutil.ReadFS, req surveying) (Surveyed, error) {
	s := Surveyed{Replica: req.replica, Dir: req.Root.Join(req.replica)}
	tops := map[string]bool{Top(req.replica): true}
	crc, _, err := readBack(ctx, root, own("manifest", req.replica, ".jsonl"), make([]byte, ownBufferBytes))
	if err == nil {
		s.Manifest = crc
		s.Header, err = readManifest(ctx, root, req.replica, func(f ManifestFile) error {
			s.Files++
			s.Bytes += f.Bytes
			tops[Top(f.Name)] = true
			return nil
		})
	}
	if err == nil {
		err = CheckLengths(ctx, opener, LengthsRequest{Dir: s.Dir, Manifest: &s.Manifest})
	}
	if err == nil && req.Deep {
		var report CheckReport
		report, err = Check(ctx, opener, CheckRequest{Dir: s.Dir})
		if errors.Is(err, ErrVerify) && len(report.Problems) > 0 {
			err = fmt.Errorf("%w; the first: %s", err, report.Problems[0])
		}
	}
	if err == nil {
		s.Facts, err = surveyFacts(ctx, root, req.replica)
	}
	var format *flinkmeta.FormatError
	standing, standingErr := req.claims.standing(ctx, req.replica, tops)
	s.Standing = standing
	switch {
	case standingErr != nil:
		return s, fmt.Errorf("look at replica %s: %w", s.Dir, standingErr)
	case err == nil:
	case errors.Is(err, ErrVerify), errors.Is(err, errManifest), errors.Is(err, fsutil.ErrCorrupt), errors.As(err, &format), errors.Is(err, flinkmeta.ErrVersion):
		s.Problem = err.Error()
	default:
		return s, fmt.Errorf("look at replica %s: %w", s.Dir, err)
	}
	return s, nil
}

func surveyFacts(ctx context.Context, root fsutil.ReadFS, replica string) (RestoreFacts, error) {
	raw, err := readMetadata(ctx, root, replica)
	if err != nil {
		return RestoreFacts{}, err
	}
	meta, err := flinkmeta.Scan(raw)
	if err != nil {
		return RestoreFacts{}, fmt.Errorf("scan _metadata: %w", err)
	}
	return FactsOf(meta), nil
}
