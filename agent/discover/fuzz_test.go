package discover

import "testing"

// Whatever a file holds is read to its end: files that nginx takes may hold the code
// of other languages.
func FuzzNginxWords(f *testing.F) {
	for _, text := range []string{"server { listen 443 ssl; }", "a ${b", `"c`, "x_by_lua_block { if {} }", "# d", `e\\`, "}};{"} {
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text string) {
		p := &nginxParser{files: map[string]string{"/a": text}, prefix: "/"}
		f := &found{settings: map[string]any{}}
		f.readNginx(p.parse("/a", 0), nginxLevel{prefix: "/"})
		for range haproxyWords(text) {
			continue
		}
	})
}
