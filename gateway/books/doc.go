// Package books keeps what a region must not forget of its services' money and
// callers: the accounts, the instances that are metered, and the calls of the
// last weeks by the minute.
//
// It is one file in the region's own folder, written in transactions: after a
// crash it holds what the last [Store.Write] brought, whole. Calls are a traffic
// profile and under the law of their service: [Store.Forget] drops them where the
// service may not live any more, and nothing is ever sent anywhere.
//
// # Bounds
//
// Calls are kept for [Days] days, at most [DayBytes] bytes for a service and day;
// minutes without calls take nothing.
//
// # Concurrency and failure
//
// A Store is safe for concurrent use. A file that cannot be read is put aside
// under another name, and the books begin anew: money that was spent this month
// is then forgotten, and the error says so.
package books
