// An app that only waits to be killed. It tells the processes that must not outlive it.
import { PythonSidecarService } from '../../src/index.js';
import { PYTHON, SCRIPT } from './service.js';

const bundle = process.env.SIDECAR_BUNDLE;
const engine = process.env.SIDECAR_ENGINE;
const service = new PythonSidecarService({
  port: 0,
  ...(bundle ? { resources: bundle } : { pythonPath: PYTHON, scriptPath: SCRIPT }),
  ...(engine ? { engine } : {}),
});
service.on('progress', ({ type }) => {
  const { pid } = service.getStatus();
  if (pid) console.log(JSON.stringify({ moment: type, pids: [pid] }));
});
await service.startSidecar();
setInterval(() => {}, 60_000);
