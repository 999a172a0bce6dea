package flinklab

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/ckptferry/ckptferry/e2e/lab/flink"
)

// Build gives the harness for a Flink version; JVMs put their temporary files below workDir, which the caller removes.
// The first call for a version resolves Flink's jars with Maven (offline when its cache has them), compiles, and runs the
// job once to warm later starts up, about 20 s, or 40 s with the download; the result stays in CKPTFERRY_LAB_CACHE, by default ckptferry-lab in the user's
// cache directory, and is made anew when the sources changed. Processes that build at the same time wait for each other.
func Build(ctx context.Context, version, workDir string) (*Lab, error) {
	tools, err := findToolchain(ctx)
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	digest, err := sourceDigest(flink.Source)
	if err != nil {
		return nil, fmt.Errorf("read harness sources: %w", err)
	}
	b := build{tools: tools, version: version, dir: filepath.Join(cache, version+"-"+digest[:12])}
	unlock, err := lock(filepath.Join(cache, version+".lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := os.MkdirAll(filepath.Join(workDir, "tmp"), 0o755); err != nil {
		return nil, err
	}
	lab := &Lab{Version: version, java: tools.java, build: b.dir, workDir: workDir}
	var ok bool
	if lab.classPath, ok = b.cached(); ok {
		return lab, nil
	}
	if lab.classPath, err = b.make(ctx); err != nil {
		return nil, fmt.Errorf("build the harness for Flink %s: %w", version, err)
	}
	lab.train(ctx)
	return lab, nil
}

func cacheDir() (string, error) {
	dir := os.Getenv("CKPTFERRY_LAB_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a cache directory (or set CKPTFERRY_LAB_CACHE): %w", err)
		}
		dir = filepath.Join(user, "ckptferry-lab")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// lock waits for the file's lock; the kernel gives it back when the process dies.
func lock(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", file, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing unlocks; nothing was written
}

func sourceDigest(src fs.FS) (string, error) {
	h := sha256.New()
	err := fs.WalkDir(src, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(src, name)
		fmt.Fprintf(h, "%s %d\n", name, len(b))
		h.Write(b)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

type build struct {
	tools   toolchain
	version string
	dir     string
}

// cached gives the class path of a finished build whose jars are all still in Maven's cache.
func (b build) cached() (string, bool) {
	raw, err := os.ReadFile(filepath.Join(b.dir, "cp.txt"))
	if err != nil {
		return "", false
	}
	classPath := strings.TrimSpace(string(raw))
	for _, jar := range append(filepath.SplitList(classPath), filepath.Join(b.dir, "harness.jar")) {
		if _, err := os.Stat(jar); err != nil {
			return "", false
		}
	}
	return classPath, true
}

func (b build) make(ctx context.Context) (classPath string, err error) {
	tmp, err := os.MkdirTemp(filepath.Dir(b.dir), "build-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	src := filepath.Join(tmp, "src")
	if err := os.CopyFS(src, flink.Source); err != nil {
		return "", err
	}
	out := filepath.Join(tmp, "out")
	classes := filepath.Join(out, "classes")
	if err := os.MkdirAll(classes, 0o755); err != nil {
		return "", err
	}
	if classPath, err = b.resolve(ctx, src, filepath.Join(out, "cp.txt")); err != nil {
		return "", err
	}
	if err := b.compile(ctx, compilation{src: src, classPath: classPath, classes: classes}); err != nil {
		return "", err
	}
	if err := os.CopyFS(classes, os.DirFS(filepath.Join(src, "src/main/resources"))); err != nil {
		return "", err
	}
	if err := writeJar(filepath.Join(out, "harness.jar"), classes); err != nil {
		return "", err
	}
	if err := os.RemoveAll(b.dir); err != nil {
		return "", err
	}
	return classPath, os.Rename(out, b.dir)
}

// resolve asks Maven for the class path: offline first, and without the changelog where Central lacks its jars.
func (b build) resolve(ctx context.Context, src, cpFile string) (string, error) {
	profiles := []string{"-Pchangelog", ""}
	if b.isOneOf("1.13", "1.14") {
		profiles = []string{""} // no changelog backend yet
	}
	var last error
	for _, profile := range profiles {
		for _, offline := range []string{"-o", ""} {
			args := slices.DeleteFunc([]string{"-q", "-B", offline, profile}, func(a string) bool { return a == "" })
			args = append(args, b.properties()...)
			args = append(args, "dependency:build-classpath", "-Dmdep.outputFile="+cpFile)
			cmd := exec.CommandContext(ctx, b.tools.mvn, args...)
			cmd.Dir = src
			dieWithParent(cmd)
			out, err := cmd.CombinedOutput()
			if err == nil {
				raw, err := os.ReadFile(cpFile)
				return strings.TrimSpace(string(raw)), err
			}
			last = fmt.Errorf("mvn %s: %w\n%s", strings.Join(args, " "), err, lastLines(out, 15))
			if ctx.Err() != nil {
				return "", last
			}
		}
	}
	return "", last
}

func (b build) properties() []string {
	p := []string{"-Dflink.version=" + b.version, "-Dcompat=" + b.compat()}
	if b.isOneOf("1.13", "1.14") {
		p = append(p, "-Dscala.suffix=_2.12")
	}
	return p
}

func (b build) isOneOf(minors ...string) bool {
	return slices.ContainsFunc(minors, func(m string) bool { return strings.HasPrefix(b.version, m+".") })
}

func (b build) compat() string {
	if strings.HasPrefix(b.version, "1.") {
		return "1x"
	}
	return "2x"
}

type compilation struct{ src, classPath, classes string }

func (b build) compile(ctx context.Context, c compilation) error {
	args := []string{"-nowarn", "-Xlint:none", "--release", fmt.Sprint(minJDK), "-encoding", "UTF-8", "-cp", c.classPath, "-d", c.classes}
	for _, dir := range []string{"main", "compat-" + b.compat()} {
		files, err := filepath.Glob(filepath.Join(c.src, "src", dir, "java/ckptferry/lab/*.java"))
		if err != nil {
			return err
		}
		args = append(args, files...)
	}
	cmd := exec.CommandContext(ctx, b.tools.javac, args...)
	dieWithParent(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("javac: %w\n%s", err, lastLines(out, 30))
	}
	return nil
}

// writeJar packs a directory; a job jar needs no manifest, since the class is always named.
func writeJar(jar, dir string) error {
	f, err := os.Create(jar)
	if err != nil {
		return err
	}
	z := zip.NewWriter(f)
	if err := z.AddFS(os.DirFS(dir)); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", jar, err), f.Close())
	}
	return errors.Join(z.Close(), f.Close())
}

func lastLines(b []byte, n int) string {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return string(bytes.Join(lines, []byte("\n")))
}
