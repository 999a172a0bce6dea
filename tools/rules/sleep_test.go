package rules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A sleeping test is slow or flaky. Under testing/synctest the clock is the bubble's and sleeping costs nothing; tests
// below e2e, or with its build tag, poll real processes.
func TestNoTestSleepsOnTheRealClock(t *testing.T) {
	for _, file := range sleepers(t, projectRoot) {
		t.Errorf("%s: use testing/synctest, or wait for the event itself", file)
	}
}

func TestSleeperIsFound(t *testing.T) {
	dir := t.TempDir()
	const body = "package x\n\nimport \"time\"\n%\nfunc f() { time.Sleep(1) }\n"
	plant(t, filepath.Join(dir, "plain_test.go"), strings.ReplaceAll(body, "%", ""))
	plant(t, filepath.Join(dir, "bubble_test.go"), strings.ReplaceAll(body, "%", "import \"testing/synctest\"\n"))
	plant(t, filepath.Join(dir, "real_test.go"), "//go:build e2e\n\n"+strings.ReplaceAll(body, "%", ""))
	plant(t, filepath.Join(dir, "product.go"), strings.ReplaceAll(body, "%", ""))
	plant(t, filepath.Join(dir, "e2e", "poll_test.go"), strings.ReplaceAll(body, "%", ""))
	if got, want := sleepers(t, dir), []string{filepath.Join(dir, "plain_test.go:5")}; !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
}

// sleepers lists as file:line where tests call time.Sleep without importing testing/synctest.
func sleepers(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	for _, file := range goFiles(t, root) {
		if !strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, filepath.Join(root, "e2e")+string(filepath.Separator)) {
			continue
		}
		files := token.NewFileSet()
		parsed, err := parser.ParseFile(files, file, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if len(parsed.Comments) > 0 && parsed.Comments[0].List[0].Text == "//go:build e2e" {
			continue
		}
		if slices.ContainsFunc(parsed.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` }) {
			continue
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if call, ok := n.(*ast.SelectorExpr); ok && call.Sel.Name == "Sleep" {
				if pkg, ok := call.X.(*ast.Ident); ok && pkg.Name == "time" {
					found = append(found, fmt.Sprintf("%s:%d", file, files.Position(call.Pos()).Line))
				}
			}
			return true
		})
	}
	return found
}
