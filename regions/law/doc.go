// Package law decides, for one service and one region's gateway, what that
// gateway may do with a caller: serve it, pass it on unopened, refuse it, or
// admit that nobody can serve it.
//
// The law filters by permission first; liveness and preference only choose
// among what is permitted. It fails closed: what is not named by the owner is
// absent from every result, never merely of low rank.
//
// The result, Approved, has private fields, so that Judge is the only way to
// make one; package xds translates nothing else. All functions are pure and
// safe for concurrent use. Package gateway calls Judge; package xds reads its
// results.
package law
