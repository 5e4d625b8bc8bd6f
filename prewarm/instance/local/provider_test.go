package local_test

import (
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm/instance"
	"github.com/polder/polder/prewarm/instance/instancetest"
	"github.com/polder/polder/prewarm/instance/local"
)

func TestMain(m *testing.M) {
	instancetest.Sample()
	goleak.VerifyTestMain(m)
}

func harness(t *testing.T) instancetest.Harness {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return instancetest.Harness{
		Open: func() instance.Provider {
			p, err := local.New(local.Options{Dir: dir, Environ: append(os.Environ(), "POLDER_SECRET=x"), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Run: func() polder.Run { return polder.Run{Command: []string{exe}, Directory: dir} },
	}
}

func TestConformance(t *testing.T) { instancetest.Run(t, harness) }
