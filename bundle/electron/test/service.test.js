import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';

import { PythonSidecarClient, PythonSidecarService, SidecarError } from '../src/index.js';
import { isAlive, scripted, serve, stranger, until } from './support/service.js';

const NO_SHELL = process.platform === 'win32' ? 'there is no shell with limits' : false;
const isCode = (code) => (error) => error instanceof SidecarError && error.code === code;

test('it starts, tells how far it is, serves, and stops', async (t) => {
  const { service, events, types, notes } = scripted(t);
  assert.equal(service.getStatus().state, 'stopped');
  const status = await service.startSidecar();
  assert.equal(status.state, 'ready');
  assert.equal(status.ready, true);
  assert.equal(status.model, 'scripted');
  assert.equal(status.dimensions, 8);
  assert.equal(status.version, '0.0.0');
  assert.deepEqual(types(), ['starting', 'model_cached', 'model_loaded', 'ready']);
  assert.equal(events.at(-1).data.port, status.port);
  const client = service.client();
  t.after(() => client.close());
  assert.equal((await client.health()).model, 'scripted');
  assert.equal((await client.embed('hello')).vectors.length, 1);
  await service.stopSidecar();
  assert.deepEqual(types().slice(4), ['stopping', 'stopped']);
  assert.deepEqual(notes('stop').map((entry) => entry.why)[0], 'shutdown');
  assert.equal(isAlive(status.pid), false);
  assert.deepEqual(
    [service.getStatus().pid, service.getStatus().port, service.getStatus().instance],
    [undefined, undefined, undefined],
  );
});

test('the token goes through standard input only, and every start has a new one', async (t) => {
  const { service, notes } = scripted(t);
  const first = await service.startSidecar();
  const second = await service.restartSidecar();
  assert.notEqual(first.instance, second.instance);
  assert.match(first.instance ?? '', /^[A-Za-z0-9_-]{8,64}$/);
  const { token } = await service.endpoint();
  assert.equal(Buffer.from(token, 'base64url').length, 32);
  assert.deepEqual(notes('token').map((entry) => entry.length), [43, 43]);
  assert.equal(JSON.stringify(notes('start')).includes(token), false);
});

test('who asks twice gets the same start', async (t) => {
  const { service, notes } = scripted(t, { start: 50 });
  const [one, two] = await Promise.all([service.startSidecar(), service.startSidecar()]);
  assert.equal(one.pid, two.pid);
  assert.equal((await service.startSidecar()).pid, one.pid);
  assert.equal(notes('start').length, 1);
});

test('a slow start is waited for, and so is a request that came before it', async (t) => {
  const { service, types } = scripted(t, { start: 700 });
  const started = service.startSidecar();
  const client = service.client();
  t.after(() => client.close());
  const { vectors } = await client.embed(['early']);
  assert.equal(vectors.length, 1);
  assert.equal((await started).ready, true);
  assert.equal(types().filter((type) => type === 'ready').length, 1);
});

test('a request before the start, and one after the end, is refused at once', async (t) => {
  const { service } = scripted(t);
  const client = service.client();
  await assert.rejects(client.embed('x'), isCode('SIDECAR_STOPPED'));
  await service.startSidecar();
  await service.stopSidecar();
  await assert.rejects(client.embed('x'), isCode('SIDECAR_STOPPED'));
});

test('a start that hangs ends after its time, and nothing of it is left', async (t) => {
  const { service, notes } = scripted(t, { hang: 'start' }, { startTimeout: 500 });
  await assert.rejects(service.startSidecar(), isCode('TIMEOUT'));
  assert.equal(service.getStatus().state, 'failed');
  assert.equal(notes('start').length, 1);
  assert.equal(isAlive(notes('start')[0].pid), false);
});

test('a service that listens and never becomes ready ends after its time, too', async (t) => {
  const { service } = scripted(t, { mute: true }, { startTimeout: 500 });
  await assert.rejects(service.startSidecar(), isCode('TIMEOUT'));
});

