// Servers that lie, stall or never end: whatever comes, a call settles with an error of this
// package. How soon is not measured: what does not settle fails by the limit of its test.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import test from 'node:test';

import { probe } from '../src/identity.js';
import { PythonSidecarClient, PythonSidecarEmbedder, SidecarError } from '../src/index.js';
import {
  bodyOf, DIMENSIONS, fileLines, FINGERPRINT, json, problem, rows, vectorOf,
} from './support/protocol.js';
import { serve, until } from './support/service.js';

const LIMIT = { timeout: 15_000 };
const TIMEOUT_MS = 250;
const isCode = (...codes) => (error) =>
  (error instanceof SidecarError && codes.includes(error.code)) || assert.fail(`${error?.stack}`);

function clientOf(t, port, options = {}) {
  const client = new PythonSidecarClient({ port, timeout: TIMEOUT_MS, retryAttempts: 0, ...options });
  t.after(() => client.close());
  return client;
}

// A listener that says what it likes once a request came, byte by byte if it likes.
async function speaking(t, speak, options) {
  const sockets = new Set();
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.on('end', () => socket.destroy());
    socket.once('data', () => speak(socket));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address();
  return { client: clientOf(t, port, options), port, sockets };
}

// Say `part` again and again until the client leaves.
function drip(socket, part, ms = 20) {
  const timer = setInterval(() => socket.write(part), ms);
  socket.on('close', () => clearInterval(timer));
}

function flood(socket, part, most = 1 << 30) {
  const more = () => {
    while (!socket.destroyed && socket.bytesWritten < most) {
      if (!socket.write(part)) {
        socket.once('drain', more);
        return;
      }
    }
  };
  more();
}

async function all(events) {
  const found = [];
  for await (const event of events) found.push(event);
  return found;
}

const head = (status, type, more = '') => `HTTP/1.1 ${status} X\r\ncontent-type: ${type}\r\n${more}`;
const ROWS = 'application/octet-stream';
const LINES = 'application/x-ndjson';
const TABLE = `x-sidecar-count: 1\r\nx-sidecar-dim: 8\r\nx-sidecar-fingerprint: ${FINGERPRINT}\r\n`;
const CHUNKED = 'transfer-encoding: chunked\r\n';
const chunk = (text) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
const calls = {
  embed: (client, signal) => client.embed(['x'], { signal }),
  embedBatch: (client, signal) => client.embedBatch(['x', 'y'], { signal, batchSize: 1 }),
  embedFile: (client, signal) => all(client.embedFile('/a', { signal })),
  health: (client, signal) => client.health({ signal }),
  info: (client, signal) => client.info({ signal }),
};
const upgrade = (socket) => socket.write('HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n');

for (const [name, call] of Object.entries({ ...calls, shutdown: (client) => client.shutdown() })) {
  test(`${name}: an answer of 101 is refused`, LIMIT, async (t) => {
    const { client } = await speaking(t, upgrade);
    await assert.rejects(call(client), (error) => isCode('HTTP_ERROR')(error) && error.status === 101);
  });
}

// What never comes to an end, in each place of an answer.
const stalls = {
  'nothing at all': () => {},
  'informational answers without end': (socket) => drip(socket, 'HTTP/1.1 103 X\r\n\r\n'),
  'a head that drips': (socket) => {
    socket.write('HTTP/1.1 200 OK\r\n');
    drip(socket, 'x');
  },
  'a refusal whose body drips': (socket) => {
    socket.write(head(500, 'application/problem+json', 'content-length: 9999\r\n\r\n'));
    drip(socket, ' ');
  },
  'trailers that drip': (socket) => {
    socket.write(`${head(500, 'application/json', CHUNKED)}\r\n${chunk('{}')}0\r\n`);
    drip(socket, 'x');
  },
  'a chunk size that drips': (socket) => {
    socket.write(`${head(500, 'application/json', CHUNKED)}\r\n1`);
    drip(socket, '0', 200);
  },
};
for (const [name, stall] of Object.entries(stalls)) {
  test(`${name} is a timeout`, LIMIT, async (t) => {
    const { client } = await speaking(t, stall);
    const asked = Object.values(calls).map((call) => assert.rejects(call(client), isCode('TIMEOUT')));
    await Promise.all(asked);
  });
  test(`${name} does not hold up an abort`, LIMIT, async (t) => {
    const { client } = await speaking(t, stall, { timeout: 60_000 });
    const calling = new AbortController();
    setTimeout(() => calling.abort(new Error('never mind')), 50);
    const asked = Object.values(calls).map((call) => call(client, calling.signal));
    await Promise.all(asked.map((answer) => assert.rejects(answer, /never mind/)));
  });
}

