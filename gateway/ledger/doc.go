// Package ledger is a region's book of record: what was published and refused,
// which configuration was in force, who was given a key, what drifted. It is
// append-only, and every line rests on the one before: a line that is cut,
// changed, moved or removed is found, and named.
//
// # On disk
//
// A ledger is a folder of segments, segment-00000001.jsonl and so on, one JSON
// object a line. Its last member is
//
//	hash = SHA-256(hash of the line before, as text + the object without its hash)
//
// where the object is exactly the bytes that stand in the file, the closing
// brace moved up. A segment begins with a record of kind "segment", which
// repeats the last hash of the segment before, and ends, once it has reached
// its size, with one of kind "sealed". Beyond the number of segments to keep,
// the oldest is removed, and a record of kind "pruned" says so with its last
// hash: a segment that is missing without one was taken away. The file head
// repeats sequence and hash of the last line that is safely on disk, so that a
// cut tail is found as well.
//
// # Failure
//
// A record is in the file when Append returns, so a crash of the process loses
// none; it is synced to disk within SyncEvery, so a crash of the machine loses
// at most as much. A line that was being written when the power failed is cut
// off at the next Open, which writes a record of kind "truncated". A ledger that
// was tampered with is set aside as a whole, kept, and followed by a new one
// whose first record says what was found: nothing is ever repaired or
// overwritten.
//
// # What it does not do
//
// Whoever may write the folder can rewrite all of it, hashes and head included.
// Against that helps only a head that is kept elsewhere: Verify reports it, and
// VerifyFrom holds a ledger against one noted earlier.
//
// A Ledger is safe for concurrent use; one process at a time may have it open,
// which a lock ensures. The functions on folders may run beside it. Package
// gateway writes it, command polder reads it.
package ledger
