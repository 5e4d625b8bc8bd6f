package polder

import "strings"

// machineCases are mistakes about those on other machines: Envoys, and programs
// that call without one.
func machineCases() []brokenCase {
	region := func(text string) string {
		return strings.Replace(header, "regions:\n", "regions:\n  de: "+text+"\n", 1) + steady
	}
	return []brokenCase{
		{name: "control plane for other machines at no address", text: region(`{ location: [50, 8], listen: { xds: ‸":7444" } }`), fatal: true,
			want: faults("regions.de.listen.xds", `":7444" does not say which address other machines connect to`, `write one of this machine's, such as "10.0.0.1:7444"`)},
		{name: "activator for clients at no address", text: region(`{ location: [50, 8], listen: { xds: "10.0.0.1:7444", clients: ‸":7445" } }`), fatal: true,
			want: faults("regions.de.listen.clients", `":7445" does not say which address other machines connect to`, `write one of this machine's, such as "10.0.0.1:7445"`)},
		{name: "activator for clients without a control plane", text: region(`{ location: [50, 8], listen: { clients: ‸"10.0.0.1:7445" } }`), fatal: true,
			want: faults("regions.de.listen.clients", "the region listens for clients without an Envoy and has no control plane for them", `write xds: "10.0.0.1:7444" beside it`)},
		{name: "activator for clients where the control plane is", text: region(`{ location: [50, 8], listen: { xds: "10.0.0.1:7444", clients: ‸"10.0.0.1:7444" } }`), fatal: true,
			want: faults("regions.de.listen.clients", `"10.0.0.1:7444" is also listen.xds, which speaks of services and takes no calls`, "write another port")},
		{name: "clients that nobody listens for", text: region(`{ location: [50, 8], clients: ‸[checkout] }`), fatal: true,
			want: faults("regions.de.clients", "the region has clients without an Envoy and does not listen for them", `write listen: { xds: "10.0.0.1:7444", clients: "10.0.0.1:7445" } beside it`)},
		{name: "client like no DNS label", text: region(`{ location: [50, 8], listen: { xds: "10.0.0.1:7444", clients: "10.0.0.1:7445" }, clients: [‸Check_Out] }`), fatal: true,
			want: faults("regions.de.clients[0]", `"Check_Out" is not a name for a client`, "write check-out")},
		{name: "client named twice", text: region(`{ location: [50, 8], listen: { xds: "10.0.0.1:7444", clients: "10.0.0.1:7445" }, clients: [checkout, ‸checkout] }`), fatal: true,
			want: faults("regions.de.clients[1]", `"checkout" is in the list twice; the first is at polder.yaml:2:98`, "remove one of the two")},
		{name: "Envoys on other machines that nobody listens for", text: region(`{ location: [50, 8], nodes: ‸{ de-2: {} } }`), fatal: true,
			want: faults("regions.de.nodes", "the region has Envoys on other machines and does not listen for them", `write listen: { xds: "10.0.0.1:7444" } beside it`)},
		{name: "node like no DNS label", text: region(`{ location: [50, 8], listen: { xds: "10.0.0.1:7444" }, nodes: { ‸DE_2: {} } }`), fatal: true,
			want: faults("regions.de.nodes.DE_2", `"DE_2" is not a name for a node`, "write de-2")},
		{name: "node that listens by name", text: region(`{ location: [50, 8], listen: { xds: "10.0.0.1:7444" }, nodes: { de-2: { https: ‸"de.example.com:443" } } }`), fatal: true,
			want: faults("regions.de.nodes.de-2.https", `"de.example.com:443" has no IP address of this machine before its port`, `write ":443" or "10.0.0.1:443"`)},
	}
}