test('a crash loop ends after five attempts, with one message that says why', async (t) => {
  const last = { message: 'the engine broke', why: 'no luck', next: 'try another', exit_code: 1 };
  const says = `${JSON.stringify(last)}\n`;
  const { service, types, notes, events } = scripted(t, { exit: 1, says });
  await assert.rejects(service.startSidecar(), (error) => {
    assert.equal(error.code, 'SIDECAR_START_FAILED');
    assert.match(error.message, /failed 5 times .* the engine broke \(no luck\); next: try another$/);
    assert.equal(error.next, 'try another');
    assert.match(error.log, /the engine broke/);
    assert.equal(error.exitCode, 1);
    assert.equal(error.cause.code, 'SIDECAR_CRASHED');
    return true;
  });
  assert.equal(notes('start').length, 5);
  assert.equal(types().filter((type) => type === 'restarting').length, 4);
  assert.equal(types().filter((type) => type === 'failed').length, 1);
  const waits = events.filter(({ type }) => type === 'restarting').map(({ data }) => data.in_ms);
  assert.deepEqual(waits, [10, 20, 40, 80]);
});

test('without autoRestart the first crash is the last', async (t) => {
  const { service, notes } = scripted(t, { exit: 11 }, { autoRestart: false });
  await assert.rejects(service.startSidecar(), isCode('MODEL_NOT_LOADABLE'));
  assert.equal(notes('start').length, 1);
});

for (const [exit, code] of [
  [2, 'USAGE_ERROR'],
  [4, 'BUNDLE_DAMAGED'],
  [7, 'REFUSED_BY_RULE'],
  [10, 'SYSTEM_UNSUPPORTED'],
]) {
  test(`exit code ${exit} is never tried again`, async (t) => {
    const { service, notes, types } = scripted(t, { exit });
    await assert.rejects(service.startSidecar(), isCode(code));
    assert.equal(notes('start').length, 1);
    assert.equal(types().at(-1), 'failed');
    assert.equal(service.getStatus().lastError?.code, code);
  });
}

test('a model that is not there is final at the first start, unless it may be downloaded', async (t) => {
  const { service, notes } = scripted(t, { exit: 5 });
  await assert.rejects(service.startSidecar(), isCode('OUT_OF_REACH'));
  assert.equal(notes('start').length, 1);
  const passing = scripted(t, [{ exit: 5 }, {}], { args: ['--allow-download'] });
  assert.equal((await passing.service.startSidecar()).ready, true);
  assert.equal(passing.notes('start').length, 2);
});

test('what serves in the place of what should is in the ready event and the status', async (t) => {
  for (const degraded of ['reference', null]) {
    const { service, events } = scripted(t, { degraded });
    const status = await service.startSidecar();
    assert.equal(events.at(-1).data.degraded, degraded);
    assert.equal(status.degraded, degraded ?? undefined);
    await service.stopSidecar();
    assert.equal(service.getStatus().degraded, degraded ?? undefined);
  }
});

test('a damaged bundle found at a restart ends it, too', async (t) => {
  const { service, notes, types } = scripted(t, [{ after: 150 }, { exit: 4 }]);
  await service.startSidecar();
  await until(() => types().includes('failed'), 'it gives up');
  assert.equal(service.getStatus().lastError?.code, 'BUNDLE_DAMAGED');
  assert.equal(notes('start').length, 2);
  await assert.rejects(service.client().embed('x'), isCode('BUNDLE_DAMAGED'));
});

test('a missing module is no reason to try again', async (t) => {
  const says = "ModuleNotFoundError: No module named 'numpy'\n";
  const { service, notes } = scripted(t, { exit: 1, says });
  await assert.rejects(service.startSidecar(), isCode('PYTHON_DEPS_MISSING'));
  assert.equal(notes('start').length, 1);
});

