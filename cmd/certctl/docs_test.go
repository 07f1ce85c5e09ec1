package main

import (
	"testing"

	"github.com/certctl/certctl/cmd/internal/config"
	"github.com/certctl/certctl/cmd/internal/docscmd"
)

// Every command that a document has is one that the program takes.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	commands, err := docscmd.Of("../..", "certctl")
	if err != nil {
		t.Fatal(err)
	}
	if len(commands) < 40 {
		t.Fatalf("only %d commands were found", len(commands))
	}
	for _, command := range commands {
		var cli CLI
		if _, err := config.Parse(&cli, meant(command.Args), config.Options{Name: "certctl"}); err != nil {
			t.Errorf("%s: %v", command.Place, err)
		}
	}
}
