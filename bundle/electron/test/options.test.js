// Options that nobody takes are told by name, with the one that is meant.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

import { PythonSidecarClient, PythonSidecarEmbedder, PythonSidecarService, SidecarError } from '../src/index.js';
import { KNOWN } from '../src/known.js';

const client = new PythonSidecarClient({ port: 1 });
const embedder = new PythonSidecarEmbedder({ client });
const TAKERS = {
  PythonSidecarService: (options) => new PythonSidecarService(options),
  PythonSidecarClient: (options) => new PythonSidecarClient(options),
  PythonSidecarEmbedder: (options) => new PythonSidecarEmbedder(options),
  'service.client': (options) => new PythonSidecarService().client(options),
  embed: (options) => client.embed('a', options),
  embedBatch: (options) => client.embedBatch(['a'], options),
  embedFile: (options) => client.embedFile('/a', options).next(),
  health: (options) => client.health(options),
  info: (options) => client.info(options),
  'embedder.open': (options) => embedder.open(options),
  'embedder.embed': (options) => embedder.embed(['a'], options),
  'embedder.embedBatch': (options) => embedder.embedBatch(['a'], options),
  'embedder.embedFile': (options) => embedder.embedFile('/a', options).next(),
};

const refused = (taker, options, next) =>
  assert.rejects(async () => TAKERS[taker](options), (error) => {
    assert.ok(error instanceof SidecarError, `${error?.stack}`);
    assert.equal(error.code, 'USAGE_ERROR');
    if (next) assert.equal(error.next, next);
    return true;
  });

test('every class and method refuses an option that it does not have', async () => {
  assert.deepEqual(Object.keys(TAKERS).sort(), Object.keys(KNOWN).sort());
  for (const taker of Object.keys(TAKERS)) {
    for (const options of [{ nonsense: 1 }, { modelName: 'm' }, { retries: 3 }, 'text', 7, null]) {
      await refused(taker, options);
    }
  }
});

test('an option that is NaN, as of an environment variable that is not set, is refused', async () => {
  const next = 'pass a number, or undefined for the default';
  for (const [taker, [name]] of Object.entries(KNOWN)) await refused(taker, { [name]: NaN }, next);
  await refused('embedBatch', { concurrency: Number(process.env.THERE_IS_NONE) }, next);
});

test('a text in the place of a list is refused', async () => {
  for (const name of ['allowDirs', 'allowOrigins', 'args']) {
    await refused('PythonSidecarService', { [name]: '--allow-download' }, `pass ${name}: ['…']`);
  }
});

test('a batch takes a boolean, and no other method does', async () => {
  for (const taker of Object.keys(TAKERS)) if (taker !== 'embedBatch') await refused(taker, true);
});

for (const [taker, name, next] of [
  ['PythonSidecarService', 'modelName', 'use model'],
  ['PythonSidecarClient', 'modelName', 'pass model to PythonSidecarService or PythonSidecarEmbedder or embed or embedBatch or embedFile'],
  ['embed', 'modelName', 'use model'],
  ['PythonSidecarClient', 'retries', 'use retryAttempts'],
  ['PythonSidecarClient', 'batchSize', 'pass batchSize to PythonSidecarEmbedder or embedBatch'],
  ['PythonSidecarService', 'batchSize', 'pass batchSize to PythonSidecarEmbedder or embedBatch'],
  ['PythonSidecarService', 'retries', 'pass retryAttempts to PythonSidecarClient'],
  ['PythonSidecarService', 'autorestart', 'use autoRestart'],
  ['PythonSidecarService', 'allowDir', 'use allowDirs'],
  ['PythonSidecarService', 'allowOrigin', 'use allowOrigins'],
  ['PythonSidecarEmbedder', 'token', 'pass token to PythonSidecarClient'],
  ['embedBatch', 'batch_size', 'use batchSize'],
  ['embedFile', 'chunk_size', 'use chunkSize'],
  ['embedder.embed', 'normalize', 'pass normalize to PythonSidecarEmbedder or embed or embedBatch or embedFile'],
  ['service.client', 'nonsense', 'its options are timeout, retryAttempts, retryDelay, onRetry'],
]) {
  test(`${name} given to ${taker}: ${next}`, () => refused(taker, { [name]: 1 }, next));
}

test('an option that is undefined counts as left out', () => {
  for (const taker of ['PythonSidecarService', 'PythonSidecarClient', 'PythonSidecarEmbedder']) {
    TAKERS[taker]({ nonsense: undefined });
  }
});

test('the options that are taken are those of the types', () => {
  const typed = (module, name) => {
    const path = fileURLToPath(new URL(`../types/${module}.d.ts`, import.meta.url));
    const [, body] = new RegExp(`^export type ${name} = \\{\\n(.*?)^\\};`, 'ms').exec(readFileSync(path, 'utf8'));
    return [...body.matchAll(/^ {4}(\w+)\??:/gm)].map(([, found]) => found);
  };
  const same = (taker, ...names) => assert.deepEqual([...KNOWN[taker]].sort(), names.flat().sort());
  same('PythonSidecarService', typed('options', 'ServiceOptions'));
  same('PythonSidecarClient', typed('client', 'ClientOptions'));
  same('PythonSidecarEmbedder', typed('embedder', 'EmbedderOptions'));
  same('embed', typed('client', 'EmbedOptions'));
  same('embedBatch', typed('client', 'EmbedOptions'), typed('client', 'BatchOptions'));
  same('embedFile', typed('files', 'FileOptions'));
});
