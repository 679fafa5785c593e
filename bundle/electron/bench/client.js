// Measures what this client adds to an answer, on loopback: node bench/client.js [ROUNDS (2000)]
// 1. A single embed of 384 floats, beside node:http alone and fetch, against the same server.
// 2. 10,000 vectors of 384 floats decoded from binary and from JSON.
import { Worker, isMainThread, parentPort } from 'node:worker_threads';
import http from 'node:http';
import { fileURLToPath } from 'node:url';

import { PythonSidecarClient } from '../src/index.js';

const DIMENSIONS = 384;
const MANY = 10_000;

function serve() {
  const one = vectors(1);
  const many = vectors(MANY);
  const answers = {
    1: { binary: Buffer.from(one.buffer), json: encoded(one) },
    [MANY]: { binary: Buffer.from(many.buffer), json: encoded(many) },
  };
  const server = http.createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      const count = request.url === '/embed' ? JSON.parse(Buffer.concat(parts)).texts.length : MANY;
      const isBinary = request.headers.accept === 'application/octet-stream';
      const body = answers[count][isBinary ? 'binary' : 'json'];
      response.writeHead(200, {
        'content-type': isBinary ? 'application/octet-stream' : 'application/json',
        'content-length': body.length,
        'x-sidecar-count': count,
        'x-sidecar-dim': DIMENSIONS,
        'x-sidecar-tokens': count,
        'x-sidecar-truncated': '',
        'x-sidecar-fingerprint': 'bench',
      });
      response.end(body);
    });
  });
  server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port));
}

function vectors(count) {
  const found = new Float32Array(count * DIMENSIONS);
  for (let i = 0; i < found.length; i += 1) found[i] = Math.sin(i) / 20;
  return found;
}

// As the service writes them: the shortest digits that give the same float32.
function encoded(all) {
  const rows = [];
  for (let at = 0; at < all.length; at += DIMENSIONS) {
    const row = Array.from(all.subarray(at, at + DIMENSIONS), (x) => Number(x.toPrecision(9)));
    rows.push(`[${row.join(',')}]`);
  }
  return Buffer.from(`{"vectors":[${rows.join(',')}],"dim":${DIMENSIONS}}`);
}

function bare(agent, port, body, accept) {
  return new Promise((resolve, reject) => {
    const headers = { accept, 'content-type': 'application/json', 'content-length': body.length };
    const options = { agent, host: '127.0.0.1', port, method: 'POST', path: '/embed', headers };
    const request = http.request(options, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('end', () => resolve(Buffer.concat(parts)));
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function fetched(port, body, accept) {
  const headers = { accept, 'content-type': 'application/json' };
  const answer = await fetch(`http://127.0.0.1:${port}/embed`, { method: 'POST', headers, body });
  return answer.arrayBuffer();
}

async function timed(call) {
  const start = performance.now();
  await call();
  return performance.now() - start;
}

function middle(times) {
  return [...times].sort((one, two) => one - two)[Math.floor(times.length / 2)];
}

async function single(port, rounds) {
  const client = new PythonSidecarClient({ port });
  const agent = new http.Agent({ keepAlive: true });
  const body = Buffer.from(JSON.stringify({ texts: ['harbour'] }));
  const binary = 'application/octet-stream';
  const ways = {
    client: () => client.embed('harbour'),
    http: () => bare(agent, port, body, binary),
    fetch: () => fetched(port, body, binary),
  };
  const times = { client: [], http: [], fetch: [] };
  // In turns, so that a busy moment meets all of them.
  for (let round = -200; round < rounds; round += 1) {
    for (const [name, way] of Object.entries(ways)) {
      const time = await timed(way);
      if (round >= 0) times[name].push(time);
    }
  }
  client.close();
  agent.destroy();
  return Object.fromEntries(Object.entries(times).map(([name, found]) => [name, middle(found)]));
}

async function decoded(port, rounds) {
  // In one request, for which there is time enough.
  const client = new PythonSidecarClient({ port, timeout: 1e9 });
  const agent = new http.Agent({ keepAlive: true });
  const texts = Array.from({ length: MANY }, () => 'x');
  const body = Buffer.from(JSON.stringify({ texts }));
  const times = { binary: [], json: [] };
  for (let round = -1; round < rounds; round += 1) {
    const binary = await timed(() => client.embed(texts));
    const json = await timed(async () => {
      const answer = await bare(agent, port, body, 'application/json');
      return JSON.parse(answer.toString('utf8')).vectors.map((row) => Float32Array.from(row));
    });
    if (round < 0) continue;
    times.binary.push(binary);
    times.json.push(json);
  }
  client.close();
  agent.destroy();
  return { binary: middle(times.binary), json: middle(times.json) };
}

if (isMainThread) {
  const rounds = Number(process.argv[2] ?? 2000);
  const worker = new Worker(fileURLToPath(import.meta.url));
  const port = await new Promise((resolve) => worker.once('message', resolve));
  const one = await single(port, rounds);
  const ms = (time) => `${time.toFixed(3)} ms`;
  console.log(`single embed, p50 of ${rounds}: client ${ms(one.client)}, node:http alone ${ms(one.http)}, fetch ${ms(one.fetch)}`);
  console.log(`client overhead on a single embed: ${ms(one.client - one.http)} over node:http, ${ms(one.client)} with server and loopback`);
  const many = await decoded(port, 7);
  console.log(`${MANY} x ${DIMENSIONS}, request to rows, p50 of 7: binary ${ms(many.binary)}, JSON ${ms(many.json)}`);
  console.log(`binary is ${(many.json / many.binary).toFixed(1)} times faster`);
  await worker.terminate();
} else {
  serve();
}
