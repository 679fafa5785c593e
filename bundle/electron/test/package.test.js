import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

import * as main from '../src/index.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const TSC = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
const skip = existsSync(TSC) ? false : 'typescript is not installed here: npm ci';
const tsc = (...args) => execFileSync(process.execPath, [TSC, ...args], { cwd: ROOT, encoding: 'utf8' });
const npm = (...args) => execFileSync('npm', args, { stdio: 'pipe', encoding: 'utf8' });
const NO_NPM = spawnSync('npm', ['--version']).status === 0 ? false : 'npm is not installed here';
const described = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

test('the package has the three classes, and no more than it says', () => {
  assert.deepEqual(Object.keys(main).sort(), [
    ...['EXIT_CODES', 'PythonSidecarClient', 'PythonSidecarEmbedder', 'PythonSidecarService'],
    ...['SidecarError', 'decideReindex'],
  ]);
});

test('it needs nothing but Node at run time', () => {
  assert.equal(described.dependencies, undefined);
  for (const name of readdirSync(join(ROOT, 'src'))) {
    const source = readFileSync(join(ROOT, 'src', name), 'utf8');
    const imported = [...source.matchAll(/^(?:import|export) .* from '([^']+)';$/gm)].map(([, path]) => path);
    const foreign = imported.filter((path) => !path.startsWith('./') && !isBuiltin(path));
    assert.deepEqual(foreign, [], name);
  }
});

test('what the package names is there', () => {
  const { types, default: entry } = described.exports['.'];
  for (const path of [types, entry, ...described.files]) assert.ok(existsSync(join(ROOT, path)), path);
});

test('its documents say of every event what an app shows then', () => {
  const types = readFileSync(join(ROOT, 'types', 'events.d.ts'), 'utf8');
  const events = new Set([...types.matchAll(/type: '(\w+)';/g)].map(([, type]) => type));
  const table = readFileSync(join(ROOT, 'README.md'), 'utf8').split('| stage of the app |')[1].split('\n\n')[0];
  assert.ok(events.size > 8);
  for (const type of events) assert.ok(table.includes(`\`${type}\``), type);
});

test('packed and installed elsewhere it is what an app imports', { skip: NO_NPM }, (t) => {
  const app = mkdtempSync(join(tmpdir(), 'sidecar-app-'));
  t.after(() => rmSync(app, { recursive: true }));
  writeFileSync(join(app, 'package.json'), '{"name":"my-app","type":"module"}');
  npm('pack', ROOT, '--pack-destination', app);
  const archive = join(app, `sidecar-electron-${described.version}.tgz`);
  npm('install', '--prefix', app, '--offline', '--no-audit', archive);
  const asks = `import * as all from '@sidecar/electron'; console.log(Object.keys(all).sort().join())`;
  const options = { cwd: app, encoding: 'utf8' };
  const said = execFileSync(process.execPath, ['--input-type=module', '-e', asks], options);
  assert.equal(said.trim(), Object.keys(main).sort().join());
  const packed = readdirSync(join(app, 'node_modules', '@sidecar', 'electron')).sort();
  assert.deepEqual(packed, ['README.md', 'package.json', 'src', 'types']);
});

test('the lock names no place that packages come from', () => {
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  const named = Object.entries(packages).filter(([, { resolved }]) => resolved !== undefined);
  assert.deepEqual(named, []);
  for (const [path, { integrity }] of Object.entries(packages)) if (path) assert.ok(integrity, path);
});

test('the sources agree with their types', { skip }, () => {
  assert.equal(tsc('-p', 'tsconfig.json'), '');
});

test('the declarations are those of the sources', { skip }, (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sidecar-types-'));
  t.after(() => rmSync(folder, { recursive: true }));
  tsc('-p', 'tsconfig.types.json', '--outDir', folder);
  const names = readdirSync(folder).sort();
  assert.deepEqual(readdirSync(join(ROOT, 'types')).sort(), names);
  for (const name of names) {
    const committed = readFileSync(join(ROOT, 'types', name), 'utf8');
    assert.equal(committed, readFileSync(join(folder, name), 'utf8'), `npm run types: ${name}`);
    // Apps without esModuleInterop know of no default export of Node's modules.
    assert.doesNotMatch(committed, /^import \w+ from/m, name);
  }
});

test('an app in TypeScript gets its types, and its mistakes told', { skip }, (t) => {
  const folder = mkdtempSync(join(ROOT, 'node_modules', '.app-'));
  t.after(() => rmSync(folder, { recursive: true }));
  symlinkSync(ROOT, join(folder, 'sidecar'), 'junction');
  writeFileSync(join(folder, 'app.ts'), `
    import { PythonSidecarService, PythonSidecarEmbedder, SidecarError } from './sidecar/types/index.js';
    const service = new PythonSidecarService({
      port: 8421,
      onProgress(event) {
        if (event.type === 'model_loaded') event.data.dimensions.toFixed();
        // @ts-expect-error there is no such event
        if (event.type === 'nonsense') return;
      },
    });
    service.on('status', (status) => status.port?.toFixed());
    // @ts-expect-error a port is a number
    new PythonSidecarService({ port: '8421' });
    const embedder = new PythonSidecarEmbedder({ client: service.client({ timeout: 1 }) });
    export const one: Promise<Float32Array> = embedder.embed('text');
    export const two: Promise<Float32Array[]> = embedder.embed(['text']);
    export async function* read() {
      for await (const event of embedder.embedFile('/a', { unit: 'tokens' })) {
        if (event.type === 'chunks') yield event.vectors[0]?.length;
      }
    }
    export const isTimeout = (error: unknown) => error instanceof SidecarError && error.code === 'TIMEOUT';
  `);
  const strict = ['--strict', '--noEmit', '--target', 'es2022', '--types', 'node'];
  const resolution = ['--module', 'nodenext', '--moduleResolution', 'nodenext', '--ignoreConfig'];
  assert.equal(tsc(...strict, ...resolution, join(folder, 'app.ts')), '');
});
