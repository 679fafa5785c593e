import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';

import { PythonSidecarClient, PythonSidecarEmbedder, SidecarError } from '../src/index.js';
import { bodyOf, DIMENSIONS, fileLines, FINGERPRINT, problem, vectorOf } from './support/protocol.js';
import { serve } from './support/service.js';

const isCode = (code) => (error) => error instanceof SidecarError && error.code === code;
const CHUNKS = ['erster', 'zweiter é', 'dritter'];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function connected(t, handle, options = {}) {
  const heard = [];
  const { port } = await serve(t, async (request, response) => {
    heard.push({ url: request.url, headers: request.headers, body: await bodyOf(request) });
    await handle(response, request, heard.length);
  });
  const client = new PythonSidecarClient({ port, retryDelay: 5, ...options });
  t.after(() => client.close());
  return { client, heard };
}

function begin(response) {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
}

function whole(response) {
  begin(response);
  response.end(fileLines(CHUNKS).join(''));
}

async function all(events) {
  const found = [];
  for await (const event of events) found.push(event);
  return found;
}

test('a document comes event by event, with its vectors as floats', async (t) => {
  const { client, heard } = await connected(t, whole);
  const events = await all(client.embedFile('/folder/a b.pdf'));
  assert.deepEqual(events.map((event) => event.type), [
    ...['start', 'progress', 'chunks', 'progress', 'chunks', 'progress', 'chunks', 'end'],
  ]);
  const [start, , first] = events;
  assert.equal(start.dimensions, DIMENSIONS);
  assert.equal(start.fingerprint, FINGERPRINT);
  assert.deepEqual(first.vectors, [vectorOf('erster')]);
  assert.equal(first.spans[0].page, 1);
  assert.equal(heard[0].headers.accept, 'application/x-ndjson');
  assert.deepEqual(JSON.parse(heard[0].body), { path: '/folder/a b.pdf', unit: 'tokens' });
});

test('a document tells what it lost, and an older service nothing of it', async (t) => {
  const losses = [{ kind: 'page', count: 1, pages: [2] }];
  const { client } = await connected(t, (response, _request, count) => {
    const [first, ...rest] = fileLines(CHUNKS);
    const { data } = JSON.parse(first);
    const { losses: _losses, notes: _notes, ...older } = data;
    const told = count === 1 ? { ...data, complete: false, losses } : older;
    begin(response);
    response.end([`${JSON.stringify({ type: 'start', data: told })}\n`, ...rest].join(''));
  });
  const [newer] = await all(client.embedFile('/a'));
  assert.deepEqual([newer.complete, newer.losses, newer.notes], [false, losses, []]);
  const [older] = await all(client.embedFile('/a'));
  assert.deepEqual([older.complete, older.losses, older.notes], [true, [], []]);
  assert.deepEqual([older.encoding, older.encodingConfidence, older.reader], [null, null, null]);
});

test('a text is declared by its charset, and tells what it was read as', async (t) => {
  const { client, heard } = await connected(t, (response) => {
    const [first, ...rest] = fileLines(CHUNKS);
    const data = { ...JSON.parse(first).data, encoding: 'shift_jis', encoding_confidence: 0.5, reader: 3 };
    begin(response);
    response.end([`${JSON.stringify({ type: 'start', data })}\n`, ...rest].join(''));
  });
  const options = { charset: 'a&b' };
  const [start] = await all(client.embedFile('/a', options));
  assert.deepEqual([start.encoding, start.encodingConfidence, start.reader], ['shift_jis', 0.5, 3]);
  await all(client.embedFile({ bytes: new Uint8Array(1), contentType: 'text/plain' }, options));
  assert.equal(JSON.parse(heard[0].body).charset, 'a&b');
  assert.equal(heard[1].url, '/embed-file/upload?unit=tokens&charset=a%26b');
});