test('a look at who listens ends in time, whatever comes', LIMIT, async (t) => {
  const looks = Object.values({ ...stalls, upgrade }).map(async (stall) => {
    const { port } = await speaking(t, stall);
    assert.equal(await probe({ host: '127.0.0.1', port }, 'an-instance', TIMEOUT_MS), undefined);
  });
  await Promise.all(looks);
});

test('rows that drip are a timeout', LIMIT, async (t) => {
  const { client } = await speaking(t, (socket) => {
    socket.write(`${head(200, ROWS, TABLE)}content-length: 32\r\n\r\n`);
    drip(socket, '\0', 200);
  });
  await assert.rejects(client.embed(['x']), isCode('TIMEOUT'));
});

const START = fileLines(['one'])[0];
const drips = {
  'a line that drips': 'x',
  'empty lines': '\n',
  'events that are not known': '{"type":"later","data":{}}\n',
};
for (const [name, part] of Object.entries(drips)) {
  test(`${name} without end is a timeout, and no abort waits for it`, LIMIT, async (t) => {
    for (const options of [{}, { timeout: 60_000 }]) {
      const { client } = await speaking(t, (socket) => {
        socket.write(`${head(200, LINES)}\r\n${START}`);
        drip(socket, part);
      }, options);
      if (options.timeout) {
        const signal = AbortSignal.timeout(100);
        await assert.rejects(all(client.embedFile('/a', { signal })), { name: 'TimeoutError' });
      } else {
        await assert.rejects(all(client.embedFile('/a')), isCode('TIMEOUT'));
      }
    }
  });
}

test('progress counts for a while, but not for ever', LIMIT, async (t) => {
  const line = '{"type":"progress","data":{"phase":"reading"}}\n';
  const { client } = await speaking(t, (socket) => {
    socket.write(`${head(200, LINES)}\r\n`);
    drip(socket, line);
  }, { timeout: 100 });
  const found = [];
  const reading = (async () => {
    for await (const { type } of client.embedFile('/a')) found.push(type);
  })();
  await assert.rejects(reading, isCode('TIMEOUT'));
  assert.ok(found.length > 1);
});

test('progress in a flood is no document', LIMIT, async (t) => {
  const { client } = await speaking(t, (socket) => {
    socket.write(`${head(200, LINES)}\r\n`);
    flood(socket, '{"type":"progress","data":{}}\n'.repeat(100));
  }, { timeout: 60_000 });
  await assert.rejects(all(client.embedFile('/a')), isCode('PARSE_ERROR'));
});

test('a document that is read for longer than one wait is served', LIMIT, async (t) => {
  const line = '{"type":"progress","data":{"phase":"reading"}}\n';
  const { client } = await speaking(t, (socket) => {
    socket.write(`${head(200, LINES)}\r\n`);
    drip(socket, line, 100);
    setTimeout(() => socket.write(fileLines(['one']).join('')), 2 * TIMEOUT_MS);
  });
  assert.equal((await all(client.embedFile('/a'))).at(-1).type, 'end');
});

