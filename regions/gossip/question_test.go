package gossip

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

func TestQuestionsAndStatementsComeBack(t *testing.T) {
	name := rapid.StringMatching(`[a-z]([a-z0-9-]{0,61}[a-z0-9])?`)
	rapid.Check(t, func(t *rapid.T) {
		q := question{nonce: newNonce(), asker: name.Draw(t, "asker"), asked: name.Draw(t, "asked")}
		if got, err := readQuestion(q.encode()); err != nil || got != q {
			t.Fatalf("%+v came back as %+v, error %v", q, got, err)
		}
		s := statement{
			nonce: q.nonce, asker: q.asker, peer: q.asked, at: "[2001:db8::1]:7946",
			life: life{polder.RegionName(name.Draw(t, "region")), rapid.Uint64Range(1, 1<<62-1).Draw(t, "epoch")},
		}
		if got, err := readStatement(s.encode()); err != nil || got != s {
			t.Fatalf("%+v came back as %+v, error %v", s, got, err)
		}
		if _, err := regions.Decode(s.encode()); err == nil {
			t.Fatal("a statement is a row")
		}
		if _, err := readStatement(append(s.encode(), 0)); err == nil {
			t.Fatal("a byte too many was accepted")
		}
	})
}

// asking is a peer of nl that has been told that fr-1, which it knew to be alive, is
// dead, and that has asked. It is not run: the test is its network and its clock.
func asking(t *testing.T, now time.Time) (l *loop, asked func() question) {
	t.Helper()
	g, err := New(options(t, "nl-1", 1))
	if err != nil {
		t.Fatal(err)
	}
	l = &g.loop
	var sent [][]byte
	l.send = func(to *memberlist.Node, message []byte) error {
		if to.Name != "fr-1" || to.Address() != "10.0.0.1:7946" {
			t.Errorf("a question went to %s at %s", to.Name, to.Address())
		}
		sent = append(sent, message)
		return nil
	}
	alive := member{alive: true, address: "10.0.0.1:7946", life: life{"fr", 3}}
	dead := alive
	dead.alive = false
	l.hear("fr-1", alive, now)
	l.hear("fr-1", dead, now)
	return l, func() question {
		t.Helper()
		if len(sent) == 0 {
			t.Fatal("nothing was asked")
		}
		q, err := readQuestion(sent[len(sent)-1])
		if err != nil || q.asker != "nl-1" || q.asked != "fr-1" {
			t.Fatalf("asked %+v, error %v", q, err)
		}
		return q
	}
}

// answeredBy is an answer as a signer would send it.
func answeredBy(signer testSigner, s statement) []byte {
	body := s.encode()
	credential, signature, _ := signer.Sign(body)
	return answerMessage(credential, signature, body)
}

// Only the accused itself answers, and only the question that was put to it.
func TestOnlyTheAccusedAnswers(t *testing.T) {
	itself := testSigner{"fr-1", "fr", "secret"}
	truth := func(q question) statement {
		return statement{nonce: q.nonce, asker: q.asker, peer: "fr-1", life: life{"fr", 3}, at: "10.0.0.1:7946"}
	}
	for name, tt := range map[string]struct {
		answer func(question) []byte
		want   regions.Standing
	}{
		"itself":                {func(q question) []byte { return answeredBy(itself, truth(q)) }, regions.Alive},
		"nobody":                {func(question) []byte { return []byte{format, kindAnswer} }, regions.Dead},
		"no identity":           {func(q question) []byte { return answeredBy(testSigner{"fr-1", "fr", "guessed"}, truth(q)) }, regions.Dead},
		"another peer":          {func(q question) []byte { return answeredBy(testSigner{"pl-1", "pl", "secret"}, truth(q)) }, regions.Dead},
		"another peer of fr":    {func(q question) []byte { return answeredBy(testSigner{"fr-2", "fr", "secret"}, truth(q)) }, regions.Dead},
		"another region's peer": {func(q question) []byte { return answeredBy(testSigner{"fr-1", "pl", "secret"}, truth(q)) }, regions.Dead},
		"to another question": {func(q question) []byte {
			s := truth(q)
			s.nonce[0]++
			return answeredBy(itself, s)
		}, regions.Dead},
		"to another asker": {func(q question) []byte {
			s := truth(q)
			s.asker = "nl-2"
			return answeredBy(itself, s)
		}, regions.Dead},
		"with a row": {func(question) []byte {
			return append([]byte{format, kindAnswer}, sealedRow(polder.PeerRow{Peer: "fr-1", Region: "fr", Epoch: 3, Sequence: 9, Healthy: true})...)
		}, regions.Dead},
		"with a row, as a row": {func(question) []byte {
			return rowMessage(sealedRow(polder.PeerRow{Peer: "fr-1", Region: "fr", Epoch: 3, Sequence: 9, Healthy: true}))
		}, regions.Dead},
		"changed on the way": {func(q question) []byte {
			b := answeredBy(itself, truth(q))
			b[len(b)-1]++
			return b
		}, regions.Dead},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			l, asked := asking(t, now)
			now = now.Add(20 * time.Millisecond)
			l.read(tt.answer(asked()), now)
			l.step(now.Add(l.timing.probeTimeout))
			if got := l.table.Standing("fr-1"); got != tt.want {
				t.Errorf("fr-1 is %s, want %s", got, tt.want)
			}
		})
	}
}

