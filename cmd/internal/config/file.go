package config

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/certctl/certctl"
	"go.yaml.in/yaml/v3"
)

// decode reads a YAML document into values by flag name. Errors name the file,
// the line and the key.
func decode(path string, content []byte, flags map[string]*kong.Flag) (map[string]any, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil // empty, or comments only
		}
		return nil, certctl.Errorf(certctl.Invalid, "%s: %s", path, err.Error())
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, certctl.Errorf(certctl.Invalid, "%s: holds more than one document", path)
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, certctl.Errorf(certctl.Invalid, "%s: must hold keys with values", path)
	}
	r := reader{path: path, flags: flags, values: map[string]any{}}
	return r.values, r.mapping("", root)
}

// reader gathers the values of one file.
type reader struct {
	path   string
	flags  map[string]*kong.Flag
	values map[string]any
}

// mapping reads the keys below prefix. A mapping whose key is not a flag groups
// the flags whose names begin with it.
func (r *reader) mapping(prefix string, node *yaml.Node) error {
	for i := 0; i+1 < len(node.Content); i += 2 {
		label, value := node.Content[i], node.Content[i+1]
		name := prefix + strings.ReplaceAll(label.Value, "_", "-")
		var err error
		switch {
		case r.known(name):
			err = r.add(name, label, value)
		case value.Kind == yaml.MappingNode && r.group(name+"-"):
			err = r.mapping(name+"-", value)
		default:
			err = r.unknown(name, label)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) known(name string) bool {
	if flag, ok := r.flags[name]; ok {
		return name != "config" && !commandLineOnly(flag)
	}
	base, isFile := strings.CutSuffix(name, "-file")
	flag, ok := r.flags[base]
	return isFile && ok && flag.Tag.Has("secret")
}

func (r *reader) group(prefix string) bool {
	for name := range r.flags {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func (r *reader) add(name string, label, node *yaml.Node) error {
	if _, twice := r.values[name]; twice {
		return r.errorf(label, "%s is given twice", key(name))
	}
	value, err := plain(node)
	if err != nil {
		return r.errorf(node, "%s: %s", key(name), err.Error())
	}
	if sibling, ok := strings.CutSuffix(name, "-file"); ok && r.values[sibling] != nil && r.flags[name] == nil {
		return r.errorf(label, "both %s and %s are given", key(sibling), key(name))
	}
	if r.values[name+"-file"] != nil && r.flags[name+"-file"] == nil {
		return r.errorf(label, "both %s and %s_file are given", key(name), key(name))
	}
	r.values[name] = value
	return nil
}

func (r *reader) unknown(name string, label *yaml.Node) error {
	var known []string
	for flag := range r.flags {
		if r.known(flag) {
			known = append(known, key(flag))
		}
	}
	slices.Sort(known)
	if near := nearest(key(name), known); near != "" {
		return r.errorf(label, "unknown key %s: did you mean %s?", key(name), near)
	}
	return r.errorf(label, "unknown key %s", key(name))
}

func (r *reader) errorf(node *yaml.Node, format string, args ...any) error {
	e := certctl.Errorf(certctl.Invalid, format, args...)
	return certctl.Errorf(certctl.Invalid, "%s:%d: %s", r.path, node.Line, e.Message)
}

// plain returns a node as what flags are parsed from: the text of a scalar, a
// list of texts, or a map of texts.
func plain(node *yaml.Node) (any, error) {
	switch node.Kind {
	case yaml.AliasNode:
		return plain(node.Alias)
	case yaml.ScalarNode:
		if node.Tag == "!!null" {
			return nil, errors.New("has no value; remove the key to keep the default")
		}
		return node.Value, nil
	case yaml.SequenceNode:
		list := []any{}
		for _, element := range node.Content {
			if element.Kind != yaml.ScalarNode {
				return nil, errors.New("must be a list of plain values")
			}
			list = append(list, element.Value)
		}
		return list, nil
	}
	pairs := map[string]any{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i+1].Kind != yaml.ScalarNode {
			return nil, errors.New("must map keys to plain values")
		}
		pairs[node.Content[i].Value] = node.Content[i+1].Value
	}
	return pairs, nil
}
