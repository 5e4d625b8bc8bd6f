package trace

// Assign deals functions, or their sequences, out to targets round robin: the
// i-th goes to target i modulo targets. With fewer of them than targets the last
// targets get none. It panics if targets is below 1.
func Assign[F Function | Sequence](functions []F, targets int) [][]F {
	if targets < 1 {
		panic("trace: Assign needs a target")
	}
	dealt := make([][]F, targets)
	for i, f := range functions {
		dealt[i%targets] = append(dealt[i%targets], f)
	}
	return dealt
}