// An answer holds for a while and not once more: who said it may have died since.
func TestAnAnswerEnds(t *testing.T) {
	now := time.Unix(1000, 0)
	l, asked := asking(t, now)
	first := asked()
	answer := answeredBy(testSigner{"fr-1", "fr", "secret"},
		statement{nonce: first.nonce, asker: "nl-1", peer: "fr-1", life: life{"fr", 3}, at: "10.0.0.1:7946"})
	l.read(answer, now.Add(20*time.Millisecond))
	end := now.Add(l.timing.proofLife())
	for at := now.Add(30 * time.Millisecond); at.Before(end); at = at.Add(10 * time.Millisecond) {
		l.read(answer, at)
		l.step(at)
		if got := l.table.Standing("fr-1"); got != regions.Alive {
			t.Fatalf("%v after it was asked fr-1 is %s", at.Sub(now), got)
		}
	}
	if asked().nonce == first.nonce {
		t.Error("it is asked the same question again")
	}
	for at := end; at.Before(end.Add(time.Minute)); at = at.Add(100 * time.Millisecond) {
		l.read(answer, at)
		l.step(at)
		if got := l.table.Standing("fr-1"); got != regions.Dead {
			t.Fatalf("%v after the question that it answered last fr-1 is %s", at.Sub(now), got)
		}
	}
	if len(l.doubts) > 0 {
		t.Error("it is asked for ever")
	}
}

// A delayed answer proves no more than that the peer lived when it was asked.
func TestALateAnswerIsOld(t *testing.T) {
	now := time.Unix(1000, 0)
	l, asked := asking(t, now)
	q := asked()
	late := now.Add(l.timing.proofLife())
	l.step(late)
	l.read(answeredBy(testSigner{"fr-1", "fr", "secret"},
		statement{nonce: q.nonce, asker: "nl-1", peer: "fr-1", life: life{"fr", 3}, at: "10.0.0.1:7946"}), late)
	if got := l.table.Standing("fr-1"); got != regions.Dead {
		t.Errorf("an answer that was held back makes fr-1 %s", got)
	}
}

// What speaks for a death makes it believed at once: no real one is seen later for a
// question.
func TestAPlausibleDeathIsBelievedAtOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	alive := member{alive: true, address: "10.0.0.1:7946", life: life{"fr", 3}}
	dead := alive
	dead.alive = false
	for name, tt := range map[string]struct {
		before func(*loop)
		want   regions.Standing
	}{
		"own connections fail": {func(l *loop) { l.table.Suspect("fr-1", now.Add(time.Second), now) }, regions.Dead},
		"it said goodbye": {func(l *loop) {
			l.read(rowMessage(sealedRow(polder.PeerRow{Peer: "fr-1", Region: "fr", Epoch: 3, Sequence: 9, Draining: true})), now)
		}, regions.Left},
		"nothing": {func(*loop) {}, regions.Alive},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := New(options(t, "nl-1", 1))
			if err != nil {
				t.Fatal(err)
			}
			l := &g.loop
			l.hear("fr-1", alive, now)
			tt.before(l)
			l.hear("fr-1", dead, now)
			if got := l.table.Standing("fr-1"); got != tt.want {
				t.Errorf("fr-1 is %s, want %s", got, tt.want)
			}
		})
	}
}

