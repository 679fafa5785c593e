// An app of its own, for tests that suspend one: it sends each status, and embeds when it is told.
import { PythonSidecarClient, PythonSidecarService } from '../../src/index.js';

const { service: options, client: rest } = JSON.parse(process.argv[2] ?? '{}');
const service = options && new PythonSidecarService(options);
const client = service ? service.client(rest) : new PythonSidecarClient(rest);
service?.on('status', ({ state, pid, instance, restarts, lastError }) => {
  process.send({ state, pid, instance, restarts, error: lastError?.code });
});
process.on('message', (text) => {
  client.embed(text).then(
    ({ vectors }) => process.send({ rows: vectors.length }),
    (error) => process.send({ error: String(error) }),
  );
});
process.on('disconnect', () => process.exit());
await service?.startSidecar();
process.send({ state: 'begun' });
