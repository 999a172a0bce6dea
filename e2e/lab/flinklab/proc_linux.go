package flinklab

import (
	"os/exec"
	"syscall"
)

// dieWithParent lets the kernel kill the child when this process dies, however it dies. (It acts on the death of the
// thread that started the child: Go ends a thread only when a goroutine locked to it returns, which nobody here does.)
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
