package replicator

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// FlinkVersion is a Flink release, as far as the start line depends on it.
type FlinkVersion struct{ Major, Minor int }

// ParseFlinkVersion reads "1.20", "1.20.0" or "2.3".
func ParseFlinkVersion(s string) (FlinkVersion, error) {
	m := flinkVersion.FindStringSubmatch(s)
	if m == nil {
		return FlinkVersion{}, fmt.Errorf("Flink version %q: want one like 1.20 or 2.3", s)
	}
	major, _ := strconv.Atoi(m[1]) // a digit
	minor, _ := strconv.Atoi(m[2]) // two at most
	return FlinkVersion{major, minor}, nil
}

// A release, or what was built on the way to one (1.20-SNAPSHOT, 1.20.0-rc1).
var flinkVersion = regexp.MustCompile(`^([12])\.([0-9]{1,2})(\.[0-9]+)?(-[A-Za-z0-9.]+)?$`)

func (v FlinkVersion) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

func (v FlinkVersion) atLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// ClaimMode is Flink's claim (restore) mode.
type ClaimMode string

// Flink's claim modes that we advise on. LEGACY reuses the replica's files for ever without owning them.
const (
	NoClaim ClaimMode = "NO_CLAIM"
	Claim   ClaimMode = "CLAIM"
)

// StartRequest is what to start, where from.
type StartRequest struct {
	// Path is the replica, checkpoint or savepoint as Flink at the target names it.
	Path string
	// Facts are those of its _metadata.
	Facts RestoreFacts
	// Flink is the version that will be started; zero: the oldest common one that reads the _metadata.
	Flink FlinkVersion
	// Mode is what was asked for; empty: what is right for this checkpoint.
	Mode ClaimMode
}

// StartLine is how Flink is started from a checkpoint, and what to know before.
type StartLine struct {
	Path  string    `json:"path"`
	Flink string    `json:"flink"`
	Mode  ClaimMode `json:"mode,omitempty"` // empty: this Flink has no claim modes
	Run   string    `json:"run"`
	SQL   []string  `json:"sql"`
	// For the Kubernetes operator: a JSON merge patch of the FlinkDeployment that starts it from there, and a
	// FlinkStateSnapshot (YAML) that names the path as a snapshot that exists.
	DeploymentPatch string       `json:"deployment_patch"`
	StateSnapshot   string       `json:"state_snapshot"`
	Advice          []string     `json:"advice"`
	parsed          FlinkVersion // of Flink
}

// Start says how to start Flink from a checkpoint. ErrRefused when what was asked for is known to fail, or to lose
// state later: then the error says which mode or version works.
func Start(req StartRequest) (StartLine, error) {
	oldest, err := req.Facts.oldest()
	if err != nil {
		return StartLine{Path: req.Path, Advice: []string{}}, err
	}
	why, v := req.Facts.OldestFlinkWhy, req.Flink
	if v == (FlinkVersion{}) {
		v = FlinkVersion{1, 20}
		if oldest.atLeast(v.Major, v.Minor) {
			v = oldest
		}
	}
	line := StartLine{Path: req.Path, Flink: v.String(), Advice: []string{}, parsed: v}
	if !v.atLeast(oldest.Major, oldest.Minor) {
		return line, refuse("Flink %s can't read %s, %s and later can: start a Flink that is at least as new as the one that wrote it", v, why, oldest)
	}
	switch {
	case req.Mode != "" && req.Mode != NoClaim && req.Mode != Claim:
		return line, fmt.Errorf("claim mode %q: want %s or %s", req.Mode, NoClaim, Claim)
	case v.atLeast(1, 15):
		if err := line.chooseMode(req); err != nil {
			return line, err
		}
	case req.Mode != "":
		return line, refuse("Flink %s has no claim modes (1.15 and later have): choose none", v)
	case req.Facts.RelativeReused:
		return line, refuse("%s; Flink %s restores like that always, as LEGACY does: %s", relativeWhy, v, relocateFirst)
	default:
		line.Advice = append(line.Advice, "Flink "+v.String()+" has no claim modes: it reuses the replica's files for as long as its checkpoints need them (as LEGACY does). Keep the replica for ever, or take a savepoint and start from that")
	}
	if req.Facts.HiddenHandles {
		line.Advice = append(line.Advice, "files in taskowned/ are named by user state alone: they were copied, and the job looks for them where they were at the source. Its author knows how to tell it the new place")
	}
	line.commands()
	return line, nil
}

