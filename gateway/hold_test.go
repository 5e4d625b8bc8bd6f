package gateway

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestHold(t *testing.T) {
	dir := t.TempDir()
	release, err := Hold(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Hold(dir); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("(pid %d)", os.Getpid())) {
		t.Errorf("a folder that is held: %v, want an error that names its holder", err)
	}
	release()
	release, err = Hold(dir)
	if err != nil {
		t.Fatalf("a folder that was released: %v", err)
	}
	release()
	if _, err := Hold(dir + "/none"); err == nil {
		t.Error("a folder that does not exist was held")
	}
}
