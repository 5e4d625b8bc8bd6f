package gateway

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
)

// rivals are two policies whose scores can be compared: when either changes, both
// begin anew.
type rivals struct {
	Min, Max, Concurrency int
	KeepAlive, Pause      time.Duration
	Prewarm               polder.Prewarm
	ColdStart             polder.Rate
	Other                 polder.Shadow
}

func rivalsOf(s polder.Scale) rivals {
	return rivals{s.Min, s.Max, s.Concurrency, s.KeepAlive, s.Pause, s.Prewarm, s.ColdStart, *s.Shadow}
}

// shadow is a service's Shadow with the policies that it scores.
type shadow struct {
	prewarm.Shadow
	of rivals
}

// savedShadow is what survives a restart.
type savedShadow struct {
	Of            rivals
	Since         time.Time
	Acting, Other prewarm.Score
}

// score lets the policy that only looks on score what was just observed, and
// has it asked again in time.
func (r *reconciler) score(s *service, obs prewarm.Observation, terms prewarm.Terms) {
	scale := s.spec.Scale
	if scale.Shadow == nil {
		s.shadow = nil
		return
	}
	if of := rivalsOf(scale); s.shadow == nil || s.shadow.of != of {
		s.shadow = r.newShadow(s, of)
	}
	if s.elsewhere() {
		s.shadow.Rest()
		return
	}
	s.shadow.Step(s.state, s.spec, scale.Shadowed(), obs, terms)
	if until := s.shadow.Decision().Until; until.Before(s.decision.Until) {
		s.decision.Until = until
	}
}

// newShadow begins with what an earlier Polder counted of the same policies.
func (r *reconciler) newShadow(s *service, of rivals) *shadow {
	x := &shadow{of: of}
	data, ok := r.scored[s.spec.Name]
	delete(r.scored, s.spec.Name)
	if !ok {
		return x
	}
	var saved savedShadow
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&saved); err != nil {
		r.log.Warn("what the service's shadow scored cannot be used; scoring anew", "service", s.spec.Name, "reason", err)
	} else if saved.Of == of {
		x.Since, x.Acting, x.Other = saved.Since, saved.Acting, saved.Other
	}
	return x
}

// Scored encodes the scores of every service that is served here, has a shadow and
// whose profile may be kept.
func (r *reconciler) Scored(ctx context.Context) map[polder.ServiceName][]byte {
	scores := map[polder.ServiceName][]byte{}
	r.do(ctx, func(time.Time) {
		for name, s := range r.services {
			if s.shadow == nil || !s.approved.MayKeep(polder.RecordProfiles) {
				continue
			}
			var b bytes.Buffer
			if err := gob.NewEncoder(&b).Encode(savedShadow{s.shadow.of, s.shadow.Since, s.shadow.Acting, s.shadow.Other}); err != nil {
				r.log.Error("what the service's shadow scored is not stored", "service", name, "reason", err)
				continue
			}
			scores[name] = b.Bytes()
		}
	})
	return scores
}

// ShadowStatus is how a policy that does not act compares with the one that does.
type ShadowStatus struct {
	KeepAlive time.Duration  `json:"keep_alive"` // of the policy that does not act; -1 for auto
	Prewarm   polder.Prewarm `json:"prewarm"`
	ColdStart polder.Rate    `json:"cold_start,omitempty"`
	Since     time.Time      `json:"since"`
	Acting    prewarm.Score  `json:"acting"`
	Shadow    prewarm.Score  `json:"shadow"`
	Currency  string         `json:"currency,omitempty"`
	Decision  string         `json:"decision"` // the shadow's, in words
}

// shadowStatus is nil without a shadow.
func (s *service) shadowStatus() *ShadowStatus {
	x := s.shadow
	if x == nil || x.Since.IsZero() {
		return nil
	}
	return &ShadowStatus{
		KeepAlive: x.of.Other.KeepAlive, Prewarm: x.of.Other.Prewarm, ColdStart: x.of.Other.ColdStart, Since: x.Since, Acting: x.Acting, Shadow: x.Other,
		Currency: s.decision.Inputs.Terms.Prices.Currency, Decision: x.Decision().Reason(),
	}
}

// Scale is the policy that does not act, as a scale with nothing else.
func (x ShadowStatus) Scale() polder.Scale {
	return polder.Scale{KeepAlive: x.KeepAlive, Prewarm: x.Prewarm, ColdStart: x.ColdStart}
}

// String says in a line how both compare.
func (x ShadowStatus) String() string {
	score := func(s prewarm.Score) string {
		text := fmt.Sprintf("%d of %d minutes with calls began cold (%.2f %%), %d starts, %s warm in vain",
			s.Cold, s.Active, 100*s.ColdShare(), s.Starts, s.Idle.Round(time.Second))
		if x.Currency != "" {
			text += ", " + s.Cost.Format(x.Currency)
		}
		return text
	}
	return fmt.Sprintf("since %s %s; its shadow: %s", x.Since.UTC().Format("2006-01-02 15:04 UTC"), score(x.Acting), score(x.Shadow))
}
