package gateway

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"reflect"
	"slices"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
	"github.com/polder/polder/regions/law"
)

const (
	// maxClaims bounds what a row tells of policies, in bytes: some ten thousand
	// services with a few dozen policies among them.
	maxClaims = regions.MaxClaims
	// maxClaimsText bounds it unpacked.
	maxClaimsText = 1 << 20
)

// skew finds out about whose policies living peers disagree, and what of them all
// permit. While a peer has another digest of policies than this one, both tell
// theirs in their rows. It belongs to one goroutine.
//
// A service is told by 32 bits of its name's digest: too few to tell the name, and
// where two are alike the stricter holds for both.
type skew struct {
	log *slog.Logger

	model  *polder.Model        // the one that what follows is made from, when first needed
	terms  map[uint32]law.Terms // by name
	claims string               // to tell

	agreed  *polder.Model // in force when all peers agreed last; nil before
	heard   map[string]map[uint32]law.Terms
	last    map[string]map[uint32]law.Terms // what each peer told last since then, by its name
	refused map[string]bool                 // peers' claims that could not be read
}

// SkewStatus is a living peer that sees the policies of some services otherwise.
type SkewStatus struct {
	Peer     string               `json:"peer"`
	Region   polder.RegionName    `json:"region"`
	Policy   string               `json:"policy"`             // digest of its policies
	Told     bool                 `json:"told"`               // it told what it takes them to be
	Services []polder.ServiceName `json:"services,omitempty"` // whose policy it sees otherwise
}

// dispute is what disagreement means for the law.
type dispute struct {
	others map[polder.ServiceName][]law.Permission
	peers  []SkewStatus
	claims string // what this peer must tell; "" while all agree
}

// look compares a model, whose policies have this digest, with what living peers say.
// It looks at no service as long as their digests are the same.
func (k *skew) look(m *polder.Model, digest string, peers []regions.Peer, me string) dispute {
	if k.model != m {
		k.model, k.terms, k.claims = m, nil, ""
	}
	d := dispute{others: map[polder.ServiceName][]law.Permission{}}
	for _, p := range peers {
		if p.Row.Peer == me || p.Standing != regions.Alive || p.Row.Policy == "" || p.Row.Policy == digest {
			continue
		}
		d.peers = append(d.peers, k.compare(m, p.Row, d.others))
	}
	if len(d.peers) == 0 {
		k.agreed, k.heard, k.last, k.refused = m, nil, nil, nil
		return d
	}
	if k.claims == "" {
		k.claims = encodeClaims(k.own(), k.log)
	}
	d.claims = k.claims
	return d
}

// own are the policies of the model.
func (k *skew) own() map[uint32]law.Terms {
	if k.terms == nil {
		k.terms = termsOf(k.model)
	}
	return k.terms
}

func termsOf(m *polder.Model) map[uint32]law.Terms {
	terms := make(map[uint32]law.Terms, len(m.Services))
	for _, s := range m.Services {
		terms[nameHash(s.Name)] = law.Permit(s.Residency, m.Regions).Terms()
	}
	return terms
}

// compare finds the services that a peer sees otherwise. As long as the peer did not
// tell how, what held when all agreed last takes its place, together with what it
// told last, if it told anything since.
func (k *skew) compare(m *polder.Model, row polder.PeerRow, others map[polder.ServiceName][]law.Permission) SkewStatus {
	status := SkewStatus{Peer: row.Peer, Region: row.Region, Policy: row.Policy}
	own := k.own()
	theirs, told := k.claimsOf(row)
	status.Told = told
	for _, s := range m.Services {
		hash, disputed := nameHash(s.Name), false
		dispute := func(terms law.Terms) {
			if !sameTerms(terms, own[hash]) {
				disputed = true
				others[s.Name] = append(others[s.Name], terms.Permission())
			}
		}
		if !told && k.agreed != nil {
			if before, ok := k.agreed.Service(s.Name); ok {
				dispute(law.Permit(before.Residency, k.agreed.Regions).Terms())
			}
		}
		if terms, ok := theirs[hash]; ok {
			dispute(terms)
		}
		if disputed {
			status.Services = append(status.Services, s.Name)
		}
	}
	return status
}

// claimsOf reads what a peer tells, and tells whether it told anything; else it is
// what the peer told last.
func (k *skew) claimsOf(row polder.PeerRow) (map[uint32]law.Terms, bool) {
	if row.Claims == "" {
		return k.last[row.Peer], false
	}
	terms, known := k.heard[row.Claims]
	if !known {
		var err error
		if terms, err = decodeClaims(row.Claims); err != nil {
			if !k.refused[row.Claims] {
				k.log.Error("what a peer says of policies cannot be read; what held before takes its place", "peer", row.Peer, "reason", err)
				k.refused = map[string]bool{row.Claims: true}
			}
			return k.last[row.Peer], false
		}
		k.heard = bounded(k.heard, row.Claims, terms)
	}
	k.last = bounded(k.last, row.Peer, terms)
	return terms, true
}

