package gateway

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
	"github.com/polder/polder/regions/law"
)

var skewRegions = []polder.Region{{Name: "fr", Jurisdictions: []polder.Jurisdiction{"EU"}}, {Name: "nl", Jurisdictions: []polder.Jurisdiction{"EU"}}, {Name: "pl"}}

// drawPolicies is a model with random policies of some of six services.
func drawPolicies(t *rapid.T, label string) *polder.Model {
	m := &polder.Model{Regions: skewRegions}
	for _, name := range []polder.ServiceName{"ant", "bee", "cat", "dog", "elk", "fox"} {
		if rapid.IntRange(0, 5).Draw(t, label+" without") == 0 {
			continue
		}
		r := polder.Residency{
			Allow:     rapid.SliceOfNDistinct(rapid.SampledFrom([]polder.Place{"fr", "nl", "pl", "EU"}), 1, 2, rapid.ID[polder.Place]).Draw(t, label+" allow"),
			Elsewhere: rapid.SampledFrom([]polder.Elsewhere{polder.PassThrough, polder.Refuse}).Draw(t, label+" elsewhere"),
			Keys:      rapid.SampledFrom([]polder.Keys{polder.KeysOnDemand, polder.KeysResident}).Draw(t, label+" keys"),
			Telemetry: polder.DefaultTelemetry(),
			Failover:  polder.Failover{Class: rapid.SampledFrom([]polder.FailoverClass{polder.FailoverClosed, polder.FailoverListed, polder.FailoverBreakGlass}).Draw(t, label+" failover"), Regions: []polder.RegionName{"pl", "nl"}},
		}
		if rapid.Bool().Draw(t, label+" broken") {
			r.Failover.Broken = &polder.BrokenGlass{From: time.Unix(1000, 0).UTC(), Until: time.Unix(5000, 0).UTC(), Reason: "fire"}
		}
		m.Services = append(m.Services, polder.Service{Name: name, Hosts: []polder.Host{polder.Host(name + ".example.com")}, Run: &polder.Run{Command: []string{"x"}}, Residency: r})
	}
	return m
}

// rowOf is what a peer says that has a model in force.
func rowOf(peer string, m *polder.Model, told bool) regions.Peer {
	row := polder.PeerRow{Peer: peer, Region: "nl", Epoch: 1, Sequence: 1, Policy: policyDigest(m)}
	if told {
		row.Claims = encodeClaims(termsOf(m), slog.New(slog.DiscardHandler))
	}
	return regions.Peer{Row: row, Standing: regions.Alive}
}

// TestAPeerWithoutServicesTellsSo: its row is no row that says nothing, for which what
// all agreed on last would be taken.
func TestAPeerWithoutServicesTellsSo(t *testing.T) {
	before := &polder.Model{Regions: skewRegions, Services: []polder.Service{{Name: "ant", Residency: polder.Residency{Allow: []polder.Place{"EU"}}}}}
	after := &polder.Model{Regions: skewRegions, Services: []polder.Service{{Name: "ant", Residency: polder.Residency{Allow: []polder.Place{"nl"}}}}}
	none := &polder.Model{Regions: skewRegions}
	k := skew{log: slog.New(slog.DiscardHandler)}
	k.look(before, policyDigest(before), []regions.Peer{rowOf("other", before, false)}, "me")
	for _, told := range []bool{false, true} {
		d := k.look(after, policyDigest(after), []regions.Peer{rowOf("other", none, told)}, "me")
		if len(d.peers) != 1 || d.peers[0].Told != told || (len(d.others["ant"]) == 0) != told {
			t.Errorf("told %t: %+v, others %v", told, d.peers, d.others)
		}
	}
	if d := k.look(none, policyDigest(none), []regions.Peer{rowOf("other", after, true)}, "me"); d.claims == "" {
		t.Error("who has no services, and disagrees, has nothing to tell")
	}
}

