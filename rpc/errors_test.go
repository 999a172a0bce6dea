package rpc

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
	"github.com/ckptferry/ckptferry/raftstore"
	"github.com/ckptferry/ckptferry/replicator/migrate"
	"github.com/ckptferry/ckptferry/replicator/promote"
)

// sentinels are the exported errors of the packages whose errors reach the servers, by their names there.
var sentinels = map[string]map[string]error{
	"../raftstore": {
		"ErrNotLeader": raftstore.ErrNotLeader, "ErrOutcomeUnknown": raftstore.ErrOutcomeUnknown, "ErrInvalid": raftstore.ErrInvalid,
		"ErrUnknownReplica": raftstore.ErrUnknownReplica, "ErrUnknownExport": raftstore.ErrUnknownExport, "ErrUnknownRoute": raftstore.ErrUnknownRoute,
		"ErrRouteHasReplicas": raftstore.ErrRouteHasReplicas, "ErrStale": raftstore.ErrStale, "ErrConflict": raftstore.ErrConflict,
		"ErrBadTransition": raftstore.ErrBadTransition, "ErrKept": raftstore.ErrKept, "ErrForeign": raftstore.ErrForeign,
		"ErrNewer": raftstore.ErrNewer, "ErrDamaged": raftstore.ErrDamaged, "ErrInUse": raftstore.ErrInUse,
		"ErrPromoted": raftstore.ErrPromoted, "ErrNotPromoted": raftstore.ErrNotPromoted, "ErrForeignPromotion": raftstore.ErrForeignPromotion,
		"ErrSweeping": raftstore.ErrSweeping, "ErrRouteBusy": raftstore.ErrRouteBusy,
		"ErrLastVoter": raftstore.ErrLastVoter, "ErrUnreachable": raftstore.ErrUnreachable,
		"ErrUnknownMigration": raftstore.ErrUnknownMigration, "ErrMigrationEnded": raftstore.ErrMigrationEnded,
	},
	"../replicator/promote": {"ErrNoJob": promote.ErrNoJob},
	"../replicator/migrate": {"ErrBlocked": migrate.ErrBlocked, "ErrNotPromoted": migrate.ErrNotPromoted},
	"../fsutil": {
		"ErrCorrupt": fsutil.ErrCorrupt, "ErrUnavailable": fsutil.ErrUnavailable, "ErrUnsupported": fsutil.ErrUnsupported, "ErrNoSpace": fsutil.ErrNoSpace,
	},
	".": {
		"ErrUnavailable": ErrUnavailable, "ErrNotLeader": ErrNotLeader, "ErrDenied": ErrDenied, "ErrInvalid": ErrInvalid,
		"ErrNotFound": ErrNotFound, "ErrRefused": ErrRefused,
	},
}

