package main

import "net/http"

const guardPath = "/api/v1/guard"

type guardCmd struct {
	Get     guardGetCmd     `cmd:"" help:"Show whether a change waits, and how much of the fleet it is about."`
	Release guardReleaseCmd `cmd:"" help:"Let everything go that waits; rollouts create takes it in waves instead."`
}

type (
	guardGetCmd     struct{}
	guardReleaseCmd struct{}
)

func (guardGetCmd) Run(s *session) error {
	return s.change(http.MethodGet, guardPath, nil, waiting{})
}

func (guardReleaseCmd) Run(s *session) error {
	return s.change(http.MethodPost, guardPath+"/release", nil, waiting{})
}
