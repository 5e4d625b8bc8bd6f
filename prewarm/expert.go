package prewarm

import (
	"math"
	"math/bits"
)

const (
	learningRate = 0.15 // of the regression (AdaGrad)
	mixingStart  = 1.2  // sum of a mixing's weights before it learned
	mixingOffset = 0.3  // what every mixing has as one more expert's log-odds
	regretSlots  = 60   // time constant of a regret, in slots
	// certain bounds what an expert may claim: chances are clamped to
	// [certain, 1-certain].
	certain = 0.0005
)

// regression is an online logistic regression of "active" on the last 240
// slots: it finds schedules and echoes that no list of periods foresees.
type regression struct {
	bias, biasSquare float32
	weight, square   [regressed]float32
	chance           float32 // of the open slot
	regret           float32 // moving average of its log loss
}

// learn moves the weights after the slot that it judged closed; past does not
// hold that slot yet.
func (g *regression) learn(past *history, active bool) {
	y := truth(active)
	g.regret += (loss(g.chance, active) - g.regret) / regretSlots
	err := g.chance - y
	if err > -2*certain && err < 2*certain {
		return // nothing to learn, and idle services stay cheap
	}
	square := err * err
	g.biasSquare += square
	g.bias -= learningRate * err / root(g.biasSquare)
	for w := 0; w < (regressed+63)/64; w++ {
		for b := past[w]; b != 0; b &= b - 1 {
			i := w*64 + bits.TrailingZeros64(b)
			if i >= regressed {
				return
			}
			g.square[i] += square
			g.weight[i] -= learningRate * err / root(g.square[i])
		}
	}
}

// judge gives the chance of the slot after past.
func (g *regression) judge(past *history) {
	z := g.bias
	for w := 0; w < (regressed+63)/64; w++ {
		for b := past[w]; b != 0; b &= b - 1 {
			if i := w*64 + bits.TrailingZeros64(b); i < regressed {
				z += g.weight[i]
			}
		}
	}
	g.chance = sigmoid(z)
}

// maxExperts bounds the chances that a mixer mixes, and the offset.
const maxExperts = 28

// mixings are what a mixer does with the same experts: one learns for all slots alike,
// one for each kind of age apart, since whom to trust depends on it, and one quickly.
var mixings = [...]struct {
	rate   float32 // of the gradient descent
	first  int     // row of weights
	byAges bool
}{
	{0.003, 0, false},
	{0.003, 1, true},
	{0.01, 1 + ageKinds, false},
}

const (
	mixingRows = 2 + ageKinds
	ageKinds   = len(ages) + 1
)

// ages are the shortest of each kind but the first, in slots.
var ages = [...]uint32{2, 5, 13, 61}

func ageKind(age uint32) (kind int) {
	for kind < len(ages) && age >= ages[kind] {
		kind++
	}
	return kind
}

// mixer weighs the experts in the log-odds domain and learns online whom this
// service should trust (as in the PAQ compressors): the ensemble's own regret.
type mixer struct {
	weight  [mixingRows][maxExperts]float32
	stretch [maxExperts]float32   // log-odds of each expert for the open slot
	n       uint8                 // experts and the offset; 0 before the first slot
	kind    uint8                 // of the open slot's age
	chance  [len(mixings)]float32 // of the open slot
	regret  float32               // moving average of the first mixing's log loss
}

// row has the weights that a mixing uses for the open slot.
func (m *mixer) row(mixing int) *[maxExperts]float32 {
	i := mixings[mixing].first
	if mixings[mixing].byAges {
		i += int(m.kind) % ageKinds
	}
	return &m.weight[i]
}

func (m *mixer) learn(active bool) {
	m.regret += (loss(m.chance[0], active) - m.regret) / regretSlots
	for k := range mixings {
		step, weight := mixings[k].rate*(truth(active)-m.chance[k]), m.row(k)
		for i, s := range m.stretch[:m.n] {
			weight[i] += step * s
		}
	}
}

// judge mixes what the experts say of a slot that ends a gap of the given age.
func (m *mixer) judge(v *vector, age uint32) {
	if n := v.experts + 1; int(m.n) != n {
		m.n = uint8(n)
		for k := range m.weight {
			for i := range v.experts {
				m.weight[k][i] = mixingStart / float32(v.experts)
			}
		}
	}
	m.kind = uint8(ageKind(age))
	var last, stretch float32
	for i, at := range v.expert[:v.experts] {
		p := clampChance(v.x[at])
		if p != last { // often several experts say the same
			last, stretch = p, ln(p/(1-p))
		}
		m.stretch[i] = stretch
	}
	m.stretch[v.experts] = mixingOffset
	a, b, c := m.row(0), m.row(1), m.row(2)
	var za, zb, zc float32
	for i, s := range m.stretch[:m.n] {
		za, zb, zc = za+a[i]*s, zb+b[i]*s, zc+c[i]*s
	}
	m.chance = [...]float32{sigmoid(za), sigmoid(zb), sigmoid(zc)}
}

func truth(active bool) float32 {
	if active {
		return 1
	}
	return 0
}

// loss is the log loss of a chance, in nats.
func loss(chance float32, active bool) float32 {
	p := clampChance(chance)
	if !active {
		p = 1 - p
	}
	return -ln(p)
}

func clampChance(p float32) float32 { return min(max(p, certain), 1-certain) }
func sigmoid(z float32) float32     { return float32(1 / (1 + math.Exp(-float64(z)))) }
func root(x float32) float32        { return float32(math.Sqrt(float64(x) + 1e-6)) }

// ln is the natural logarithm of a normal positive number, to the last bit of a
// float32 or its neighbour: a minute asks for some thirty of them.
func ln(x float32) float32 {
	const (
		one  = 0x3ff0000000000000
		half = 0x3fe6a09e00000000 // √½, less a little
	)
	// x = 2^k·m with m in [√½, √2), and ln m = 2·artanh s in a few terms.
	b := math.Float64bits(float64(x)) + (one - half)
	k := float64(int(b>>52) - one>>52)
	m := math.Float64frombits(b&(1<<52-1) + half)
	s := (m - 1) / (m + 1)
	z := s * s
	z2 := z * z
	return float32(k*math.Ln2 + 2*s*(1+z*(1./3)+z2*(1./5+z*(1./7))+z2*z2*(1./9+z*(1./11)+z2*(1./13))))
}
