// Package hdfslab starts real HDFS clusters for tests: Hadoop's own NameNode, DataNode and JournalNode classes, from
// Maven's jars, as processes of this machine on free ports.
//
// It owns those processes: they are killed by Close and also when the process that started them dies. Nothing here
// is part of the product. Start at Start; e2e/lab/hdfs is the Java side.
package hdfslab

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrPrerequisite says that a program which the lab needs is not installed; the message names it.
var ErrPrerequisite = errors.New("prerequisite missing")

// Build compiles the Java side and fetches Hadoop's jars, once for each state of e2e/lab/hdfs, and gives the class
// path. profile is "" or a profile of the pom ("distcp"). Safe between processes: the first builds, the others wait.
func Build(profile string) (classpath string, err error) {
	if err := needPrograms(); err != nil {
		return "", err
	}
	src, err := sourceDir()
	if err != nil {
		return "", err
	}
	target := filepath.Join(src, "target")
	if err := os.MkdirAll(target, 0o755); err != nil {
		return "", fmt.Errorf("build the HDFS lab: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(target, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("build the HDFS lab: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	lib := filepath.Join(target, "lib"+profile)
	classpath = filepath.Join(target, "classes") + ":" + filepath.Join(lib, "*")
	digest, err := digestOf(src)
	if err != nil {
		return "", fmt.Errorf("build the HDFS lab: %w", err)
	}
	stamp := filepath.Join(target, ".built"+profile)
	if old, err := os.ReadFile(stamp); err == nil && string(old) == digest {
		return classpath, nil
	}
	args := []string{"-q", "-B", "compile", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=" + lib}
	if profile != "" {
		args = append(args, "-P"+profile)
	}
	cmd := exec.Command("mvn", args...)
	cmd.Dir = src
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the HDFS lab: mvn %s in %s: %w\n%s", strings.Join(args, " "), src, err, lastLines(out, 20))
	}
	if err := os.WriteFile(stamp, []byte(digest), 0o644); err != nil {
		return "", fmt.Errorf("build the HDFS lab: %w", err)
	}
	return classpath, nil
}

func needPrograms() error {
	for _, p := range []struct{ name, how string }{
		{"java", "install a JDK 11 or newer (Debian: openjdk-17-jdk-headless)"},
		{"javac", "install a JDK 11 or newer (Debian: openjdk-17-jdk-headless)"},
		{"mvn", "install Maven (Debian: maven)"},
	} {
		if _, err := exec.LookPath(p.name); err != nil {
			return fmt.Errorf("%w: %s is not installed: %s", ErrPrerequisite, p.name, p.how)
		}
	}
	return nil
}

// sourceDir is e2e/lab/hdfs of the module that the working directory is in.
func sourceDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find e2e/lab/hdfs: %w", err)
	}
	for {
		if lab := filepath.Join(dir, "e2e", "lab", "hdfs"); isFile(filepath.Join(lab, "pom.xml")) {
			return lab, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find e2e/lab/hdfs: the working directory is not inside the checkout")
		}
		dir = parent
	}
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

func digestOf(src string) (string, error) {
	h := sha256.New()
	for _, part := range []string{"pom.xml", "src"} {
		err := filepath.WalkDir(filepath.Join(src, part), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "%s %d\n", name, len(b))
			h.Write(b)
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func lastLines(b []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimRight(b, "\n"), []byte("\n"))
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return bytes.Join(lines, []byte("\n"))
}
