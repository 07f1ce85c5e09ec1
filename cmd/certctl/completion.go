package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/certctl/certctl"
	"github.com/certctl/certctl/cmd/internal/edition"
)

type completionCmd struct {
	Shell string `arg:"" help:"bash, zsh or fish." enum:"bash,zsh,fish"`
}

// scripts ask this program itself what may follow, so that they never lag
// behind it.
var scripts = map[string]string{
	"bash": `_certctl() {
  local IFS=$'\n'
  COMPREPLY=($(compgen -W "$(certctl complete -- "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _certctl certctl
`,
	"zsh": `#compdef certctl
_certctl() {
  local -a candidates
  candidates=("${(@f)$(certctl complete -- "${words[@]:1:CURRENT-2}" 2>/dev/null)}")
  compadd -a candidates
}
compdef _certctl certctl
`,
	"fish": `complete -c certctl -f -a '(certctl complete -- (commandline -opc)[2..-1] 2>/dev/null)'
`,
}

func (c completionCmd) Run(s *session) error { return write(s.out, []byte(scripts[c.Shell])) }

type completeCmd struct {
	Words []string `arg:"" optional:"" help:"Words so far." passthrough:""`
}

// Run prints what may follow the words: commands, and flags of the command that
// they lead to.
func (c completeCmd) Run(s *session) error {
	node := s.model.Node
	for _, word := range c.Words {
		if child := childOf(node, word); child != nil {
			node = child
		}
	}
	var out strings.Builder
	for _, child := range node.Children {
		if !child.Hidden {
			fmt.Fprintln(&out, child.Name)
		}
	}
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			fmt.Fprintln(&out, "--"+flag.Name)
		}
	}
	return write(s.out, []byte(out.String()))
}

func childOf(node *kong.Node, word string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == word {
			return child
		}
		for _, alias := range child.Aliases {
			if alias == word {
				return child
			}
		}
	}
	return nil
}

type aboutCmd struct{}

func (aboutCmd) Run(s *session) error {
	_, err := fmt.Fprintln(s.out, edition.Line("certctl"))
	return err
}

// errUnhealthy makes doctor exit with 1 after it has said what is wrong.
var errUnhealthy = certctl.Errorf(certctl.Conflict, "something is wrong, see above")
