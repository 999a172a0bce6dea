package replicator

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
)

// The Kubernetes operator (flink-kubernetes-operator, flink.apache.org/v1beta1) starts a job from a path in two steps
// that are here one: initialSavepointPath says where from, and a changed savepointRedeployNonce says now. Source: JobSpec,
// SavepointSpec and DefaultValidator of the operator's 1.10 and later.

// deploymentPatch is a JSON merge patch of a FlinkDeployment (or FlinkSessionJob). A standby is kept suspended, so the
// state is part of it.
func (l *StartLine) deploymentPatch() string {
	type job struct {
		Path  string `json:"initialSavepointPath"`
		Nonce uint64 `json:"savepointRedeployNonce"`
		State string `json:"state"`
	}
	type spec struct {
		Configuration map[string]string `json:"flinkConfiguration,omitempty"`
		Job           job               `json:"job"`
	}
	patch := struct {
		Spec spec `json:"spec"`
	}{spec{Job: job{l.Path, redeployNonce(l.Path), "running"}}}
	if l.Mode != "" {
		_, key := l.parsed.startKeys()
		patch.Spec.Configuration = map[string]string{key: string(l.Mode)}
	}
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false) // it is read by people too, and no browser sees it
	if err := e.Encode(patch); err != nil {
		panic(fmt.Sprintf("replicator: encode a patch of strings: %v", err))
	}
	return strings.TrimSpace(out.String())
}

// redeployNonce is a number that differs from one path to the next: the same patch twice redeploys once. Below 2^53, since
// not everything that handles JSON keeps more.
func redeployNonce(path string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(path)) // never fails
	return max(1, h.Sum64()>>11)
}

// stateSnapshot is a FlinkStateSnapshot that names the path as one that exists. Checkpoints go under savepoint too: only
// that has a path, and Flink restores from either alike. disposeOnDelete is true by default, and would have the operator
// delete the replica with the resource.
func (l *StartLine) stateSnapshot() string {
	return fmt.Sprintf(`apiVersion: flink.apache.org/v1beta1
kind: FlinkStateSnapshot
metadata:
  name: ckptferry-%s
spec:
  savepoint:
    alreadyExists: true
    disposeOnDelete: false
    path: %s
`, shortDigest([]byte(l.Path)), yamlQuote(l.Path))
}

// yamlQuote is a JSON string, which every YAML reader takes.
func yamlQuote(s string) string {
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(fmt.Sprintf("replicator: encode a string: %v", err))
	}
	return strings.TrimSpace(out.String())
}