const (
	relativeWhy   = "shared files have relative paths here: after a CLAIM restore Flink's next checkpoints refer to files that are not there (seen with Flink 1.20.0 and 2.3.0, mended by FLINK-39964 in later patch releases)"
	relocateFirst = "make absolute paths with `ckptferry replicate --paths absolute` first"
)

// chooseMode holds what was measured with real Flink 1.20.0 and 2.3.0 about modes and paths.
func (l *StartLine) chooseMode(req StartRequest) error {
	var (
		changelog    = req.Facts.Changelog
		claimBreaks  = req.Facts.RelativeReused
		advise       = func(s string) { l.Advice = append(l.Advice, s) }
		changelogWhy = "the job uses the changelog state backend, and Flink refuses NO_CLAIM for it"
	)
	switch {
	case changelog && claimBreaks:
		return refuse("%s; and %s: %s", changelogWhy, relativeWhy, relocateFirst)
	case req.Mode == NoClaim && changelog:
		return refuse("%s: use CLAIM", changelogWhy)
	case req.Mode == Claim && claimBreaks:
		return refuse("%s: use NO_CLAIM, or %s", relativeWhy, relocateFirst)
	case req.Mode != "":
		l.Mode = req.Mode
	case changelog:
		l.Mode = Claim
	default:
		l.Mode = NoClaim
	}
	switch {
	case changelog:
		advise("CLAIM, since " + changelogWhy)
	case l.Mode == NoClaim:
		advise("NO_CLAIM deletes nothing: once the restored job has completed its first checkpoint (a full one), the replica is free")
	}
	if l.Mode == Claim {
		advise("with CLAIM the files belong to Flink: it deletes shared files that other replicas of this job still need. Never start from those others afterwards")
	}
	if l.Mode == NoClaim && claimBreaks {
		advise("NO_CLAIM only: " + relativeWhy)
	}
	if req.Facts.Unaligned {
		advise("this is an unaligned checkpoint: start the same Flink minor version, and the same job graph, that wrote it")
	}
	return nil
}

// startKeys are the options that say what to start from, and how.
func (v FlinkVersion) startKeys() (path, mode string) {
	if v.atLeast(1, 20) {
		return "execution.state-recovery.path", "execution.state-recovery.claim-mode"
	}
	return "execution.savepoint.path", "execution.savepoint-restore-mode"
}

func (l *StartLine) commands() {
	path := shellQuote(l.Path)
	mode, v := string(l.Mode), l.parsed
	pathKey, modeKey := v.startKeys()
	flag := "-restoreMode"
	if v.atLeast(1, 20) {
		flag = "-claimMode"
	}
	l.SQL = []string{fmt.Sprintf("SET '%s' = '%s';", pathKey, strings.ReplaceAll(l.Path, "'", "''"))}
	l.DeploymentPatch, l.StateSnapshot = l.deploymentPatch(), l.stateSnapshot()
	if l.Mode == "" {
		l.Run = fmt.Sprintf("flink run -s %s", path)
		return
	}
	l.Run = fmt.Sprintf("flink run -s %s %s %s", path, flag, mode)
	l.SQL = append(l.SQL, fmt.Sprintf("SET '%s' = '%s';", modeKey, mode))
}

// shellQuote leaves plain words as they are, so that the line reads as one would type it.
func shellQuote(s string) string {
	for _, c := range s {
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/:._-+@%=,", c)
		if !plain {
			return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
	}
	return s
}
