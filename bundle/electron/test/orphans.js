// Counts what is left of sidecars whose app was killed: node test/orphans.js [RUNS (100)]
// With SIDECAR_BUNDLE it is the one of that bundle, else the scripted one. Exits with 1 if any is.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { isAlive, until } from './support/service.js';

const APP = fileURLToPath(new URL('support/app.js', import.meta.url));
const LIMIT_MS = 1000;

// Start an app, kill it once its sidecar is ready, and return how long that outlived it.
export async function outlived(moment = 'ready') {
  const app = spawn(process.execPath, [APP], { stdio: ['ignore', 'pipe', 'inherit'] });
  /** @type {number[]} */
  let pids = [];
  for await (const line of createInterface({ input: app.stdout })) {
    const told = JSON.parse(line);
    pids = told.pids;
    if (told.moment === moment) break;
  }
  if (pids.length === 0) throw new Error('the app started no sidecar');
  const exited = once(app, 'exit');
  app.kill('SIGKILL');
  await exited;
  const since = performance.now();
  await until(() => !pids.some(isAlive), 'it ends', 20 * LIMIT_MS);
  return performance.now() - since;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const runs = Number(process.argv[2] ?? 100);
  const times = [];
  let failures = 0;
  for (let run = 0; run < runs; run += 1) {
    try {
      times.push(await outlived());
    } catch (error) {
      failures += 1;
      console.error(`run ${run}: ${error.message}`);
    }
  }
  times.sort((one, two) => one - two);
  const late = times.filter((time) => time > LIMIT_MS).length;
  const at = (share) => `${(times[Math.floor(times.length * share)] ?? NaN).toFixed(0)} ms`;
  console.log(`${times.length} of ${runs} sidecars went with their app, ${late} later than ${LIMIT_MS} ms`);
  console.log(`gone after: p50 ${at(0.5)}, p95 ${at(0.95)}, worst ${times.at(-1)?.toFixed(0)} ms`);
  process.exitCode = failures + late > 0 ? 1 : 0;
}