// bounded keeps what peers told, of at most as many as there can be.
func bounded(kept map[string]map[uint32]law.Terms, key string, terms map[uint32]law.Terms) map[string]map[uint32]law.Terms {
	if _, has := kept[key]; kept == nil || !has && len(kept) >= regions.MaxPeers {
		kept = map[string]map[uint32]law.Terms{}
	}
	kept[key] = terms
	return kept
}

// sameTerms compares what two peers told, or would tell.
func sameTerms(a, b law.Terms) bool {
	if !a.From.Equal(b.From) || !a.Until.Equal(b.Until) {
		return false
	}
	return slices.Equal(a.Allowed, b.Allowed) && slices.Equal(a.Standby, b.Standby) && slices.Equal(a.Glass, b.Glass) &&
		a.Elsewhere == b.Elsewhere && a.Keys == b.Keys && a.Telemetry == b.Telemetry
}

func nameHash(name polder.ServiceName) uint32 {
	sum := sha256.Sum256([]byte("polder policy\n" + string(name)))
	return binary.BigEndian.Uint32(sum[:])
}

// claim is one policy, and the services that have it: the distances between their
// sorted hashes, as varints.
type claim struct {
	Terms    law.Terms
	Services []byte
}

// encodeClaims packs policies for a row. Those that do not fit are left out, the
// services with the highest hashes first: about these, this peer says nothing.
func encodeClaims(own map[uint32]law.Terms, log *slog.Logger) string {
	hashes := make([]uint32, 0, len(own))
	for h := range own {
		hashes = append(hashes, h)
	}
	slices.Sort(hashes)
	for n := len(hashes); n > 0 || len(hashes) == 0; n -= n/8 + 1 { // that there are none is told as well
		if packed := packClaims(own, hashes[:n]); len(packed) <= maxClaims {
			if n < len(hashes) {
				log.Warn("there are more policies than a row holds; of some services the peers are told nothing", "services", len(hashes), "told", n)
			}
			return packed
		}
	}
	return ""
}

func packClaims(own map[uint32]law.Terms, hashes []uint32) string {
	var claims []claim
	last, at := map[string]uint32{}, map[string]int{}
	for _, h := range hashes {
		key := fmt.Sprintf("%+v", own[h])
		i, known := at[key]
		if !known {
			i = len(claims)
			at[key] = i
			claims = append(claims, claim{Terms: own[h]})
		}
		claims[i].Services = binary.AppendUvarint(claims[i].Services, uint64(h-last[key]))
		last[key] = h
	}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		panic("gateway: " + err.Error()) // a constant level
	}
	if err := json.NewEncoder(w).Encode(claims); err != nil {
		panic("gateway: " + err.Error()) // plain data into memory
	}
	w.Close()
	return packed.String()
}

// decodeClaims is the inverse of encodeClaims. It never allocates more than a small
// multiple of maxClaimsText.
func decodeClaims(packed string) (map[uint32]law.Terms, error) {
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader([]byte(packed))), maxClaimsText+1))
	if err != nil {
		return nil, fmt.Errorf("unpack policies: %w", err)
	}
	if len(text) > maxClaimsText {
		return nil, fmt.Errorf("unpack policies: more than %d bytes", maxClaimsText)
	}
	var claims []claim
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&claims); err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	all := map[uint32]law.Terms{}
	for _, c := range claims {
		h := uint32(0)
		for rest := c.Services; len(rest) > 0; {
			distance, n := binary.Uvarint(rest)
			if n <= 0 || distance > math.MaxUint32 {
				return nil, fmt.Errorf("read policies: a distance is cut short, or too long")
			}
			h, rest = h+uint32(distance), rest[n:]
			if before, twice := all[h]; twice && !reflect.DeepEqual(before, c.Terms) {
				return nil, fmt.Errorf("read policies: one service has two")
			}
			all[h] = c.Terms
		}
	}
	return all, nil
}

// lookForSkew gives the law what peers say of policies, and tells them in turn. The
// digest is that of the model's policies.
func (r *Region) lookForSkew(m *polder.Model, digest string, peers []regions.Peer) map[polder.ServiceName][]law.Permission {
	d := r.skew.look(m, digest, peers, r.options.Peer)
	before := r.skewed.Swap(&d.peers)
	if before == nil || !slices.EqualFunc(*before, d.peers, func(a, b SkewStatus) bool { return reflect.DeepEqual(a, b) }) {
		for _, p := range d.peers {
			r.options.Log.Warn("a peer sees policies otherwise; what both permit holds", "peer", p.Peer, "region", p.Region, "told", p.Told, "services", len(p.Services))
		}
		if before != nil && len(*before) > 0 && len(d.peers) == 0 {
			r.options.Log.Info("all peers agree on the policies again")
		}
	}
	r.rowMu.Lock()
	changed := r.claims != d.claims
	r.claims = d.claims
	r.rowMu.Unlock()
	if changed {
		r.publishRow()
	}
	return d.others
}

func (r *Region) skewNow() []SkewStatus {
	if now := r.skewed.Load(); now != nil {
		return *now
	}
	return nil
}
