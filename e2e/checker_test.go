//go:build e2e

package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// checker looks, while agents work, at every replica that was ever READY: it is whole, or retired on record. It shares
// no code with them: replicas come from `replica list -o json`, files from Hadoop's own shell, and what a manifest or a
// _metadata says is read here.
type checker struct {
	at   place  // the route's root
	far  string // the source's storage as a URI prefix: no replica may name it
	list func() ([]byte, error)
	keep int // so many newest of a job retention keeps; 0: it deletes nothing

	mu     sync.Mutex
	index  uint64 // of the Raft log, as of the newest answer
	ready  map[string]readyReplica
	sums   map[string]sum // of files that were read whole; a replica's files never change
	rounds int
}

// sum is what a file holds.
type sum struct {
	bytes int64
	crc   uint32
}

// readyReplica is one that was READY once.
type readyReplica struct {
	listed  listedReplica
	files   map[string]sum // its files by path: what the manifest says, and the manifest and _metadata themselves
	retired bool           // on record
}

// listedReplica is one of `replica list -o json`.
type listedReplica struct {
	Key struct {
		Route          string
		JobID          string
		CheckpointID   int64 `json:",string"`
		MetadataCRC32C uint32
	}
	Status         string
	URI            string
	Reason         string
	FileCount      int64 `json:",string"`
	TotalBytes     int64 `json:",string"`
	ManifestCRC32C uint32
	CompletedTime  time.Time
	ReadyTime      time.Time
}

const (
	statusReady    = "REPLICA_STATUS_READY"
	statusRetiring = "REPLICA_STATUS_RETIRING"
)

func newChecker(at place, far string, list func() ([]byte, error)) *checker {
	return &checker{at: at, far: far, list: list, ready: map[string]readyReplica{}, sums: map[string]sum{}}
}

// run looks again and again until stop is closed. What it finds fails the test.
func (c *checker) run(t *testing.T, stop <-chan struct{}) {
	for {
		if err := c.look(); err != nil {
			t.Errorf("checker: %v", err)
			return
		}
		select {
		case <-stop:
			return
		case <-time.After(200 * time.Millisecond): // what processes do is looked at
		}
	}
}

// look takes one look: at everything new in depth, at everything else for being there with its length. A group that
// can't be asked just now is asked later; await in the scenario bounds for how long.
func (c *checker) look() error {
	out, err := c.list()
	if err != nil {
		return nil //nolint:nilerr // the fault that the scenario has just made
	}
	return c.judge(out)
}

func (c *checker) judge(listed []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var answer struct {
		Replicas []listedReplica
		Read     struct {
			RaftIndex uint64 `json:",string"`
		}
	}
	if err := json.Unmarshal(listed, &answer); err != nil {
		return fmt.Errorf("replica list -o json: %w\n%s", err, listed)
	}
	if answer.Read.RaftIndex < c.index {
		return nil // by an agent that lags; there is nothing new in it
	}
	c.index = answer.Read.RaftIndex
	on := map[string]listedReplica{}
	for _, r := range answer.Replicas {
		on[r.URI+" "+fmt.Sprint(r.Key)] = r
	}
	for key, was := range c.ready {
		is, recorded := on[key]
		switch {
		case was.retired || is.Status == statusReady:
		case is.Status == statusRetiring:
			was.retired = true
			c.ready[key] = was
		case !recorded && c.keep > 0 && newerReady(on, was.listed) >= c.keep:
			was.retired = true
			c.ready[key] = was
		case !recorded:
			return fmt.Errorf("%s was READY, and is not on record any more without having been retired", was.listed.URI)
		default:
			return fmt.Errorf("%s was READY, and is %s (%s)", was.listed.URI, is.Status, is.Reason)
		}
	}
	for key, r := range on {
		if _, known := c.ready[key]; known || r.Status != statusReady {
			continue
		}
		files, err := c.inDepth(r)
		if err != nil && c.letGo(key) {
			continue // it was deleted while it was read
		}
		if err != nil {
			return fmt.Errorf("%s is READY by the record of index %d: %w", r.URI, c.index, err)
		}
		c.ready[key] = readyReplica{listed: r, files: files}
	}
	c.rounds++
	return c.allThere()
}

