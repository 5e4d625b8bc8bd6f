package gateway

import (
	"reflect"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// difference is what a new model changes about the services.
type difference struct {
	before, after []polder.Service // that are new, changed or gone
	gone          []*service
}

// adoptModel brings the model into force, which is compared with the one before it
// by compare. It looks at no service that is the same in both, as long as what is
// around services is the same too: else every one is judged anew.
func (r *reconciler) adoptModel(before *polder.Model, around bool, now time.Time) {
	changed := r.compare(before, r.model)
	d := r.differenceOf(changed.Services)
	if changed.Rest {
		r.adoptAccounts(now)
	} else {
		r.adoptAccountsOf(d, now)
	}
	r.takeServices(d, now)
	defer r.stopGone(d) // whatever leads to them goes first
	if around || r.published == nil || changed.Rest {
		for _, s := range r.services {
			r.rehome(s)
		}
		r.judgeAll(now)
		return
	}
	for _, spec := range d.after {
		r.rehome(r.services[spec.Name])
	}
	r.judgeSome(d, now)
}

// differenceOf looks up how services were and are, of which one may be gone again, or
// as it was.
func (r *reconciler) differenceOf(names []polder.ServiceName) difference {
	var d difference
	for _, name := range names {
		s := r.services[name]
		if s != nil {
			d.before = append(d.before, s.spec)
		}
		if spec, is := r.model.Service(name); is {
			d.after = append(d.after, spec)
		} else if s != nil {
			d.gone = append(d.gone, s)
		}
	}
	return d
}

// takeServices takes over what the model says of the services that are different.
func (r *reconciler) takeServices(d difference, now time.Time) {
	for _, spec := range d.after {
		s := r.services[spec.Name]
		if s == nil {
			s = newService(spec)
			s.tempo = r.tempo
			s.here = r.gateway.Region
			r.restore(s, now)
			r.services[spec.Name] = s
			continue
		}
		if !reflect.DeepEqual(s.spec.Run, spec.Run) {
			s.outdateInstances()
		}
		s.spec = spec
	}
	for _, s := range d.gone {
		r.closeBerth(s)
		r.saturated.Delete(s.spec.Name)
		delete(r.services, s.spec.Name)
	}
}

// stopGone fails those who wait for services that are no more, which look now for who
// has their host, and retires the instances. What was published does
// not lead to them any longer, and each Envoy takes that in at its own pace: to it they
// are there until it has acknowledged that their endpoints are gone, which comes last.
func (r *reconciler) stopGone(d difference) {
	for _, s := range d.gone {
		s.fail(refuse(activator.UnknownService, 0, "the service was removed from the configuration"))
		r.stopAll(s, "service was removed from the configuration")
	}
}
