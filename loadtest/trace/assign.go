package trace

// Assign deals functions out to targets round robin: the i-th function goes to
// target i modulo targets. With fewer functions than targets the last targets
// get none. It panics if targets is below 1.
func Assign(functions []Function, targets int) [][]Function {
	if targets < 1 {
		panic("trace: Assign needs a target")
	}
	dealt := make([][]Function, targets)
	for i, f := range functions {
		dealt[i%targets] = append(dealt[i%targets], f)
	}
	return dealt
}
