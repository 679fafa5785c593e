// A service with the scripted Python, its diary, and what tests ask of both.
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { PythonSidecarService } from '../../src/index.js';

export const PYTHON = fileURLToPath(new URL('python.mjs', import.meta.url));
export const SCRIPT = fileURLToPath(new URL('protocol.js', import.meta.url));
// Waits are a hundredth of the real ones.
export const QUICK = { firstMs: 10, longestMs: 160, random: () => 0.5 };

export function scripted(t, behave = {}, options = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'sidecar-test-'));
  const diary = join(folder, 'diary');
  const events = [];
  const given = {
    pythonPath: PYTHON,
    scriptPath: SCRIPT,
    port: 0,
    healthInterval: 0,
    backoff: QUICK,
    onProgress: (event) => events.push(event),
    ...options,
    args: ['--diary', diary, '--behave', JSON.stringify(behave), ...(options.args ?? [])],
  };
  const service = new PythonSidecarService(given);
  t.after(async () => {
    await service.stopSidecar();
    rmSync(folder, { recursive: true, force: true });
  });
  const notes = (what) =>
    (existsSync(diary) ? readFileSync(diary, 'utf8') : '')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line))
      .filter((entry) => what === undefined || entry.what === what);
  const types = () => events.map((event) => event.type);
  return { service, given, events, types, notes, folder };
}

export function isAlive(pid) {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  // One that ended and that nobody asked for yet answers to signals, too.
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return process.platform !== 'linux';
  }
}

export async function until(claim, what, ms = 10_000) {
  const end = performance.now() + ms;
  while (performance.now() < end) {
    if (await claim()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`it did not come to that: ${what}`);
}

// A program of somebody else, that answers 200 to everything and remembers what it was sent.
export async function stranger(t, said = { status: 'ok' }) {
  const heard = [];
  const server = http.createServer((request, response) => {
    heard.push({ url: request.url, headers: request.headers });
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(said));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: server.address().port, heard };
}

// A server for one test whose handler is the test's own.
export async function serve(t, handle) {
  const server = http.createServer(handle);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: server.address().port, server };
}
