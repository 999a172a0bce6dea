// Package rules holds the house rules that no linter knows, as tests. `make check` runs them.
package rules

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// maxFileLines bounds a Go file that is neither a test nor generated: longer, and it has two subjects.
const maxFileLines = 500

// projectRoot is where the product's go.mod lies, seen from this package's directory, in which go test runs.
const projectRoot = "../.."

func TestNoGoFileIsLongerThanAReaderTakesInOnePass(t *testing.T) {
	files := goFiles(t, projectRoot)
	if len(files) == 0 {
		t.Fatal("found no Go file: the walk starts at the wrong place")
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(body, []byte("// Code generated ")) {
			continue
		}
		if lines := bytes.Count(body, []byte("\n")); lines > maxFileLines {
			t.Errorf("%s has %d lines, more than %d: split it by subject, or argue in an ADR", file, lines, maxFileLines)
		}
	}
}

// goFiles lists the Go files below root, in order.
func goFiles(t *testing.T, root string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && path != root && strings.HasPrefix(name, "."):
			return fs.SkipDir // .git, .tools
		case !entry.IsDir() && strings.HasSuffix(name, ".go"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
