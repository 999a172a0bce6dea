package flinklab

import (
	"context"
	"os"
	"path/filepath"
)

// archiveFile holds the classes that a run of the job loads, as the JVM maps them into memory (application class-data
// sharing): it takes a third of the processor time off every later run.
const archiveFile = "classes.jsa"

// train lets the JVM write the archive at the end of a small run. It is only ever a gain in time: a JVM before 13, a
// failed run or an archive of another JVM just leaves later runs without it.
func (l *Lab) train(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	tmp := filepath.Join(l.build, archiveFile+".tmp") // a JVM that is killed while it writes leaves half a file
	j := l.harnessJVM("gen", "--dir", "file://"+filepath.Join(l.workDir, "train"), "--target", "200", "--keys", "20", "--checkpoints", "2", "--interval", "200")
	j.flags = append(append(j.flags, shortLived...), "-XX:ArchiveClassesAtExit="+tmp)
	if err := l.command(ctx, j).Run(); err != nil {
		return
	}
	_ = os.Rename(tmp, filepath.Join(l.build, archiveFile)) // without it runs are slower
}

// archiveFlags use the archive when there is one. A mismatch would be a warning on stdout, among the harness's JSON.
func (l *Lab) archiveFlags() []string {
	file := filepath.Join(l.build, archiveFile)
	if _, err := os.Stat(file); err != nil {
		return nil
	}
	return []string{"-XX:SharedArchiveFile=" + file, "-Xlog:disable"}
}