test('a password goes in the body or a header, and never in the path', async (t) => {
  const { client, heard } = await connected(t, whole);
  const options = { password: 'pässword' };
  await all(client.embedFile('/a.pdf', options));
  await all(client.embedFile({ bytes: new Uint8Array(1), contentType: 'application/pdf' }, options));
  assert.equal(JSON.parse(heard[0].body).password, 'pässword');
  assert.equal(heard[0].headers['x-document-password'], undefined);
  const sent = Buffer.from(heard[1].headers['x-document-password'], 'base64').toString('utf8');
  assert.equal(sent, 'pässword');
  assert.deepEqual(heard.map(({ url }) => url), [
    '/embed-file',
    '/embed-file/upload?unit=tokens',
  ]);
});

test('chunks are counted in tokens unless told else', async (t) => {
  const { client, heard } = await connected(t, whole);
  const options = { unit: 'chars', chunkSize: 800, chunkOverlap: 100, maxChunks: 9, normalize: false };
  await all(client.embedFile('/a.txt', options));
  assert.deepEqual(JSON.parse(heard[0].body), {
    ...{ path: '/a.txt', unit: 'chars', chunk_size: 800, chunk_overlap: 100 },
    ...{ max_chunks: 9, normalize: false },
  });
});

test('prompts and dimensions are asked for, and vectors of other lengths refused', async (t) => {
  const { client, heard } = await connected(t, whole);
  const asked = { inputType: 'document', dimensions: DIMENSIONS };
  await all(client.embedFile('/a.txt', asked));
  assert.deepEqual(JSON.parse(heard[0].body), {
    ...{ path: '/a.txt', unit: 'tokens', input_type: 'document', dimensions: DIMENSIONS },
  });
  const bytes = { bytes: new Uint8Array([1]), contentType: 'text/plain' };
  await all(client.embedFile(bytes, { prompt: 'a & b ' }));
  assert.equal(heard[1].url, '/embed-file/upload?unit=tokens&prompt=a%20%26%20b%20');
  const other = client.embedFile('/a.txt', { promptName: 'passage', dimensions: DIMENSIONS + 1 });
  await assert.rejects(all(other), isCode('PARSE_ERROR'));
});

test('bytes that the app read itself are sent with their type', async (t) => {
  const { client, heard } = await connected(t, whole);
  const bytes = new Uint8Array([0, 1, 2, 255, 9]).subarray(1, 4);
  await all(client.embedFile({ bytes, contentType: 'text/plain' }, { maxChunks: 3 }));
  assert.equal(heard[0].url, '/embed-file/upload?unit=tokens&max_chunks=3');
  assert.equal(heard[0].headers['content-type'], 'text/plain');
  assert.deepEqual([...heard[0].body], [1, 2, 255]);
});

test('lines are put together wherever they were cut', async (t) => {
  const bytes = Buffer.from(fileLines(CHUNKS).join(''));
  const { client } = await connected(t, async (response) => {
    begin(response);
    for (let at = 0; at < bytes.length; at += 37) {
      response.write(bytes.subarray(at, at + 37));
      await new Promise(setImmediate);
    }
    response.end();
  });
  const chunks = (await all(client.embedFile('/a'))).flatMap((event) => event.chunks ?? []);
  assert.deepEqual(chunks.slice(-3), CHUNKS);
});

test('an answer that is cut inside a line is an error, after what came whole', async (t) => {
  const { client, heard } = await connected(t, (response) => {
    const lines = fileLines(CHUNKS);
    begin(response);
    response.write(lines.slice(0, 3).join('') + lines[4].slice(0, 20));
    setTimeout(() => response.destroy(), 20);
  });
  const found = [];
  const reading = (async () => {
    for await (const event of client.embedFile('/a')) found.push(event.type);
  })();
  await assert.rejects(reading, isCode('NETWORK_ERROR'));
  assert.deepEqual(found, ['start', 'progress', 'chunks']);
  assert.equal(heard.length, 1);
});

