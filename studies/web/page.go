// Package web is the page: one HTML document that draws a [report.Views], either as a file that needs nothing else
// ([WritePage]) or served while searches run ([Handler]).
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"peftsearch/studies/report"
)

//go:embed page
var files embed.FS

// scripts are the parts of the page's script, in the order in which they use each other.
var scripts = []string{"chart.js", "study.js", "figures.js", "plans.js", "tables.js", "main.js"}

func file(name string) string {
	content, err := files.ReadFile("page/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	return string(content)
}

// parts are the page's style and script, and the policy under which it runs these two and nothing else: no other
// script, style, image or connection, whatever a study has in its texts.
func parts() (style, script, policy string) {
	style = file("style.css")
	for _, name := range scripts {
		script += file(name)
	}
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	policy = fmt.Sprintf(
		"default-src 'none'; style-src %s; script-src %s; base-uri 'none'; form-action 'none'",
		hash(style),
		hash(script),
	)
	return style, script, policy
}

// WritePage writes the page with its data. It can be looked at without a network and without a server.
func WritePage(w io.Writer, views report.Views) error {
	style, script, policy := parts()
	return write(w, style, script, `<meta http-equiv="Content-Security-Policy" content="`+policy+`">`,
		func(w io.Writer) error { return report.WriteViews(w, views) }) // as JSON, which escapes < and >
}

// write writes the page, with data that is written in its place.
func write(w io.Writer, style, script, policy string, data func(w io.Writer) error) error {
	before, after, _ := strings.Cut(file("index.html"), "{{.Data}}")
	fill := strings.NewReplacer("{{.Style}}", style, "{{.Script}}", script, "{{.Policy}}", policy)
	if _, err := fill.WriteString(w, before); err != nil {
		return err
	}
	if err := data(w); err != nil {
		return err
	}
	_, err := fill.WriteString(w, after)
	return err
}
