// Package config reads ckptferry's YAML files: an agent's configuration, and the exports and routes that are applied
// to a group.
//
// It is strict: an unknown or repeated key, a value of the wrong form and a setting that contradicts another are
// errors, reported all at once with file, line and column (Errors). It opens no file system and no network; what a
// file says is checked as far as the file alone can tell. Only Agent.CheckCertificates reads the files that one names.
// Start at ReadAgent and ReadRoutes.
package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Problem is one mistake in a file.
type Problem struct {
	Line, Column int // from 1; in characters
	Text         string
}

// Errors is everything that is wrong with a file.
type Errors struct {
	File     string
	Problems []Problem // by position
	lines    []string
}

// newErrors is nil when nothing is wrong.
func newErrors(file string, text []byte, problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Text, b.Text))
	})
	return &Errors{File: file, Problems: problems, lines: strings.Split(string(text), "\n")}
}

// Error lists all problems, each with its line and a caret under the place.
func (e *Errors) Error() string {
	var b strings.Builder
	what := "a problem"
	if n := len(e.Problems); n > 1 {
		what = fmt.Sprintf("%d problems", n)
	}
	fmt.Fprintf(&b, "%s has %s", e.File, what)
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "\n%s:%d:%d: %s", e.File, p.Line, p.Column, p.Text)
		if p.Line < 1 || p.Line > len(e.lines) {
			continue
		}
		line := strings.TrimRight(e.lines[p.Line-1], "\r")
		if strings.TrimSpace(line) == "" {
			continue
		}
		fmt.Fprintf(&b, "\n  %4d | %s\n       | %s^", p.Line, line, indentTo(line, p.Column))
	}
	return b.String()
}

// indentTo is as wide as what stands before column in line, tabs kept.
func indentTo(line string, column int) string {
	var b strings.Builder
	for i := 1; i < column && line != ""; i++ {
		r, size := utf8.DecodeRuneInString(line)
		line = line[size:]
		if r != '\t' {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}

// didYouMean is the end of a message about a word that isn't known, with the nearest of those that are.
func didYouMean(word string, known []string) string {
	best, distance := "", 1+len(word)/3
	for _, k := range known {
		if d := editDistance(word, k); d <= distance && (best == "" || d < distance) {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf(" (did you mean %q?)", best)
	}
	return ": want one of " + strings.Join(known, ", ")
}

// editDistance counts the letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
func editDistance(a, b string) int {
	two, one := []int(nil), make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(one[j]+1, row[j-1]+1, one[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], two[j-2]+1)
			}
		}
		two, one = one, row
	}
	return one[len(b)]
}
