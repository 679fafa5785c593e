import assert from 'node:assert/strict';
import test from 'node:test';

import { retryAfterOf } from '../src/exchange.js';
import { PythonSidecarClient, PythonSidecarService, SidecarError } from '../src/index.js';
import { Pace } from '../src/pace.js';
import { Parts } from '../src/parts.js';
import { indicesOf, rowsOf } from '../src/rows.js';
import {
  bodyOf, DIMENSIONS, FINGERPRINT, handler, json, problem, rows, vectorOf,
} from './support/protocol.js';
import { serve, until } from './support/service.js';

const isCode = (code) => (error) => error instanceof SidecarError && error.code === code;

async function connected(t, handle, options = {}) {
  const { port, server } = await serve(t, handle);
  const client = new PythonSidecarClient({ port, retryDelay: 5, ...options });
  t.after(() => client.close());
  return { client, port, server };
}

// A server that answers the first requests by `scripts`, and the later ones as a service does.
async function answering(t, scripts, options) {
  const asked = [];
  const good = handler({ instance: 'scripted-one' });
  const found = await connected(t, (request, response) => {
    const script = scripts[asked.length];
    asked.push({ url: request.url, at: performance.now(), headers: request.headers });
    if (script) script(response, request);
    else good(request, response);
  }, options);
  return { ...found, asked };
}

test('vectors come in order, as rows of floats, with all that is said of them', async (t) => {
  const { client } = await answering(t, []);
  const long = 'x'.repeat(1001);
  const found = await client.embed(['a', long, '']);
  assert.deepEqual(found.vectors.map((row) => [...row]), ['a', long, ''].map((x) => [...vectorOf(x)]));
  assert.ok(found.vectors[0] instanceof Float32Array);
  const { dimensions, fingerprint, truncated, truncatedCount } = found;
  assert.deepEqual(
    { dimensions, fingerprint, truncated, truncatedCount },
    { dimensions: DIMENSIONS, fingerprint: FINGERPRINT, truncated: [1], truncatedCount: 1 },
  );
  assert.deepEqual((await client.embed('a')).vectors, [vectorOf('a')]);
  assert.deepEqual((await client.embed([])).vectors, []);
});

test('prompts and dimensions are named as the service names them', async (t) => {
  const heard = [];
  const { client } = await connected(t, async (request, response) => {
    const body = JSON.parse(await bodyOf(request));
    heard.push(body);
    rows(response, body.texts, { dimensions: 2 });
  });
  const asked = { promptName: 'query', dimensions: 2 };
  assert.equal((await client.embed('a', asked)).dimensions, 2);
  await client.embedBatch(['a'], { inputType: 'document' });
  await client.embed('a', { prompt: 'find ' });
  assert.deepEqual(heard, [
    { texts: ['a'], prompt_name: 'query', dimensions: 2 },
    { texts: ['a'], input_type: 'document' },
    { texts: ['a'], prompt: 'find ' },
  ]);
  // A service that does not know of dimensions has the model's own.
  const isOther = (error) => error.code === 'PARSE_ERROR' && /2 dimensions came/.test(error.message);
  await assert.rejects(client.embed('a', { dimensions: 3 }), isOther);
});

test('options go with the request, and the token, where there is one', async (t) => {
  let heard = {};
  const { client } = await connected(t, async (request, response) => {
    heard = { headers: request.headers, body: JSON.parse(await bodyOf(request)) };
    rows(response, heard.body.texts);
  }, { token: 'secret' });
  await client.embed(['é\ud800 \ude00 \ud83d\ude00'], { normalize: false, priority: 'bulk' });
  assert.deepEqual(heard.body, { texts: ['é\ufffd \ufffd \ud83d\ude00'], normalize: false, priority: 'bulk' });
  assert.equal(heard.headers.authorization, 'Bearer secret');
  assert.equal(heard.headers.accept, 'application/octet-stream');
});

