// Package examples keeps the sample services honest: billing (Go), catalog
// (Python) and reports (Node) are ordinary small HTTP servers that answer the
// same contract, and the tests here start each of them for real.
//
// The contract, which docs and the demo rely on:
//
//   - It listens on the inherited socket when POLDER_LISTEN_FD or LISTEN_FDS=1
//     is set (file descriptor 3), otherwise on 127.0.0.1:$PORT. PORT=0 picks a
//     free port. The line "msg=listening address=…" on stdout says where.
//   - Any path answers JSON: service, region, instance (from POLDER_SERVICE,
//     POLDER_REGION, POLDER_INSTANCE), caller (the address that the nearest
//     proxy appended to X-Forwarded-For), path, and started (RFC 3339).
//   - /healthz answers 200 "ok"; /slow?ms= answers after a while; /stream?n=&ms=
//     sends n server-sent events; /echo sends a POST's body back while it
//     arrives; /die ends the process at once with exit code 3, and only if
//     POLDER_SAMPLE_DIE=1.
//   - One line on stdout per request, when it has ended.
//   - SIGTERM or SIGINT: no new requests, those in progress finish, exit code 0.
//     After 30 seconds it gives up waiting: exit code 1.
//
// The package itself holds no code and is imported by nobody.
package examples
