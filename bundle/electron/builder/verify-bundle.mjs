import { PythonSidecarService } from '/tmp/w/reader5/bundle/electron/src/index.js';
for (const o of [{allowDirs: '/docs'}, {args: '--threads 2'}, {allowOrigins: 'app://x'}, {allowDirs: null}]) {
  let n = 0; 
  try { const s = new PythonSidecarService({resources:'/tmp/w/reader5-lean', port: 0, backoff: {firstMs: 1}, onProgress: (e) => { if (e.type==='starting') n++; }, ...o}); await s.startSidecar(); await s.stopSidecar(); } catch (e) { console.log(JSON.stringify(o), n, e.code, e.message); }
}
