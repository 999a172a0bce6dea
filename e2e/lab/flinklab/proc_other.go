//go:build !linux

package flinklab

import "os/exec"

// dieWithParent: only Linux has a parent-death signal. Elsewhere a killed test leaves its JVMs to their own timeouts.
func dieWithParent(*exec.Cmd) {}