test('a Python of another version is named as the cause', async (t) => {
  process.env.SCRIPTED_VERSION = '3.8.10';
  t.after(() => delete process.env.SCRIPTED_VERSION);
  const { service } = scripted(t, { exit: 1, says: 'SyntaxError: invalid syntax\n' });
  await assert.rejects(service.startSidecar(), (error) => {
    assert.match(error.message, /needs Python 3\.11, and .* is 3\.8; next: leave out pythonPath/);
    return error.code === 'PYTHON_VERSION_INCOMPATIBLE';
  });
});

test('a Python that is not there, and one that cannot be run, have a code', async (t) => {
  const { folder } = scripted(t);
  const there = join(folder, 'python');
  writeFileSync(there, 'no program');
  chmodSync(there, 0o644);
  for (const pythonPath of [join(folder, 'gone'), there]) {
    const service = new PythonSidecarService({ pythonPath, scriptPath: folder });
    await assert.rejects(service.startSidecar(), isCode('PYTHON_NOT_FOUND'));
    assert.equal(service.getStatus().state, 'failed');
  }
});

test('garbage on standard output, and a ready line of somebody else, change nothing', async (t) => {
  const { service, types } = scripted(t, { garbage: true });
  const status = await service.startSidecar();
  assert.equal(status.ready, true);
  assert.notEqual(status.port, 1);
  assert.deepEqual(types(), ['starting', 'model_cached', 'model_loaded', 'ready']);
});

test('a stranger on the port never sees the token, and a free port is taken instead', async (t) => {
  const { port, heard } = await stranger(t);
  const { service, notes } = scripted(t, {}, { port });
  const status = await service.startSidecar();
  assert.notEqual(status.port, port);
  assert.equal(notes('start').length, 2);
  assert.equal(status.crashes, 0);
  const client = service.client();
  t.after(() => client.close());
  await client.embed('secret text');
  assert.equal((await client.health()).instance, status.instance);
  assert.deepEqual(heard, []);
});

test('without the fallback a taken port is an error, and not tried again', async (t) => {
  const { port, heard } = await stranger(t);
  const { service, notes } = scripted(t, {}, { port, portFallback: false });
  await assert.rejects(service.startSidecar(), isCode('ADDRESS_IN_USE'));
  assert.equal(notes('start').length, 1);
  assert.deepEqual(heard, []);
});

test('a listener that does not name our instance is not trusted, whatever the child says', async (t) => {
  for (const said of [{ status: 'ok' }, { status: 'ok', instance: 'another-one' }]) {
    const { port, heard } = await stranger(t, said);
    const lie = { liar: port };
    const { service } = scripted(t, [lie, {}], { port: 0 });
    const status = await service.startSidecar();
    assert.notEqual(status.port, port);
    assert.equal(service.getStatus().lastError?.code, 'IDENTITY_UNPROVEN');
    assert.deepEqual(heard.map(({ url }) => url), ['/health']);
    assert.equal(heard.some(({ headers }) => 'authorization' in headers), false);
  }
});

test('a crash while it serves is mended, with a new token, and clients follow', async (t) => {
  const { service, types, notes } = scripted(t, [{ after: 150, signal: 'SIGKILL' }, {}]);
  const first = await service.startSidecar();
  const client = service.client({ retryDelay: 10 });
  t.after(() => client.close());
  await client.embed('before');
  await until(() => types().includes('restarting'), 'it crashes');
  assert.equal(service.getStatus().port, undefined);
  assert.equal((await client.embed('after')).vectors.length, 1);
  const second = service.getStatus();
  assert.notEqual(second.instance, first.instance);
  assert.equal(second.restarts, 1);
  assert.equal(second.crashes, 1);
  assert.equal(second.lastError?.signal, 'SIGKILL');
  assert.equal(notes('start').length, 2);
});

test('a service that stopped answering is killed and started again', async (t) => {
  for (const hanging of [{ after: 150, hang: 'now' }, { after: 150, silence: true, deaf: true }]) {
    const watch = { healthInterval: 50, healthTimeout: 50 };
    const { service, types, notes } = scripted(t, [hanging, {}], watch);
    const first = await service.startSidecar();
    await until(() => types().filter((type) => type === 'ready').length === 2, 'it is back');
    assert.equal(service.getStatus().lastError?.code, 'SIDECAR_HANGS');
    assert.equal(isAlive(first.pid), false);
    assert.equal(notes('start').length, 2);
    await service.stopSidecar();
  }
});

