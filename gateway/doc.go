// Package gateway is one running region: it connects the law, the xDS control
// plane, the instances and the membership, and supervises the region's Envoy.
//
// Region is the whole; its Run blocks until the region has stopped, and owns
// every goroutine below it. Inside, one goroutine (the reconciler) owns the
// model and all that is observed; everything else hands it events and gets
// values back. A crash of the process breaks no warm request: Envoy and the
// instances go on, and the next Region adopts them.
//
// Command polder is its only caller.
package gateway
