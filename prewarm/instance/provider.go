package instance

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/polder/polder"
)

// Provider runs instances somewhere: as processes, in containers. What it
// starts outlives it. Package instancetest has the tests that every provider
// passes. A Provider's methods may be called concurrently.
type Provider interface {
	// Start begins an instance and returns once it exists and its address is
	// known, which is before it answers. An error means that nothing was left.
	Start(ctx context.Context, o Order) (Handle, error)

	// Adopt returns the instances that an earlier owner of the same state left
	// running, and cleans up after those that ended meanwhile. With an error it
	// still returns those that it could adopt.
	Adopt(ctx context.Context) ([]Handle, error)
}

// Handle is an instance that exists, or did. Its methods may be called
// concurrently.
type Handle interface {
	// Identity is what was ordered, and the address.
	Identity() Identity

	// AwaitReady waits until the instance listens and, if the service has a
	// readiness path, answers it with 2xx. It tells when it was first seen to
	// listen. An instance that ends first ends the wait at once with a *Died.
	AwaitReady(ctx context.Context) (listening time.Time, err error)

	// Done is closed when the instance and all it started are gone.
	Done() <-chan struct{}

	// Died tells how the instance ended. It is valid once Done is closed.
	Died() *Died

	// Stop ends the instance: asks it to finish, and kills it after the grace
	// or when ctx ends. It returns when nothing is left of it.
	Stop(ctx context.Context, grace time.Duration) error

	// Release lets the instance run on without an owner, for a later Adopt.
	Release()
}

// Pauser is a Handle that can be paused. Its methods may be called at any time;
// an instance that is stopped meanwhile makes them fail.
type Pauser interface {
	// Pause freezes the instance, if it is not: it uses no processor, and keeps
	// its memory and its sockets. After an error it runs.
	Pause() error

	// PageOut takes a paused instance's memory out of RAM as far as the machine
	// can. It tells how much RAM the instance occupied, and occupies now, in bytes,
	// with what it takes in compressed swap; with an error too, as far as that is known.
	PageOut() (before, after int64, err error)

	// Resume lets it go on. One that is not paused does not notice.
	Resume() error
}

// Order says what to start.
type Order struct {
	ID      polder.InstanceID
	Region  polder.RegionName
	Service polder.Service // Run is not nil
	Asked   time.Time
	Reason  string // why it is started
	LogFile string // the provider appends what the instance writes; its folder exists
}

// Identity is what a provider remembers of an instance, across restarts.
type Identity struct {
	ID      polder.InstanceID  `json:"id"`
	Service polder.ServiceName `json:"service"`
	Region  polder.RegionName  `json:"region"`
	Address netip.AddrPort     `json:"address"`
	Asked   time.Time          `json:"asked"`
	Reason  string             `json:"reason"`
}

// Died is how an instance ended by itself.
type Died struct {
	Exit      string   // "exited with code 3"
	LastLines []string // of its log, at most LastLines
}

// LastLines is how many lines of its log are given with an instance's end.
const LastLines = 10

func (d *Died) Error() string {
	if len(d.LastLines) == 0 {
		return d.Exit + " and logged nothing"
	}
	return fmt.Sprintf("%s; its last lines: %s", d.Exit, strings.Join(d.LastLines, " | "))
}