// declared are the names of the errors that a package's files declare.
func declared(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(name.Name, "Err") {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

func TestErrorTableIsTotal(t *testing.T) {
	all := map[string]error{
		"fs.ErrNotExist": fs.ErrNotExist, "fs.ErrExist": fs.ErrExist, "fs.ErrPermission": fs.ErrPermission, "fs.ErrInvalid": fs.ErrInvalid,
		"context.Canceled": context.Canceled, "context.DeadlineExceeded": context.DeadlineExceeded, "errStopping": errStopping, "errNotApplied": errNotApplied,
	}
	for dir, known := range sentinels {
		for _, name := range declared(t, dir) {
			if known[name] == nil {
				t.Errorf("%s.%s is new: give it a row in errorTable, and name it here", dir, name)
			}
			all[dir+"."+name] = known[name]
		}
	}
	reasons := regexp.MustCompile(`^[A-Z][A-Z0-9_]+[A-Z0-9]$`)
	for name, err := range all {
		wrapped := fmt.Errorf("do something: %w", err)
		s := status.Convert(toStatus(wrapped))
		info := infoIn(s)
		if s.Code() == codes.Internal || s.Code() == codes.Unknown || s.Code() == codes.OK {
			t.Errorf("%s is %s", name, s.Code())
		}
		if info.GetDomain() != "ckptferry" || !reasons.MatchString(info.GetReason()) {
			t.Errorf("%s has the ErrorInfo %v", name, info)
		}
		if !strings.HasPrefix(s.Message(), wrapped.Error()) {
			t.Errorf("%s says %q", name, s.Message())
		}
	}
	for _, row := range errorTable {
		if !slices.Contains(slices.Collect(maps.Values(all)), row.err) {
			t.Errorf("%v is in the table and in no package", row.err)
		}
		if row.next == "" && !slices.Contains([]error{
			ErrDenied, ErrInvalid, ErrNotFound, ErrRefused, // whoever says these says what to do
			raftstore.ErrForeign, raftstore.ErrNewer, raftstore.ErrDamaged, raftstore.ErrInUse,
		}, row.err) {
			t.Errorf("%v says no next step", row.err)
		}
	}
	s := status.Convert(toStatus(errors.New("who knows")))
	if s.Code() != codes.Internal || infoIn(s).GetReason() != "INTERNAL" || !strings.Contains(s.Message(), "log") {
		t.Errorf("an error that is not known is %v", s)
	}
	if toStatus(nil) != nil {
		t.Error("nil is an error")
	}
	if own := status.Error(codes.Aborted, "own"); toStatus(own).Error() != own.Error() {
		t.Errorf("a status becomes %v", toStatus(own))
	}
}

func infoIn(s *status.Status) *errdetails.ErrorInfo {
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

func TestNotLeaderNamesTheLeader(t *testing.T) {
	for leader, says := range map[string]string{"a2": "the leader is a2", "": "there is no leader"} {
		s := status.Convert(toStatus(&withLeader{fmt.Errorf("apply: %w", raftstore.ErrNotLeader), leader}))
		info := infoIn(s)
		if got, ok := info.GetMetadata()["leader"]; s.Code() != codes.Unavailable || info.GetReason() != "NOT_LEADER" || !ok || got != leader {
			t.Errorf("%s with %v", s, info)
		}
		wantSays(t, "it", s.Err(), says)
	}
}

// What the server says by an error, the client hands out as the same one.
func TestAPIErrorsComeBack(t *testing.T) {
	for _, tc := range []struct{ server, client error }{
		{raftstore.ErrNotLeader, ErrNotLeader}, {raftstore.ErrOutcomeUnknown, ErrUnavailable}, {raftstore.ErrInvalid, ErrInvalid},
		{raftstore.ErrUnknownRoute, ErrNotFound}, {raftstore.ErrKept, ErrRefused}, {raftstore.ErrRouteHasReplicas, ErrRefused},
		{ErrNotLeader, ErrNotLeader}, {ErrDenied, ErrDenied}, {ErrInvalid, ErrInvalid}, {ErrNotFound, ErrNotFound}, {ErrUnavailable, ErrUnavailable},
		{ErrRefused, ErrRefused}, {fsutil.ErrUnavailable, ErrUnavailable}, {errStopping, ErrUnavailable}, {errNotApplied, ErrUnavailable},
	} {
		err := apiError(t.Context(), toStatus(fmt.Errorf("x: %w", tc.server)))
		wantErr(t, fmt.Sprint(tc.server), err, tc.client)
		wantSays(t, "it", err, "x: ", "["+rowOf(tc.server).reason+"]")
	}
	if err := apiError(t.Context(), toStatus(errors.New("oh"))); errors.Is(err, ErrUnavailable) || !strings.HasSuffix(err.Error(), "[INTERNAL]") {
		t.Errorf("an internal error is %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, "a call whose context ended", apiError(ended, status.Error(codes.Canceled, "x")), context.Canceled)
}

func TestFileErrorsComeBackAsTheyWere(t *testing.T) {
	kinds := map[string]bool{}
	for _, err := range []error{
		fsutil.ErrCorrupt, fsutil.ErrUnavailable, fsutil.ErrUnsupported, fsutil.ErrNoSpace,
		fs.ErrPermission, fs.ErrInvalid, fs.ErrExist, fs.ErrNotExist,
	} {
		m := fileError(fmt.Errorf("read f: %w", err))
		kinds[m.GetKind()] = true
		wantErr(t, m.GetKind(), fromFileError(m), err)
		wantSays(t, m.GetKind(), fromFileError(m), "read f: ")
	}
	for _, name := range declared(t, "../fsutil") {
		if kind := kindOf(sentinels["../fsutil"][name]); kind == kindOther {
			t.Errorf("fsutil.%s has no kind", name)
		}
	}
	// What peer.proto names.
	kinds[kindOther] = true
	for _, kind := range []string{"not_exist", "exist", "permission", "invalid", "corrupt", "unavailable", "unsupported", "no_space", "other"} {
		if !kinds[kind] {
			t.Errorf("nothing is %q", kind)
		}
	}
	if len(kinds) != 9 {
		t.Errorf("kinds are %v", kinds)
	}
	for name, tc := range map[string]struct {
		err  error
		kind string
	}{
		"unknown":                             {errors.New("x"), "other"},
		"a deadline of the source's own":      {context.DeadlineExceeded, "unavailable"},
		"gone, but nobody could look":         {errors.Join(fs.ErrNotExist, fsutil.ErrUnavailable), "unavailable"},
		"gone, but the bytes were rotten too": {errors.Join(fs.ErrNotExist, fsutil.ErrCorrupt), "corrupt"},
	} {
		if got := kindOf(tc.err); got != tc.kind {
			t.Errorf("%s is %q; want %q", name, got, tc.kind)
		}
	}
	err := fromFileError(&peerv1.FileError{Kind: "from a newer one", Message: strings.Repeat("ä", 1<<20)})
	for _, sentinel := range []error{fsutil.ErrUnavailable, fsutil.ErrCorrupt, fs.ErrNotExist} {
		if errors.Is(err, sentinel) {
			t.Errorf("an unknown kind is %v", sentinel)
		}
	}
	if len(err.Error()) > maxMessageBytes+100 {
		t.Errorf("a message of %d bytes", len(err.Error()))
	}
}

// A file is gone only when its own answer says so: a checkpoint is given up for it.
func TestNoCallErrorSaysThatAFileIsGone(t *testing.T) {
	for c := codes.Code(0); c <= codes.Unauthenticated; c++ {
		err := callError(t.Context(), status.Error(c, "x"))
		if c == codes.OK {
			if err != nil {
				t.Errorf("OK is %v", err)
			}
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is %v", c, err)
		}
		if callErrors[c] == nil && !errors.Is(err, fsutil.ErrUnavailable) {
			t.Errorf("%s is %v", c, err)
		}
	}
}
