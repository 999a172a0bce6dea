package flinklab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// minJDK: the harness is compiled for 11, which is also what Flink 2.x needs.
const minJDK = 11

type toolchain struct{ java, javac, mvn string }

// findToolchain looks in JAVA_HOME and then on PATH. The error wraps ErrMissingTool.
func findToolchain(ctx context.Context) (toolchain, error) {
	var t toolchain
	var err error
	if t.java, err = jdkTool("java"); err != nil {
		return t, err
	}
	if t.javac, err = jdkTool("javac"); err != nil {
		return t, err
	}
	if t.mvn, err = exec.LookPath("mvn"); err != nil {
		return t, fmt.Errorf("%w: no mvn on PATH; real Flink comes from Maven, install it (Debian: apt install maven)", ErrMissingTool)
	}
	out, err := exec.CommandContext(ctx, t.javac, "-version").CombinedOutput()
	if err != nil {
		return t, fmt.Errorf("%s -version: %w", t.javac, err)
	}
	if major := jdkMajor(string(out)); major < minJDK {
		return t, fmt.Errorf("%w: %s is JDK %d; real Flink needs a JDK ≥ %d (Debian: apt install openjdk-17-jdk-headless)", ErrMissingTool, t.javac, major, minJDK)
	}
	return t, nil
}

func jdkTool(name string) (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		if p, err := exec.LookPath(filepath.Join(home, "bin", name)); err == nil {
			return p, nil
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: no %s in JAVA_HOME or on PATH; real Flink needs a JDK ≥ %d (Debian: apt install openjdk-17-jdk-headless)", ErrMissingTool, name, minJDK)
	}
	return p, nil
}

var javacVersion = regexp.MustCompile(`javac (1\.)?(\d+)`)

// jdkMajor reads "javac 17.0.2" or "javac 1.8.0_302"; 0 when it can't.
func jdkMajor(out string) int {
	m := javacVersion.FindStringSubmatch(out)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[2]) // only digits matched
	return n
}
