package polder

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const byteOrderMark = "\ufeff"

type nodeKind int

const (
	nullNode nodeKind = iota
	boolNode
	intNode
	floatNode
	textNode
	listNode
	mappingNode
	otherNode // what the configuration has no use for: a tag, a complex key
)

// node is a YAML value without YAML: the only thing the rest of the decoder
// sees. An alias is the very node that its anchor names, so that a tree of
// them takes no more memory than the file.
type node struct {
	kind    nodeKind
	text    string // of a scalar, as written
	at      Position
	items   []*node // of a list
	entries []entry // of a mapping, in order, duplicates included
	aliased bool    // reached through an alias: walking it counts against a budget
}

type entry struct {
	name  string
	at    Position
	value *node
}

// describe names what stands there, for messages.
func (n *node) describe() string {
	switch n.kind {
	case nullNode:
		return "empty"
	case boolNode:
		return "the truth value " + n.text
	case intNode, floatNode:
		return "the number " + quoteless(n.text)
	case textNode:
		return "the text " + quote(n.text)
	case listNode:
		return "a list"
	case mappingNode:
		return "a mapping"
	}
	return "not a plain value"
}

func quoteless(s string) string { return strings.Trim(quote(s), `"`) }

// grower turns the parser's tree of one file into nodes.
type grower struct {
	file    string
	lines   []int // length of each line in characters
	anchors map[string]*node
	faults  []Fault
}

// grow parses one file. The node is nil if any fault is returned: a file that
// is not YAML as we take it cannot be trusted in part.
func grow(f File) (*node, []Fault) {
	g := &grower{file: f.Name, anchors: make(map[string]*node)}
	root := g.document(f.Data)
	if len(g.faults) > 0 {
		return nil, g.faults
	}
	return root, nil
}

func (g *grower) fault(at Position, message, fix string) {
	g.faults = append(g.faults, Fault{At: at, Message: message, Fix: fix})
}

func (g *grower) document(data []byte) *node {
	start := Position{File: g.file, Line: 1, Column: 1}
	if len(data) > MaxFileSize {
		g.fault(start, fmt.Sprintf("the file has %d bytes, more than %d", len(data), MaxFileSize), "split it into a folder of files")
		return nil
	}
	if at, ok := invalidUTF8(data); ok {
		at.File = g.file
		g.fault(at, "the file is not UTF-8 text", "save it as UTF-8")
		return nil
	}
	text := strings.TrimPrefix(string(data), byteOrderMark)
	g.lines = lineLengths(text)
	body, err := g.parse(text)
	if err != nil {
		at, message, fix := explainSyntax(text, err)
		at.File = g.file
		g.fault(at.clamp(g.lines), message, fix)
		return nil
	}
	if body == nil {
		g.fault(start, "the file is empty", `write regions: and services:, or delete the file`)
		return nil
	}
	return g.node(body, start)
}

// invalidUTF8 finds the first byte that is not UTF-8, or a NUL.
func invalidUTF8(data []byte) (Position, bool) {
	line, column := 1, 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if (r == utf8.RuneError && size == 1) || r == 0 {
			return Position{Line: line, Column: column}, true
		}
		if data = data[size:]; r == '\n' {
			line, column = line+1, 1
		} else {
			column++
		}
	}
	return Position{}, false
}

// syntaxError is a fault of form that we find ourselves.
type syntaxError struct {
	at           Position
	message, fix string
}

func (e *syntaxError) Error() string { return e.message }

// parse returns the body of the only document, nil when there is none. The
// parser is somebody else's and its input anybody's: should it panic, the file
// is at fault and not the process.
func (g *grower) parse(text string) (body ast.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			body, err = nil, &syntaxError{Position{Line: 1, Column: 1}, "the file cannot be read as YAML", "check its quotes, brackets and indentation"}
		}
	}()
	tokens := lexer.Tokenize(text)
	if err := checkTokens(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, err
	}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.DirectiveType {
			continue
		}
		if body != nil {
			at := Position{Line: 1, Column: 1}
			if doc.Start != nil {
				at = tokenPosition(doc.Start)
			} else if tk := doc.Body.GetToken(); tk != nil {
				at = tokenPosition(tk)
			}
			return nil, &syntaxError{at, "a second document begins here; a file holds one", "remove the --- line, or move what follows to a file of its own"}
		}
		body = doc.Body
	}
	return body, nil
}

func tokenPosition(tk *token.Token) Position {
	if tk == nil || tk.Position == nil {
		return Position{Line: 1, Column: 1}
	}
	return Position{Line: tk.Position.Line, Column: tk.Position.Column}
}

