package prewarm

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"sync"
)

// The shipped model: two ensembles of boosted trees, fitted by tools/fit on half
// of the functions of one day of the Azure Functions 2019 data set (Microsoft,
// CC-BY; Shahrad et al., USENIX ATC 2020). docs/predictor.md has its figures on
// the other half.
//
//go:embed model.bin
var modelBytes []byte

// shipped decodes the embedded model once. It panics if the bytes are not a
// model for these features: a broken build, which a test finds.
var shipped = sync.OnceValue(func() *model {
	m, err := decodeModel(modelBytes)
	if err != nil {
		panic("prewarm: the embedded model: " + err.Error())
	}
	return m
})

// model forecasts from a vector.
type model struct {
	next ensemble // calls in the open slot
	soon ensemble // calls in the look-ahead
}

// ensemble is trees, whose leaves add up to log-odds.
type ensemble struct {
	trees    []tree
	features int // that a vector has
}

const (
	treeDepth = 6
	leaves    = 1 << treeDepth
)

// tree asks treeDepth questions, whatever the answers: node i leads to 2i and 2i+1,
// from node 1 on, and past the nodes lie the leaves. A walk reads no addresses, and
// its length is known ahead.
type tree struct {
	node [leaves]treeNode
	leaf [leaves]float32
}

// treeNode asks whether a feature is above a threshold: the key is in the upper half,
// the feature, below maxVector, in the lower.
type treeNode uint64

// down goes from node i to the next one. It adds the sign of a difference, since a
// condition would become a branch, and the processor cannot foresee where trees lead.
func (t *tree) down(i uint, k *keys) uint {
	n := t.node[i%leaves]
	return 2*i + uint(uint64(int64(n)>>32-k[n%maxVector])>>63)
}

// keys are a vector's features as whole numbers of the same order, which are
// quicker to compare.
type keys [maxVector]int64

// key is monotone in x. Both zeros have the same.
func key(x float32) int32 {
	b := int32(math.Float32bits(x + 0)) // -0 + 0 is 0
	return b ^ int32(uint32(b>>31)>>1)
}

func (k *keys) take(x *[maxVector]float32, n int) {
	for i, x := range x[:n] {
		k[i] = int64(key(x))
	}
}

// lanes trees are walked at the same time, so that the processor need not wait
// for one's memory before it asks for the next one's.
const lanes = 6

// logOdds sums the trees' leaves.
func (e *ensemble) logOdds(v *vector) float32 {
	var k keys
	k.take(&v.x, e.features)
	var sum float32
	rest := e.trees
	for ; len(rest) >= lanes; rest = rest[lanes:] {
		t := (*[lanes]tree)(rest)
		a, b, c, d, e, f := uint(1), uint(1), uint(1), uint(1), uint(1), uint(1)
		for range treeDepth {
			a, b, c = t[0].down(a, &k), t[1].down(b, &k), t[2].down(c, &k)
			d, e, f = t[3].down(d, &k), t[4].down(e, &k), t[5].down(f, &k)
		}
		sum += t[0].leaf[a%leaves] + t[1].leaf[b%leaves] + t[2].leaf[c%leaves]
		sum += t[3].leaf[d%leaves] + t[4].leaf[e%leaves] + t[5].leaf[f%leaves]
	}
	for i := range rest {
		sum += rest[i].walk(&k)
	}
	return sum
}

// walk goes down one tree.
func (t *tree) walk(k *keys) float32 {
	i := uint(1)
	for range treeDepth {
		i = t.down(i, k)
	}
	return t.leaf[i%leaves]
}

const (
	modelVersion = 2
	nodeBytes    = 5
	treeBytes    = (leaves-1)*nodeBytes + leaves*4
)

// decodeModel reads what tools/fit/fit.py writes.
func decodeModel(b []byte) (*model, error) {
	names := FeatureNames()
	if len(b) < 12 || string(b[:4]) != "PLDM" {
		return nil, errors.New("it does not begin with PLDM")
	}
	if v := binary.LittleEndian.Uint16(b[4:]); v != modelVersion {
		return nil, fmt.Errorf("its version is %d, want %d", v, modelVersion)
	}
	if n := int(binary.LittleEndian.Uint16(b[6:])); n != len(names) {
		return nil, fmt.Errorf("it was fitted on %d features, this code has %d: fit it again", n, len(names))
	}
	if sum := crc32.ChecksumIEEE([]byte(strings.Join(names, "\n"))); sum != binary.LittleEndian.Uint32(b[8:]) {
		return nil, errors.New("it was fitted on features of other names: fit it again")
	}
	b = b[12:]
	m := &model{}
	for _, e := range []*ensemble{&m.next, &m.soon} {
		var err error
		if b, err = e.decode(b, len(names)); err != nil {
			return nil, err
		}
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes follow it", len(b))
	}
	return m, nil
}

var errShort = errors.New("it ends too early")

func (e *ensemble) decode(b []byte, features int) ([]byte, error) {
	if len(b) < 2 {
		return nil, errShort
	}
	n := int(binary.LittleEndian.Uint16(b))
	if b = b[2:]; len(b) < n*treeBytes {
		return nil, errShort
	}
	e.features = features
	e.trees = make([]tree, n)
	for i := range e.trees {
		if err := e.trees[i].decode(b[:treeBytes], features); err != nil {
			return nil, fmt.Errorf("tree %d: %w", i, err)
		}
		b = b[treeBytes:]
	}
	return b, nil
}

// decode reads the nodes in order, each a feature and a threshold, then the leaves.
func (t *tree) decode(b []byte, features int) error {
	for i := 1; i < leaves; i++ {
		feature, threshold := b[0], math.Float32frombits(binary.LittleEndian.Uint32(b[1:]))
		if int(feature) >= features {
			return fmt.Errorf("node %d asks feature %d of %d", i, feature, features)
		}
		if threshold != threshold {
			return fmt.Errorf("the threshold of node %d is not a number", i)
		}
		t.node[i] = treeNode(uint64(key(threshold))<<32 | uint64(feature))
		b = b[nodeBytes:]
	}
	for i := range t.leaf {
		t.leaf[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		if !finite(t.leaf[i]) {
			return fmt.Errorf("leaf %d is not a number", i)
		}
	}
	return nil
}