test('an address is taken apart, and only http is spoken', async (t) => {
  const { port, asked } = await answering(t, [(response) => json(response, { status: 'ok' })]);
  const client = new PythonSidecarClient({ baseUrl: `http://localhost:${port}/behind/` });
  t.after(() => client.close());
  await client.health();
  assert.equal(asked[0].url, '/behind/health');
  for (const baseUrl of ['https://x', 'localhost:8421', '127.0.0.1:8421']) {
    assert.throws(() => new PythonSidecarClient({ baseUrl }), ({ code, next }) => {
      return code === 'USAGE_ERROR' && next.includes('http://127.0.0.1:8421');
    });
  }
});

test('a client that is closed has answers that are under way, and lets go of what is idle', async (t) => {
  let answer;
  const begun = new Promise((resolve) => {
    answer = (response) => resolve(() => rows(response, ['x']));
  });
  const { client, asked, server } = await answering(t, [undefined, answer]);
  const connections = () => new Promise((resolve) => server.getConnections((_, count) => resolve(count)));
  await client.health();
  client.close();
  await until(async () => (await connections()) === 0, 'the idle connection ends');
  const waiting = client.embed('x');
  const go = await begun;
  client.close();
  go();
  assert.equal((await waiting).vectors.length, 1);
  assert.equal(asked.length, 2);
});

test('a request that is called off ends its wait for the service', async () => {
  let waited;
  const endpoint = (signal) => {
    waited = signal;
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  };
  const calling = new AbortController();
  const asked = new PythonSidecarClient({ service: { endpoint } }).embed('x', { signal: calling.signal });
  await until(() => waited, 'it waits');
  calling.abort(new Error('never mind'));
  await assert.rejects(asked, /never mind/);
  assert.equal(waited.aborted, true);
});

test('a batch of many requests at a time ends without a warning', async (t) => {
  const warnings = [];
  const warn = (warning) => warnings.push(warning);
  process.on('warning', warn);
  t.after(() => process.off('warning', warn));
  const { client } = await answering(t, []);
  const texts = Array.from({ length: 40 }, (_, n) => `text ${n}`);
  assert.equal((await client.embedBatch(texts, { batchSize: 1, concurrency: 20 })).length, 40);
  await new Promise(setImmediate);
  assert.deepEqual(warnings, []);
});

test('a service that loads is told as that, and not asked again', async (t) => {
  const loading = (response) => json(response, { status: 'loading' }, 503);
  const { client, asked } = await answering(t, [loading, loading]);
  assert.equal((await client.health()).status, 'loading');
  assert.equal(asked.length, 1);
});

test('health as a boolean is true of a ready service alone, and never an error', async (t) => {
  const said = (status, code) => (response) => json(response, { status }, code);
  const { client, server } = await answering(t, [
    ...[said('ok', 200), said('loading', 503), said('stuck', 503), said('stopping', 503)],
    (response) => response.end('<html>'),
    (response) => problem(response, 421, 'unknown-host'),
  ]);
  const found = [];
  for (let n = 0; n < 6; n += 1) found.push(await client.checkHealth());
  assert.deepEqual(found, [true, false, false, false, false, false]);
  assert.equal(await client.checkHealth(), true);
  assert.equal(await client.checkHealth({ signal: AbortSignal.abort() }), false);
  await new Promise((resolve) => {
    server.closeAllConnections();
    server.close(resolve);
  });
  assert.equal(await client.checkHealth(), false);
  assert.equal(await new PythonSidecarService().client().checkHealth(), false);
});

test('nobody on the port is a network error, after two more attempts', async (t) => {
  const { client, server } = await answering(t, []);
  await new Promise((resolve) => server.close(resolve));
  await assert.rejects(client.embed('x'), { code: 'NETWORK_ERROR', next: /^start it/ });
});

test('a full queue is waited for as long as it asks, then served', async (t) => {
  const full = (response) => problem(response, 429, 'full', {}, { 'retry-after': '0.2' });
  const { client, asked } = await answering(t, [full]);
  assert.equal((await client.embed('x')).vectors.length, 1);
  const waited = asked[1].at - asked[0].at;
  assert.ok(waited >= 195, `it waited ${waited} ms`);
});

