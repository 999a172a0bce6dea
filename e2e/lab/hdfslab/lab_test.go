//go:build e2e

package hdfslab_test

import (
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
)

func TestEveryLayoutTakesAFile(t *testing.T) {
	for name, o := range map[string]hdfslab.Options{
		"combined": {},
		"separate": {Layout: hdfslab.Separate, Datanodes: 2},
		"ha":       {Layout: hdfslab.HighAvailability, Datanodes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := hdfslab.New(t, o)
			if _, err := c.Run("fs", "-touchz", "/a file"); err != nil {
				t.Fatal(err)
			}
			out, err := c.Run("fs", "-ls", "/")
			if err != nil || !strings.Contains(out, "/a file") {
				t.Fatalf("fs -ls / = %q, %v; want the file", out, err)
			}
		})
	}
}