test('an answer that ends properly, but too early, is no whole document', async (t) => {
  const { client } = await connected(t, (response) => {
    begin(response);
    response.end(fileLines(CHUNKS).slice(0, -1).join(''));
  });
  await assert.rejects(all(client.embedFile('/a')), isCode('NETWORK_ERROR'));
});

test('a problem on the way is thrown, with the words of the service', async (t) => {
  const said = { type: 'urn:sidecar:problem:too-slow', status: 422, detail: 'it took too long' };
  const { client } = await connected(t, (response) => {
    begin(response);
    const line = JSON.stringify({ type: 'problem', data: said });
    response.end(`${fileLines(CHUNKS)[0]}${line}\n`);
  });
  await assert.rejects(all(client.embedFile('/a')), (error) => {
    assert.deepEqual(error.problem, said);
    assert.equal(error.status, 422);
    return isCode('HTTP_ERROR')(error) && /took too long/.test(error.message);
  });
});

test('a refusal before the first line is one like any other: 403 at once, 429 again', async (t) => {
  const { client, heard } = await connected(t, (response, _request, times) => {
    if (times === 1) problem(response, 403, 'not-allowed', { detail: 'no folder is allowed' });
    else if (times === 2) problem(response, 429, 'full', {}, { 'retry-after': '0' });
    else whole(response);
  });
  await assert.rejects(all(client.embedFile('/a')), (error) => error.status === 403);
  assert.equal(heard.length, 1);
  assert.equal((await all(client.embedFile('/a'))).at(-1).type, 'end');
  assert.equal(heard.length, 3);
});

for (const line of ['{', '[]', '{"type":"start"}', '{"type":"chunks","data":{}}']) {
  test(`the line ${line} cannot be read`, async (t) => {
    const { client } = await connected(t, (response) => {
      begin(response);
      response.end(`${line}\n`);
    });
    await assert.rejects(all(client.embedFile('/a')), isCode('PARSE_ERROR'));
  });
}

test('events that are not known yet are passed over', async (t) => {
  const { client } = await connected(t, (response) => {
    begin(response);
    response.end(`{"type":"later","data":{}}\n\n${fileLines([]).join('')}`);
  });
  assert.deepEqual((await all(client.embedFile('/a'))).map(({ type }) => type), ['start', 'end']);
});

test('leaving the loop lets go of the connection, so that the service stops', async (t) => {
  let closed;
  const { client } = await connected(t, (response) => {
    closed = once(response, 'close');
    begin(response);
    response.write(fileLines(CHUNKS).slice(0, 3).join(''));
  });
  for await (const event of client.embedFile('/a')) if (event.type === 'chunks') break;
  await closed;
});

test('an aborted signal ends it, with its own reason', async (t) => {
  const { client } = await connected(t, (response) => {
    begin(response);
    response.write(fileLines(CHUNKS)[0]);
  });
  const calling = new AbortController();
  setTimeout(() => calling.abort(new Error('never mind')), 50);
  await assert.rejects(all(client.embedFile('/a', { signal: calling.signal })), /never mind/);
});

test('silence on the way is a timeout; an app that takes its time is none', async (t) => {
  const { client } = await connected(t, async (response, _request, times) => {
    begin(response);
    const lines = fileLines(CHUNKS);
    response.write(lines.slice(0, 3).join(''));
    if (times === 1) response.end(lines.slice(3).join(''));
  }, { timeout: 100 });
  for await (const event of client.embedFile('/a')) if (event.type === 'start') await sleep(300);
  await assert.rejects(all(client.embedFile('/a')), isCode('TIMEOUT'));
});

test('an embedder reads documents, too, and knows their space afterwards', async (t) => {
  const { client, heard } = await connected(t, whole);
  const embedder = new PythonSidecarEmbedder({ client, model: 'mpnet', pooling: 'cls' });
  await all(embedder.embedFile('/a'));
  assert.equal(embedder.fingerprint, FINGERPRINT);
  const { model, pooling } = JSON.parse(heard[0].body);
  assert.deepEqual([model, pooling], ['mpnet', 'cls']);
});
