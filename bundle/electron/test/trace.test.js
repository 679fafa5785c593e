// What the environment asks for is written to standard error: retries, and the life of a service.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import test from 'node:test';

const SOURCE = `
  import { PythonSidecarClient, PythonSidecarService } from '${new URL('../src/index.js', import.meta.url).href}';
  const client = new PythonSidecarClient({ port: 1, token: 'hush', retryAttempts: 1, retryDelay: 1 });
  await client.embed('a text').catch(() => {});
  await new PythonSidecarService({ resources: '/no-such-bundle' }).startSidecar().catch(() => {});
`;

function said(environment) {
  const { NODE_DEBUG, LOG_CATEGORIES, ...rest } = process.env;
  const { stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', SOURCE], {
    encoding: 'utf8', env: { ...rest, ...environment },
  });
  return [/SIDECAR-CLIENT retry .*"attempt":1.*NETWORK_ERROR/, /SIDECAR-SERVICE starting .*"port":8421/,
    /SIDECAR-SERVICE failed .*PYTHON_NOT_FOUND/, /hush|a text/].map((line) => line.test(stderr));
}

for (const [environment, expected] of [
  [{}, [false, false, false, false]],
  [{ NODE_DEBUG: 'other,sidecar' }, [true, true, true, false]],
  [{ LOG_CATEGORIES: 'APP,SIDECAR-CLIENT' }, [true, false, false, false]],
  [{ LOG_CATEGORIES: 'sidecar-service' }, [false, true, true, false]],
  [{ LOG_CATEGORIES: 'SIDECAR-SERVICE SIDECAR-CLIENT' }, [true, true, true, false]],
]) {
  test(`${JSON.stringify(environment)} shows what it names`, () => {
    assert.deepEqual(said(environment), expected);
  });
}