test('who is asked to wait for longer than a minute is told so', async (t) => {
  const full = (response) => problem(response, 429, 'full', {}, { 'retry-after': '61' });
  const { client, asked } = await answering(t, [full]);
  await assert.rejects(client.embed('x'), (error) => error.retryAfterMs === 61_000);
  assert.equal(asked.length, 1);
});

for (const status of [429, 500, 502, 503, 507]) {
  test(`${status} is tried twice again`, async (t) => {
    const after = status === 507 ? { 'retry-after': '0' } : {};
    const script = (response) => problem(response, status, 'passing', { detail: 'no room' }, after);
    const { client, asked } = await answering(t, [script, script, script]);
    await assert.rejects(client.embed('x'), (error) => {
      assert.equal(error.code, 'HTTP_ERROR');
      assert.equal(error.status, status);
      return /no room/.test(error.message);
    });
    assert.equal(asked.length, 3);
    assert.equal((await client.embed('x')).vectors.length, 1);
  });
}

for (const status of [400, 401, 403, 404, 413, 422, 507]) {
  test(`${status} is not tried again, and says why`, async (t) => {
    const said = { detail: 'texts: it is wrong', why: 'a reason', next: 'mend it', request: 'r-1' };
    const script = (response) => problem(response, status, 'bad-value', said);
    const { client, asked } = await answering(t, [script]);
    await assert.rejects(client.embed('x'), (error) => {
      assert.equal(error.status, status);
      assert.equal(error.problem.type, 'urn:sidecar:problem:bad-value');
      assert.equal(error.problem.request, 'r-1');
      assert.equal(error.next, 'mend it');
      return isCode('HTTP_ERROR')(error);
    });
    assert.equal(asked.length, 1);
  });
}

test('each further attempt is told, before the wait for it', async (t) => {
  const script = (response) => problem(response, 503, 'passing');
  const told = [];
  const { client, asked } = await answering(t, [script, script], {
    onRetry: (retry) => told.push({ ...retry, asked: asked.length }),
  });
  await client.embed('x');
  assert.deepEqual(told.map(({ attempt, asked: before }) => [attempt, before]), [[1, 1], [2, 2]]);
  assert.ok(told.every(({ waitMs, error }) => waitMs >= 5 && error.status === 503));
});

test('a request without the token is told where its app finds it', async (t) => {
  const { port } = await connected(t, handler({ instance: 'scripted-one', token: 'secret' }));
  const bare = new PythonSidecarClient({ port });
  t.after(() => bare.close());
  await assert.rejects(bare.embed('x'), (error) => {
    assert.match(error.next, /service\.endpoint\(\)/);
    return error.status === 401;
  });
});

test('an answer that takes too long is a timeout, and not tried again', async (t) => {
  const { client, asked } = await answering(t, [() => {}], { timeout: 50 });
  await assert.rejects(client.embed('x'), { code: 'TIMEOUT', next: /^raise timeout/ });
  assert.equal(asked.length, 1);
});

test('an answer that stops half way runs into the timeout, too', async (t) => {
  const half = (response) => {
    response.writeHead(200, { 'content-length': 100 });
    response.write('half');
  };
  const { client } = await answering(t, [half], { timeout: 50 });
  await assert.rejects(client.embed('x'), isCode('TIMEOUT'));
});

test('a cut answer is asked for again', async (t) => {
  const cut = (response) => {
    response.writeHead(200, { 'content-length': 4000, 'content-type': 'application/octet-stream' });
    response.write(Buffer.alloc(1000));
    setTimeout(() => response.destroy(), 20);
  };
  const { client, asked } = await answering(t, [cut, cut]);
  assert.equal((await client.embed('x')).vectors.length, 1);
  assert.equal(asked.length, 3);
});

test('a connection that is cut before any answer is asked for again', async (t) => {
  const { client, asked } = await answering(t, [(_, request) => request.socket.destroy()]);
  assert.equal((await client.embed('x')).vectors.length, 1);
  assert.equal(asked.length, 2);
});

