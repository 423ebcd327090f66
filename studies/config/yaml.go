package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a study file: far above what people write, and below what costs the YAML parser time, which
// grows with the square of the number of keys.
const (
	maxBytes  = 1 << 20
	maxTokens = 10_000 // keys, values, and the marks between them
	maxDepth  = 20
)

var lineEnd = regexp.MustCompile(`\r\n?`)

// parseYAML reads one document of mappings, lists and scalars. Everything else that YAML has is refused
// before the parser, which does not survive all of it, sees it. A file without content gives nil.
func (d *document) parseYAML(content []byte) (ast.Node, []error) {
	if len(content) > maxBytes {
		return nil, []error{&Error{File: d.path, Message: fmt.Sprintf("%d bytes are too many for a study file, at most %d",
			len(content), maxBytes)}}
	}
	// goccy/go-yaml counts \r\n as two lines
	text := lineEnd.ReplaceAllString(strings.TrimPrefix(string(content), "\ufeff"), "\n")
	d.lines = strings.Split(text, "\n")
	for i, line := range d.lines {
		if !utf8.ValidString(line) {
			return nil, []error{d.errorIn(i+1, 1, "save it as UTF-8", "this line is not UTF-8")}
		}
	}
	tokens := lexer.Tokenize(text)
	if errs := d.checkTokens(tokens); errs != nil {
		return nil, errs
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			position := syntax.GetToken().Position
			return nil, []error{d.errorIn(position.Line, position.Column, "", "%s", syntax.GetMessage())}
		}
		return nil, []error{&Error{File: d.path, Message: err.Error()}}
	}
	if len(file.Docs) == 0 {
		return nil, nil
	}
	return file.Docs[0].Body, nil
}

// foreign names the tokens that have no place in a study file.
var foreign = map[token.Type]string{
	token.TagType:        "a tag (!): leave it out",
	token.AnchorType:     "an anchor (&): write the value out where it is needed, or put a text in quotes",
	token.AliasType:      "an alias (*): write the value out, or put a text in quotes",
	token.MappingKeyType: "a key in more than one part (?)",
	token.DirectiveType:  "a directive (%): leave it out, or put a text in quotes",
}

// checkTokens refuses what the parser should not see.
func (d *document) checkTokens(tokens token.Tokens) (errs []error) {
	refuse := func(t *token.Token, format string, args ...any) {
		errs = append(errs, d.errorIn(t.Position.Line, t.Position.Column, "", format, args...))
	}
	if len(tokens) > maxTokens {
		refuse(tokens[maxTokens], "too many keys and values for a study file: it has %d parts, at most %d", len(tokens),
			maxTokens)
		return errs
	}
	flow := 0               // depth in brackets
	var columns []int       // of the block collections that are open
	var content, ended bool // whether there was any, and whether the document was ended
	for i, t := range tokens {
		if what, ok := foreign[t.Type]; ok {
			refuse(t, "a study file has no place for %s", what)
			continue
		}
		switch t.Type {
		case token.CommentType:
			continue
		case token.DocumentHeaderType:
			if content {
				refuse(t, "a second document begins here: a study file has one")
				return errs
			}
			continue
		case token.DocumentEndType:
			ended = true
			continue
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.MappingValueType:
			if flow == 0 && i > 0 {
				columns = open(columns, tokens[i-1].Position.Column)
			}
		case token.SequenceEntryType:
			columns = open(columns, t.Position.Column)
		}
		if content = true; ended {
			refuse(t, "the document ended above")
			return errs
		}
		if flow+len(columns) > maxDepth {
			refuse(t, "mappings and lists are more than %d deep here", maxDepth)
			return errs
		}
	}
	return errs
}

// open adds a block collection at a column, which ends those further to the right.
func open(columns []int, column int) []int {
	for len(columns) > 0 && columns[len(columns)-1] >= column {
		columns = columns[:len(columns)-1]
	}
	return append(columns, column)
}
