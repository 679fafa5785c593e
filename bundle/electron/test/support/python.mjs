#!/usr/bin/env node
// A Python that never was: started like the bundle's, it speaks the service's protocol and then
// misbehaves as the JSON after --behave says: one object, or an array with one for each start.
// {start, degraded, exit, signal, says, mute, garbage, hang, deaf, liar, keepsPort, worker, closesStdin, after,
// gone: how many looks, once it is ready, find its bundle gone}
import { spawn } from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import http from 'node:http';
import { createInterface } from 'node:readline';

import { handler } from './protocol.js';

const argv = process.argv.slice(2);
if (argv.includes('-V')) {
  console.log(`Python ${process.env.SCRIPTED_VERSION ?? '3.11.9'}`);
  process.exit(0);
}
const option = (name) => argv[argv.indexOf(name) + 1];
const diary = argv.includes('--diary') ? option('--diary') : undefined;

// Every start, and whatever matters of it, goes to a file that the test reads.
function note(what, data = {}) {
  if (diary) appendFileSync(diary, `${JSON.stringify({ what, pid: process.pid, ...data })}\n`);
}
const starts = diary ? count(diary) : 0;
function count(path) {
  try {
    return readFileSync(path, 'utf8').split('\n').filter((line) => line.includes('"start"')).length;
  } catch {
    return 0;
  }
}
note('start', { argv, env: Object.keys(process.env) });

const plan = argv.includes('--behave') ? JSON.parse(option('--behave')) : {};
const act = Array.isArray(plan) ? (plan[Math.min(starts, plan.length - 1)] ?? {}) : plan;
const announce = (type, data) => {
  process.stdout.write(`PROGRESS:${JSON.stringify({ type, data })}\n`);
};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const block = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);

if (act.deaf) for (const name of ['SIGTERM', 'SIGINT']) process.on(name, () => note('deaf', { name }));
if (act.says) process.stderr.write(act.says);
if (act.worker) {
  const forever = 'setInterval(() => {}, 1000)';
  const worker = spawn(process.execPath, ['-e', forever], { stdio: 'ignore' });
  note('worker', { worker: worker.pid });
}
if (act.closesStdin) {
  process.stdin.destroy();
  await sleep(50);
}
if (act.exit !== undefined) process.exit(act.exit);
if (act.garbage) {
  process.stdout.write('Loading weights: 100%|####| 9/9\r\nPROGRESS:{"type":\nPROGRESS:[1]\nPROGRESS:{}\n');
  process.stdout.write(Buffer.from([0xff, 0xfe, 0x0a, 0x50, 0x52]));
  process.stdout.write(`${'x'.repeat(3 << 20)}\n`);
  announce('ready', { instance: 'somebody-else', pid: 1, host: '127.0.0.1', port: 1 });
}
if (act.hang === 'start') block();

const instance = option('--instance');
let token;
let isOpen = true;
const stop = (why) => {
  if (act.deaf) return;
  note('stop', { why });
  setTimeout(() => process.exit(0), act.drain ?? 0);
};
if (!act.closesStdin) {
  const lines = createInterface({ input: process.stdin });
  const first = new Promise((resolve) => lines.once('line', resolve));
  lines.on('close', () => {
    isOpen = false;
    stop('stdin');
  });
  token = await first;
  note('token', { length: token.length });
}
process.on('SIGTERM', () => stop('SIGTERM'));

let isReady = false;
const status = () => (isReady ? 'ok' : 'loading');
let gone = act.gone ?? 0;
const bundle = (path) => {
  const said = isReady && gone > 0 ? 'gone' : 'present';
  if (isReady && path === '/health') gone -= 1;
  if (isReady && act.gone) note(said, { path });
  return said;
};
const answer = handler({ instance, token, status, bundle, shutdown: () => stop('shutdown') });
let prove;
const proven = new Promise((resolve) => (prove = resolve));
const server = http.createServer((request, response) => {
  if (isReady && request.url === '/health') response.on('finish', prove);
  if (request.headers.authorization) note('authorized', { path: request.url });
  if (act.silent) return;
  answer(request, response);
});
server.on('error', (error) => {
  process.stderr.write(`error: port ${option('--port')} is taken\n  why: ${error.code}\n`);
  process.exit(3);
});
const port = Number(option('--port'));
await new Promise((resolve) => server.listen({ host: '127.0.0.1', port, exclusive: true }, resolve));
announce('model_cached', { model: 'scripted' });
if (act.start) await sleep(act.start);
if (act.mute) await sleep(1 << 30);
announce('model_loaded', { model: 'scripted', dimensions: 8 });
isReady = true;
announce('ready', {
  instance,
  pid: process.pid,
  host: '127.0.0.1',
  port: act.liar ?? server.address().port,
  version: '0.0.0',
  degraded: act.degraded ?? null,
});
if (act.after !== undefined) {
  // So long after somebody has seen that it is well.
  await proven;
  await sleep(act.after);
  if (act.hang) block();
  if (act.silence) act.silent = true;
  else if (act.signal) process.kill(process.pid, act.signal);
  else process.exit(act.code ?? 1);
}