test('a kept connection that went stale costs no attempt and no wait', async (t) => {
  const options = { retryAttempts: 0, retryDelay: 60_000 };
  const { client, asked } = await answering(t, [
    undefined,
    (_, request) => request.socket.destroy(),
  ], options);
  await client.embed('x');
  assert.equal((await client.embed('x')).vectors.length, 1);
  assert.equal(asked.length, 3);
});

test('requests use one connection after the other', async (t) => {
  const { client, server } = await answering(t, []);
  let connections = 0;
  server.on('connection', () => (connections += 1));
  for (let n = 0; n < 5; n += 1) await client.embed('x');
  assert.equal(connections, 1);
});

const nonsense = {
  'rows of another length': (response) => {
    response.writeHead(200, {
      'content-type': 'application/octet-stream',
      'x-sidecar-count': 1,
      'x-sidecar-dim': 8,
      'x-sidecar-fingerprint': 'f',
    });
    response.end(Buffer.alloc(31));
  },
  'rows of other texts': (response) => rows(response, ['one', 'two']),
  'no count': (response) => {
    response.writeHead(200, { 'content-type': 'application/octet-stream' });
    response.end();
  },
  'another kind of answer': (response) => json(response, { vectors: [] }),
};
for (const [name, script] of Object.entries(nonsense)) {
  test(`${name}: told as an answer that cannot be read`, async (t) => {
    const { client } = await answering(t, [script]);
    await assert.rejects(client.embed(['x']), isCode('PARSE_ERROR'));
  });
}

test('health that is no JSON cannot be read', async (t) => {
  for (const body of ['<html>', '[]', '']) {
    const { client } = await answering(t, [(response) => response.end(body)]);
    await assert.rejects(client.health(), isCode('PARSE_ERROR'));
  }
});

test('a refusal that is not of the service keeps its status', async (t) => {
  const { client } = await answering(t, [(response) => response.writeHead(418).end('tea')]);
  await assert.rejects(client.info(), (error) => error.status === 418 && isCode('HTTP_ERROR')(error));
});

test('a request can be called off before, on its way, and between two attempts', async (t) => {
  const { client, asked } = await answering(t, [() => {}], { retryDelay: 60_000 });
  const reason = new Error('never mind');
  await assert.rejects(client.embed('x', { signal: AbortSignal.abort(reason) }), reason);
  assert.equal(asked.length, 0);
  const calling = new AbortController();
  const waiting = client.embed('x', { signal: calling.signal });
  setTimeout(() => calling.abort(reason), 50);
  await assert.rejects(waiting, reason);
  const { client: other } = await answering(t, [(response) => problem(response, 503, 'loading')], {
    retryDelay: 60_000,
  });
  const again = new AbortController();
  setTimeout(() => again.abort(reason), 50);
  await assert.rejects(other.embed('x', { signal: again.signal }), reason);
});

test('10,000 texts in one call come back in order, a few hundred requests later', async (t) => {
  const { client, asked } = await answering(t, []);
  const texts = Array.from({ length: 10_000 }, (_, n) => `text ${n}`);
  const told = [];
  const found = await client.embedBatch(texts, { onProgress: (progress) => told.push(progress) });
  assert.equal(found.vectors.length, 10_000);
  for (const n of [0, 63, 64, 5000, 9999]) assert.deepEqual(found.vectors[n], vectorOf(`text ${n}`));
  assert.equal(asked.length, Math.ceil(10_000 / 64));
  assert.deepEqual(told.at(-1), { done: 10_000, total: 10_000 });
  assert.equal(told.length, asked.length);
});

test('indices of cut texts are those of the whole call', async (t) => {
  const { client } = await answering(t, []);
  const texts = Array.from({ length: 200 }, (_, n) => (n % 70 === 0 ? 'x'.repeat(1001) : 'short'));
  const found = await client.embedBatch(texts);
  assert.deepEqual(found.truncated, [0, 70, 140]);
  assert.equal(found.truncatedCount, 3);
});

