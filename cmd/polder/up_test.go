package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/loadtest"
)

const three = "testdata/three.yaml"

// TestUp is the product as README shows it, on real Envoys and real programs:
//
//  1. Each service answers through every entrypoint, from a region that its
//     policy allows, and a refused one is refused with a reason.
//  2. The key of a pinned service is in its own region's Envoy only.
//  3. The first call is answered through the activator, the second goes straight.
//  4. A service falls asleep after its keep-alive and wakes again.
//  5. A sleeping service's key is in no Envoy; a ClientHello brings it and wakes the service.
//  6. A service that cannot start is a labelled 503, and its logs say why.
//  7. A configuration with a fault stops nobody and is reported; its repair is taken.
func TestUp(t *testing.T) {
	u := startUp(t, three)
	// Envoy leaves out what a cluster did before the first report that knows it.
	eventually(t, "the load reports of fr know its clusters", func() bool {
		u.want("fr", "vault.example.com", "fr")
		return u.service("fr", "vault").Totals.Requests > 0
	})
	u.want("nl", "billing.example.com", "fr")
	eventually(t, "the load reports tell of the first call", func() bool { return u.service("fr", "billing").Totals.Requests == 1 })
	first := u.service("fr", "billing").Totals
	if first.Starts != 1 {
		t.Errorf("the first call started %d instances", first.Starts)
	}
	for range 3 {
		u.want("nl", "billing.example.com", "fr")
	}
	eventually(t, "the load reports tell of the calls after it", func() bool { return u.service("fr", "billing").Totals.Requests == 4 })
	if later := u.service("fr", "billing").Totals; later.Direct != first.Direct+3 || later.Activated != first.Activated {
		t.Errorf("later calls went through the activator: %+v", later)
	}

	for _, entry := range []polder.RegionName{"fr", "nl", "pl"} {
		u.want(entry, "billing.example.com", "fr")
		u.want(entry, "inherits.example.com", "nl")
		u.want(entry, "catalog.example.com", string(entry))
		u.want(entry, "reports.example.com", "pl")
	}
	u.want("fr", "vault.example.com", "fr")
	if _, _, _, err := u.call("pl", "vault.example.com"); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("vault through pl: got %v, want the TLS alert access denied", err)
	}

	for region, want := range map[polder.RegionName]bool{"fr": true, "nl": false, "pl": false} {
		if dump := u.envoy(region, "/config_dump"); strings.Contains(dump, `"name": "billing.example.com"`) != want {
			t.Errorf("Envoy of %s holds the secret of billing: %v, want %v", region, !want, want)
		}
	}

	awake := u.want("fr", "sleepy.example.com", "fr")
	eventually(t, "sleepy has fallen asleep", func() bool { return len(u.service("fr", "sleepy").Instances) == 0 })
	if second := u.want("nl", "sleepy.example.com", "fr"); second.Instance == awake.Instance {
		t.Error("sleepy answered from the instance that was asleep")
	}

	u.wantHelloToWake(t)

	code, _, header, err := u.call("nl", "broken.example.com")
	if err != nil || code != http.StatusServiceUnavailable || header.Get("x-polder-reason") == "" || header.Get("retry-after") == "" {
		t.Errorf("broken: got %d, %v, headers %v; want a labelled 503 with retry-after", code, err, header)
	}
	if code, out, _ := run(t, "logs", "broken", "--state", u.state); code != 0 || !strings.Contains(out, "this never works") {
		t.Errorf("logs of broken: exit %d, %q; want what it wrote", code, out)
	}

	u.followLogs(t)
	u.editConfig(t)
	for _, f := range []string{"text", "json"} {
		code, out, errs := run(t, "status", "--state", u.state, "--output", f)
		if code != 0 || !strings.Contains(out, "billing") {
			t.Errorf("status --output %s: exit %d\n%s%s", f, code, out, errs)
		}
	}

	pids := u.pids()
	u.stop()
	if code := u.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("polder up exited with %d after Ctrl-C, want 0", code)
	}
	u.wantGone(pids)
}

// wantHelloToWake opens a connection to a sleeping service and asks for nothing.
func (u *fleetUnderTest) wantHelloToWake(t *testing.T) {
	t.Helper()
	const secret = `"name": "sleepy.example.com"`
	eventually(t, "sleepy is asleep, and its key is in no Envoy", func() bool {
		return len(u.service("fr", "sleepy").Instances) == 0 && !strings.Contains(u.envoy("fr", "/config_dump"), secret)
	})
	before := u.service("fr", "sleepy").Totals
	conn, err := tls.Dial("tcp", u.listen["pl"].HTTPS, &tls.Config{RootCAs: u.roots, ServerName: "sleepy.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	eventually(t, "the ClientHello has woken sleepy", func() bool { return u.service("fr", "sleepy").Totals.Starts > before.Starts })
	if after := u.service("fr", "sleepy").Totals; after.Cold != before.Cold {
		t.Error("somebody waited for it")
	}
}

// followLogs follows a service's log until Ctrl-C, which is no failure.
func (u *fleetUnderTest) followLogs(t *testing.T) {
	t.Helper()
	var errs strings.Builder
	c := command(t, "logs", "billing", "--follow", "--lines", "0", "--state", u.state)
	c.Stderr = &errs
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill() // an error means that it has ended
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(out).ReadString('\n')
		line <- text
	}()
	eventually(t, "a line of a new request comes through", func() bool {
		u.want("nl", "billing.example.com", "fr") // writes one each time
		select {
		case text := <-line:
			return strings.HasPrefix(text, "fr billing-")
		default:
			return false
		}
	})
	c.Process.Signal(os.Interrupt)
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		if err != nil || errs.Len() > 0 {
			t.Errorf("logs --follow after Ctrl-C: %v, %s", err, errs.String())
		}
	case <-time.After(patience):
		t.Error("logs --follow does not end by Ctrl-C")
	}
}