// newerReady counts the job's newer replicas that are READY.
func newerReady(on map[string]listedReplica, than listedReplica) (n int) {
	for _, r := range on {
		if r.Status == statusReady && r.Key.Route == than.Key.Route && r.Key.JobID == than.Key.JobID && r.Key.CheckpointID > than.Key.CheckpointID {
			n++
		}
	}
	return n
}

// letGo says whether retention has let go of a replica meanwhile: it is on record as READY no more.
func (c *checker) letGo(key string) bool {
	if c.keep == 0 {
		return false
	}
	listed, err := c.list()
	var answer struct{ Replicas []listedReplica }
	if err != nil || json.Unmarshal(listed, &answer) != nil {
		return false
	}
	return !slices.ContainsFunc(answer.Replicas, func(r listedReplica) bool { return r.URI+" "+fmt.Sprint(r.Key) == key && r.Status == statusReady })
}

// retired counts the replicas that were READY and that retention has let go of.
func (c *checker) retired() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.ready {
		if r.retired {
			n++
		}
	}
	return n
}

// allThere compares the lengths of all files of all replicas with what Hadoop lists.
func (c *checker) allThere() error {
	if len(c.ready) == 0 {
		return nil
	}
	lengths, err := c.lengths()
	if err != nil {
		return err
	}
	for key, r := range c.ready {
		if r.retired {
			continue
		}
		for name, want := range r.files {
			if got, there := lengths[name]; !there || got != want.bytes {
				if c.letGo(key) {
					break // it was deleted while it was looked at: the next answer says how
				}
				return fmt.Errorf("%s was READY, and of its files %s has %d bytes (there: %t), want %d", r.listed.URI, name, got, there, want.bytes)
			}
		}
	}
	return nil
}

