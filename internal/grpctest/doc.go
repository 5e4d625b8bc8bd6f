// Package grpctest has the four kinds of gRPC calls, and a program's answers to
// them, in the messages of the gRPC project's own test service.
//
// Tests of every part that a call passes through make the same calls: a kind that
// one of them carries and another breaks is seen.
package grpctest
