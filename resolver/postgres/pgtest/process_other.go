//go:build !linux

package pgtest

import "os/exec"

func (s *Server) as(cmd *exec.Cmd) { cmd.Dir = s.dir }

func (s *Server) run(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	defer close(ended)
	err := cmd.Start()
	started <- err
	if err == nil {
		_ = cmd.Wait() // it was killed
	}
}

// Kill ends the server. Its children notice.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
}