// explainSyntax turns the parser's complaint into ours.
func explainSyntax(text string, err error) (at Position, message, fix string) {
	var own *syntaxError
	if errors.As(err, &own) {
		return own.at, own.message, own.fix
	}
	at = Position{Line: 1, Column: 1}
	message = "cannot be read as YAML"
	var theirs yaml.Error
	if errors.As(err, &theirs) {
		at = tokenPosition(theirs.GetToken())
		message = "not valid YAML: " + theirs.GetMessage()
	}
	if tab, ok := tabIndent(text, at.Line); ok {
		return tab, "a tab indents this line; YAML allows only spaces there", "replace the tab by spaces"
	}
	return at, message, "check the quotes, brackets, colons and indentation here and on the line above"
}

// tabIndent looks for a tab in the indentation of a line.
func tabIndent(text string, line int) (Position, bool) {
	n := 0
	for l := range strings.SplitSeq(text, "\n") {
		if n++; n != line {
			continue
		}
		indent := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
		if i := strings.IndexByte(indent, '\t'); i >= 0 {
			return Position{Line: line, Column: i + 1}, true
		}
		return Position{}, false
	}
	return Position{}, false
}

func (g *grower) position(tk *token.Token) Position {
	at := tokenPosition(tk)
	at.File = g.file
	return at.clamp(g.lines)
}

// node converts one value. at is where the value would stand if it says
// nothing better itself, which is so for an empty one.
func (g *grower) node(n ast.Node, at Position) *node {
	switch v := n.(type) {
	case nil:
		return &node{kind: nullNode, at: at}
	case *ast.NullNode:
		if tk := v.GetToken(); tk != nil && tk.Type == token.NullType {
			at = g.position(tk)
		}
		return &node{kind: nullNode, at: at}
	case *ast.BoolNode:
		return g.scalar(boolNode, v.GetToken())
	case *ast.IntegerNode:
		return g.scalar(intNode, v.GetToken())
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return g.scalar(floatNode, v.GetToken())
	case *ast.StringNode:
		return &node{kind: textNode, text: v.Value, at: g.position(v.GetToken())}
	case *ast.LiteralNode:
		text := ""
		if v.Value != nil {
			text = v.Value.Value
		}
		return &node{kind: textNode, text: text, at: g.position(v.GetToken())}
	case *ast.SequenceNode:
		list := &node{kind: listNode, at: g.position(v.GetToken())}
		for _, item := range v.Values {
			list.items = append(list.items, g.node(item, list.at))
		}
		return list
	case *ast.MappingNode:
		return g.mapping(v.Values, v.GetToken(), v.IsFlowStyle)
	case *ast.MappingValueNode:
		return g.mapping([]*ast.MappingValueNode{v}, v.GetToken(), false)
	case *ast.AnchorNode:
		return g.anchor(v)
	case *ast.AliasNode:
		return g.alias(v)
	case *ast.TagNode:
		at = g.position(v.GetToken())
		g.fault(at, "a YAML tag stands here; the configuration has none", "remove the tag, and quote the value if it is text")
	default:
		at = g.position(n.GetToken())
		g.fault(at, "this YAML construct has no meaning here", "write a plain value, a list or a mapping")
	}
	return &node{kind: otherNode, at: at}
}

func (g *grower) scalar(kind nodeKind, tk *token.Token) *node {
	return &node{kind: kind, text: tk.Value, at: g.position(tk)}
}

func (g *grower) mapping(values []*ast.MappingValueNode, tk *token.Token, flow bool) *node {
	m := &node{kind: mappingNode, at: g.position(tk)}
	for i, v := range values {
		name, at, ok := g.key(v.Key)
		if i == 0 && !flow {
			m.at = at // a block mapping begins with its first key, not with the colon behind it
		}
		value := g.node(v.Value, at)
		if ok {
			m.entries = append(m.entries, entry{name: name, at: at, value: value})
		}
	}
	return m
}

func (g *grower) key(k ast.MapKeyNode) (name string, at Position, ok bool) {
	at = g.position(k.GetToken())
	switch v := k.(type) {
	case *ast.StringNode:
		return v.Value, at, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode, *ast.NullNode:
		return k.GetToken().Value, at, true
	case *ast.MergeKeyNode:
		g.fault(at, "merge keys (<<) are not supported", "write the keys out, or use an alias for a whole value")
	default:
		g.fault(at, "a key must be plain text", "write a name and a colon")
	}
	return "", at, false
}

func (g *grower) anchor(v *ast.AnchorNode) *node {
	value := g.node(v.Value, g.position(v.GetToken()))
	if v.Name != nil && v.Name.GetToken() != nil {
		shared := *value
		shared.aliased = true
		g.anchors[v.Name.GetToken().Value] = &shared
	}
	return value
}

func (g *grower) alias(v *ast.AliasNode) *node {
	at := g.position(v.GetToken())
	name := ""
	if v.Value != nil && v.Value.GetToken() != nil {
		name = v.Value.GetToken().Value
	}
	if n, ok := g.anchors[name]; ok {
		return n
	}
	g.fault(at, fmt.Sprintf("alias *%s has no anchor above it", name), fmt.Sprintf("write &%s before the value that is meant, further up in this file", name))
	return &node{kind: otherNode, at: at}
}