test('a batch is an array of rows, with all that is said of them as fields', async (t) => {
  const { client } = await answering(t, []);
  const texts = ['a', 'x'.repeat(1001), ''];
  const result = await client.embedBatch(texts, { batchSize: 1 });
  assert.ok(Array.isArray(result));
  assert.equal(result.length, 3);
  assert.deepEqual([...result], texts.map((text) => vectorOf(text)));
  assert.deepEqual(result.vectors, [...result]);
  assert.ok(result[0] instanceof Float32Array);
  const { fingerprint, dimensions, truncated, truncatedCount, tokens } = structuredClone(result);
  assert.deepEqual(
    { fingerprint, dimensions, truncated, truncatedCount, tokens },
    { fingerprint: FINGERPRINT, dimensions: DIMENSIONS, truncated: [1], truncatedCount: 1, tokens: 258 },
  );
  assert.equal((await client.embed('a')).tokens, 3);
});

test('a boolean after the texts of a batch is normalize, all else than options an error', async (t) => {
  const asked = [];
  const { client } = await connected(t, async (request, response) => {
    const { texts, normalize } = JSON.parse(await bodyOf(request));
    asked.push(normalize);
    rows(response, texts);
  });
  await client.embedBatch(['a'], false);
  await client.embedBatch(['a'], true);
  await client.embedBatch(['a']);
  assert.deepEqual(asked, [false, true, undefined]);
  for (const wrong of [null, 1, 'false', [true], () => {}]) {
    await assert.rejects(client.embedBatch(['a'], wrong), isCode('USAGE_ERROR'));
  }
  for (const wrong of ['text', null, 7, { 0: 'a', length: 1 }]) {
    await assert.rejects(client.embedBatch(wrong), isCode('USAGE_ERROR'));
  }
  await assert.rejects(client.embed(7), isCode('USAGE_ERROR'));
  assert.equal(asked.length, 3);
});

test('no text at all is a request of none', async (t) => {
  const { client } = await answering(t, []);
  const found = await client.embedBatch([]);
  assert.deepEqual([found.vectors, found.fingerprint], [[], FINGERPRINT]);
});

test('large calls are bulk work, unless told else; small ones are as they are', async (t) => {
  const priorities = [];
  const { client } = await connected(t, async (request, response) => {
    const { texts, priority } = JSON.parse(await bodyOf(request));
    priorities.push(priority);
    rows(response, texts);
  });
  await client.embedBatch(['a', 'b', 'c'], { batchSize: 2 });
  await client.embedBatch(['a', 'b', 'c'], { batchSize: 2, priority: 'interactive' });
  await client.embedBatch(['a']);
  assert.deepEqual(priorities, ['bulk', 'bulk', 'interactive', 'interactive', undefined]);
});

test('no more requests are under way than was said', async (t) => {
  let now = 0;
  let most = 0;
  const { client } = await connected(t, async (request, response) => {
    most = Math.max(most, (now += 1));
    const { texts } = JSON.parse(await bodyOf(request));
    await new Promise((resolve) => setTimeout(resolve, 5));
    now -= 1;
    rows(response, texts);
  });
  const texts = Array.from({ length: 50 }, String);
  await client.embedBatch(texts, { batchSize: 2, concurrency: 3 });
  assert.equal(most, 3);
});

test('one part that fails for good ends the others', async (t) => {
  let asked = 0;
  const { client } = await connected(t, async (request, response) => {
    asked += 1;
    const { texts } = JSON.parse(await bodyOf(request));
    if (texts.includes('bad')) problem(response, 422, 'bad-value');
    else if (asked < 3) rows(response, texts);
  });
  const texts = ['a', 'bad', ...Array.from({ length: 100 }, String)];
  await assert.rejects(client.embedBatch(texts, { batchSize: 1 }), (error) => error.status === 422);
  assert.ok(asked < 6, `${asked} requests`);
});

