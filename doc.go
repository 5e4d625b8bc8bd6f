// Package polder holds the words of the product: regions, services, residency,
// scale, instances, endpoints, and the configuration file that names them.
//
// Everything here is a value. The package starts no goroutine, opens no file or
// socket and reads no clock, so every other package may depend on it; it
// depends on none of them. Values of Model are never changed after Decode
// returned them: share them freely between goroutines.
package polder
