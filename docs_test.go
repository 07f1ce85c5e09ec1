package certctl_test

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// markdownLink is the target of an inline link, without its title.
var markdownLink = regexp.MustCompile(`\]\(<?([^)\s>]+)`)

// codeBlock is a fenced block, in which brackets are not links.
var codeBlock = regexp.MustCompile("(?ms)^\\s*```.*?^\\s*```")

// A document's links to files of this repository lead somewhere.
func TestDocumentLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	walk(t, ".md", func(file string, content []byte) {
		for _, match := range markdownLink.FindAllSubmatch(codeBlock.ReplaceAll(content, nil), -1) {
			target, err := url.Parse(string(match[1]))
			if err != nil {
				t.Errorf("%s: the link %s cannot be read: %v", file, match[1], err)
				continue
			}
			if target.IsAbs() || target.Path == "" || strings.HasPrefix(target.Path, "/") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), filepath.FromSlash(target.Path))); err != nil {
				t.Errorf("%s: the link %s leads nowhere", file, match[1])
			}
		}
	})
}