// editConfig breaks one service, changes another, and repairs it.
func (u *fleetUnderTest) editConfig(t *testing.T) {
	good, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	bad := strings.Replace(string(good), "allow: [pl], failover", "allow: [spain], failover", 1)
	bad = strings.Replace(bad, "hosts: [catalog.example.com]", "hosts: [catalog.example.com, shop.example.com]", 1)
	u.write(bad)
	eventually(t, "the fault is reported", func() bool {
		status, err := u.status("fr")
		return err == nil && len(status.Config.Faults) > 0 && len(status.Config.Kept) == 1
	})
	u.want("pl", "reports.example.com", "pl") // at its last good version
	eventually(t, "the good change is in force", func() bool {
		code, a, _, err := u.call("nl", "shop.example.com")
		return err == nil && code == http.StatusOK && a.Service == "catalog"
	})
	u.write("regions: [this is: not yaml")
	eventually(t, "the fatal fault is reported", func() bool {
		status, err := u.status("nl")
		return err == nil && len(status.Config.Faults) > 0 && len(status.Config.Kept) > 1
	})
	u.want("pl", "billing.example.com", "fr")
	u.write(string(good))
	eventually(t, "the repair is in force", func() bool {
		status, err := u.status("pl")
		_, _, _, gone := u.call("nl", "shop.example.com")
		return err == nil && len(status.Config.Faults) == 0 && gone != nil
	})
}

// TestCrashes kills real processes under open-loop load. Nobody who was accepted
// by an Envoy that lives gets an error, whatever else dies.
func TestCrashes(t *testing.T) {
	u := startUp(t, three)
	u.want("fr", "billing.example.com", "fr")
	u.want("fr", "catalog.example.com", "fr")

	report := u.underLoad(t, []string{"billing.example.com", "catalog.example.com"}, func() {
		before, err := u.status("fr")
		if err != nil {
			t.Fatal(err)
		}
		u.kill(before.PID)
		eventually(t, "region fr is back, with its Envoy and instances adopted", func() bool {
			after, err := u.status("fr")
			if err != nil || after.PID == before.PID || !after.Serving() {
				return false
			}
			service, _ := find(after, "billing")
			old, _ := find(before, "billing")
			return after.Envoy.PID == before.Envoy.PID && len(service.Instances) == 1 &&
				service.Instances[0].Instance == old.Instances[0].Instance
		})
		for pid, label := range u.pids() {
			if strings.Contains(label, "billing-") {
				u.kill(pid)
			}
		}
		eventually(t, "a new instance of billing answers", func() bool {
			service := u.service("fr", "billing")
			return service.Totals.Crashes+service.Totals.Starts > 0 && len(service.Instances) == 1 && service.Instances[0].State == polder.Ready
		})
	})
	if report.Total.Errors > 0 {
		t.Errorf("callers got %d errors of %d: %+v", report.Total.Errors, report.Total.Sent, report.Total.Reasons)
	}

	before, err := u.status("nl")
	if err != nil {
		t.Fatal(err)
	}
	u.kill(before.Envoy.PID)
	u.want("fr", "catalog.example.com", "fr") // others are untouched
	eventually(t, "Envoy of nl is back", func() bool {
		after, err := u.status("nl")
		if err != nil || after.Envoy.PID == before.Envoy.PID {
			return false
		}
		code, a, _, err := u.call("nl", "billing.example.com")
		return err == nil && code == http.StatusOK && a.Region == "fr"
	})
}

