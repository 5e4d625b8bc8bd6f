// Package trace reads recorded calls of serverless functions, picks a slice of
// them, and makes synthetic ones of the same shape.
//
// Two public formats are read as streams: the per-minute counts of the Azure
// Functions 2019 data set (Read) and the single invocations of the 2021 one
// (ReadInvocations). Open accepts either as plain text, gzip, xz, or inside a
// zip or tar archive. Memory grows with what the caller keeps, never with the
// size of the file: a reader holds one row of at most MaxRow bytes beside the
// window of its decompressor.
//
// A row that is not of the format yields a *SyntaxError that names file, line
// and column; the caller decides whether to go on with the next row. Any other
// error ends the stream.
//
// Everything here is deterministic: what is drawn is drawn from a seed, and the
// choice of one function does not depend on the order of the rows. No function
// starts a goroutine, and values are safe to share once nobody changes them;
// a File or an iterator belongs to one goroutine at a time.
//
// The load library replays what this package yields in real time; the policy
// simulator replays it in virtual time.
package trace
