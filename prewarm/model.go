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

// ensemble is trees laid out one after the other.
type ensemble struct {
	nodes []treeNode
	trees []tree
}

type tree struct {
	root  uint32
	depth uint32
}

// treeNode goes to child if x[feature] <= value and to child+1 otherwise. A leaf
// is its own child and cannot be left: its threshold is +Inf; value is in leaf.
type treeNode struct {
	threshold float32
	child     uint32 // in the ensemble
	leaf      float32
	feature   uint8 // below maxVector
}

// lanes trees are walked at the same time, so that the processor need not wait
// for one's memory before it asks for the next one's.
const lanes = 4

// logOdds sums the trees' leaves. It has no branch that depends on the vector.
func (e *ensemble) logOdds(v *vector) float32 {
	nodes := e.nodes
	var sum float32
	i := 0
	for ; i+lanes <= len(e.trees); i += lanes {
		t := e.trees[i : i+lanes : i+lanes]
		a, b, c, d := &nodes[t[0].root], &nodes[t[1].root], &nodes[t[2].root], &nodes[t[3].root]
		for range max(t[0].depth, t[1].depth, t[2].depth, t[3].depth) {
			a, b = e.down(a, v), e.down(b, v)
			c, d = e.down(c, v), e.down(d, v)
		}
		sum += a.leaf + b.leaf + c.leaf + d.leaf
	}
	for ; i < len(e.trees); i++ {
		n := &nodes[e.trees[i].root]
		for range e.trees[i].depth {
			n = e.down(n, v)
		}
		sum += n.leaf
	}
	return sum
}

func (e *ensemble) down(n *treeNode, v *vector) *treeNode {
	var right uint32
	if v.x[n.feature&(maxVector-1)] > n.threshold {
		right = 1
	}
	return &e.nodes[n.child+right]
}

const (
	modelVersion = 1
	leafMark     = 255
	nodeBytes    = 7
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
	trees := int(binary.LittleEndian.Uint16(b))
	b = b[2:]
	for range trees {
		if len(b) < 2 {
			return nil, errShort
		}
		n := int(binary.LittleEndian.Uint16(b))
		b = b[2:]
		if len(b) < n*nodeBytes || n == 0 {
			return nil, errShort
		}
		if err := e.add(b[:n*nodeBytes], n, features); err != nil {
			return nil, err
		}
		b = b[n*nodeBytes:]
	}
	return b, nil
}

// add appends one tree of n nodes.
func (e *ensemble) add(b []byte, n, features int) error {
	root := uint32(len(e.nodes))
	depth := make([]uint32, n)
	deepest := uint32(0)
	for i := range n {
		at := b[i*nodeBytes:]
		feature, child := at[0], int(binary.LittleEndian.Uint16(at[1:]))
		value := math.Float32frombits(binary.LittleEndian.Uint32(at[3:]))
		if value != value {
			return errors.New("a value is not a number")
		}
		node := treeNode{threshold: float32(math.Inf(1)), child: root + uint32(i), leaf: value}
		if feature != leafMark {
			if int(feature) >= features || child <= i || child+1 >= n {
				return fmt.Errorf("node %d asks feature %d and leads to %d of %d", i, feature, child, n)
			}
			node = treeNode{threshold: value, child: root + uint32(child), feature: feature}
			depth[child], depth[child+1] = depth[i]+1, depth[i]+1
			deepest = max(deepest, depth[i]+1)
		}
		e.nodes = append(e.nodes, node)
	}
	e.trees = append(e.trees, tree{root, deepest})
	return nil
}
