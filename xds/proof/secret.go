package proof

import (
	"strings"

	"github.com/polder/polder"
)

// CheckSecret tells what forbids that this node's Envoy is given the secret of
// a name. Beside the two of mTLS between gateways, a secret is the certificate
// and key for a host, named as a caller wrote it in its ClientHello, and may be
// given only where the host's service may be opened now.
func CheckSecret(book *Book, name string) []Violation {
	if name == book.site.Identity || name == book.site.Trust {
		return nil
	}
	if resident, ok := book.site.residentOf(name); ok {
		if e, _ := book.services.get(string(resident)); e != nil && e.resident {
			return nil
		}
		return []Violation{{Services: []polder.ServiceName{resident}, Path: []string{at("secret", name)}, Address: at("secret", name),
			Reason: "no policy permits to hold it here before anybody calls"}}
	}
	violation := Violation{Path: []string{at("secret", name)}, Address: at("secret", name), Reason: "nobody owns a host of that name"}
	host := strings.TrimSuffix(strings.ToLower(name), ".")
	found, _ := match(book.owners.has, host)
	owner, _ := book.owners.get(found)
	e, _ := book.services.get(string(owner))
	if e == nil || strings.HasPrefix(host, "*") {
		return []Violation{violation}
	}
	if e.opened {
		return nil
	}
	violation.Services, violation.Reason = []polder.ServiceName{e.name}, book.mayNot(e)
	return []Violation{violation}
}