// Who was dead is back when it says so itself; of a peer that cannot answer, such as
// one of an older version, the membership's word holds once it has stood for longer
// than a dead one would be taken for alive.
func TestWhoReturnsIsAsked(t *testing.T) {
	alive := member{alive: true, address: "10.0.0.1:7946", life: life{"fr", 4}}
	for _, answers := range []bool{true, false} {
		t.Run(fmt.Sprint("answers ", answers), func(t *testing.T) {
			now := time.Unix(1000, 0)
			l, asked := asking(t, now)
			now = now.Add(l.timing.probeTimeout)
			l.step(now)
			if got := l.table.Standing("fr-1"); got != regions.Dead {
				t.Fatalf("fr-1 is %s", got)
			}
			l.hear("fr-1", alive, now)
			if got := l.table.Standing("fr-1"); got != regions.Dead {
				t.Errorf("fr-1 is %s before it has answered", got)
			}
			if answers {
				l.read(answeredBy(testSigner{"fr-1", "fr", "secret"},
					statement{nonce: asked().nonce, asker: "nl-1", peer: "fr-1", life: alive.life, at: alive.address}), now)
			} else {
				now = now.Add(l.timing.gone)
				l.step(now)
			}
			if got := l.table.Standing("fr-1"); got != regions.Alive {
				t.Errorf("fr-1 is %s", got)
			}
			now = now.Add(l.timing.asking())
			l.step(now)
			if len(l.doubts) > 0 {
				t.Errorf("it is doubted still: %+v", l.doubts["fr-1"])
			}
		})
	}
}

// A peer answers members, what is put to it, and no more than so often.
func TestWhoIsAnswered(t *testing.T) {
	now := time.Unix(1000, 0)
	g, err := New(options(t, "fr-1", 3))
	if err != nil {
		t.Fatal(err)
	}
	l := &g.loop
	g.address = "10.0.0.1:7946"
	var answers []statement
	l.send = func(to *memberlist.Node, message []byte) error {
		if kindOf(message) == kindQuestion {
			return nil
		}
		_, s, err := readAnswer(message)
		if err != nil || to.Name != s.asker {
			t.Errorf("to %s went %+v, error %v", to.Name, s, err)
		}
		answers = append(answers, s)
		return nil
	}
	l.hear("nl-1", member{alive: true, address: "10.0.0.3:7946", life: life{"nl", 1}}, now)
	q := question{nonce: newNonce(), asker: "nl-1", asked: "fr-1"}
	for name, other := range map[string]question{
		"a stranger asks":   {q.nonce, "de-1", "fr-1"},
		"another is asked":  {q.nonce, "nl-1", "fr-2"},
		"it asks itself":    {q.nonce, "fr-1", "fr-1"},
		"nobody has a name": {q.nonce, "", ""},
	} {
		if l.read(other.encode(), now); len(answers) > 0 {
			t.Errorf("%s and is answered", name)
		}
	}
	l.read(q.encode(), now)
	want := statement{nonce: q.nonce, asker: "nl-1", peer: "fr-1", life: life{"fr", 3}, at: "10.0.0.1:7946"}
	if len(answers) != 1 || answers[0] != want {
		t.Fatalf("answers %+v, want %+v", answers, want)
	}
	for range 2 * maxAnswers {
		l.read(q.encode(), now)
	}
	if len(answers) != maxAnswers {
		t.Errorf("%d answers in one round, want %d at most", len(answers), maxAnswers)
	}
	l.read(q.encode(), now.Add(l.timing.gossipInterval))
	if len(answers) != maxAnswers+1 {
		t.Error("the next round has no answers")
	}
}