test('an app that may open no more files is told so, and lives', { skip: NO_SHELL }, async () => {
  const source = `
    import { openSync } from 'node:fs';
    import { PythonSidecarService } from '${new URL('../src/index.js', import.meta.url).href}';
    const { execPath: pythonPath } = process;
    const options = { pythonPath, scriptPath: pythonPath, port: 0, autoRestart: false };
    const service = new PythonSidecarService(options);
    process.stdout.write('');
    try { for (;;) openSync('/dev/null'); } catch {}
    await service.startSidecar().catch(({ code, message }) => console.log(code, message));
    await new Promise((resolve) => setTimeout(resolve, 50));
    console.log('alive');
  `;
  const limited = 'ulimit -n 64; exec "$0" --input-type=module -e "$1"';
  const done = spawnSync('sh', ['-c', limited, process.execPath, source], { encoding: 'utf8' });
  assert.match(done.stdout, /^SIDECAR_START_FAILED .*EMFILE.*\nalive\n$/, done.stderr);
});

test('a child that closed its standard input does not end the app', async (t) => {
  const { service } = scripted(t, [{ closesStdin: true }, {}]);
  const client = service.client();
  t.after(() => client.close());
  // It never got a token, so it takes any; what matters is that no EPIPE reaches us.
  assert.equal((await service.startSidecar()).ready, true);
  assert.equal((await client.embed('x')).vectors.length, 1);
});

test('the log comes line by line, and the state with every change', async (t) => {
  const log = [];
  const says = '{"level":"info"}\n{"level":"warning"}\n';
  const { service } = scripted(t, { says }, { onLog: (line) => log.push(line) });
  const states = [];
  service.on('status', ({ state }) => states.push(state));
  await service.startSidecar();
  await service.stopSidecar();
  assert.deepEqual(log, ['{"level":"info"}', '{"level":"warning"}']);
  assert.deepEqual(states, ['starting', 'ready', 'stopping', 'stopped']);
});

test('options that are undefined count as left out', async (t) => {
  const { service } = scripted(t, {}, { startTimeout: undefined, autoRestart: undefined });
  assert.equal((await service.startSidecar()).ready, true);
});

test('a client of many requests waits without a warning', async (t) => {
  const warnings = [];
  const warn = (warning) => warnings.push(warning);
  process.on('warning', warn);
  t.after(() => process.off('warning', warn));
  const { service } = scripted(t, { start: 100 });
  const client = service.client();
  t.after(() => client.close());
  const started = service.startSidecar();
  await Promise.all(Array.from({ length: 40 }, (_, n) => client.embed(String(n))));
  await started;
  assert.deepEqual(warnings, []);
});

test('a request that waits for the start can be called off', async (t) => {
  const { service } = scripted(t, { mute: true });
  const failed = assert.rejects(service.startSidecar());
  const client = service.client({ timeout: 50 });
  await assert.rejects(client.embed('x'), { code: 'TIMEOUT', next: /^wait for the event ready/ });
  const calling = new AbortController();
  const waiting = client.embed('x', { signal: calling.signal });
  calling.abort(new Error('never mind'));
  await assert.rejects(waiting, /never mind/);
  await service.stopSidecar();
  await failed;
});

test('where it listens, and its token, are enough for a client in a worker', async (t) => {
  const { service } = scripted(t);
  await service.startSidecar();
  const worker = new PythonSidecarClient(structuredClone(await service.endpoint()));
  t.after(() => worker.close());
  assert.equal((await worker.embed('x')).vectors.length, 1);
});

test('a service that is told to use a port uses it', async (t) => {
  const { port, server } = await serve(t, () => {});
  await new Promise((resolve) => server.close(resolve));
  const { service } = scripted(t, {}, { port });
  assert.equal((await service.startSidecar()).port, port);
});