// lengths are those of all files of jobs and of all manifests. The listing is taken again when a directory vanished under it.
func (c *checker) lengths() (map[string]int64, error) {
	dirs := map[string]bool{c.at.path + "/.ckptferry/manifest": true} // without tmp beside it, where files come and go
	for _, r := range c.ready {
		dirs[path.Dir(c.at.pathOf(r.listed.URI))] = true // the job's
	}
	var out string
	var err error
	for range 10 {
		if out, err = c.at.cluster.Run("fs", append([]string{"-ls", "-R"}, slices.Sorted(maps.Keys(dirs))...)...); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	lengths := map[string]int64{}
	for line := range strings.Lines(out) {
		// -rw-r--r--   2 user group   1234 2026-11-21 15:00 /path
		columns := strings.Fields(line)
		if len(columns) != 8 || !strings.HasPrefix(columns[0], "-") {
			continue
		}
		n, err := strconv.ParseInt(columns[4], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("fs -ls -R: %q: %w", line, err)
		}
		lengths[columns[7]] = n
	}
	return lengths, nil
}

// inDepth reads a replica: manifest, _metadata, and all bytes of those of its files that no replica before had.
func (c *checker) inDepth(r listedReplica) (map[string]sum, error) {
	dir := c.at.pathOf(r.URI)
	name := strings.TrimPrefix(dir, c.at.path+"/") // JOBID/chk-N
	manifestPath, metadataPath := c.at.path+"/.ckptferry/manifest/"+name+".jsonl", dir+"/_metadata"
	own, err := c.get(manifestPath, metadataPath)
	if err != nil {
		return nil, err
	}
	manifest, metadata := own[manifestPath], own[metadataPath]
	if got := sumOf(manifest).crc; got != r.ManifestCRC32C {
		return nil, fmt.Errorf("CRC32C of the manifest is %08x, on record %08x", got, r.ManifestCRC32C)
	}
	head, files, err := readManifest(manifest)
	if err != nil {
		return nil, err
	}
	if got := sumOf(metadata); got != (sum{head.MetadataBytes, head.MetadataCRC.value}) || head.OriginalCRC.value != r.Key.MetadataCRC32C || head.Replica != name {
		return nil, fmt.Errorf("_metadata is %+v; the manifest says %+v", got, head)
	}
	var bytesInAll int64
	all, unread := map[string]sum{manifestPath: sumOf(manifest), metadataPath: sumOf(metadata)}, []string{}
	for _, f := range files {
		p := path.Join(c.at.path, f.Name)
		all[p] = sum{f.Bytes, f.CRC.value}
		bytesInAll += f.Bytes
		if _, read := c.sums[p]; !read {
			unread = append(unread, p)
		}
	}
	if int64(len(files)) != r.FileCount || bytesInAll != r.TotalBytes {
		return nil, fmt.Errorf("the manifest has %d files, %d bytes; on record are %d, %d", len(files), bytesInAll, r.FileCount, r.TotalBytes)
	}
	if err := c.namesOnly(metadata, dir, r.Key.CheckpointID, all); err != nil {
		return nil, err
	}
	contents, err := c.get(unread...)
	if err != nil {
		return nil, err
	}
	for p, content := range contents {
		c.sums[p] = sumOf(content)
	}
	for p, want := range all {
		if got, read := c.sums[p]; read && got != want {
			return nil, fmt.Errorf("%s holds %d bytes with CRC32C %08x, want %d with %08x", p, got.bytes, got.crc, want.bytes, want.crc)
		}
	}
	return all, nil
}

// What a handle looks like in _metadata: its type; of files the length before an absolute path, and after a relative
// one; state that is in _metadata itself has the path that it did not become a file at, as a mere name
// (MetadataV2V3SerializerBase.serializeStreamStateHandle, Flink 1.20).
const (
	inlineHandle   = 1
	absoluteHandle = 2
	relativeHandle = 6
	uuidLength     = 36
)

// namesOnly requires that _metadata names no file but those, each with as many bytes as it reads, and nothing at the source.
func (c *checker) namesOnly(metadata []byte, dir string, id int64, files map[string]sum) error {
	for _, i := range indexesOf(metadata, c.far+"/") {
		if i < 3 || metadata[i-3] != inlineHandle {
			return fmt.Errorf("at byte %d of _metadata the source is still named, %s", i, c.far)
		}
	}
	named := 0
	require := func(p string, size uint64) error {
		named++
		f, ok := files[p]
		if !ok || uint64(f.bytes) < size {
			return fmt.Errorf("_metadata reads %d bytes of %s; of the replica's files it is (%t) one of %d bytes", size, p, ok, f.bytes)
		}
		return nil
	}
	for _, i := range indexesOf(metadata, c.at.uri()+"/") {
		if i < 11 || metadata[i-11] != absoluteHandle {
			return fmt.Errorf("at byte %d of _metadata a path is not in a file's handle", i)
		}
		size, length := binary.BigEndian.Uint64(metadata[i-10:]), int(binary.BigEndian.Uint16(metadata[i-2:]))
		if err := require(c.at.pathOf(string(metadata[i:min(i+length, len(metadata))])), size); err != nil {
			return err
		}
	}
	for i := 0; i+3+uuidLength+8 <= len(metadata); i++ {
		text := metadata[i+3 : i+3+uuidLength]
		if metadata[i] != relativeHandle || binary.BigEndian.Uint16(metadata[i+1:]) != uuidLength || !isUUID(text) {
			continue
		}
		if i >= 7 && int64(binary.BigEndian.Uint64(metadata[i-7:])) == id {
			continue // the backend's id, which follows the checkpoint's, such as 6 or 262
		}
		if err := require(path.Join(dir, string(text)), binary.BigEndian.Uint64(metadata[i+3+uuidLength:])); err != nil {
			return err
		}
	}
	if named == 0 {
		return errors.New("_metadata names no file at all")
	}
	return nil
}

// indexesOf are the places where text stands.
func indexesOf(b []byte, text string) (all []int) {
	for i := bytes.Index(b, []byte(text)); i >= 0; {
		all = append(all, i)
		next := bytes.Index(b[i+1:], []byte(text))
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return all
}

func isUUID(b []byte) bool {
	for i, c := range b {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdef", rune(c)) {
			return false
		}
	}
	return true
}

// get reads files by Hadoop's own client, which checks its checksums.
func (c *checker) get(paths ...string) (map[string][]byte, error) {
	contents := map[string][]byte{}
	if len(paths) == 0 {
		return contents, nil
	}
	dir, err := os.MkdirTemp("", "ckptferry-e2e-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover is in the temporary directory
	for part := range slices.Chunk(paths, 100) {
		if _, err := c.at.cluster.Run("fs", append(append([]string{"-get"}, part...), dir)...); err != nil {
			return nil, err
		}
	}
	for _, p := range paths {
		if contents[p], err = os.ReadFile(filepath.Join(dir, path.Base(p))); err != nil {
			return nil, err
		}
	}
	return contents, nil
}

// everythingAgain forgets what was read, and reads all bytes of all replicas once more.
func (c *checker) everythingAgain() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sums = map[string]sum{}
	for key, r := range c.ready {
		if r.retired {
			continue
		}
		files, err := c.inDepth(r.listed)
		if err == nil && !maps.Equal(files, r.files) {
			err = errors.New("its files changed")
		}
		if err != nil {
			return fmt.Errorf("%s was READY at %s (%s): %w", r.listed.URI, r.listed.ReadyTime, key, err)
		}
	}
	return c.allThere()
}

// requireSight damages a file of a replica that is not the newest, and mends it again: the checker must see it.
func (c *checker) requireSight(t *testing.T) {
	t.Helper()
	newest := c.newest()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.ready {
		victim := ""
		for p := range r.files {
			if path.Dir(p) == c.at.pathOf(r.listed.URI) && path.Base(p) != "_metadata" {
				victim = p
			}
		}
		if r.retired || r.listed.URI == newest.URI || victim == "" {
			continue
		}
		whole := c.at.read(t, c.at.uriOf(victim))
		c.at.write(t, c.at.uriOf(victim), flipMiddle(bytes.Clone(whole)))
		delete(c.sums, victim)
		if _, err := c.inDepth(r.listed); err == nil || !strings.Contains(err.Error(), victim) {
			t.Errorf("the checker says of a flipped byte in %s: %v", victim, err)
		}
		c.at.write(t, c.at.uriOf(victim), whole[:len(whole)-1])
		if err := c.allThere(); err == nil || !strings.Contains(err.Error(), victim) {
			t.Errorf("the checker says of %s, one byte short: %v", victim, err)
		}
		c.at.write(t, c.at.uriOf(victim), whole)
		delete(c.sums, victim)
		if _, err := c.inDepth(r.listed); err != nil {
			t.Errorf("mended, and the checker says: %v", err)
		}
		return
	}
	t.Error("no replica but the newest has a file of its own: the checker could not be tried")
}

// newest is the READY replica of the highest checkpoint; the zero value when there is none.
func (c *checker) newest() (newest listedReplica) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.ready {
		if !r.retired && r.listed.Key.CheckpointID > newest.Key.CheckpointID {
			newest = r.listed
		}
	}
	return newest
}

