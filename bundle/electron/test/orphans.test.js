import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

import { outlived } from './orphans.js';
import { isAlive, until } from './support/service.js';

const skip = process.platform === 'win32' ? 'there are no signals' : false;
const SERVICE = new URL('support/service.js', import.meta.url).href;

for (const moment of ['ready', 'model_cached']) {
  test(`a killed app leaves no sidecar behind, at ${moment}`, { skip }, async () => {
    for (let run = 0; run < 2; run += 1) await outlived(moment);
  });
}

test('an app that ends by process.exit takes even a deaf sidecar along', { skip }, async () => {
  const app = `
    import { PythonSidecarService } from '${new URL('../src/index.js', import.meta.url).href}';
    import { PYTHON, SCRIPT } from '${SERVICE}';
    const service = new PythonSidecarService({
      ...{ port: 0, pythonPath: PYTHON, scriptPath: SCRIPT, args: ['--behave', '{"deaf":true}'] },
    });
    const { pid } = await service.startSidecar();
    process.stdout.write(String(pid), () => process.exit(0));
  `;
  const stdio = /** @type {const} */ (['ignore', 'pipe', 'inherit']);
  const child = spawn(process.execPath, ['--input-type=module', '-e', app], { stdio });
  const [pid] = await once(child.stdout, 'data');
  await once(child, 'exit');
  await until(() => !isAlive(Number(pid)), 'it ends');
  assert.ok(Number(pid) > 0);
});

test('an app without anything else to do ends when it stopped its sidecar', { skip }, async () => {
  const app = fileURLToPath(new URL('../src/index.js', import.meta.url));
  const source = `
    import { PythonSidecarService } from '${app}';
    import { PYTHON, SCRIPT } from '${SERVICE}';
    const service = new PythonSidecarService({ port: 0, pythonPath: PYTHON, scriptPath: SCRIPT });
    await service.startSidecar();
    await service.client().embed('x');
    await service.stopSidecar();
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], { stdio: 'inherit' });
  const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
  const [code] = await once(child, 'exit');
  clearTimeout(late);
  assert.equal(code, 0);
});