// TestWhatAllPermitHoldsWhilePeersDisagree gives one peer's model to another in
// the form of its row: the verdicts are those of the law over both policies, for
// both of them alike, and rows stay within their bounds.
func TestWhatAllPermitHoldsWhilePeersDisagree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mine, theirs := drawPolicies(t, "mine"), drawPolicies(t, "theirs")
		judge := func(own, other *polder.Model) (map[polder.ServiceName]law.Approved, dispute) {
			k := skew{log: slog.New(slog.DiscardHandler)}
			d := k.look(own, policyDigest(own), []regions.Peer{rowOf("me", own, false), rowOf("other", other, true)}, "me")
			verdicts := map[polder.ServiceName]law.Approved{}
			for _, s := range own.Services {
				verdicts[s.Name] = law.Judge(s, law.Circumstances{Here: "nl", Regions: skewRegions, Alive: polder.RegionHealth{"nl": true},
					Now: time.Unix(2000, 0), Others: d.others[s.Name]})
			}
			return verdicts, d
		}
		here, d := judge(mine, theirs)
		there, _ := judge(theirs, mine)
		agree := policyDigest(mine) == policyDigest(theirs)
		if agree != (len(d.peers) == 0) || agree != (d.claims == "") {
			t.Fatalf("agree is %v, and %d peers are said to disagree", agree, len(d.peers))
		}
		for _, s := range mine.Services {
			a, b := here[s.Name], there[s.Name]
			other, ok := theirs.Service(s.Name)
			if !ok {
				if a.Disputed() {
					t.Errorf("%s is disputed by a peer that does not know it", s.Name)
				}
				continue
			}
			if a.Verdict() != b.Verdict() || !slices.Equal(a.Targets(), b.Targets()) || a.Resident() != b.Resident() {
				t.Errorf("%s: %s %v here, %s %v there", s.Name, a.Verdict(), a.Targets(), b.Verdict(), b.Targets())
			}
			want := law.Judge(s, law.Circumstances{Here: "nl", Regions: skewRegions, Alive: polder.RegionHealth{"nl": true},
				Now: time.Unix(2000, 0), Others: []law.Permission{law.Permit(other.Residency, skewRegions)}})
			if a.Verdict() != want.Verdict() {
				t.Errorf("%s: %s, the law over both says %s", s.Name, a.Verdict(), want.Verdict())
			}
		}
	})
}

// TestUntilAPeerTellsWhatHeldBeforeHolds follows a rollout: a service moves from fr
// to nl, and nl has the new file first.
func TestUntilAPeerTellsWhatHeldBeforeHolds(t *testing.T) {
	before, after := oneService("fr"), oneService("nl")
	verdict := func(m *polder.Model, d dispute) law.Verdict {
		return law.Judge(m.Services[0], law.Circumstances{Here: "nl", Regions: skewRegions, Alive: polder.RegionHealth{"fr": true, "nl": true}, Others: d.others["moves"]}).Verdict()
	}
	k := skew{log: slog.New(slog.DiscardHandler)}
	for _, step := range []struct {
		what  string
		model *polder.Model
		other regions.Peer
		want  law.Verdict
		told  bool
	}{
		{"both have the old file", before, rowOf("fr-1", before, false), law.Pass, false},
		{"nl has the new one, and fr tells nothing yet", after, rowOf("fr-1", before, false), law.Unavailable, false},
		{"fr has told", after, rowOf("fr-1", before, true), law.Unavailable, true},
		{"fr has told what nobody can read", after, regions.Peer{Standing: regions.Alive, Row: polder.PeerRow{Peer: "fr-1", Policy: "x", Claims: "?"}}, law.Unavailable, false},
		{"fr is gone", after, regions.Peer{Standing: regions.Dead, Row: rowOf("fr-1", before, true).Row}, law.Serve, false},
		{"fr has the new file too", after, rowOf("fr-1", after, false), law.Serve, false},
	} {
		d := k.look(step.model, policyDigest(step.model), []regions.Peer{step.other}, "nl-1")
		if got := verdict(step.model, d); got != step.want {
			t.Errorf("%s: nl says %s, want %s", step.what, got, step.want)
		}
		if len(d.peers) > 0 && d.peers[0].Told != step.told {
			t.Errorf("%s: told is %v", step.what, d.peers[0].Told)
		}
	}
}

