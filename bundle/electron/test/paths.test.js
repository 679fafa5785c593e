import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import test from 'node:test';

import { commandOf } from '../src/options.js';
import { cleanEnvironment, locate } from '../src/paths.js';

const NO_MODES = process.platform === 'win32' ? 'files have no modes here' : false;

function bundle(t, python) {
  const root = mkdtempSync(join(tmpdir(), 'sidecar é '));
  t.after(() => rmSync(root, { recursive: true }));
  const path = join(root, ...python);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, '');
  mkdirSync(join(root, 'embedding_sidecar'));
  return { root, path };
}

test('the bundle is found in the resources of a packaged app', (t) => {
  const { root, path } = bundle(t, ['python', 'bin', 'python3.11']);
  process.resourcesPath = root;
  t.after(() => delete process.resourcesPath);
  const found = locate({ platform: 'darwin' });
  assert.deepEqual(found, { pythonPath: path, scriptPath: join(root, 'embedding_sidecar') });
});

test('on Windows Python has another name', (t) => {
  const { root, path } = bundle(t, ['python', 'python.exe']);
  assert.equal(locate({ resources: root, platform: 'win32' }).pythonPath, path);
});

test('what is missing has its own code, and a next step', (t) => {
  const { root } = bundle(t, ['python', 'bin', 'python3.11']);
  const codes = [
    [{}, 'USAGE_ERROR'],
    [{ resources: join(root, 'nowhere'), platform: 'linux' }, 'PYTHON_NOT_FOUND'],
    [{ resources: root, pythonPath: root, platform: 'linux' }, 'PYTHON_NOT_FOUND'],
    [{ resources: root, scriptPath: join(root, 'gone'), platform: 'linux' }, 'BUNDLE_DAMAGED'],
  ];
  for (const [options, code] of codes) {
    assert.throws(() => locate(options), (error) => error.code === code && error.next !== undefined);
  }
});

test('a bare name of Python is looked up on the path, and nowhere else', { skip: NO_MODES }, (t) => {
  const { root } = bundle(t, ['python', 'bin', 'python3.11']);
  const before = process.env.PATH;
  t.after(() => (process.env.PATH = before));
  const [first, second] = [join(root, 'first'), join(root, 'second')];
  for (const folder of [first, second]) {
    mkdirSync(folder);
    writeFileSync(join(folder, 'python3'), '', { mode: folder === second ? 0o755 : 0o644 });
  }
  process.env.PATH = ['bundle', first, second].join(delimiter);
  const options = { resources: root, platform: 'linux' };
  assert.equal(locate({ ...options, pythonPath: 'python3' }).pythonPath, join(second, 'python3'));
  assert.throws(() => locate({ ...options, pythonPath: 'python4' }), (error) => {
    assert.match(error.message, /no python4 on PATH; next: /);
    return error.code === 'PYTHON_NOT_FOUND';
  });
});

test('an older spelling of the script is taken as given', (t) => {
  const { root, path } = bundle(t, ['python', 'bin', 'python3.11']);
  const scriptPath = join(root, 'embedding_sidecar', 'embed_server.py');
  writeFileSync(scriptPath, '');
  const identity = { instance: 'i'.repeat(32), token: 'secret' };
  const options = { resources: root, pythonPath: path, scriptPath };
  const allowed = { allowDirs: ['/a b', '/c'], allowOrigins: ['app://obsidian.md', 'tauri://localhost'] };
  const { args } = commandOf({ ...options, ...allowed, model: 'm' }, identity, 8421);
  assert.deepEqual(args, [
    ...['-I', '-B', scriptPath, '--port', '8421', '--parent-watch', '--token-stdin'],
    ...['--instance', identity.instance, '--log-format', 'json'],
    ...['--model', 'm', '--allow-dir', '/a b', '--allow-dir', '/c'],
    ...['--allow-origin', 'app://obsidian.md', '--allow-origin', 'tauri://localhost'],
  ]);
  assert.equal(args.includes(identity.token), false);
});

test('a cache is passed on where the service may read it, and beside a bundle refused', (t) => {
  const { root, path } = bundle(t, ['python', 'bin', 'python3.11']);
  const checkout = mkdtempSync(join(tmpdir(), 'sidecar-checkout-'));
  t.after(() => rmSync(checkout, { recursive: true }));
  const scriptPath = join(checkout, 'embed_server.py');
  writeFileSync(scriptPath, '');
  const identity = { instance: 'i'.repeat(32), token: 'secret' };
  const asked = (options) => commandOf({ pythonPath: path, modelCachePath: '/m', ...options }, identity, 0).args;
  const cache = (args) => args[args.indexOf('--model-cache') + 1];
  assert.equal(cache(asked({ scriptPath })), '/m');
  assert.equal(cache(asked({ resources: root, args: ['--allow-download'] })), '/m');
  for (const bundled of [{ resources: root }, { scriptPath: join(root, 'embedding_sidecar') }]) {
    assert.throws(() => asked(bundled), (error) => {
      assert.match(error.message, /modelCachePath .*; next: .*model names one of them$/);
      return error.code === 'USAGE_ERROR';
    });
  }
});

test('variables that lead Python or the loader astray are left out', () => {
  const environment = {
    ...{ HOME: '/h', PATH: '/bin', LANG: 'C', LDAP: 'x', HTTP_PROXY: 'p' },
    ...{ LD_PRELOAD: 'x', LD_LIBRARY_PATH: 'x', DYLD_INSERT_LIBRARIES: 'x', PYTHONPATH: 'x' },
    ...{ PYTHONHOME: 'x', NODE_OPTIONS: 'x', ELECTRON_RUN_AS_NODE: '1', VIRTUAL_ENV: 'x' },
  };
  const kept = cleanEnvironment(environment, '/b/python3.11', 'linux');
  assert.deepEqual(Object.keys(kept).sort(), ['HOME', 'HTTP_PROXY', 'LANG', 'LDAP', 'PATH']);
});

test('on Windows the folder of the bundled Python comes first on the path', () => {
  const kept = cleanEnvironment({ Path: 'C:\\openssl' }, '/b/python/python.exe', 'win32');
  assert.match(kept.Path ?? '', /^\/b\/python[:;]C:\\openssl$/);
  assert.equal(kept.PATH, undefined);
});