// What is too much is left as soon as it is: the rest is never taken from the connection.
const MUCH = 'x'.repeat(1 << 16);
const bodies = {
  'rows without end': ['PARSE_ERROR', 'embed', `${head(200, ROWS, TABLE)}${CHUNKED}\r\n`, chunk(MUCH)],
  'rows until the connection ends': ['PARSE_ERROR', 'embed', `${head(200, ROWS, TABLE)}\r\n`, MUCH],
  'more rows told than asked for': [
    'PARSE_ERROR', 'embed', `${head(200, ROWS, TABLE)}content-length: 2000000000\r\n\r\n`, MUCH,
  ],
  'health without end': ['PARSE_ERROR', 'health', `${head(200, 'application/json')}\r\n`, MUCH],
  'info without end': ['PARSE_ERROR', 'info', `${head(200, 'application/json')}\r\n`, MUCH],
  'a line without end': ['PARSE_ERROR', 'embedFile', `${head(200, LINES)}\r\n${START}`, MUCH],
  'a refused document without end': ['HTTP_ERROR', 'embedFile', `${head(500, 'text/html')}\r\n`, MUCH],
  'refused texts without end': [
    'HTTP_ERROR', 'embed', `${head(500, 'text/html')}${CHUNKED}\r\n`, chunk(MUCH),
  ],
  'a refusal of two gigabytes': [
    'HTTP_ERROR', 'info', `${head(403, 'text/html')}content-length: 2000000000\r\n\r\n`, MUCH,
  ],
  'a stop without end': ['HTTP_ERROR', 'shutdown', `${head(500, 'text/html')}\r\n`, MUCH],
};
for (const [name, [code, method, begin, part]] of Object.entries(bodies)) {
  test(`${name}: left early`, LIMIT, async (t) => {
    let written;
    const left = new Promise((resolve) => {
      written = resolve;
    });
    const { client } = await speaking(t, (socket) => {
      socket.on('close', () => written(socket.bytesWritten));
      socket.write(begin);
      flood(socket, part, 400 << 20);
    }, { timeout: 10_000 });
    const call = calls[method] ?? ((asked) => asked.shutdown());
    await assert.rejects(call(client), isCode(code));
    // Buffers of both systems, and the longest line.
    assert.ok((await left) < 200 << 20);
  });
}

test('headers without end are refused', LIMIT, async (t) => {
  const { client } = await speaking(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\n');
    flood(socket, `x: ${MUCH}\r\n`, 64 << 20);
  });
  for (const call of Object.values(calls)) await assert.rejects(call(client), isCode('NETWORK_ERROR'));
});

test('a connection that is closed on one side only is a broken one', LIMIT, async (t) => {
  for (const said of ['', 'HTTP/1.1 200', `${head(200, ROWS, TABLE)}content-length: 32\r\n\r\n1234`]) {
    const { client } = await speaking(t, (socket) => socket.end(said));
    // A document's type is looked at before its lines come.
    const isBroken = isCode('NETWORK_ERROR', 'PARSE_ERROR');
    for (const call of Object.values(calls)) await assert.rejects(call(client), isBroken);
  }
});

test('what is no HTTP is a broken connection', LIMIT, async (t) => {
  const { client } = await speaking(t, (socket) => socket.write('SSH-2.0-x\r\n'));
  for (const call of Object.values(calls)) await assert.rejects(call(client), isCode('NETWORK_ERROR'));
});

test('a refusal before the request was taken leaves no connection behind', LIMIT, async (t) => {
  const { client, sockets } = await speaking(t, (socket) => {
    socket.pause();
    socket.write(head(413, 'application/problem+json', 'content-length: 2\r\n\r\n{}'));
  });
  const texts = ['x'.repeat(30 << 20)];
  for (let n = 0; n < 2; n += 1) {
    await assert.rejects(client.embed(texts), (error) => error.status === 413);
  }
  for (const socket of sockets) socket.resume();
  await until(() => sockets.size === 0, 'the client let go of them');
});

test('one time holds for a request, however many kept connections go stale', LIMIT, async (t) => {
  let isBad = false;
  const { port } = await serve(t, async (request, response) => {
    const { texts } = JSON.parse(await bodyOf(request));
    if (isBad) setTimeout(() => request.socket.destroy(), TIMEOUT_MS * 0.8);
    else setTimeout(() => rows(response, texts), 50);
  });
  const client = clientOf(t, port);
  await Promise.all(Array.from({ length: 4 }, () => client.embed('x')));
  isBad = true;
  await assert.rejects(client.embed('x'), isCode('TIMEOUT'));
});

for (const status of [201, 204, 206, 302, 304]) {
  test(`a status of ${status} is no answer, whatever comes with it`, LIMIT, async (t) => {
    const { port } = await serve(t, (request, response) => {
      const isFile = request.url.startsWith('/embed-file');
      response.writeHead(status, {
        'content-type': isFile ? LINES : ROWS,
        'x-sidecar-count': 1,
        'x-sidecar-dim': DIMENSIONS,
        'x-sidecar-fingerprint': FINGERPRINT,
      });
      response.end(isFile ? fileLines(['one']).join('') : Buffer.alloc(4 * DIMENSIONS));
    });
    const client = clientOf(t, port);
    for (const call of Object.values(calls)) {
      await assert.rejects(call(client), (error) => isCode('HTTP_ERROR')(error) && error.status === status);
    }
  });
}