// TestListedFailover stops a whole region: its listed standby takes over, and
// gives back.
func TestListedFailover(t *testing.T) {
	u := startUp(t, three)
	u.want("fr", "reports.example.com", "pl")
	for pid, label := range u.pids() {
		if label == "region pl" || label == "Envoy of pl-1" {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			defer syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	eventually(t, "nl stands in for pl", func() bool {
		code, a, _, err := u.call("fr", "reports.example.com")
		return err == nil && code == http.StatusOK && a.Region == "nl"
	})
	for pid, label := range u.pids() {
		if label == "region pl" || label == "Envoy of pl-1" {
			syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	eventually(t, "pl serves again", func() bool {
		code, a, _, err := u.call("nl", "reports.example.com")
		return err == nil && code == http.StatusOK && a.Region == "pl"
	})
	eventually(t, "nl lets go of reports", func() bool { return len(u.service("nl", "reports").Instances) == 0 })
}

// TestNothingStaysBehind kills polder up, alone and with all its regions.
func TestNothingStaysBehind(t *testing.T) {
	for name, also := range map[string]string{"up alone": "", "up and every region": "region "} {
		t.Run(name, func(t *testing.T) {
			u := startUp(t, three)
			u.want("nl", "billing.example.com", "fr")
			u.want("nl", "catalog.example.com", "nl")
			pids := u.pids()
			if len(pids) < 9 { // three regions, three Envoys, two instances, the guard
				t.Fatalf("only %v run", pids)
			}
			u.kill(u.cmd.Process.Pid)
			for pid, label := range pids {
				if also != "" && strings.HasPrefix(label, also) {
					syscall.Kill(pid, syscall.SIGKILL) // an error means that the guard was faster
				}
			}
			u.wantGone(pids)
		})
	}
}

// TestUpAgain starts polder up anew on the state that a killed one left: the
// guard of the old one must not take the new regions for leftovers. A third one
// beside it is refused, and so is a second process for one of its regions.
func TestUpAgain(t *testing.T) {
	u := startUp(t, three)
	u.want("nl", "billing.example.com", "fr")
	old := u.pids()
	u.kill(u.cmd.Process.Pid)
	<-u.ended
	u.start()
	for pid, label := range old {
		if strings.HasPrefix(label, "region ") || label == "guard" {
			u.wantGone(map[int]string{pid: label})
		}
	}
	u.want("nl", "billing.example.com", "fr")
	before, err := u.status("fr")
	if err != nil {
		t.Fatal(err)
	}

	for _, args := range [][]string{
		{"up", "--config", u.config, "--state", u.state, "--port", "0", "--tools", "../../.tools", "--plain"},
		{"run", "--region", "fr", "--config", u.config, "--state", u.state, "--tools", "../../.tools",
			"--https", "127.0.0.1:0", "--http", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--gossip", "127.0.0.1:0"},
	} {
		if code, _, errs := run(t, args...); code != exitFailed || !strings.Contains(errs, "another polder (pid ") {
			t.Errorf("polder %s beside the running one: exit code %d\n%s", args[0], code, errs)
		}
	}
	after, err := u.status("fr")
	if err != nil || after.PID != before.PID || after.Envoy.PID != before.Envoy.PID {
		t.Errorf("the running region was disturbed: %v", err)
	}
	u.want("nl", "billing.example.com", "fr")
}

func (u *fleetUnderTest) kill(pid int) {
	u.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		u.t.Fatalf("kill -9 %d: %v", pid, err)
	}
}

func (u *fleetUnderTest) wantGone(pids map[int]string) {
	u.t.Helper()
	for pid, label := range pids {
		eventually(u.t, label+" has ended", func() bool { return !alive(pid) })
	}
}

// envoy asks a region's Envoy over its admin socket.
func (u *fleetUnderTest) envoy(region polder.RegionName, path string) string {
	u.t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", u.layout(region).Admin())
		}}}
	response, err := client.Get("http://envoy" + path)
	if err != nil {
		u.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		u.t.Fatal(err)
	}
	return string(body)
}

// underLoad calls the hosts through region fr while it does something.
func (u *fleetUnderTest) underLoad(t *testing.T, hosts []string, do func()) loadtest.Report {
	t.Helper()
	return u.underLoadAt(t, 20, hosts, do)
}

// underLoadAt is underLoad with a rate: requests a second to each host.
func (u *fleetUnderTest) underLoadAt(t *testing.T, rate float64, hosts []string, do func()) loadtest.Report {
	t.Helper()
	plan := loadtest.Plan{Description: "load under faults"}
	_, port, _ := net.SplitHostPort(u.listen["fr"].HTTPS)
	for _, host := range hosts {
		plan.Targets = append(plan.Targets, loadtest.Target{
			Name: host, URL: "https://" + host + ":" + port + "/", Connect: u.listen["fr"].HTTPS,
			Arrivals: loadtest.Constant{Rate: rate, For: patience},
		})
	}
	options := loadtest.DefaultOptions()
	options.Roots = u.roots
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	type outcome struct {
		report loadtest.Report
		err    error
	}
	done := make(chan outcome, 1)
	started := make(chan struct{})
	options.ProgressEvery = 100 * time.Millisecond
	options.Progress = func(p loadtest.Progress) {
		if p.Done > 20 {
			select {
			case <-started:
			default:
				close(started)
			}
		}
	}
	go func() {
		r, err := loadtest.Run(ctx, plan, options)
		done <- outcome{r, err}
	}()
	select {
	case <-started:
	case <-time.After(patience):
		t.Fatal("no load")
	}
	do()
	stop()
	o := <-done
	if o.err != nil {
		t.Fatal(o.err)
	}
	if o.report.Total.Answered < 20 {
		t.Fatalf("only %d requests were answered: this shows nothing", o.report.Total.Answered)
	}
	return o.report
}
