package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// whereabouts are the directories of the cgroups that we are in.
type whereabouts struct {
	unified string            // v2; "" when not mounted or out of our sight
	v1      map[string]string // by controller
}

func ownCgroups() (whereabouts, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return whereabouts{}, fmt.Errorf("find cgroups: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return whereabouts{}, fmt.Errorf("find cgroups: %w", err)
	}
	return locate(string(mounts), string(own)), nil
}

// locate joins /proc/self/mountinfo (proc_pid_mountinfo(5)) with
// /proc/self/cgroup (cgroups(7)).
func locate(mounts, own string) whereabouts {
	unified, v1 := "", map[string]string{}
	for line := range strings.Lines(own) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		if part[0] == "0" && part[1] == "" {
			unified = part[2]
			continue
		}
		for controller := range strings.SplitSeq(part[1], ",") {
			v1[controller] = part[2]
		}
	}
	w := whereabouts{v1: map[string]string{}}
	for line := range strings.Lines(mounts) {
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if len(mount) < 5 || len(kind) < 3 {
			continue
		}
		root, point := unescape(mount[3]), unescape(mount[4])
		switch kind[0] {
		case "cgroup2":
			if dir, ok := below(point, root, unified); ok {
				w.unified = dir
			}
		case "cgroup":
			for option := range strings.SplitSeq(kind[2], ",") {
				if path, ok := v1[option]; ok {
					if dir, ok := below(point, root, path); ok {
						w.v1[option] = dir
					}
				}
			}
		}
	}
	return w
}

// below is where a cgroup is found in a mount that shows the tree from root.
func below(point, root, path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
	if !ok || (rest != "" && rest[0] != '/') || strings.HasPrefix(rest, "/..") {
		return "", false
	}
	return filepath.Join(point, rest), true
}

// unescape undoes mountinfo's octal escapes of blanks and backslashes.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}
