// Package local is the provider that runs instances as processes of this
// machine. It needs nothing but Linux and works without root.
//
// # What an instance is given
//
// Its environment is its service's own, PATH, HOME, LANG and TZ of ours, and:
//
//	PORT             where it listens, on 127.0.0.1
//	HOST             127.0.0.1
//	POLDER_SERVICE   its service
//	POLDER_REGION    its region
//	POLDER_INSTANCE  its ID
//	POLDER_PROCESS   its key for us (package process)
//
// Nothing else of Polder's environment reaches it, and no open file but stdin
// (/dev/null), stdout and stderr (its log).
//
// With listen: inherit, the service has a berth (type Berths): one listening
// socket that exists before the first instance and outlives each. One instance
// at a time stands at it; further ones of the same service have a socket each.
// Either way, file descriptor 3 is a socket that listens on PORT
// already, in blocking mode, as systemd passes it; LISTEN_FDS=1,
// LISTEN_FDNAMES=http and POLDER_LISTEN_FD=3 say so. LISTEN_PID cannot be
// known before the process exists and is not set; a program that insists on it
// is run as command: [sh, -c, "LISTEN_PID=$$ exec program"].
//
// # How we know that it is ready
//
// It is ready when it accepts a TCP connection on its port (we connect, ever
// less often, from every 0.5 to every 20 ms) or, with an inherited socket, when
// it takes our connection out of the socket's queue; and then, if the service
// has a readiness path, when that answers a GET with 2xx. Its end is noticed at
// once and ends the wait.
//
// # Ports
//
// A port is chosen below the range that the kernel gives to outgoing
// connections, so that none takes it before the program does, and is reserved
// among all Polders of the machine until the instance is ready.
//
// # Concurrency and failure
//
// All methods may be called concurrently. Records of running instances are kept
// in a folder that belongs to one Provider at a time; see package process for
// what survives the death of its owner. The caller is instance.Manager.
package local
