package main

import (
	"testing"

	"github.com/certctl/certctl/cmd/internal/config"
	"github.com/certctl/certctl/cmd/internal/docscmd"
	"github.com/certctl/certctl/cmd/internal/node"
)

// Every command that a document has is one that the program takes.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	commands, err := docscmd.Of("../..", "certctl-agent")
	if err != nil {
		t.Fatal(err)
	}
	if len(commands) == 0 {
		t.Fatal("no command was found")
	}
	for _, command := range commands {
		var c node.Config
		if _, err := config.Parse(&c, command.Args, config.Options{
			Name: "certctl-agent", Vars: map[string]string{"config_file": "x", "policy_file": "x", "data_dir": "/x"},
		}); err != nil {
			t.Errorf("%s: %v", command.Place, err)
		}
	}
}
