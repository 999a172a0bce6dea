package replicator

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/fsutil"
)

// claimedDir holds the marks of claimed replicas: `.ckptferry/claimed/<job id>/chk-42.json`, or `…/savepoint-1.json`. What Flink
// claimed is Flink's for ever, and the group that knows may be lost; so the storage tells it as well. What counts is that a
// mark is there; what is in it is for people. One too many only puts replicas at risk, one too few offers what Flink deletes.
const claimedDir = "claimed"

// ClaimMark says that a replica was handed to Flink with CLAIM.
type ClaimMark struct {
	Replica string    `json:"replica"` // its name below the root
	Plan    string    `json:"plan"`
	Actor   string    `json:"actor"`
	Time    time.Time `json:"time"`
}

// MarkClaimed marks a replica, and says whether it was this call that did: a mark that is there stays as it is. When it
// returns nil the mark is durable. It may be repeated.
func MarkClaimed(ctx context.Context, dst fsutil.FS, c ClaimMark) (wrote bool, err error) {
	if err := validReplica(c.Replica); err != nil {
		return false, err
	}
	name := own(claimedDir, c.Replica, ".json")
	if there, err := exists(ctx, dst, name); err != nil || there {
		return false, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return false, fmt.Errorf("mark %s as claimed: %w", c.Replica, err)
	}
	a := newAttempt(dst, c.Replica)
	defer a.end(ctx)
	if err := writeFile(ctx, dst, written{tmp: a.tmp("claimed"), name: name, content: verbatim(append(text, '\n'))}); err != nil {
		return false, fmt.Errorf("mark %s as claimed: %w", c.Replica, err)
	}
	return true, nil
}

// UnmarkClaimed takes a mark away, for the caller who made it and knows that no Flink will be started by it.
func UnmarkClaimed(ctx context.Context, dst fsutil.FS, replica string) error {
	if err := validReplica(replica); err != nil {
		return err
	}
	if err := dst.Remove(ctx, own(claimedDir, replica, ".json")); err != nil {
		return fmt.Errorf("take back that %s is claimed: %w", replica, err)
	}
	return nil
}

// claims are the marks below a root, as they were when they were read.
type claims struct {
	dst    fsutil.ReadFS
	marked map[string]bool     // by the replica's name
	users  map[string][]string // by top: the claimed replicas that have files there
}

func readClaims(ctx context.Context, dst fsutil.ReadFS) (*claims, error) {
	c := &claims{dst: dst, marked: map[string]bool{}, users: map[string][]string{}}
	base := path.Join(ownDir, claimedDir)
	err := walkFiles(ctx, dst, base, func(name string) error {
		if replica, ok := strings.CutSuffix(strings.TrimPrefix(name, base+"/"), ".json"); ok && validReplica(replica) == nil {
			c.marked[replica] = true
		}
		return nil
	})
	return c, err
}

// of names the claimed replicas that have files below a top: those of the job itself, and those that borrowed from it.
func (c *claims) of(ctx context.Context, top string) ([]string, error) {
	if len(c.marked) == 0 {
		return nil, nil
	}
	if users, known := c.users[top]; known {
		return users, nil
	}
	replicas, err := manifestsOf(ctx, c.dst, map[string]bool{top: true})
	if err != nil {
		return nil, err
	}
	users := slices.DeleteFunc(replicas, func(replica string) bool { return !c.marked[replica] })
	for replica := range c.marked { // also without a manifest
		if Top(replica) == top && !slices.Contains(users, replica) {
			users = append(users, replica)
		}
	}
	slices.Sort(users)
	c.users[top] = users
	return users, nil
}

// atRisk says why Flink may delete files that a replica needs from these tops; empty when nobody claimed one of them.
func (c *claims) atRisk(ctx context.Context, replica string, tops []string) (string, error) {
	for _, top := range tops {
		users, err := c.of(ctx, top)
		if err != nil {
			return "", err
		}
		for _, claimed := range users {
			if claimed != replica {
				return fmt.Sprintf("Flink claimed %s, which has files in %s as this replica has: Flink deletes them as its job goes on, so this replica is never offered (AT_RISK). "+
					"A restart of the job at the source gives it a new JobID and replicas that are not at risk; so does a route with another root", claimed, top), nil
			}
		}
	}
	return "", nil
}

// Standing is what the marks on the storage say of a replica.
type Standing struct {
	Claimed bool   // Flink owns it
	AtRisk  string // why Flink may delete files that it needs; empty when it doesn't
}

// StandingOf reads the marks about a replica. A place that is no replica's has none. ErrVerify and the manifest's errors are
// left to whoever checks the replica: without a readable manifest only the replica's own directory is looked at.
func StandingOf(ctx context.Context, opener ReadOpener, dir fsutil.URI) (Standing, error) {
	at, name := PlaceOf(dir)
	if validReplica(name) != nil {
		return Standing{}, nil
	}
	root, err := opener.OpenRead(ctx, at)
	if err != nil {
		return Standing{}, fmt.Errorf("open %s: %w", at, err)
	}
	c, err := readClaims(ctx, root)
	if err != nil || len(c.marked) == 0 {
		return Standing{}, err
	}
	tops := map[string]bool{Top(name): true}
	_, _ = readManifest(ctx, root, name, func(f ManifestFile) error {
		tops[Top(f.Name)] = true
		return nil
	})
	return c.standing(ctx, name, tops)
}

func (c *claims) standing(ctx context.Context, replica string, tops map[string]bool) (s Standing, err error) {
	s.Claimed = c.marked[replica]
	s.AtRisk, err = c.atRisk(ctx, replica, slices.Sorted(maps.Keys(tops)))
	return s, err
}
