"""The sample service in Python: standard library only.

The contract that it shares with the other samples is in ../doc.go. One thread
serves one connection; at most MAX_CONNECTIONS at a time, the kernel's backlog
holds the others.
"""

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

MAX_CONNECTIONS = 512
DRAIN_LIMIT = 30.0  # seconds that requests in progress may take after SIGTERM
BLOCK = 32 * 1024  # bytes

SELF = {
    "service": os.environ.get("POLDER_SERVICE", ""),
    "region": os.environ.get("POLDER_REGION", ""),
    "instance": os.environ.get("POLDER_INSTANCE", ""),
}


def now():
    """The present as RFC 3339 text."""
    t = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t)) + ".%06dZ" % (t % 1 * 1e6)


def log(message, **fields):
    """One line on stdout, as a single write so that threads do not mix lines."""
    parts = ["time=" + now(), "msg=" + json.dumps(message) if " " in message else "msg=" + message]
    for key, value in fields.items():
        text = str(value)
        parts.append(key + "=" + (json.dumps(text) if not text.isascii() or not text.isprintable()
                                  or any(c in text for c in ' "=') or not text else text))
    sys.stdout.write(" ".join(parts) + "\n")
    sys.stdout.flush()


class BadRequest(Exception):
    """The caller's fault; its text is the answer."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together
    timeout = 120  # seconds that a connection may stay silent

    # Reading the request line is being idle; from then on it is busy. The
    # server ends idle connections when it stops, and no others.
    def handle_one_request(self):
        self.status = 0
        if not self.server.idle(self.connection):
            self.close_connection = True
            return
        super().handle_one_request()

    def parse_request(self):
        self.server.busy(self.connection)
        self.begin = time.monotonic()
        return super().parse_request()

    def do_any(self):
        try:
            self.answer()
        except BadRequest as fault:
            self.refuse(400, str(fault))
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        finally:
            took = (time.monotonic() - self.begin) * 1000
            log("request", method=self.command, path=urlsplit(self.path).path,
                status=self.status, ms="%.3f" % took, caller=self.caller())

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_any

    def answer(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == "/echo":
            self.echo()
            return
        for _ in self.body():  # what follows on this connection must start at a request
            pass
        if url.path == "/healthz":
            self.reply(200, b"ok\n", "text/plain; charset=utf-8")
        elif url.path == "/stream":
            self.stream(number(query, "n", 10, 100_000), number(query, "ms", 100, 60_000))
        elif url.path == "/die" and os.environ.get("POLDER_SAMPLE_DIE") == "1":
            log("dying as asked")
            os._exit(3)
        elif url.path == "/die":
            self.refuse(404, "set POLDER_SAMPLE_DIE=1 to allow this")
        else:
            if url.path == "/slow":
                time.sleep(number(query, "ms", 1000, 600_000) / 1000)
            self.reply_json(200, {**SELF, "caller": self.caller(), "path": url.path, "started": STARTED})

    def stream(self, n, ms):
        """Sends n server-sent events, ms milliseconds apart, each at once."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.chunked()
        for i in range(n):
            if i > 0:
                time.sleep(ms / 1000)
            self.chunk(b"id: %d\ndata: %d\n\n" % (i, i))
        self.last_chunk()

    def echo(self):
        """Sends the body back while it arrives."""
        if self.command not in ("POST", "PUT"):
            self.refuse(405, "POST or PUT a body", {"Allow": "POST, PUT"})
            return
        self.send_response(200)
        self.send_header("Content-Type", self.headers.get("Content-Type", "application/octet-stream"))
        self.chunked()
        for block in self.body():
            self.chunk(block)
        self.last_chunk()

    def body(self):
        """The request's body in blocks. A body cut short ends the connection."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.line().split(b";")[0], 16):
                yield from self.exactly(size)
                self.line()
            while self.line() not in (b"\r\n", b"\n"):
                pass  # trailers
            return
        yield from self.exactly(int(self.headers.get("Content-Length", 0)))

    def line(self):
        text = self.rfile.readline(4096)
        if not text.endswith(b"\n"):
            raise ConnectionError("body cut short")
        return text

    def exactly(self, size):
        while size > 0:
            block = self.rfile.read1(min(size, BLOCK))
            if not block:
                raise ConnectionError("body cut short")
            size -= len(block)
            yield block

    def chunked(self):
        self.framed = self.request_version != "HTTP/1.0"
        if self.framed:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.close_connection = True
        self.finish_headers()
        self.wfile.flush()

    def chunk(self, data):
        if self.command == "HEAD":
            return
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if self.framed else data)
        self.wfile.flush()

    def last_chunk(self):
        if self.framed and self.command != "HEAD":
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def reply(self, status, data, kind, extra=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in dict(extra).items():
            self.send_header(name, value)
        self.finish_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    def reply_json(self, status, value, extra=()):
        self.reply(status, json.dumps(value).encode() + b"\n", "application/json", extra)

    def refuse(self, status, text, extra=()):
        self.reply_json(status, {"error": text}, extra)

    def finish_headers(self):
        if self.server.stopping:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()

    def caller(self):
        """The address that the nearest proxy vouches for, else the one that connected."""
        hops = ",".join(self.headers.get_all("X-Forwarded-For", [])).split(",")
        return hops[-1].strip() or self.client_address[0]

    def log_request(self, code="-", size="-"):
        self.status = int(code)

    def log_error(self, format, *args):
        log("connection", error=format % args)


def number(query, name, absent, limit):
    """A query parameter in [0, limit]."""
    text = query.get(name, [""])[0]
    if not text:
        return absent
    if not (text.isascii() and text.isdigit()) or int(text) > limit:
        raise BadRequest("%s: want a number from 0 to %d" % (name, limit))
    return int(text)


class Server:
    """Accepts connections until stop, then waits for the busy ones."""

    def __init__(self, listener):
        self.listener = listener
        self.stopping = False
        self.slots = threading.Semaphore(MAX_CONNECTIONS)
        self.lock = threading.Lock()
        self.waiting = set()  # idle connections; guarded by lock
        self.threads = set()  # guarded by lock
        self.wake, self.woken = socket.socketpair()

    def idle(self, connection):
        """Tells whether the connection may wait for another request."""
        with self.lock:
            if not self.stopping:
                self.waiting.add(connection)
            return not self.stopping

    def busy(self, connection):
        with self.lock:
            self.waiting.discard(connection)

    def run(self):
        self.listener.setblocking(False)  # others may accept from a shared socket
        while True:
            self.slots.acquire()
            ready, _, _ = select.select([self.listener, self.woken], [], [])
            if self.woken in ready:
                break
            try:
                connection, address = self.listener.accept()
            except OSError:
                self.slots.release()
                continue
            connection.setblocking(True)
            thread = threading.Thread(target=self.serve, args=(connection, address or ("local",)), daemon=True)
            with self.lock:
                self.threads.add(thread)
            thread.start()
        self.listener.close()
        deadline = time.monotonic() + DRAIN_LIMIT
        with self.lock:
            threads = list(self.threads)
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def serve(self, connection, address):
        try:
            Handler(connection, address, self)
            connection.shutdown(socket.SHUT_WR)
        except (OSError, ValueError):
            pass  # the caller went away, or sent what is no HTTP
        finally:
            connection.close()
            with self.lock:
                self.waiting.discard(connection)
                self.threads.discard(threading.current_thread())
            self.slots.release()

    def stop(self):
        with self.lock:
            self.stopping = True
            for connection in self.waiting:
                try:
                    # What has arrived can still be read; then comes the end.
                    connection.shutdown(socket.SHUT_RD)
                except OSError:
                    pass
        self.wake.send(b"x")
        self.slots.release()  # run may be waiting for a slot; it must see the wake-up instead


def listen():
    """The inherited socket if there is one, otherwise $PORT on loopback."""
    fd = os.environ.get("POLDER_LISTEN_FD", "") or ("3" if os.environ.get("LISTEN_FDS") == "1" else "")
    if fd:
        return socket.socket(fileno=int(fd))
    port = os.environ.get("PORT", "")
    if not port.isdigit():
        sys.exit("PORT=%r: want a number from 0 to 65535, or an inherited socket" % port)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port)))
    listener.listen(1024)
    return listener


STARTED = now()


def main():
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before any thread; sigwait takes them
    server = Server(listen())
    log("listening", address="%s:%d" % server.listener.getsockname()[:2])
    result = []
    accepting = threading.Thread(target=lambda: result.append(server.run()), daemon=True)
    accepting.start()
    signal.sigwait(signals)
    log("stopping")
    server.stop()
    accepting.join()
    if result != [True]:
        log("requests still in progress", seconds=DRAIN_LIMIT)
        sys.exit(1)
    log("stopped")


if __name__ == "__main__":
    main()
