package main

import (
	"syscall"
	"testing"

	"github.com/polder/polder"
)

// resting waits until a service's one instance is paused, and returns it.
func (u *fleetUnderTest) resting(service polder.ServiceName) polder.InstanceID {
	u.t.Helper()
	var id polder.InstanceID
	eventually(u.t, string(service)+" is paused", func() bool {
		list := u.service("fr", service).Instances
		if len(list) != 1 || list[0].State != polder.Paused {
			return false
		}
		id = list[0].Instance
		return true
	})
	return id
}

// TestPause: an idle instance is paused, the same one answers the next caller,
// and whatever ends Polder leaves no frozen process behind.
func TestPause(t *testing.T) {
	u := startUp(t, inheriting)
	services := []polder.ServiceName{"pauses", "pauses-at-berth"}
	ids := map[polder.ServiceName]polder.InstanceID{}
	for _, name := range services {
		u.want("fr", string(name)+".example.com", "fr")
		ids[name] = u.resting(name)
		if a := u.want("fr", string(name)+".example.com", "fr"); a.Instance != string(ids[name]) {
			t.Errorf("%s answered, want the paused %s", a.Instance, ids[name])
		}
		u.resting(name)
		if totals := u.service("fr", name).Totals; totals.Starts != 1 || totals.Resumes != 1 || totals.Crashes != 0 || totals.Failed != 0 {
			t.Errorf("%s: %+v, want one start that went on once", name, totals)
		}
	}

	// The next Polder adopts what is paused.
	for _, name := range services {
		u.resting(name)
	}
	before := u.mustStatus("fr")
	u.kill(before.PID)
	eventually(t, "the next Polder runs", func() bool { s, err := u.status("fr"); return err == nil && s.PID != before.PID && s.Serving() })
	for _, name := range services {
		if a := u.want("fr", string(name)+".example.com", "fr"); a.Instance != string(ids[name]) {
			t.Errorf("after the crash %s answered, want %s", a.Instance, ids[name])
		}
	}

	for _, name := range services {
		u.resting(name)
	}
	pids := u.pids()
	u.kill(u.cmd.Process.Pid)
	for pid, label := range pids {
		if label == "region fr" {
			syscall.Kill(pid, syscall.SIGKILL) // an error means that the guard was faster
		}
	}
	u.wantGone(pids)
}
