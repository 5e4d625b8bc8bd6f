package polder

import (
	"fmt"

	"github.com/goccy/go-yaml/token"
)

// Bounds of a file's form, held before the parser sees it. The parser descends
// by recursion, for every nested value and for every further key of a mapping,
// and it makes room for each missing value by moving all tokens behind it: its
// stack and its time grow with the depth, with the keys of one mapping, and
// with the square of the number of missing values.
const (
	maxDepth = 40     // the deepest place of the file's shape is 6
	maxKeys  = 20_000 // of one mapping; of several, as many as take the parser no longer
	maxEmpty = 1000   // keys and items without a value, which are faults anyway
)

// limiter walks over the tokens of one file.
type limiter struct {
	levels []level // block mappings and lists around the current token, outermost first
	flow   []bool  // brackets around it; true for braces
	chain  int     // successive tokens that nest inside of brackets without one
	work   int     // what the keys so far take the parser, which is half their squares
	empty  int     // keys and items without a value
	filled bool    // inside of braces: the entry has a value, or needs none yet
	begun  bool    // the document has content
}

// level is a block mapping or list: the entries that begin at one column.
type level struct{ column, keys int }

func checkTokens(tokens token.Tokens) error {
	var content token.Tokens
	for _, tk := range tokens {
		if tk.Position != nil && tk.Type != token.CommentType {
			content = append(content, tk)
		}
	}
	var l limiter
	for i, tk := range content {
		var before, after *token.Token
		if i > 0 {
			before = content[i-1]
		}
		if i+1 < len(content) {
			after = content[i+1]
		}
		if err := l.step(before, tk, after); err != nil {
			return err
		}
	}
	return nil
}

func (l *limiter) step(before, tk, after *token.Token) error {
	switch tk.Type {
	case token.DocumentHeaderType, token.DocumentEndType:
		if l.begun && (tk.Type == token.DocumentHeaderType || after != nil) {
			return &syntaxError{tokenPosition(tk), "a second document begins here; a file holds one", "remove the --- line, or move what follows to a file of its own"}
		}
		return nil
	case token.DirectiveType:
		return nil
	}
	l.begun = true
	if len(l.flow) > 0 || tk.Type == token.SequenceStartType || tk.Type == token.MappingStartType {
		l.inBrackets(tk, after)
	} else {
		l.inBlock(before, tk, after)
	}
	switch {
	case len(l.levels)+len(l.flow) > maxDepth || l.chain > maxDepth:
		return &syntaxError{tokenPosition(tk), fmt.Sprintf("values are nested more than %d deep", maxDepth), "remove the needless brackets or indentation"}
	case l.work > maxKeys*(maxKeys+1)/2:
		return &syntaxError{tokenPosition(tk), fmt.Sprintf("the mappings are too big: one of %d keys is the most, or several smaller ones", maxKeys), "split the file into a folder of files"}
	case l.empty > maxEmpty:
		return &syntaxError{tokenPosition(tk), fmt.Sprintf("more than %d keys or items have no value", maxEmpty), "write values, or remove the keys"}
	}
	return nil
}

// inBlock follows indentation.
func (l *limiter) inBlock(before, tk, after *token.Token) {
	column, key := tk.Position.Column, 0
	switch tk.Type {
	case token.AnchorType, token.TagType:
	case token.SequenceEntryType:
		if after == nil || (after.Position.Line > tk.Position.Line && after.Position.Column <= column) {
			l.empty++
		}
	case token.MappingKeyType:
		key = 1
	case token.MappingValueType:
		key = 1
		if before != nil && before.Position.Line == tk.Position.Line {
			column = before.Position.Column // where the key begins
		}
		if after == nil || (after.Position.Line > tk.Position.Line && (after.Position.Column < column ||
			after.Position.Column == column && after.Type != token.SequenceEntryType)) {
			l.empty++
		}
	default:
		return
	}
	for n := len(l.levels); n > 0 && l.levels[n-1].column > column; n-- {
		l.levels = l.levels[:n-1]
	}
	if n := len(l.levels); n > 0 && l.levels[n-1].column == column {
		l.levels[n-1].keys += key
	} else {
		l.levels = append(l.levels, level{column, key})
	}
	if key > 0 {
		l.work += l.levels[len(l.levels)-1].keys
	}
}

// inBrackets follows brackets and braces.
func (l *limiter) inBrackets(tk, after *token.Token) {
	braces := len(l.flow) > 0 && l.flow[len(l.flow)-1]
	switch tk.Type {
	case token.SequenceStartType, token.MappingStartType:
		l.flow = append(l.flow, tk.Type == token.MappingStartType)
		l.chain, l.filled = 0, true
	case token.SequenceEndType, token.MappingEndType, token.CollectEntryType:
		if braces && !l.filled {
			l.empty++
		}
		if tk.Type != token.CollectEntryType {
			l.flow = l.flow[:len(l.flow)-1]
		}
		l.chain, l.filled = 0, true
	case token.MappingValueType:
		l.chain++
		l.filled = after != nil && after.Type != token.CollectEntryType && after.Type != token.MappingEndType
	case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
		l.chain++
	default:
		if l.chain == 0 {
			l.filled = false // a key, until its colon comes
		}
	}
}
