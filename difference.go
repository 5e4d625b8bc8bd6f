package polder

import "reflect"

// Difference is what two models do not have alike.
type Difference struct {
	// Services are new, gone, or different in more than where they stand in the
	// files; sorted.
	Services []ServiceName
	// Rest says that something besides services differs: regions, tenants, the price
	// list or naming.
	Rest bool
}

// Compare finds what differs between two models, of which nil is one without
// anything. It costs a comparison of every service: whoever brings a model into force
// does it once, and tells the others.
func Compare(before, after *Model) Difference {
	if before == nil {
		before = &Model{}
	}
	if after == nil {
		after = &Model{}
	}
	was, is := *before, *after
	was.Services, is.Services = nil, nil
	d := Difference{Rest: !reflect.DeepEqual(was, is)}
	a, b := before.Services, after.Services
	for len(a) > 0 && len(b) > 0 {
		switch order := compare(a[0].Name, b[0].Name); {
		case order < 0:
			d.Services, a = append(d.Services, a[0].Name), a[1:]
		case order > 0:
			d.Services, b = append(d.Services, b[0].Name), b[1:]
		default:
			if !a[0].alike(b[0]) {
				d.Services = append(d.Services, a[0].Name)
			}
			a, b = a[1:], b[1:]
		}
	}
	for _, s := range append(a[:len(a):len(a)], b...) {
		d.Services = append(d.Services, s.Name)
	}
	return d
}

// alike tells whether two services differ in nothing but where they stand in the
// files.
func (s Service) alike(o Service) bool {
	s.At, o.At = Position{}, Position{}
	return reflect.DeepEqual(s, o)
}

// And is what may differ after both of two changes, one after the other: what the
// second took back is still named.
func (d Difference) And(next Difference) Difference {
	both := Difference{Rest: d.Rest || next.Rest}
	a, b := d.Services, next.Services
	for len(a) > 0 && len(b) > 0 {
		switch order := compare(a[0], b[0]); {
		case order < 0:
			both.Services, a = append(both.Services, a[0]), a[1:]
		case order > 0:
			both.Services, b = append(both.Services, b[0]), b[1:]
		default:
			both.Services, a, b = append(both.Services, a[0]), a[1:], b[1:]
		}
	}
	both.Services = append(append(both.Services, a...), b...)
	return both
}
