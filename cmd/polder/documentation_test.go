package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// pages reads the documentation: the text of each page by its path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	read := func(page string) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		texts[page] = string(text)
	}
	read("../../README.md")
	err := filepath.WalkDir("../../docs", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			read(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

var links = regexp.MustCompile(`\]\(([^)#]*)(#[^)]*)?\)`)

// headings are the anchors of a page, as GitHub makes them of its titles.
func headings(text string) map[string]bool {
	anchors, fenced := map[string]bool{}, false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		title, is := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if fenced || !is || !strings.HasPrefix(line, "#") {
			continue
		}
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title))
		for n, base := 1, slug; anchors[slug]; n++ {
			slug = fmt.Sprintf("%s-%d", base, n)
		}
		anchors[slug] = true
	}
	return anchors
}

// TestDocumentationLinks follows every link to a file of ours, and to the title in it.
func TestDocumentationLinks(t *testing.T) {
	seen := 0
	for page, text := range pages(t) {
		for _, link := range links.FindAllStringSubmatch(text, -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			seen++
			target := page
			if link[1] != "" {
				target = filepath.Join(filepath.Dir(page), link[1])
			}
			if link[2] == "" {
				if _, err := os.Stat(target); err != nil {
					t.Errorf("%s links to %s: %v", page, link[1], err)
				}
				continue
			}
			titles, err := os.ReadFile(target)
			if err != nil || !headings(string(titles))[link[2][1:]] {
				t.Errorf("%s links to %s%s, and there is no such title (%v)", page, link[1], link[2], err)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d links were found: this shows nothing", seen)
	}
}

// TestDocumentedCommands parses every line of the documentation that runs
// polder: a command, flag or number of arguments that is not there is a lie.
func TestDocumentedCommands(t *testing.T) {
	seen := 0
	for page, text := range pages(t) {
		shell := false
		for i, line := range strings.Split(text, "\n") {
			if kind, fence := strings.CutPrefix(line, "```"); fence {
				shell = kind == "sh" || kind == "console"
			}
			args := polderArgs(line)
			if args == nil || !shell {
				continue
			}
			seen++
			if err := parses(args); err != nil {
				t.Errorf("%s:%d: %s: %v", page, i+1, line, err)
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d commands were found: this shows nothing", seen)
	}
	for _, wrong := range []string{"polder stats", "polder status --stat", "polder logs", "polder load --rate many"} {
		if parses(polderArgs(wrong)) == nil {
			t.Errorf("%q is taken for a command", wrong)
		}
	}
}

// polderArgs are the arguments of a line like "$ ./bin/polder load | tee x";
// nil for other lines.
func polderArgs(line string) []string {
	words := strings.Fields(strings.TrimPrefix(line, "$ "))
	if len(words) == 0 || words[0] != "polder" && words[0] != "./bin/polder" {
		return nil
	}
	args := []string{}
	for _, w := range words[1:] {
		if w == "|" || w[0] == '>' || w[0] == '#' {
			break
		}
		args = append(args, w)
	}
	return args
}

func parses(args []string) error {
	c, rest, err := root().Find(args)
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		return err
	}
	return errors.Join(c.ValidateRequiredFlags(), c.ValidateFlagGroups())
}
