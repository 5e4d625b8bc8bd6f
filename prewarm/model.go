package prewarm

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
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

// ensemble is trees, all of whose nodes lie level by level: the upper levels,
// which every walk crosses, share few lines of the cache.
type ensemble struct {
	nodes    []treeNode
	trees    []tree
	features int // that a vector has
}

type tree struct {
	root  uint16
	depth uint16
}

// treeNode goes to child if x[feature] <= threshold and to child+1 otherwise; key
// is the threshold's. A leaf is its own child and cannot be left, since it asks
// the feature leafFeature, which is below everything; its key is its value's bits.
type treeNode struct {
	key     int32
	child   uint16 // in the ensemble
	feature uint8  // below maxVector
}

const (
	leafFeature = maxVector - 1
	maxNodes    = 1 << 16 // of an ensemble
)

func (n *treeNode) leaf() float32 { return math.Float32frombits(uint32(n.key)) }

// keys are a vector's features as whole numbers of the same order, which are
// quicker to compare.
type keys [maxVector]int32

// key is monotone in x. Both zeros have the same.
func key(x float32) int32 {
	b := int32(math.Float32bits(x + 0)) // -0 + 0 is 0
	return b ^ int32(uint32(b>>31)>>1)
}

func (k *keys) take(x *[maxVector]float32, n int) {
	for i, x := range x[:n] {
		k[i] = key(x)
	}
	k[leafFeature] = math.MinInt32
}

// lanes trees are walked at the same time, so that the processor need not wait
// for one's memory before it asks for the next one's.
const lanes = 4

// logOdds sums the trees' leaves. It has no branch that depends on the vector.
func (e *ensemble) logOdds(v *vector) float32 {
	var k keys
	k.take(&v.x, e.features)
	nodes := e.nodes
	var sum float32
	i := 0
	for ; i+lanes <= len(e.trees); i += lanes {
		t := e.trees[i : i+lanes : i+lanes]
		a, b, c, d := &nodes[t[0].root], &nodes[t[1].root], &nodes[t[2].root], &nodes[t[3].root]
		for range max(t[0].depth, t[1].depth, t[2].depth, t[3].depth) {
			a, b = down(nodes, a, &k), down(nodes, b, &k)
			c, d = down(nodes, c, &k), down(nodes, d, &k)
		}
		sum += a.leaf() + b.leaf() + c.leaf() + d.leaf()
	}
	for ; i < len(e.trees); i++ {
		sum += e.walk(e.trees[i], &k)
	}
	return sum
}

// walk goes down one tree.
func (e *ensemble) walk(t tree, k *keys) float32 {
	n := &e.nodes[t.root]
	for range t.depth {
		n = down(e.nodes, n, k)
	}
	return n.leaf()
}

func down(nodes []treeNode, n *treeNode, k *keys) *treeNode {
	child := int(n.child)
	if k[n.feature&(maxVector-1)] > n.key {
		child++
	}
	return &nodes[child]
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
	var read []readNode
	for range trees {
		if len(b) < 2 {
			return nil, errShort
		}
		n := int(binary.LittleEndian.Uint16(b))
		b = b[2:]
		if len(b) < n*nodeBytes || n == 0 {
			return nil, errShort
		}
		if len(read)+n > maxNodes {
			return nil, fmt.Errorf("it has more than %d nodes", maxNodes)
		}
		var err error
		if read, err = readTree(read, b[:n*nodeBytes], n, features); err != nil {
			return nil, err
		}
		b = b[n*nodeBytes:]
	}
	e.features = features
	e.lay(read)
	return b, nil
}

// readNode is a node as it was read. Its child is an index among those read.
type readNode struct {
	value       float32 // threshold, or the leaf's
	child       int
	feature     uint8 // or leafFeature
	depth, tree uint16
	led         bool // a parent leads to it
}

// readTree appends one tree of n nodes.
func readTree(read []readNode, b []byte, n, features int) ([]readNode, error) {
	root := len(read)
	id := uint16(0)
	if root > 0 {
		id = read[root-1].tree + 1
	}
	read = append(read, make([]readNode, n)...)
	tree := read[root:]
	for i := range n {
		at := b[i*nodeBytes:]
		feature, child := at[0], int(binary.LittleEndian.Uint16(at[1:]))
		node := &tree[i]
		node.value = math.Float32frombits(binary.LittleEndian.Uint32(at[3:]))
		node.tree, node.child, node.feature = id, root+i, leafFeature
		if node.value != node.value {
			return nil, errors.New("a value is not a number")
		}
		if i > 0 && !node.led {
			return nil, fmt.Errorf("no node leads to node %d", i)
		}
		if feature == leafMark {
			continue
		}
		if int(feature) >= features || child <= i || child+1 >= n || tree[child].led || tree[child+1].led {
			return nil, fmt.Errorf("node %d asks feature %d and leads to %d of %d", i, feature, child, n)
		}
		node.feature, node.child = feature, root+child
		for j := child; j <= child+1; j++ {
			tree[j].led, tree[j].depth = true, node.depth+1
		}
	}
	return read, nil
}

// lay brings nodes into the order of their levels. Siblings stay side by side,
// since they were read so and are on one level.
func (e *ensemble) lay(read []readNode) {
	order := make([]int, len(read))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(read[a].depth) - int(read[b].depth) })
	place := make([]uint16, len(read))
	for at, i := range order {
		place[i] = uint16(at)
	}
	e.nodes = make([]treeNode, len(read))
	for at, i := range order {
		n := read[i]
		node := treeNode{key: key(n.value), child: place[n.child], feature: n.feature}
		if n.feature == leafFeature {
			node.key = int32(math.Float32bits(n.value))
		}
		e.nodes[at] = node
		if n.depth == 0 {
			e.trees = append(e.trees, tree{root: uint16(at)})
		}
		e.trees[n.tree].depth = max(e.trees[n.tree].depth, n.depth)
	}
}
