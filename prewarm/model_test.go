package prewarm

import (
	"encoding/binary"
	"math"
	"os"
	"testing"

	"pgregory.net/rapid"
)

// TestModelAgreesWithFitting: for 200 examples that tools/fit/fit.py picked, the
// chances that LightGBM gives are those that this package gives.
func TestModelAgreesWithFitting(t *testing.T) {
	b, err := os.ReadFile("testdata/examples.bin")
	if err != nil {
		t.Fatal(err)
	}
	n := len(FeatureNames())
	row := 4 * (n + 2)
	if len(b) == 0 || len(b)%row != 0 {
		t.Fatalf("%d bytes are not rows of %d features and two chances", len(b), n)
	}
	m := shipped()
	read := func(at int) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b[at:])) }
	var low, high int
	for i := 0; i < len(b); i += row {
		var v vector
		for f := range n {
			v.x[f] = read(i + 4*f)
		}
		for k, e := range []*ensemble{&m.next, &m.soon} {
			want, got := read(i+4*(n+k)), sigmoid(e.logOdds(&v))
			if math.Abs(float64(got-want)) > 1e-5 {
				t.Errorf("example %d, ensemble %d: got %g, LightGBM says %g", i/row, k, got, want)
			}
			if want < 0.1 {
				low++
			} else if want > 0.9 {
				high++
			}
		}
	}
	if low < 10 || high < 10 {
		t.Errorf("the examples say little: %d low and %d high chances", low, high)
	}
}

// TestLanes: trees walked together give what trees walked one by one give.
func TestLanes(t *testing.T) {
	m := shipped()
	r := play(1, 0, 0, 1, 0, 3, 1, 0, 0, 0, 1)
	var v vector
	r.look(&v)
	for _, e := range []*ensemble{&m.next, &m.soon} {
		var k keys
		k.take(&v.x, v.n)
		var want float64
		for i := range e.trees {
			tree, node := &e.trees[i], 1
			for node < leaves {
				n := tree.node[node]
				if node *= 2; k[n%maxVector] > int64(n)>>32 {
					node++
				}
			}
			want += float64(tree.leaf[node-leaves])
		}
		if got := e.logOdds(&v); math.Abs(float64(got)-want) > 1e-4 {
			t.Errorf("together %g, one by one %g", got, want)
		}
	}
}

// TestKeysKeepTheOrder of all finite numbers, the two zeros included.
func TestKeysKeepTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Float32().Draw(t, "a"), rapid.Float32().Draw(t, "b")
		if key(a) > key(b) != (a > b) || key(a) < key(b) != (a < b) {
			t.Fatalf("keys of %g and %g are %d and %d", a, b, key(a), key(b))
		}
	})
	if zero := float32(0); key(zero) != key(-1*zero) {
		t.Errorf("the keys of the zeros are %d and %d", key(zero), key(-1*zero))
	}
}

func TestModelIsSmall(t *testing.T) {
	if len(modelBytes) > 200_000 {
		t.Errorf("the model takes %d bytes, promised are 200,000", len(modelBytes))
	}
}

// FuzzDecodeModel: any bytes are refused or give a model that can be asked.
func FuzzDecodeModel(f *testing.F) {
	f.Add(modelBytes[:12])
	f.Add(modelBytes)
	f.Add(modelBytes[:1000])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeModel(b)
		if err != nil {
			return
		}
		var v vector
		m.next.logOdds(&v)
		m.soon.logOdds(&v)
	})
}
