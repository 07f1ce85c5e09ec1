package discover

import (
	"path/filepath"
	"slices"
	"strings"
)

// nginxParser reads the language of nginx's configuration out of a dump.
type nginxParser struct {
	files  map[string]string
	prefix string
}

// maxIncludes bounds how deep files include others.
const maxIncludes = 20

// parse reads a file with what it includes.
func (p *nginxParser) parse(file string, depth int) []nginxDirective {
	words := nginxWords(p.files[file])
	block, _ := p.block(file, words, depth)
	return block
}

// block reads directives up to the end of a block, and returns what is after it.
func (p *nginxParser) block(file string, words []word, depth int) (block []nginxDirective, rest []word) {
	var d nginxDirective
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		switch {
		case w.quoted || w.text != ";" && w.text != "{" && w.text != "}":
			if d.name == "" {
				d = nginxDirective{name: w.text, file: file, line: w.line}
			} else {
				d.args = append(d.args, w.text)
			}
		case w.text == "}":
			return block, words
		case w.text == "{":
			d.block, words = p.block(file, words, depth)
			block, d = append(block, d), nginxDirective{}
		case d.name == "include" && len(d.args) == 1 && depth < maxIncludes:
			block, d = append(block, p.include(d.args[0], depth)...), nginxDirective{}
		default:
			block, d = append(block, d), nginxDirective{}
		}
	}
	return block, nil
}

// include reads the files of the dump that a pattern matches.
func (p *nginxParser) include(pattern string, depth int) (all []nginxDirective) {
	pattern = absoluteTo(p.prefix, pattern)
	var names []string
	for name := range p.files {
		if match, err := filepath.Match(pattern, name); err == nil && match || name == pattern {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		all = append(all, p.parse(name, depth+1)...)
	}
	return all
}

// word is one of a configuration, with its line.
type word struct {
	text   string
	line   int
	quoted bool
}

// nginxWords splits a file into words, semicolons and braces.
func nginxWords(text string) (words []word) {
	line := 1
	for i := 0; i < len(text); {
		c := text[i]
		switch c {
		case '\n':
			line++
			i++
		case ' ', '\t', '\r':
			i++
		case '#':
			i += lengthTo(text[i:], "\n")
		case ';', '}':
			words, i = append(words, word{string(c), line, false}), i+1
		case '{':
			words = append(words, word{"{", line, false})
			i++
			if lua(words) { // what is in it is another language
				end := balanced(text[i:])
				line += strings.Count(text[i:i+end], "\n")
				i += end
			}
		default:
			value, length := nginxWord(text[i:])
			words = append(words, word{value, line, c == '"' || c == '\''})
			line += strings.Count(text[i:i+length], "\n")
			i += length
		}
	}
	return words
}

// lua reports whether the block that has just begun is code.
func lua(words []word) bool {
	return len(words) > 1 && strings.HasSuffix(words[len(words)-2].text, "_by_lua_block")
}

// balanced is where the block of code ends that text begins in.
func balanced(text string) int {
	depth := 1
	for i := range len(text) {
		switch text[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(text)
}

func lengthTo(text, end string) int {
	if i := strings.Index(text, end); i >= 0 {
		return i
	}
	return len(text)
}

// nginxWord reads one word, and returns it with its length in the text.
func nginxWord(text string) (value string, length int) {
	var out strings.Builder
	quote := byte(0)
	if text[0] == '"' || text[0] == '\'' {
		quote, length = text[0], 1
	}
	for ; length < len(text); length++ {
		c := text[length]
		switch {
		case c == '\\' && length+1 < len(text):
			length++
			if next := text[length]; !strings.ContainsRune(`"'\ ;{}`, rune(next)) {
				out.WriteByte('\\')
			}
			out.WriteByte(text[length])
		case quote != 0 && c == quote:
			return out.String(), length + 1
		case quote == 0 && c == '$' && length+1 < len(text) && text[length+1] == '{':
			end := length + lengthTo(text[length:], "}")
			out.WriteString(text[length:min(end+1, len(text))])
			length = end
		case quote == 0 && strings.IndexByte(" \t\r\n;{}", c) >= 0:
			return out.String(), length
		default:
			out.WriteByte(c)
		}
	}
	return out.String(), min(length, len(text)) // a variable without its end
}

// absoluteTo is a path, relative ones below a folder.
func absoluteTo(folder, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(folder, path)
}