test('a text that is refused is told by its index among all of the call', async (t) => {
  const { client } = await connected(t, async (request, response) => {
    const { texts } = JSON.parse(await bodyOf(request));
    const index = texts.indexOf('bad');
    if (index < 0) rows(response, texts);
    else problem(response, 422, 'bad-value', { detail: `texts.${index}: it is wrong` });
  });
  const texts = Array.from({ length: 50 }, (_, n) => (n === 33 ? 'bad' : String(n)));
  const options = { batchSize: 20 };
  await assert.rejects(client.embedBatch(texts, options), (error) => error.textIndex === 33);
  await assert.rejects(client.embed(['a', 'bad']), (error) => error.textIndex === 1);
});

test('a call of many requests can be called off', async (t) => {
  const { client } = await answering(t, [undefined, () => {}, () => {}]);
  const calling = new AbortController();
  setTimeout(() => calling.abort(new Error('never mind')), 50);
  const options = { batchSize: 1, signal: calling.signal };
  await assert.rejects(client.embedBatch(['a', 'b', 'c'], options), /never mind/);
});

test('answers of two spaces are not put together', async (t) => {
  let asked = 0;
  const { client } = await connected(t, async (request, response) => {
    const { texts } = JSON.parse(await bodyOf(request));
    rows(response, texts, { fingerprint: `space-${(asked += 1)}` });
  });
  await assert.rejects(client.embedBatch(['a', 'b'], { batchSize: 1 }), isCode('SPACE_CHANGED'));
});

test('parts hold every text once, in order, within both limits', () => {
  const texts = ['aaaa', '', 'é'.repeat(50), 'b', 'c', 'd', 'e'];
  const taken = (all) => {
    const source = new Parts(all);
    return Array.from({ length: 5 }, () => source.take({ count: 3, bytes: 30 })).filter(Boolean);
  };
  const parts = taken(texts);
  assert.deepEqual(parts.flatMap((part) => part.texts), texts);
  assert.deepEqual(parts.map((part) => [part.first, part.texts.length]), [[0, 2], [2, 1], [3, 3], [6, 1]]);
  assert.deepEqual(parts.map((part) => part.bytes), [10, 103, 12, 4]);
  assert.deepEqual(taken([]), [{ first: 0, texts: [], bytes: 0 }]);
});

test('the first requests are small, and the next ones as the speed that was seen', () => {
  const pace = new Pace();
  const first = pace.bytesIn(30_000);
  assert.ok(first > 1000 && first < 10_000, `${first} bytes`);
  pace.saw({ bytes: 4000, tokens: 1000, ms: 100 });
  assert.equal(pace.bytesIn(30_000), 200_000);
  pace.saw({ bytes: 4000, tokens: 1000, ms: 1000 });
  assert.equal(pace.bytesIn(30_000), 20_000);
  pace.saw({ bytes: 4000, tokens: 1000, ms: 200 });
  assert.equal(pace.bytesIn(30_000), 60_000);
  // Denser texts take longer a byte.
  pace.saw({ bytes: 2000, tokens: 1000, ms: 200 });
  assert.equal(pace.bytesIn(30_000), 40_000);
});

test('a request of a few tokens says nothing bad of the speed, unless it took long', () => {
  const pace = new Pace();
  const first = pace.bytesIn(30_000);
  pace.saw({ bytes: 40, tokens: 10, ms: 50 });
  pace.saw({ bytes: 40, tokens: 0, ms: 5000 });
  assert.equal(pace.bytesIn(30_000), first);
  pace.saw({ bytes: 40, tokens: 10, ms: 2000 });
  const slow = pace.bytesIn(30_000);
  assert.ok(slow < first);
  // A short timeout asks for few tokens at a time, and the speed has to be found again by those.
  pace.saw({ bytes: 40, tokens: 10, ms: 10 });
  assert.ok(pace.bytesIn(30_000) > slow);
});

test('the first request is as large with a short timeout, or nothing would be learnt', () => {
  assert.equal(new Pace().bytesIn(100), new Pace().bytesIn(30_000));
});