// Rows for two texts that are not what was asked for.
const tables = {
  'a vector with NaN': { values: [NaN] },
  'a vector with an infinite value': { values: [-Infinity] },
  'no dimensions': { 'x-sidecar-dim': '0', body: '' },
  'dimensions beyond any model': { 'x-sidecar-dim': '4000000000' },
  'dimensions that are no number': { 'x-sidecar-dim': '8e0' },
  'no fingerprint': { 'x-sidecar-fingerprint': '' },
  'a fingerprint of several': { 'x-sidecar-fingerprint': 'one, two' },
  'two fingerprints': { 'x-sidecar-fingerprint': ['one', 'two'] },
  'tokens that are no number': { 'x-sidecar-tokens': 'many' },
  'two counts': { 'x-sidecar-count': ['2', '2'] },
  'a cut text that was not sent': { 'x-sidecar-truncated': '99999' },
  'a cut text twice': { 'x-sidecar-truncated': '1,1' },
  'more cut texts than were sent': { 'x-sidecar-truncated': 'count=3' },
  'packed rows': { 'content-encoding': 'gzip' },
  'rows as another type': { 'content-type': 'text/html' },
  'rows too few': { body: Buffer.alloc(4 * DIMENSIONS) },
};
for (const [name, { values = [], body, ...headers }] of Object.entries(tables)) {
  test(`${name}: an answer that cannot be read`, LIMIT, async (t) => {
    const { port } = await serve(t, (request, response) => {
      const all = Float32Array.from({ length: 2 * DIMENSIONS }, (_, at) => values[at - 3] ?? 0.5);
      response.writeHead(200, {
        'content-type': ROWS,
        'x-sidecar-count': 2,
        'x-sidecar-dim': DIMENSIONS,
        'x-sidecar-truncated': '',
        'x-sidecar-fingerprint': FINGERPRINT,
        ...headers,
      });
      response.end(body ?? Buffer.from(all.buffer));
    });
    const client = clientOf(t, port);
    await assert.rejects(client.embed(['x', 'y']), isCode('PARSE_ERROR'));
    await assert.rejects(client.embedBatch(['x', 'y']), isCode('PARSE_ERROR'));
  });
}

test('a text that was cut against the request is an answer that cannot be read', LIMIT, async (t) => {
  const { port } = await serve(t, (_, response) => rows(response, ['x'.repeat(1001)]));
  const client = clientOf(t, port);
  assert.deepEqual((await client.embed('x')).truncated, [0]);
  await assert.rejects(client.embed('x', { truncate: false }), isCode('PARSE_ERROR'));
});

test('vectors of two lengths are of two spaces, whatever their fingerprint', LIMIT, async (t) => {
  let dimensions = DIMENSIONS;
  const { port } = await serve(t, async (request, response) => {
    const { texts } = JSON.parse(await bodyOf(request));
    rows(response, texts, { dimensions: (dimensions += 1) });
  });
  const client = clientOf(t, port);
  await assert.rejects(client.embedBatch(['x', 'y'], { batchSize: 1 }), isCode('SPACE_CHANGED'));
  const embedder = new PythonSidecarEmbedder({ client });
  await embedder.embed('x');
  await assert.rejects(embedder.embed('x'), isCode('SPACE_CHANGED'));
});

const said = {
  'health of another type': ['health', { status: 'ok' }, 'text/html'],
  'health without a status': ['health', { phase: 'ready' }],
  'health with dimensions of none': ['health', { status: 'ok', dim: -1 }],
  'info without dimensions': ['info', { fingerprint: FINGERPRINT }],
  'info with a text for dimensions': ['info', { dim: '8', fingerprint: FINGERPRINT }],
  'info without a fingerprint': ['info', { dim: 8, fingerprint: '' }],
};
for (const [name, [method, value, type = 'application/json']] of Object.entries(said)) {
  test(`${name}: an answer that cannot be read`, LIMIT, async (t) => {
    const { port } = await serve(t, (_, response) => {
      response.writeHead(200, { 'content-type': type });
      response.end(JSON.stringify(value));
    });
    await assert.rejects(calls[method](clientOf(t, port)), isCode('PARSE_ERROR'));
  });
}

