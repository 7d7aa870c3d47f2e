// Package accounting is the journal between subscribers and RADIUS accounting servers: what has
// happened is on disk before anybody is told so, and stays there until a server has acknowledged
// it, over outages, restarts, kill -9 and a full disk (issue 4, R9-R11).
//
// What is promised:
//
//   - Every start and stop that Start and Stop were given is delivered, at least once. A record's
//     attributes are encoded once, so a second delivery has the same bytes; only Acct-Delay-Time,
//     which the client adds, differs.
//   - The records of one session arrive in their order. Accounting-On and Accounting-Off are
//     barriers between those of one virtual router and group of servers.
//   - Each session that was up when the daemon died gets a stop at the next start, with the figures
//     and the time of its last sign of life (subscriber.ReasonRestarted).
//   - Nobody waits for a disk or a server longer than a bound. While the disk refuses, records are
//     kept in memory, bounded, and delivered from there.
//   - Interim records, and nothing else, are dropped when there are too many (Config.MaxRecords).
//
// The core is a plain value that is told the time and what has happened, and says what is to be
// done (core.go, queue.go). Around it are one goroutine that owns it, one that reads and writes the
// store, and as many as there are records on their way.
package accounting
