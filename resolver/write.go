package resolver

import "net/http"

func (s *Server) routesWrite(mux *http.ServeMux)      {}
func (s *Server) routesModeration(mux *http.ServeMux) {}