test('a problem whose words are none is a refusal all the same', LIMIT, async (t) => {
  const words = { detail: { toString: 1 }, why: { toString: 1 }, next: [], request: 7 };
  const { port } = await serve(t, (request, response) => {
    if (request.url !== '/embed-file') problem(response, 422, 'x', words);
    else {
      response.writeHead(200, { 'content-type': LINES });
      const line = JSON.stringify({ type: 'problem', data: { ...words, status: '422' } });
      response.end(`${START}${line}\n`);
    }
  });
  const client = clientOf(t, port);
  await assert.rejects(client.embed('x'), (error) => isCode('HTTP_ERROR')(error) && error.status === 422);
  await assert.rejects(all(client.embedFile('/a')), (error) => {
    assert.deepEqual([error.status, error.next], [undefined, undefined]);
    return isCode('HTTP_ERROR')(error);
  });
});

// Lines of a document of two chunks, one to a line; a lie is told by changing them.
const TWO = () =>
  fileLines(['one', 'two']).map((line) => JSON.parse(line)).filter(({ type }) => type !== 'progress');
const lies = {
  'a value that is null, as NaN becomes': ([, one]) => (one.data.vectors[0][3] = null),
  'a value beyond a float': ([, one]) => (one.data.vectors[0][3] = 1e39),
  'a value as text': ([, one]) => (one.data.vectors[0][3] = '0.5'),
  'a text for a row': ([, one]) => (one.data.vectors[0] = 'AAAAAAAA'),
  'a row that is too short': ([, one]) => one.data.vectors[0].pop(),
  'a row that is too long': ([, one]) => one.data.vectors[0].push(0.5),
  'an object for a row': ([, one]) => (one.data.vectors[0] = { length: 8 }),
  'two chunks and one vector': ([, one]) => one.data.chunks.push('more'),
  'two vectors and one chunk': ([, one]) => one.data.vectors.push(one.data.vectors[0]),
  'a chunk without its place': ([, one]) => one.data.spans.pop(),
  'a place that is none': ([, one]) => (one.data.spans[0] = null),
  'a place that ends before it starts': ([, one]) => (one.data.spans[0].start = 10),
  'a chunk that is no text': ([, one]) => (one.data.chunks[0] = 7),
  'no chunk on a line': ([, one]) =>
    Object.assign(one.data, { chunks: [], spans: [], vectors: [], done: 0 }),
  'a chunk from further on': ([, one]) => (one.data.first = 5),
  'a count that does not grow': ([, one]) => (one.data.done = 0),
  'another total': ([, one]) => (one.data.total = 1),
  'a first line of chunks that is missing': (lines) => lines.splice(1, 1),
  'a last line of chunks that is missing': (lines) => lines.splice(2, 1),
  'a line of chunks twice': (lines) => lines.splice(1, 0, lines[1]),
  'chunks in another order': (lines) => lines.splice(1, 2, lines[2], lines[1]),
  'more chunks than were told': ([start]) => (start.data.chunks = 1),
  'no start': (lines) => lines.shift(),
  'an end alone': (lines) => lines.splice(0, 3),
  'a second start': (lines) => lines.splice(2, 0, lines[0]),
  'a second start of another space': (lines) =>
    lines.splice(2, 0, { type: 'start', data: { ...lines[0].data, fingerprint: 'another' } }),
  'a start without a fingerprint': ([start]) => (start.data.fingerprint = ''),
  'a start with a number for a fingerprint': ([start]) => (start.data.fingerprint = 7),
  'a start without dimensions': ([start]) => (start.data.dim = 0),
  'a start that does not say if that is all': ([start]) => (start.data.complete = 'yes'),
  'a start that is complete and lost something': ([start]) =>
    (start.data.losses = [{ kind: 'page', count: 1 }]),
  'a start with losses that are none': ([start]) =>
    Object.assign(start.data, { complete: false, losses: [{ kind: 7, count: 1 }] }),
  'a start with notes on pages that are none': ([start]) =>
    (start.data.notes = [{ kind: 'hyphens', count: 1, pages: ['2'] }]),
  'a start with a number for an encoding': ([start]) => (start.data.encoding = 7),
  'a start with half a reader': ([start]) => (start.data.reader = 0.5),
  'a start with half a chunk': ([start]) => (start.data.chunks = 1.5),
  'a start with more chunks than asked for': ([start]) => (start.data.chunks = 10),
  'a start with pages that are none': ([start]) => (start.data.pages = -1),
};
async function telling(t, lines, options) {
  const { port } = await serve(t, (_, response) => {
    response.writeHead(200, { 'content-type': LINES });
    response.end(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  });
  return clientOf(t, port, options);
}

for (const [name, lie] of Object.entries(lies)) {
  test(`${name}: a document that cannot be read`, LIMIT, async (t) => {
    const lines = TWO();
    lie(lines);
    const client = await telling(t, lines);
    await assert.rejects(all(client.embedFile('/a', { maxChunks: 9 })), isCode('PARSE_ERROR'));
  });
}

test('the same document without a lie is read', LIMIT, async (t) => {
  const client = await telling(t, TWO());
  const events = await all(client.embedFile('/a', { maxChunks: 9 }));
  const vectors = events.flatMap((event) => event.vectors ?? []);
  assert.deepEqual(vectors, [vectorOf('one'), vectorOf('two')]);
});

test('fields of a line do not replace what the line is', LIMIT, async (t) => {
  const lines = TWO();
  for (const line of lines) line.data.type = 'end';
  const client = await telling(t, lines);
  const types = (await all(client.embedFile('/a'))).map(({ type }) => type);
  assert.deepEqual(types, ['start', 'chunks', 'chunks', 'end']);
});

test('a document of another type, or packed, is not read', LIMIT, async (t) => {
  const packed = { 'content-type': LINES, 'content-encoding': 'br' };
  for (const headers of [{}, { 'content-type': 'application/json' }, packed]) {
    const { port } = await serve(t, (_, response) => {
      response.writeHead(200, headers);
      response.end(fileLines(['one']).join(''));
    });
    await assert.rejects(all(clientOf(t, port).embedFile('/a')), isCode('PARSE_ERROR'));
  }
});

test('bytes that are no UTF-8 are an error, and no other letters', LIMIT, async (t) => {
  const bytes = Buffer.from(fileLines(['one\u00e9']).join(''));
  bytes[bytes.indexOf(0xc3) + 1] = 0x20;
  const { port } = await serve(t, (_, response) => {
    response.writeHead(200, { 'content-type': LINES });
    response.end(bytes);
  });
  await assert.rejects(all(clientOf(t, port).embedFile('/a')), isCode('PARSE_ERROR'));
});

test('a line that is too long is an error, and no chunk that is missing', LIMIT, async (t) => {
  const { port } = await serve(t, async (_, response) => {
    const lines = fileLines(['one', 'two']).filter((line) => !line.includes('"progress"'));
    const long = JSON.parse(lines[1]);
    long.data.chunks = ['x'.repeat(70_000_000)];
    lines[1] = `${JSON.stringify(long)}\n`;
    response.writeHead(200, { 'content-type': LINES });
    response.end(lines.join(''));
  });
  const found = [];
  const reading = (async () => {
    for await (const { type } of clientOf(t, port, { timeout: 10_000 }).embedFile('/a')) found.push(type);
  })();
  await assert.rejects(reading, isCode('PARSE_ERROR'));
  assert.deepEqual(found, ['start']);
});

test('after an abort no further event is given, if it has come or not', LIMIT, async (t) => {
  const client = await telling(t, TWO());
  const calling = new AbortController();
  const found = [];
  const reading = (async () => {
    for await (const { type } of client.embedFile('/a', { signal: calling.signal })) {
      found.push(type);
      calling.abort(new Error('never mind'));
    }
  })();
  await assert.rejects(reading, /never mind/);
  assert.deepEqual(found, ['start']);
});

test('a type with parameters, and a field more, are those of an honest service', LIMIT, async (t) => {
  const { port } = await serve(t, (request, response) => {
    if (request.url === '/health') {
      response.writeHead(200, { 'content-type': 'Application/JSON; charset=utf-8' });
      response.end(JSON.stringify({ status: 'ok', later: {} }));
    } else json(response, { dim: 8, fingerprint: FINGERPRINT, later: 1 });
  });
  const client = clientOf(t, port);
  assert.equal((await client.health()).status, 'ok');
  assert.equal((await client.info()).dim, 8);
});
