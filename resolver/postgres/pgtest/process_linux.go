package pgtest

import (
	"os/exec"
	"runtime"
	"syscall"
)

// as makes a command run as the server's user, and end with this process
// whatever becomes of it.
func (s *Server) as(cmd *exec.Cmd) {
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if syscall.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.uid, Gid: s.gid}
	}
}

// run keeps the thread that started the command, whose end would end it.
func (s *Server) run(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(ended)
	err := cmd.Start()
	started <- err
	if err == nil {
		_ = cmd.Wait() // it was killed
	}
}

// Kill ends the server and all its processes as a crash does.
func (s *Server) Kill() {
	// On SIGQUIT it kills its children and leaves everything as it is: what
	// PostgreSQL calls an immediate shutdown, which needs recovery like a crash.
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	<-s.ended
}