// counts are of looks, and of replicas that were ever READY.
func (c *checker) counts() (rounds, replicas int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rounds, len(c.ready)
}

// manifestCRC is eight hexadecimal digits.
type manifestCRC struct{ value uint32 }

func (m *manifestCRC) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != 4 {
		return fmt.Errorf("CRC32C %q", text)
	}
	m.value = binary.BigEndian.Uint32(b)
	return nil
}

type manifestHead struct {
	Replica       string      `json:"replica"`
	OriginalCRC   manifestCRC `json:"original_metadata_crc32c"`
	MetadataBytes int64       `json:"metadata_bytes"`
	MetadataCRC   manifestCRC `json:"metadata_crc32c"`
}

type manifestLine struct {
	Name  string      `json:"name"`
	Bytes int64       `json:"bytes"`
	CRC   manifestCRC `json:"crc32c"`
}

// readManifest reads lines of JSON: a head, a line for each file, and one that counts them.
func readManifest(manifest []byte) (head manifestHead, files []manifestLine, err error) {
	lines := bytes.Split(bytes.TrimSuffix(manifest, []byte("\n")), []byte("\n"))
	if len(lines) < 3 {
		return head, nil, fmt.Errorf("a manifest of %d lines", len(lines))
	}
	if err := json.Unmarshal(lines[0], &head); err != nil {
		return head, nil, fmt.Errorf("manifest: %w", err)
	}
	for _, line := range lines[1 : len(lines)-1] {
		var f manifestLine
		if err := json.Unmarshal(line, &f); err != nil || f.Name == "" {
			return head, nil, fmt.Errorf("manifest: %q is no file: %w", line, err)
		}
		files = append(files, f)
	}
	var end struct{ Files int }
	if err := json.Unmarshal(lines[len(lines)-1], &end); err != nil || end.Files != len(files) {
		return head, nil, fmt.Errorf("manifest: %d files, its last line says %q", len(files), lines[len(lines)-1])
	}
	return head, files, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumOf(b []byte) sum { return sum{int64(len(b)), crc32.Checksum(b, castagnoli)} }
