import assert from 'node:assert/strict';
import test from 'node:test';

import {
  decideReindex, PythonSidecarClient, PythonSidecarEmbedder, SidecarError,
} from '../src/index.js';
import { bodyOf, DIMENSIONS, FINGERPRINT, rows, vectorOf } from './support/protocol.js';
import { serve } from './support/service.js';

async function embedding(t, options = {}) {
  const heard = [];
  const space = { fingerprint: FINGERPRINT };
  const { port } = await serve(t, async (request, response) => {
    const body = JSON.parse(await bodyOf(request));
    heard.push(body);
    rows(response, body.texts, space);
  });
  const client = new PythonSidecarClient({ port });
  t.after(() => client.close());
  return { embedder: new PythonSidecarEmbedder({ client, ...options }), heard, space };
}

test('a text gives a vector, several give several', async (t) => {
  const { embedder } = await embedding(t);
  assert.deepEqual(await embedder.embed('one'), vectorOf('one'));
  assert.deepEqual(await embedder.embedSingle('one'), vectorOf('one'));
  assert.deepEqual(await embedder.embed(['one', 'two']), [vectorOf('one'), vectorOf('two')]);
});

test('many texts are asked for in 32s', async (t) => {
  const { embedder, heard } = await embedding(t);
  const texts = Array.from({ length: 70 }, String);
  const told = [];
  const found = await embedder.embedBatch(texts, { onProgress: ({ done }) => told.push(done) });
  assert.deepEqual(found, texts.map((text) => vectorOf(text)));
  assert.deepEqual(heard.map((body) => body.texts.length).sort(), [32, 32, 6]);
  assert.equal(told.at(-1), 70);
});

test('the space is known after the first answer, or when it is opened', async (t) => {
  const { embedder } = await embedding(t);
  assert.deepEqual([embedder.dimensions, embedder.fingerprint], [undefined, undefined]);
  await embedder.embed('one');
  assert.deepEqual([embedder.dimensions, embedder.fingerprint], [DIMENSIONS, FINGERPRINT]);
  const opened = await (await embedding(t)).embedder.open();
  assert.deepEqual(opened, { dimensions: DIMENSIONS, fingerprint: FINGERPRINT });
});

test('how vectors are made is the same in every request', async (t) => {
  const { embedder, heard } = await embedding(t, { model: 'mpnet', normalize: false, pooling: 'cls' });
  await embedder.open();
  await embedder.embed('a');
  await embedder.embed(['a']);
  await embedder.embedBatch(['a']);
  assert.equal(heard.length, 4);
  const sent = heard.map((body) => [body.model, body.normalize, body.pooling]);
  assert.deepEqual(sent, Array(4).fill(['mpnet', false, 'cls']));
});

test('an embedder of queries has a space of its own', async (t) => {
  const { embedder, heard } = await embedding(t, { inputType: 'query' });
  await embedder.open();
  await embedder.embedSingle('a');
  assert.deepEqual(heard.map((body) => body.input_type), ['query', 'query']);
});

test('vectors of another space are refused until the app has seen that', async (t) => {
  const { embedder, space } = await embedding(t);
  await embedder.embed('one');
  space.fingerprint = 'another-space';
  const isChanged = (error) => error instanceof SidecarError && error.code === 'SPACE_CHANGED';
  await assert.rejects(embedder.embed('one'), isChanged);
  await assert.rejects(embedder.embedBatch(['one']), isChanged);
  assert.equal(await embedder.needsReindex(FINGERPRINT), true);
  assert.deepEqual(await embedder.embed('one'), vectorOf('one'));
  assert.equal(embedder.fingerprint, 'another-space');
});

test('an index of this space stays, any other is built anew', async (t) => {
  const { embedder } = await embedding(t);
  assert.equal(await embedder.needsReindex(FINGERPRINT), false);
  for (const stored of ['another', '', null, undefined]) {
    assert.equal(await embedder.needsReindex(stored), true);
  }
});

test('the reason why an index must be built anew is told', () => {
  const present = { fingerprint: 'f', dimensions: 384 };
  const reasons = [
    [{ fingerprint: 'f', dimensions: 384 }, 'same-space'],
    [{ fingerprint: 'f' }, 'same-space'],
    [{ fingerprint: 'f', dimensions: 768 }, 'other-dimensions'],
    [{ fingerprint: 'g', dimensions: 384 }, 'other-space'],
    [{ dimensions: 384 }, 'unknown-space'],
    [{}, 'unknown-space'],
    [null, 'unknown-space'],
    [undefined, 'unknown-space'],
  ];
  for (const [stored, reason] of reasons) {
    const { needed, reason: told } = decideReindex(stored, present);
    assert.equal(told, reason);
    assert.equal(needed, reason !== 'same-space');
  }
});
