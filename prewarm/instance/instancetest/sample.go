package instancetest

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// BehaviourKey is the environment variable that makes the sample program out
// of a test binary. Its value is a Behaviour.
const BehaviourKey = "INSTANCETEST"

// Behaviour is what the sample program does.
type Behaviour string

// The behaviours of the sample program.
const (
	Serve    Behaviour = "serve"    // HTTP; on SIGTERM it says "bye" and ends
	Stubborn Behaviour = "stubborn" // the same, but deaf to SIGTERM
	Die      Behaviour = "die"      // says why and exits with code 3, before it listens
	Idle     Behaviour = "idle"     // never listens
)

// Who is what the sample program answers at /who.
type Who struct {
	Service, Region, Instance string
	PID                       int
	Environ                   []string
}

// Sample is the sample program. It returns only if this is none, that is, if
// the environment does not ask for it.
//
// It serves /who; /ready, which answers 503 three times before it answers 200;
// /exit?code=N, which ends it; and /say?text=T, which writes T to stdout and
// to stderr.
func Sample() {
	what := Behaviour(os.Getenv(BehaviourKey))
	switch what {
	case "":
		return
	case Serve, Stubborn:
		serve(what)
	case Die:
		fmt.Println("opening the database")
		fmt.Fprintln(os.Stderr, "cannot open the database")
		os.Exit(3)
	case Idle:
		fmt.Println("idling")
		time.Sleep(math.MaxInt64) // a bare select is a deadlock to Go's runtime, unless the race detector runs
	}
	fmt.Fprintf(os.Stderr, "unknown behaviour %q\n", what)
	os.Exit(98)
}

func serve(what Behaviour) {
	end := make(chan os.Signal, 1)
	if what == Stubborn {
		signal.Ignore(syscall.SIGTERM)
	} else {
		signal.Notify(end, syscall.SIGTERM)
	}
	listener, err := listener()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(97)
	}
	var asked atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("/who", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(Who{
			os.Getenv("POLDER_SERVICE"), os.Getenv("POLDER_REGION"), os.Getenv("POLDER_INSTANCE"), os.Getpid(), os.Environ(),
		})
	})
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) <= 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.FormValue("code"))
		fmt.Println("exiting as told")
		os.Exit(code)
	})
	mux.HandleFunc("/say", func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println(r.FormValue("text"))
		fmt.Fprintln(os.Stderr, r.FormValue("text"))
	})
	server := http.Server{Handler: mux, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() {
		<-end
		fmt.Println("bye")
		os.Exit(0)
	}()
	fmt.Println("serving", server.Serve(listener))
}

func listener() (net.Listener, error) {
	if fd, err := strconv.Atoi(os.Getenv("POLDER_LISTEN_FD")); err == nil {
		return net.FileListener(os.NewFile(uintptr(fd), "inherited"))
	}
	return net.Listen("tcp", net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")))
}
