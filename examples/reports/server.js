// The sample service in Node: no dependencies. The contract that it shares with
// the other samples is in ../doc.go.
'use strict';

const http = require('node:http');

const drainLimit = 30_000; // milliseconds that requests in progress may take after SIGTERM
const env = process.env;
const self = {
  service: env.POLDER_SERVICE ?? '',
  region: env.POLDER_REGION ?? '',
  instance: env.POLDER_INSTANCE ?? '',
};
const started = new Date().toISOString();

function log(message, fields = {}) {
  const value = (v) => (/^[!#-<>-~]+$/.test(String(v)) ? String(v) : JSON.stringify(String(v)));
  const parts = [`time=${new Date().toISOString()}`, `msg=${value(message)}`];
  for (const [key, v] of Object.entries(fields)) parts.push(`${key}=${value(v)}`);
  process.stdout.write(parts.join(' ') + '\n');
}

// caller is the address that the nearest proxy vouches for, else the one that connected.
function caller(request) {
  const hops = (request.headers['x-forwarded-for'] ?? '').split(',');
  return hops.at(-1).trim() || request.socket.remoteAddress || 'local';
}

class BadRequest extends Error {}

// number reads a query parameter in [0, limit].
function number(query, name, absent, limit) {
  const text = query.get(name);
  if (!text) return absent;
  const n = Number(text);
  if (!/^\d+$/.test(text) || n > limit) {
    throw new BadRequest(`${name}: want a number from 0 to ${limit}`);
  }
  return n;
}

function reply(response, status, value, extra = {}) {
  const data = Buffer.from(JSON.stringify(value) + '\n');
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': data.length, ...extra });
  response.end(data);
}

// wait resolves to whether the caller is still there after that many milliseconds.
function wait(response, ms) {
  return new Promise((resolve) => {
    const gone = () => { clearTimeout(timer); resolve(false); };
    const timer = setTimeout(() => { response.off('close', gone); resolve(true); }, ms);
    response.once('close', gone);
  });
}

// stream sends n server-sent events, ms milliseconds apart, each at once.
async function stream(response, n, ms) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  response.flushHeaders();
  for (let i = 0; i < n; i++) {
    if (i > 0 && !(await wait(response, ms))) return;
    response.write(`id: ${i}\ndata: ${i}\n\n`);
  }
  response.end();
}

// echo sends the body back while it arrives, no faster than the caller reads.
function echo(request, response) {
  if (request.method !== 'POST' && request.method !== 'PUT') {
    return reply(response, 405, { error: 'POST or PUT a body' }, { allow: 'POST, PUT' });
  }
  response.writeHead(200, { 'content-type': request.headers['content-type'] ?? 'application/octet-stream' });
  response.flushHeaders();
  request.on('error', () => response.destroy()); // a half echo must not look whole
  request.pipe(response);
}

async function answer(request, response, url) {
  switch (url.pathname) {
    case '/echo':
      return echo(request, response);
    case '/healthz':
      response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' });
      return response.end('ok\n');
    case '/stream':
      return stream(response, number(url.searchParams, 'n', 10, 100_000), number(url.searchParams, 'ms', 100, 60_000));
    case '/die':
      if (env.POLDER_SAMPLE_DIE === '1') {
        log('dying as asked');
        process.exit(3);
      }
      return reply(response, 404, { error: 'set POLDER_SAMPLE_DIE=1 to allow this' });
    case '/slow':
      if (!(await wait(response, number(url.searchParams, 'ms', 1000, 600_000)))) return undefined;
  }
  return reply(response, 200, { ...self, caller: caller(request), path: url.pathname, started });
}

let stopping = false;

const server = http.createServer((request, response) => {
  const begin = process.hrtime.bigint();
  // A request target that is no path ("*", a whole URL) still gets an answer.
  const url = URL.canParse(request.url, 'http://local') ? new URL(request.url, 'http://local') : new URL('http://local/');
  if (stopping) response.shouldKeepAlive = false;
  response.once('close', () => {
    log('request', {
      method: request.method,
      path: url.pathname,
      status: response.statusCode,
      ms: (Number(process.hrtime.bigint() - begin) / 1e6).toFixed(3),
      caller: caller(request),
    });
    // A connection that was busy when close was called has just become idle.
    if (stopping) setImmediate(() => server.closeIdleConnections());
  });
  answer(request, response, url).catch((fault) => {
    if (response.headersSent) return response.destroy();
    return reply(response, fault instanceof BadRequest ? 400 : 500, { error: fault.message });
  });
});
server.keepAliveTimeout = 120_000; // longer than a gateway keeps an idle connection
server.requestTimeout = 0; // slow bodies are welcome

// target is the inherited socket if there is one, otherwise $PORT on loopback.
function target() {
  const fd = env.POLDER_LISTEN_FD || (env.LISTEN_FDS === '1' ? '3' : '');
  if (fd) return { fd: Number(fd) };
  if (!/^\d+$/.test(env.PORT ?? '')) {
    console.error(`PORT=${env.PORT ?? ''}: want a number from 0 to 65535, or an inherited socket`);
    process.exit(1);
  }
  return { host: '127.0.0.1', port: Number(env.PORT), backlog: 1024 };
}

function stop() {
  if (stopping) return;
  stopping = true;
  log('stopping');
  setTimeout(() => {
    log('requests still in progress', { seconds: drainLimit / 1000 });
    process.exit(1);
  }, drainLimit).unref();
  server.close(() => log('stopped')); // ends idle connections; the process ends with the last busy one
}

process.on('SIGTERM', stop);
process.on('SIGINT', stop);
server.on('error', (fault) => {
  log('stopped', { error: fault.message });
  process.exit(1);
});
server.listen(target(), () => {
  const { address, port } = server.address() ?? {};
  log('listening', { address: `${address}:${port}` });
});
