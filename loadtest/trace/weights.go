package trace

import (
	"io"
	"math"
	"strconv"
	"strings"
)

// MaxWeights bounds the rows of a file of weights.
const MaxWeights = 1 << 20

// weightColumns is the header of a file of weights.
var weightColumns = [...]string{"HashFunction", "weight"}

// ReadWeights reads how many functions of the population each row of a trace
// stands for, by Function.Name, for Selection.Weight:
//
//	HashFunction,weight
//
// All faults but the first stay unread.
func ReadWeights(r io.Reader, name string) (map[string]float64, error) {
	in := newRows(r, name)
	if err := in.plainHeader(weightColumns[:]); err != nil {
		return nil, err
	}
	weights := make(map[string]float64)
	for {
		row, err := in.next()
		if err == io.EOF {
			return weights, nil
		}
		if err != nil {
			return nil, err
		}
		f := split(row)
		field, _ := f.next()
		function, err := in.name(&f, field, weightColumns[0])
		if err != nil {
			return nil, err
		}
		if _, again := weights[function]; again {
			return nil, in.fault(f.column, "function %s has two weights", function)
		}
		if len(weights) == MaxWeights {
			return nil, in.fault(f.column, "the file has more than %d weights", MaxWeights)
		}
		field, ok := f.next()
		if !ok {
			return nil, in.fault(f.end(), "the row ends where column weight should be")
		}
		weight, err := strconv.ParseFloat(string(field), 64)
		if err != nil || !(weight >= 0) || math.IsInf(weight, 0) {
			return nil, in.fault(f.column, "the weight %.40q is not a number of 0 or more", field)
		}
		weights[function] = weight
		if field, ok := f.next(); ok {
			return nil, in.fault(f.column, "the row has a column %.40q too many", field)
		}
	}
}

// plainHeader reads a header that has exactly these columns.
func (s *rows) plainHeader(columns []string) error {
	row, err := s.next()
	if err == io.EOF {
		return s.fault(1, "the file is empty; it begins with the header %s", strings.Join(columns, ","))
	}
	if err != nil {
		return err
	}
	f := split(row)
	for _, want := range columns {
		field, ok := f.next()
		if !ok {
			return s.fault(f.end(), "the header ends where column %s should be", want)
		}
		if string(field) != want {
			return s.fault(f.column, "the header has column %.40q where %s should be", field, want)
		}
	}
	if field, ok := f.next(); ok {
		return s.fault(f.column, "the header has a column %.40q too many", field)
	}
	return nil
}
