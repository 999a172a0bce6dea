package flinklab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJDKMajor(t *testing.T) {
	for out, want := range map[string]int{
		"javac 17.0.15\n":   17,
		"javac 11":          11,
		"javac 1.8.0_302\n": 8,
		"javac 25-ea":       25,
		"Picked up JAVA_TOOL_OPTIONS: -Xmx1g\njavac 21.0.1": 21,
		"something else": 0,
	} {
		if got := jdkMajor(out); got != want {
			t.Errorf("jdkMajor(%q) = %d; want %d", out, got, want)
		}
	}
}

func TestAMissingToolIsOneSentenceThatNamesIt(t *testing.T) {
	for name, tc := range map[string]struct {
		tools map[string]string // name to what it prints
		want  string
	}{
		"no JDK":        {want: "java"},
		"a JRE alone":   {tools: map[string]string{"java": ""}, want: "javac"},
		"no Maven":      {tools: map[string]string{"java": "", "javac": "javac 17"}, want: "mvn"},
		"an old JDK":    {tools: map[string]string{"java": "", "javac": "javac 1.8.0_302", "mvn": ""}, want: "is JDK 8"},
		"nothing amiss": {tools: map[string]string{"java": "", "javac": "javac 11.0.2", "mvn": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("PATH", dir)
			t.Setenv("JAVA_HOME", "")
			for tool, prints := range tc.tools {
				if err := os.WriteFile(filepath.Join(dir, tool), []byte("#!/bin/sh\necho '"+prints+"'\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			_, err := findToolchain(t.Context())
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrMissingTool) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("findToolchain = %v; want one sentence about %q", err, tc.want)
			}
		})
	}
}
