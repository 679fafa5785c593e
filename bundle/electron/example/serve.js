/** The example without Electron: node bundle/electron/example/serve.js BUNDLE, then open the page. */

import { startApp } from './app.js';

const resources = process.argv[2];
if (!resources) {
  console.error('usage: node serve.js BUNDLE    (a folder as bundle/out/linux-x64)');
  process.exit(2);
}
const app = await startApp({ resources, onLog: (line) => console.error(line) });
console.log(app.url);
for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.once(name, () => void app.stop());
}
