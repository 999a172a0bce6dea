package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// step is one command of a runbook, as it stands there. The runbook's commands are run in their order, each in a shell of
// its own, against agents that hold the fixture's job.
type step struct {
	command string
	code    int
	want    string             // a part of what it prints
	before  func(w *rehearsal) // what happens meanwhile, or what a person does
	after   func(w *rehearsal)
}

// rehearsal is a place where a runbook is gone through: agents in two datacenters, and a directory with the files and the
// programs that its commands name.
type rehearsal struct {
	*testing.T
	twoSites
	work string            // where the commands run
	says map[string]string // what stands for a word of the runbook
	env  []string
	ask  []*process // of CKPTFERRY_ENDPOINT; nil: dc2's agents
}

func (w *rehearsal) asked() []*process {
	if w.ask != nil {
		return w.ask
	}
	return w.dc2
}

// newRehearsal has dc2 caught up with the job of dc1.
func newRehearsal(t *testing.T, targets int) *rehearsal {
	t.Helper()
	w := &rehearsal{T: t, twoSites: newTwoSites(t, targets), work: filepath.Join(t.TempDir(), "work")}
	bin := filepath.Join(t.TempDir(), "bin")
	self, err := os.Executable()
	if err == nil {
		err = errors.Join(os.Mkdir(w.work, 0o700), os.Mkdir(bin, 0o700), os.Symlink(self, filepath.Join(bin, "ckptferry"))) // by this name the test is the program (TestMain)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"systemctl", "hdfs", "flink"} { // they do nothing here; what they would is done by the steps
		stub := writeFile(t, filepath.Join(bin, program), "#!/bin/sh\nexit 0\n")
		if err := os.Chmod(stub, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "CKPTFERRY_CERT=", "CKPTFERRY_KEY=", "CKPTFERRY_CA=")
	w.says = map[string]string{"orders": fixtureJob, "hdfs://dc2/flink/replicas/prod": "file:" + w.replicas, "hdfs://dc2/flink/replicas": "file:" + w.replicas}
	w.file("routes.yaml", w.routes)
	return w
}

// file is one in the directory where the commands run.
func (w *rehearsal) file(name, text string) string {
	w.Helper()
	return writeFile(w.T, filepath.Join(w.work, name), text)
}

// run runs a command of the runbook.
func (w *rehearsal) run(s step) {
	w.Helper()
	line := w.said(s.command)
	cmd := exec.CommandContext(w.Context(), "sh", "-c", line)
	cmd.Dir = w.work
	cmd.Env = append(slices.Clone(w.env), "CKPTFERRY_ENDPOINT="+endpointsOf(w.asked()), "HERE="+endpointsOf(w.dc2), "DC1="+endpointsOf(w.dc1), "DC2="+endpointsOf(w.dc2))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		w.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != s.code || !strings.Contains(out.String(), w.said(s.want)) {
		w.Fatalf("%s: exit code %d, want %d and %q\n%s", line, code, s.code, w.said(s.want), out.String())
	}
}

// said is a text of the runbook with the words of this place.
func (w *rehearsal) said(text string) string {
	// Longer words first: one may begin with another.
	words := []string{}
	for word := range w.says {
		words = append(words, word)
	}
	slices.SortFunc(words, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, word := range words {
		pairs = append(pairs, word, w.says[word])
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// await runs a command again and again until it prints that.
func (w *rehearsal) await(want string, args ...string) {
	w.Helper()
	until(w.T, want, func() (bool, string) {
		_, out, notes := ferry(args...)
		return strings.Contains(out+notes, want), out + notes
	})
}

// commandsOf are the lines of a runbook's sh blocks.
func commandsOf(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case !inside && line == "```sh":
			inside = true
		case inside && line == "```":
			inside = false
		case inside && line != "" && !strings.HasPrefix(line, "#"):
			commands = append(commands, line)
		}
	}
	return commands
}

// Each command of each runbook is run, in its order, and does what the runbook says. A command that is not in the table
// here, or that is there and no longer in the runbook, fails.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	const dir = "../../docs/runbooks"
	found, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no runbooks in %s: %v", dir, err)
	}
	index, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		name := filepath.Base(file)
		if name == "README.md" {
			continue
		}
		if !bytes.Contains(index, []byte("("+name+")")) {
			t.Errorf("the index does not name %s", name)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			book, known := runbooks[name]
			if !known {
				t.Fatalf("nobody goes through %s: add it to runbooks", name)
			}
			var table []string
			for _, s := range book.steps {
				table = append(table, s.command)
			}
			if got := commandsOf(t, file); !slices.Equal(got, table) {
				t.Fatalf("the commands of %s are not those of the table here: %s", name, firstDifference(got, table))
			}
			w := newRehearsal(t, max(book.targets, 1))
			if book.begin != nil {
				book.begin(w)
			}
			for _, s := range book.steps {
				if s.before != nil {
					s.before(w)
				}
				w.run(s)
				if s.after != nil {
					s.after(w)
				}
			}
		})
	}
}

func firstDifference(book, table []string) string {
	for i := range max(len(book), len(table)) {
		if i >= len(book) || i >= len(table) || book[i] != table[i] {
			at := func(lines []string) string {
				if i < len(lines) {
					return lines[i]
				}
				return "(the end)"
			}
			return fmt.Sprintf("command %d is\n%s\nin the runbook, and\n%s\nin the table", i+1, at(book), at(table))
		}
	}
	return "they are the same"
}
