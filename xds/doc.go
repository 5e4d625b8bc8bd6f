// Package xds says what the model means to Envoy.
//
// It turns what the law approved (law.Approved, and nothing else) into Envoy
// resources, in two parts that change at different times: the resources of one
// service (Service) and those of the node (Node). Both are pure functions of
// their arguments, independent of the order of their inputs, and safe for
// concurrent use. A change of one service touches that service's few small
// resources; only a change of a host's verdict touches the listeners.
//
// Package gateway calls it; subpackage server carries the result to Envoys,
// subpackage load hears back what they did. No other package of the module
// knows Envoy's types.
package xds
