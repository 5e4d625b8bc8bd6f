package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/cli.md anew; read the diff before you commit it")

const manualFile = "../../docs/cli.md"

// TestGoldenManual keeps docs/cli.md what the commands say of themselves.
func TestGoldenManual(t *testing.T) {
	got := manual()
	if *update {
		if err := os.WriteFile(manualFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(manualFile)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what the commands say: run make golden and read the diff", manualFile)
	}
}

// manual writes the page on all commands that are not hidden.
func manual() string {
	var b strings.Builder
	b.WriteString(`<!-- Generated from the commands by ` + "`make golden`" + `; do not edit. -->
# The command

Every command takes ` + "`--help`" + `. Text is for people and may change; programs read ` + "`--output json`" + `.

| command | |
| --- | --- |
`)
	commands := visible(root())
	for _, c := range commands {
		if c.HasParent() {
			fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", c.CommandPath(), anchor(c.CommandPath()), c.Short)
		}
	}
	b.WriteString("\n## Exit codes\n\n| code | |\n| --- | --- |\n")
	for code, meaning := range exitCodes {
		fmt.Fprintf(&b, "| %d | %s |\n", code, meaning)
	}
	b.WriteString("\nMessages go to stderr, on one line that begins with `polder:` (faults of a configuration take several). `polder up` and\n" +
		"`polder run` end with 0 by Ctrl-C or SIGTERM, once everything has stopped. A second Ctrl-C ends `polder up` at once, and its guard the rest.\n")
	for _, c := range commands {
		if c.HasParent() {
			writeCommand(&b, c)
		}
	}
	return b.String()
}

// visible lists a command and all below it, depth first. Every command has help,
// and the shells of completion are all alike.
func visible(c *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" && c.Name() != "completion" {
			list = append(list, visible(sub)...)
		}
	}
	return list
}

func anchor(title string) string { return strings.ReplaceAll(title, " ", "-") }

func writeCommand(b *strings.Builder, c *cobra.Command) {
	c.InitDefaultHelpFlag()
	fmt.Fprintf(b, "\n## %s\n\n```\n%s\n```\n\n", c.CommandPath(), c.UseLine())
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	b.WriteString(strings.TrimSpace(text) + "\n")
	if c.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", strings.TrimPrefix(strings.ReplaceAll(c.Example, "\n  ", "\n"), "  "))
	}
	rows := ""
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			rows += flagRow(f)
		}
	})
	if rows != "" {
		b.WriteString("\n| flag | default | |\n| --- | --- | --- |\n" + rows)
	}
}

func flagRow(f *pflag.Flag) string {
	kind, use := pflag.UnquoteUsage(f)
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	if kind != "" {
		name += " " + strings.ReplaceAll(kind, "|", "\\|")
	}
	value := f.DefValue
	if value == "[]" || value == "false" {
		value = ""
	}
	if before, rest, found := strings.Cut(use, " (default "); found && value == "" {
		use, value = before, strings.TrimSuffix(rest, ")")
	}
	if value != "" {
		value = "`" + value + "`"
	}
	return fmt.Sprintf("| `%s` | %s | %s |\n", name, value, use)
}

// TestCompletion lets each shell read what is printed for it. Shells that the
// machine does not have are checked by bash alone, which CI always has.
func TestCompletion(t *testing.T) {
	for shell, check := range map[string][]string{"bash": {"-n"}, "zsh": {"-n"}, "fish": {"--no-execute"}, "powershell": nil} {
		code, script, stderr := run(t, "completion", shell)
		if code != exitDone || !strings.Contains(script, "polder") || stderr != "" {
			t.Errorf("completion %s: exit code %d, %d bytes, %s", shell, code, len(script), stderr)
		}
		program, err := exec.LookPath(shell)
		if err != nil || check == nil {
			t.Logf("no %s here: its script was not read by it", shell)
			continue
		}
		c := exec.Command(program, check...)
		c.Stdin = strings.NewReader(script)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%s does not take its script: %v\n%s", shell, err, out)
		}
	}
	for args, want := range map[string]string{
		"run --config ../../examples/polder.yaml --region ": "fr\nnl\npl\n",
		"status --output ": "text\njson\n",
		"lo":               "load\t",
		"bench ":           "cold\t",
	} {
		_, out, _ := run(t, append([]string{"__complete"}, strings.Split(args, " ")...)...)
		if !strings.HasPrefix(out, want) {
			t.Errorf("completions of %q: %q, want %q first", args, out, want)
		}
	}
}
