package prewarm

import (
	"math"
	"math/bits"
)

const (
	learningRate = 0.15  // of the regression (AdaGrad)
	mixingRate   = 0.003 // of the mixer's gradient descent
	mixingStart  = 1.2   // sum of the mixer's weights before it learned
	regretSlots  = 60    // time constant of a regret, in slots
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

// maxExperts bounds the chances that a mixer mixes.
const maxExperts = 24

// mixer weighs the experts in the log-odds domain and learns online whom this
// service should trust (as in the PAQ compressors): the ensemble's own regret.
type mixer struct {
	weight  [maxExperts]float32
	stretch [maxExperts]float32 // log-odds of each expert for the open slot
	n       uint8               // experts; 0 before the first slot
	chance  float32             // of the open slot
	regret  float32             // moving average of its log loss
}

func (m *mixer) learn(active bool) {
	m.regret += (loss(m.chance, active) - m.regret) / regretSlots
	step := mixingRate * (truth(active) - m.chance)
	for i := range m.n {
		m.weight[i] += step * m.stretch[i]
	}
}

func (m *mixer) judge(v *vector) {
	if int(m.n) != v.experts {
		m.n = uint8(v.experts)
		for i := range m.n {
			m.weight[i] = mixingStart / float32(m.n)
		}
	}
	var z, last, stretch float32
	for i := range m.n {
		p := clampChance(v.x[v.expert[i]])
		if p != last { // often several experts say the same
			last, stretch = p, ln(p/(1-p))
		}
		m.stretch[i] = stretch
		z += m.weight[i] * stretch
	}
	m.chance = sigmoid(z)
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
