package loadtest_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/polder/polder/loadtest"
	"github.com/polder/polder/loadtest/trace"
)

// A slice of a trace, replayed against three services behind one address, each
// by its own name: what `polder load` does with a running `polder up`.
func ExampleRun() {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello from "+r.Host)
	}))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())

	functions := trace.Synthetic{Functions: 100, Minutes: trace.MinutesPerDay, Seed: 1}
	slice, err := trace.Select(functions.Read(), 9, trace.Selection{From: 480, Minutes: 30, MaxRate: 5, Seed: 1})
	if err != nil {
		log.Fatal(err)
	}

	plan := loadtest.Plan{Description: "nine functions for half an hour, at speed 3600"}
	names := []string{"billing", "catalog", "legacy"}
	for i, hand := range trace.Assign(slice.Functions, len(names)) {
		plan.Targets = append(plan.Targets, loadtest.Target{
			Name: names[i], URL: "https://example.com/" + names[i], Connect: server.Listener.Addr().String(),
			Arrivals: loadtest.Replay{Functions: hand, Spread: loadtest.Poisson, Speed: 3600, Seed: 1},
		})
	}
	options := loadtest.DefaultOptions()
	options.Roots = roots

	report, err := loadtest.Run(context.Background(), plan, options)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d requests planned within %v\n", plan.Count(), plan.Length())
	fmt.Printf("%d answered, %d errors, %d dropped\n", report.Total.Answered, report.Total.Errors, report.Total.Dropped)
	// Output:
	// 90 requests planned within 500ms
	// 90 answered, 0 errors, 0 dropped
}

// Shapes are values: they can be looked at before anything is sent.
func ExampleArrivals() {
	for _, a := range []loadtest.Arrivals{
		loadtest.Constant{Rate: 50, For: time.Minute},
		loadtest.Ramp{From: 1, To: 100, For: time.Minute},
		loadtest.Sine{Mean: 20, Depth: 15, Period: 30 * time.Second, For: 2 * time.Minute},
	} {
		fmt.Printf("%v: %d requests\n", a, a.Count())
	}
	for at := range (loadtest.Ramp{From: 0, To: 4, For: 2 * time.Second}).Times() {
		fmt.Println(at.Round(time.Millisecond))
	}
	// Output:
	// 50/s for 1m0s: 3000 requests
	// 1/s to 100/s within 1m0s: 3030 requests
	// 20/s ± 15/s every 30s for 2m0s: 2400 requests
	// 0s
	// 1s
	// 1.414s
	// 1.732s
}

// Two runs are compared from their JSON.
func ExampleCompare() {
	run := func(server *httptest.Server) []byte {
		report, err := loadtest.Run(context.Background(), loadtest.Plan{Targets: []loadtest.Target{{
			Name: "billing", URL: server.URL, Arrivals: loadtest.Constant{Rate: 100, For: 200 * time.Millisecond},
		}}}, loadtest.DefaultOptions())
		if err != nil {
			log.Fatal(err)
		}
		var file bytes.Buffer
		if err := report.WriteJSON(&file); err != nil {
			log.Fatal(err)
		}
		return file.Bytes()
	}
	good := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer good.Close()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer broken.Close()

	var reports []loadtest.Report
	for _, file := range [][]byte{run(good), run(broken)} {
		report, err := loadtest.ReadReport(bytes.NewReader(file), "report.json")
		if err != nil {
			log.Fatal(err)
		}
		reports = append(reports, report)
	}
	for _, change := range loadtest.Compare(reports[0], reports[1]).Changes {
		if change.Target == "total" && change.Figure == "errors" {
			fmt.Printf("errors: %v %% before, %v %% after: %s\n", change.Before, change.After, change.Verdict)
		}
	}
	// Output: errors: 0 % before, 100 % after: worse
}

// Every single result can go to a file while the run goes on.
func ExampleResultWriter() {
	w := loadtest.NewResultWriter(os.Stdout)
	w.Write(loadtest.Result{Target: "billing", Outcome: loadtest.Answered, Intended: time.Second, Sent: time.Second, Done: 1200 * time.Millisecond, Status: 200, Protocol: "HTTP/2.0", Cold: true})
	w.Close()
	// Output:
	// target,outcome,intended_ns,sent_ns,done_ns,status,protocol,cold,fresh,retries,bytes,error
	// billing,answered,1000000000,1000000000,1200000000,200,HTTP/2.0,true,false,0,0,
}