// Computes one request after the other, so many characters a millisecond.
function slow(charsPerMs) {
  let before = Promise.resolve();
  const sizes = [];
  const handle = async (request, response) => {
    const { texts } = JSON.parse(await bodyOf(request));
    sizes.push(texts.length);
    const chars = texts.reduce((sum, text) => sum + text.length, 0);
    before = before.then(() => new Promise((go) => setTimeout(go, chars / charsPerMs)));
    await before;
    rows(response, texts);
  };
  return { handle, sizes };
}

test('no request of many long texts runs out of time on a slow machine', async (t) => {
  // In one request, or in two of 64 at a time, they would take longer than the timeout.
  const texts = Array.from({ length: 256 }, (_, n) => `${n} `.padEnd(1700, 'word '));
  for (const call of ['embedBatch', 'embed']) {
    const { handle, sizes } = slow(200);
    const { client } = await connected(t, handle, { timeout: 1000, retryAttempts: 0 });
    const { vectors } = await client[call](texts);
    assert.deepEqual(vectors[255], vectorOf(texts[255]));
    assert.ok(sizes[0] < 4 && sizes.length > 10, sizes.join());
  }
});

test('a fast machine is soon asked for as much as was said', async (t) => {
  const { client } = await answering(t, []);
  const told = [];
  const texts = Array.from({ length: 2000 }, () => 'word '.repeat(200));
  await client.embedBatch(texts, { batchSize: 100, onProgress: ({ done }) => told.push(done) });
  assert.ok(told.length < 40, `${told.length} requests`);
});

test('a timeout counts from the last answer on, and not for ever', async (t) => {
  let isBusy = true;
  const { client } = await connected(t, async (request, response) => {
    const { texts } = JSON.parse(await bodyOf(request));
    if (texts[0] === 'never') return;
    if (texts[0] === 'later') await new Promise((resolve) => setTimeout(resolve, 700));
    rows(response, texts);
  }, { timeout: 200 });
  const keepBusy = async () => {
    while (isBusy) {
      await client.embed('short');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const busy = keepBusy();
  assert.equal((await client.embed('later')).vectors.length, 1);
  const began = performance.now();
  await assert.rejects(client.embed('never'), isCode('TIMEOUT'));
  assert.ok(performance.now() - began > 1000);
  isBusy = false;
  await busy;
  await assert.rejects(client.embed('later'), isCode('TIMEOUT'));
});

test('rows are views of the answer, and nothing is copied', () => {
  const bytes = Float32Array.from([1, 2, 3, 4, 5, 6]).buffer;
  const found = rowsOf(bytes, 2, 3);
  assert.deepEqual(found.map((row) => [...row]), [[1, 2, 3], [4, 5, 6]]);
  assert.ok(found.every((row) => row.buffer === bytes));
  assert.throws(() => rowsOf(bytes, 2, 2), isCode('PARSE_ERROR'));
});

test('cut texts are read from their header, or only counted', () => {
  assert.deepEqual(indicesOf(''), { indices: [], count: 0 });
  assert.deepEqual(indicesOf('0,12,7'), { indices: [0, 12, 7], count: 3 });
  assert.deepEqual(indicesOf('count=5000'), { indices: [], count: 5000 });
  for (const text of ['a', '1,', '1;2', '-1']) assert.throws(() => indicesOf(text), isCode('PARSE_ERROR'));
});

test('Retry-After is seconds or a date', () => {
  assert.equal(retryAfterOf(undefined), undefined);
  assert.equal(retryAfterOf('2'), 2000);
  assert.equal(retryAfterOf('soon'), undefined);
  const inTen = retryAfterOf(new Date(Date.now() + 10_000).toUTCString()) ?? 0;
  assert.ok(inTen > 8000 && inTen <= 10_000);
  assert.equal(retryAfterOf(new Date(0).toUTCString()), 0);
});

test('a signal aborted before leaves no failure that nobody hears', async () => {
  const service = new PythonSidecarService();
  const signal = AbortSignal.abort(new Error('not wanted'));
  await assert.rejects(service.client().embed('x', { signal }), /not wanted/);
  // What nobody hears would end this process, with the turn that comes now.
  await new Promise((resolve) => setImmediate(resolve));
});