// TestSilenceWidensNothing: a peer narrowed its policy, told so, and then has yet
// another one of which it told nothing. What it told counts until it tells more.
func TestSilenceWidensNothing(t *testing.T) {
	wide, narrow := oneService("fr", "nl"), oneService("fr")
	k := skew{log: slog.New(slog.DiscardHandler)}
	k.look(wide, policyDigest(wide), []regions.Peer{rowOf("fr-1", wide, false)}, "nl-1")
	for _, step := range []struct {
		what  string
		other regions.Peer
		want  law.Verdict
	}{
		{"fr has told that it narrowed it", rowOf("fr-1", narrow, true), law.Pass},
		{"fr has another policy, and tells nothing", regions.Peer{Standing: regions.Alive, Row: polder.PeerRow{Peer: "fr-1", Policy: "another"}}, law.Pass},
		{"fr agrees", rowOf("fr-1", wide, false), law.Serve},
	} {
		d := k.look(wide, policyDigest(wide), []regions.Peer{step.other}, "nl-1")
		got := law.Judge(wide.Services[0], law.Circumstances{Here: "nl", Regions: skewRegions, Alive: polder.RegionHealth{"fr": true, "nl": true}, Others: d.others["moves"]})
		if got.Verdict() != step.want {
			t.Errorf("%s: nl says %s, want %s", step.what, got.Verdict(), step.want)
		}
	}
}

// oneService is a model of one service, which moves about.
func oneService(allow ...polder.Place) *polder.Model {
	return &polder.Model{Regions: skewRegions, Services: []polder.Service{{Name: "moves", Hosts: []polder.Host{"m.example.com"}, Run: &polder.Run{Command: []string{"x"}},
		Residency: polder.Residency{Allow: allow, Elsewhere: polder.PassThrough, Failover: polder.Failover{Class: polder.FailoverClosed}}}}}
}

// TestModelAndDisputeAreOne: fr has a file that permits it a service, and a peer
// has one that does not. When fr takes over the peer's file, nothing is disputed
// any more: that must not count beside the old file for a moment.
func TestModelAndDisputeAreOne(t *testing.T) {
	service := started("moves", time.Minute)
	service.Residency.Allow = []polder.Place{"fr", "nl"}
	newer := service
	newer.Residency.Allow = []polder.Place{"nl"}
	opened := func(w *world) bool { return slices.Contains(w.journal(), "publish endpoints of service/moves") }
	around := surroundings{health: polder.RegionHealth{"fr": true, "nl": true}}
	disputed := around
	disputed.others = map[polder.ServiceName][]law.Permission{"moves": {law.Permit(newer.Residency, testRegions)}}
	inWorld(t, nil, func(w *world) {
		w.r.SetWorld(w.ctx, &polder.Model{Regions: testRegions, Services: []polder.Service{service}}, disputed)
		w.r.SetWorld(w.ctx, &polder.Model{Regions: testRegions, Services: []polder.Service{newer}}, around)
		if opened(w) {
			t.Errorf("fr has opened what no two files permitted: %v", w.journal())
		}
		w.r.SetWorld(w.ctx, &polder.Model{Regions: testRegions, Services: []polder.Service{service}}, around)
		if !opened(w) {
			t.Error("fr does not open what all permit: this shows nothing")
		}
	})
}

func TestClaimsOfTenThousandServicesFitARow(t *testing.T) {
	own := map[uint32]law.Terms{}
	for i := range 10_000 {
		name := polder.ServiceName("service-" + time.Duration(i).String())
		own[nameHash(name)] = law.Terms{Allowed: []polder.RegionName{skewRegions[i%3].Name}, Elsewhere: polder.PassThrough}
	}
	packed := encodeClaims(own, slog.New(slog.DiscardHandler))
	if len(packed) > maxClaims {
		t.Fatalf("they take %d bytes, more than %d", len(packed), maxClaims)
	}
	back, err := decodeClaims(packed)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d services in %d bytes", len(back), len(own), len(packed))
	if len(back) < len(own)*9/10 {
		t.Errorf("only %d of %d services fit", len(back), len(own))
	}
	for h, terms := range back {
		if !sameTerms(terms, own[h]) {
			t.Fatalf("%x comes back as %+v", h, terms)
		}
	}
}

func FuzzClaims(f *testing.F) {
	f.Add([]byte(rowOf("x", &polder.Model{Regions: skewRegions}, true).Row.Claims))
	f.Add([]byte(encodeClaims(map[uint32]law.Terms{1: {Allowed: []polder.RegionName{"fr"}}, 9: {}}, slog.New(slog.DiscardHandler))))
	f.Fuzz(func(t *testing.T, packed []byte) {
		terms, err := decodeClaims(string(packed))
		for _, each := range terms {
			if err == nil {
				each.Permission().Stricter(each.Permission())
			}
		}
	})
}
