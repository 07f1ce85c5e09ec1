package main

import (
	"testing"

	"github.com/certctl/certctl/cmd/internal/config"
	"github.com/certctl/certctl/cmd/internal/docscmd"
)

// Every command that a document has is one that the program takes.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	commands, err := docscmd.Of("../..", "certctl-server")
	if err != nil {
		t.Fatal(err)
	}
	if len(commands) < 6 {
		t.Fatalf("only %d commands were found", len(commands))
	}
	for _, command := range commands {
		var c cli
		if _, err := config.Parse(&c, command.Args, config.Options{Name: "certctl-server", Vars: programVars}); err != nil {
			t.Errorf("%s: %v", command.Place, err)
		}
	}
}
