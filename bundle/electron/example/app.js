/** The app without its window: the service, the ranking, and the page that shows both. */

import { PythonSidecarService } from '@sidecar/electron';

import { DOCUMENTS } from './documents.js';
import { Ranking } from './ranking.js';
import { serve } from './server.js';
import { State } from './state.js';

/**
 * Show the page at once and start the sidecar beside it.
 * @param {import('@sidecar/electron').ServiceOptions} options
 * @returns {Promise<{ url: string, service: PythonSidecarService, stop: () => Promise<void> }>}
 */
export async function startApp(options) {
  const service = new PythonSidecarService(options);
  const client = service.client();
  const state = new State(service);
  const ranking = new Ranking(client, DOCUMENTS);

  const look = async () => {
    const { dimensions, fingerprint } = await ranking.prepare();
    const { status, device, degraded } = await client.health();
    state.know({ dimensions, fingerprint, health: status, device, degraded });
  };
  service.on('progress', ({ type }) => {
    // What goes wrong here shows in the next picture of the service.
    if (type === 'ready') look().catch(() => {});
  });

  const page = await serve({
    state,
    documents: DOCUMENTS,
    rank: (text, signal) => ranking.rank(text, signal),
    restart: () => service.restartSidecar(),
  });
  // The page tells that it failed, and offers another try.
  service.startSidecar().catch(() => {});
  const stop = async () => {
    await service.stopSidecar();
    client.close();
    await page.close();
  };
  return { url: page.url, service, stop };
}
