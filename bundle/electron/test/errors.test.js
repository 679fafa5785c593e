import assert from 'node:assert/strict';
import test from 'node:test';

import { errorOfExit, EXIT_CODES, SidecarError } from '../src/errors.js';

test('every exit code has an error code of its own', () => {
  const codes = Object.values(EXIT_CODES).map(([code]) => code);
  assert.deepEqual(Object.keys(EXIT_CODES).map(Number), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  assert.equal(new Set(codes).size, codes.length);
});

test('the last words of the service are in the message, and its next step ends it', () => {
  const last = { message: 'it is damaged', why: 'sha256 differs', next: 'reinstall', exit_code: 4 };
  const log = `{"level":"info"}\n{cut\n${JSON.stringify(last)}\n{"level":"info","message":"bye"}`;
  const error = errorOfExit(4, null, log);
  assert.equal(error.code, 'BUNDLE_DAMAGED');
  assert.match(error.message, /: it is damaged \(sha256 differs\); next: reinstall$/);
  assert.match(error.what, /\(sha256 differs\)$/);
  assert.equal(error.next, 'reinstall');
  assert.equal(error.exitCode, 4);
  assert.equal(error.log, log);
});

test('a missing module is told as that, with its name', () => {
  const log = 'Traceback (most recent call last):\nModuleNotFoundError: No module named \'numpy\'\n';
  const error = errorOfExit(1, null, log);
  assert.equal(error.code, 'PYTHON_DEPS_MISSING');
  assert.match(error.message, /No module named 'numpy'/);
});

test('a module that is missed later is told in the log, and named', () => {
  const line = { level: 'error', message: 'it ends', error: 'ModuleNotFoundError', module: 'uvicorn' };
  const last = { message: 'loading failed', why: 'ModuleNotFoundError', exit_code: 1 };
  for (const lines of [[line], [line, last]]) {
    const error = errorOfExit(1, null, lines.map((said) => JSON.stringify(said)).join('\n'));
    assert.equal(error.code, 'PYTHON_DEPS_MISSING');
    assert.equal(error.what, 'a Python module is missing: uvicorn');
  }
});

test('options that it refuses are named', () => {
  const log = 'usage: embedding_sidecar [-h]\nembedding_sidecar: error: unknown option --x\n';
  const error = errorOfExit(2, null, log);
  assert.equal(error.code, 'USAGE_ERROR');
  assert.match(error.message, /: unknown option --x$/);
});

test('without last words it is told by its exit code alone', () => {
  assert.equal(errorOfExit(6, null, 'Killed').message, 'the disk is full, or a place cannot be read or written');
});

test('an end by a signal or by an unknown code is a crash', () => {
  assert.equal(errorOfExit(null, 'SIGSEGV', '').code, 'SIDECAR_CRASHED');
  assert.match(errorOfExit(null, 'SIGSEGV', '').message, /SIGSEGV/);
  assert.equal(errorOfExit(3221225477, null, '').code, 'SIDECAR_CRASHED');
});

for (const [said, told] of [
  ['start it with --allow-dir FOLDER', 'start it with allowDirs: [FOLDER]'],
  ['start it with --allow-origin ORIGIN, where', 'start it with allowOrigins: [ORIGIN], where'],
  ['--allow-origin http://localhost:3000', "allowOrigins: ['http://localhost:3000']"],
  ['--port 8422, or --port 0', 'port: 8422, or port: 0'],
  ['choose a --port above 1023', 'choose a port above 1023'],
  ['--engine auto, or a bundle of the profile safe', "engine: 'auto', or a bundle of the profile safe"],
  ['--model sentence-transformers/all-MiniLM-L6-v2', "model: 'sentence-transformers/all-MiniLM-L6-v2'"],
  ['--model minilm', "model: 'minilm'"],
  ['--model M or another --model', 'model: M or another model'],
  ["--model-cache DIR with a repository's name", "modelCachePath: DIR with a repository's name"],
  ['--device auto, or --device cpu', "args: ['--device', 'auto'], or args: ['--device', 'cpu']"],
  ['leave --precision out', 'leave --precision out'],
]) {
  test(`the next step "${said}" names the options of the package`, () => {
    const error = new SidecarError('USAGE_ERROR', 'no', { problem: { next: said } });
    assert.equal(error.next, told);
    assert.equal(error.message, `no; next: ${told}`);
  });
}

test('an error has no field without a value', () => {
  const fields = Object.keys(new SidecarError('TIMEOUT', 'late')).sort();
  assert.deepEqual(fields, ['code', 'name', 'what']);
});

test('it is an Error that knows its cause', () => {
  const cause = new Error('below');
  const error = new SidecarError('NETWORK_ERROR', 'above', { cause });
  assert.ok(error instanceof Error);
  assert.equal(error.cause, cause);
  assert.equal(error.name, 'SidecarError');
  assert.equal(Object.hasOwn(new SidecarError('TIMEOUT', ''), 'cause'), false);
});
