/** Keeps the sidecar running for as long as the app wants it. */

import { EventEmitter } from 'node:events';

import { Backoff } from './backoff.js';
import { PythonSidecarClient } from './client.js';
import { sleep, unlessAborted, within } from './clock.js';
import { diagnose } from './diagnosis.js';
import { errorOfExit, FINAL, SidecarError } from './errors.js';
import { exhausted, told, wrapped } from './failures.js';
import { newIdentity } from './identity.js';
import { requireOptions } from './known.js';
import { commandOf, DEFAULTS } from './options.js';
import { SidecarProcess } from './process.js';
import { absence, Departure, PARTIAL, replaced } from './replacement.js';
import { begun } from './run.js';
import { trace } from './trace.js';
import { hangs, proven } from './watch.js';

/**
 * @typedef {import('./events.js').Announced} Announced
 * @typedef {import('./events.js').ProgressEvent} ProgressEvent
 * @typedef {import('./options.js').Endpoint} Endpoint
 * @typedef {import('./run.js').Run} Run
 * @typedef {import('./options.js').ServiceOptions} ServiceOptions
 * @typedef {{ status: [Status], progress: [ProgressEvent], log: [string] }} ServiceEvents
 * @typedef {import('./options.js').State} State
 * @typedef {import('./options.js').Status} Status
 */

// What was killed is given so long at least to end.
const KILLED_MS = 1000;

/**
 * Starts the sidecar, proves that the listener is the process that was started, starts it again
 * after a crash, and ends it with everything it started.
 *
 * Events: `status` with each new Status, `progress` with each ProgressEvent, `log` with each line.
 * @extends {EventEmitter<ServiceEvents>}
 */
export class PythonSidecarService extends EventEmitter {
  /** @type {typeof DEFAULTS & ServiceOptions} */
  #options;
  #backoff;
  /** @type {State} */
  #state = 'stopped';
  /** @type {Run | undefined} */
  #run;
  /** @type {SidecarProcess | undefined} */
  #process;
  /** @type {Endpoint | undefined} */
  #endpoint;
  /** @type {string | undefined} */
  #instance;
  /** @type {Record<string, unknown>} */
  #said = {};
  #restarts = 0;
  /** @type {SidecarError | undefined} */
  #lastError;
  /** @type {Promise<void> | undefined} */
  #stopping;
  #isHeld = true;
  #departure = new Departure();
  /** How often the app asked for a stop: a start that waits for one is not wanted after the next. */
  #stops = 0;
  /** @type {Set<() => void>} */
  #waiting = new Set();

  /** @param {ServiceOptions} [options] */
  constructor(options = {}) {
    super();
    requireOptions('PythonSidecarService', options);
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    this.#options = { ...DEFAULTS, ...Object.fromEntries(given) };
    this.#backoff = new Backoff(options.backoff);
  }

  /**
   * Start the sidecar and wait until it serves. While it starts or runs, this is the same start.
   *
   * Rejects with SidecarError when it cannot be started, or when stopSidecar comes before.
   * @returns {Promise<Status>}
   */
  startSidecar() {
    if (this.#stopping) return this.#startAfter(this.#stopping);
    if (!this.#run) {
      this.#backoff.forget();
      this.#restarts = 0;
      this.#lastError = undefined;
      this.#run = begun((run) => this.#supervise(run));
    }
    return this.#run.started;
  }

  /**
   * End the sidecar and what it started: by a request, then by signals, by force after 5 s.
   * @returns {Promise<void>}
   */
  stopSidecar() {
    this.#stops += 1;
    return this.#halt();
  }

  /**
   * Stop it, if it runs, and start it with a new identity. A stopSidecar meanwhile wins.
   * @returns {Promise<Status>}
   */
  restartSidecar() {
    return this.#startAfter(this.#halt());
  }

  /** Let Node end while the sidecar is ready, which ends it; a start is still waited for. */
  unref() {
    this.#isHeld = false;
    if (this.#endpoint) this.#process?.unref();
  }

  /** @returns {Status} */
  getStatus() {
    const { version, model, dimensions, degraded } = this.#said;
    return {
      state: this.#state,
      ready: this.#state === 'ready',
      pid: this.#process?.isRunning ? this.#process.pid : undefined,
      port: this.#endpoint?.port,
      instance: this.#instance,
      version: typeof version === 'string' ? version : undefined,
      model: typeof model === 'string' ? model : undefined,
      dimensions: typeof dimensions === 'number' ? dimensions : undefined,
      degraded: typeof degraded === 'string' ? degraded : undefined,
      crashes: this.#backoff.crashes,
      restarts: this.#restarts,
      lastError: this.#lastError,
    };
  }

  /**
   * Return a client that follows this service through restarts, ports and tokens.
   * @param {Omit<import('./client.js').ClientOptions, 'baseUrl' | 'host' | 'port' | 'token' | 'service'>}
   *   [options]
   */
  client(options = {}) {
    requireOptions('service.client', options);
    return new PythonSidecarClient({ ...options, service: this });
  }

  /**
   * Return where the proven service listens; waits while it starts or comes back. A worker makes
   * its client of it, `new PythonSidecarClient(await service.endpoint())`, and asks for it anew
   * after a restart: port and token are of one start.
   *
   * Rejects with SidecarError when it does not run, or with the reason of an aborted signal.
   * @param {AbortSignal} [signal]
   * @returns {Promise<Endpoint>}
   */
  async endpoint(signal) {
    while (!this.#endpoint) {
      if (!this.#run) {
        if (this.#state === 'failed' && this.#lastError) throw this.#lastError;
        throw new SidecarError('SIDECAR_STOPPED', 'the sidecar is not running', {
          next: 'call startSidecar first',
        });
      }
      let go = () => {};
      /** @type {Promise<void>} */
      const changed = new Promise((resolve) => (go = resolve));
      this.#waiting.add(go);
      await unlessAborted(changed, signal).finally(() => this.#waiting.delete(go));
    }
    return this.#endpoint;
  }

  /**
   * Take the word of a client that the bundle is gone, sooner than the next look finds it.
   * @internal
   */
  noticeGone() {
    this.#departure.tell();
  }

  /** @returns {Promise<void>} */
  #halt() {
    this.#stopping ??= this.#end().finally(() => (this.#stopping = undefined));
    return this.#stopping;
  }

  /** @param {Promise<void>} stopped */
  #startAfter(stopped) {
    const stops = this.#stops;
    const started = stopped.then(() => {
      if (stops === this.#stops) return this.startSidecar();
      throw new SidecarError('SIDECAR_STOPPED', 'the sidecar was stopped');
    });
    // As with a start that need not wait.
    started.catch(() => {});
    return started;
  }

  /** @param {Run} run */
  async #supervise(run) {
    let { port } = this.#options;
    let hasServed = false;
    let isReplaced = false;
    for (;;) {
      /** @type {number | undefined} */
      let readyAt;
      /** @type {SidecarError} */
      let error;
      try {
        this.#become('starting', { port });
        await this.#launch(run, port);
        readyAt = performance.now();
        hasServed = true;
        isReplaced = false;
        this.#become('ready');
        run.resolve(this.getStatus());
        error = await this.#watch(run);
      } catch (thrown) {
        error = wrapped(thrown);
      }
      const place = this.#endpoint;
      this.#endpoint = undefined;
      if (error.code === 'BUNDLE_GONE') await this.#stop(place);
      await this.#discard(run);
      if (run.over.signal.aborted) return;
      this.#lastError = error;
      const isElsewhere = error.code === 'ADDRESS_IN_USE' || error.code === 'IDENTITY_UNPROVEN';
      if (isElsewhere && this.#options.portFallback && port !== 0) {
        port = 0;
        continue;
      }
      // What was there will be there again: an updater is at work.
      const missing = hasServed ? absence(this.#options) : undefined;
      isReplaced ||= error.code === 'BUNDLE_GONE' || missing !== undefined;
      const isPassing =
        (isReplaced && PARTIAL.has(error.code)) ||
        // What may be downloaded is in reach again with the network.
        (error.code === 'OUT_OF_REACH' && this.#options.args?.includes('--allow-download'));
      const isFinal = FINAL.has(error.code) && !isPassing;
      if (!this.#options.autoRestart || isFinal) {
        this.#giveUp(run, error);
        return;
      }
      const readyMs = readyAt === undefined ? undefined : performance.now() - readyAt;
      const wait = this.#backoff.crashed(readyMs);
      if (wait === undefined) {
        this.#giveUp(run, exhausted(error, this.#backoff.most));
        return;
      }
      this.#restarts += 1;
      this.#become('restarting', { in_ms: Math.round(wait), ...told(error) });
      try {
        await sleep(wait, run.over.signal);
        if (hasServed) await this.#awaitBundle(run);
      } catch {
        return;
      }
    }
  }

  /**
   * Wait until a service can be started from the configured place. Rejects when the run is over.
   * @param {Run} run
   */
  async #awaitBundle(run) {
    for (let attempt = 0; ; attempt += 1) {
      const missing = absence(this.#options);
      if (!missing) return;
      const wait = this.#backoff.waitMs(attempt);
      if (attempt === 0) {
        this.#lastError = missing;
        this.#become('restarting', { in_ms: Math.round(wait), ...told(missing) });
      }
      await sleep(wait, run.over.signal);
    }
  }

  /**
   * Start one process and return once it has proven who it is and that it serves.
   * @param {Run} run
   * @param {number} port
   */
  async #launch(run, port) {
    const identity = newIdentity();
    const command = commandOf(this.#options, identity, port);
    const { signal } = run.over;
    signal.throwIfAborted();
    this.#said = {};
    this.#instance = identity.instance;
    const started = await SidecarProcess.start(command, {
      onProgress: (event) => this.#hear(event),
      onLog: (line) => this.#log(line),
    });
    this.#process = started;
    const ended = started.ended.then(async ({ exitCode, signal: name }) => {
      throw await diagnose(errorOfExit(exitCode, name, started.log), command);
    });
    ended.catch(() => {});
    const timeout = new AbortController();
    try {
      const place = await Promise.race([
        unlessAborted(ended, signal),
        proven(started, identity, this.#options.healthTimeout, timeout.signal),
        sleep(this.#options.startTimeout, timeout.signal).then(() => {
          const seconds = Math.round(this.#options.startTimeout / 1000);
          throw new SidecarError('TIMEOUT', `the sidecar was not ready after ${seconds} s`, {
            log: started.log,
            next: 'see its log; a slow disk may need a larger startTimeout',
          });
        }),
      ]);
      signal.throwIfAborted();
      this.#endpoint = place;
      if (!this.#isHeld) started.unref();
    } finally {
      timeout.abort();
    }
  }

  /**
   * Return how the ready process failed: by its end, by three looks in a row that found it without
   * an answer, or because another bundle lies where its own was. Rejects when the run is over.
   * @param {Run} run
   * @returns {Promise<SidecarError>}
   */
  async #watch(run) {
    const [watched, place, instance] = [this.#process, this.#endpoint, this.#instance];
    if (!watched || !place || !instance) throw new Error('there is nothing to watch');
    const { healthInterval, healthTimeout } = this.#options;
    const departure = (this.#departure = new Departure());
    const until = new AbortController();
    const abort = () => until.abort(run.over.signal.reason);
    run.over.signal.addEventListener('abort', abort, { once: true });
    if (run.over.signal.aborted) abort();
    const ended = watched.ended.then(({ exitCode, signal }) =>
      errorOfExit(exitCode, signal, watched.log),
    );
    try {
      return await unlessAborted(
        Promise.race([
          ended,
          ...(this.#options.autoRestart
            ? [
                replaced(
                  { ...place, instance },
                  departure,
                  this.#options,
                  (attempt) => this.#backoff.waitMs(attempt),
                  until.signal,
                ),
              ]
            : []),
          ...(healthInterval > 0
            ? [
                hangs(
                  watched.pid,
                  place,
                  instance,
                  { healthInterval, healthTimeout },
                  () => departure.tell(),
                  until.signal,
                ),
              ]
            : []),
        ]),
        run.over.signal,
      );
    } finally {
      run.over.signal.removeEventListener('abort', abort);
      until.abort();
    }
  }

  /**
   * End the process of a run that failed or is over.
   * @param {Run} run
   */
  async #discard(run) {
    const left = this.#process;
    // A stop is gentle, and done by the one who asked for it.
    if (!left || run.over.signal.aborted) return;
    left.kill();
    await within(left.ended, this.#options.stopTimeout);
    this.#process = undefined;
  }

  async #end() {
    const run = this.#run;
    if (!run) {
      this.#become('stopped');
      return;
    }
    const place = this.#endpoint;
    this.#endpoint = undefined;
    run.over.abort(new SidecarError('SIDECAR_STOPPED', 'the sidecar was stopped'));
    this.#become('stopping');
    await this.#stop(place);
    await run.done;
    // A process that was being started when the stop came.
    const late = this.#process;
    late?.kill();
    const patience = Math.max(this.#options.stopTimeout, KILLED_MS);
    // One that the system does not end, as it waits for a disk, holds up neither the app nor Node.
    if (late && !(await within(late.ended, patience))) late.unref();
    this.#process = undefined;
    this.#run = undefined;
    this.#instance = undefined;
    run.reject(run.over.signal.reason);
    this.#become('stopped');
  }

  /**
   * End the process gently: it answers what it has.
   * @param {Endpoint | undefined} place
   */
  async #stop(place) {
    const shutdown = async () => {
      if (!place) return;
      const client = new PythonSidecarClient({ ...place, retryAttempts: 0, timeout: 1000 });
      await client.shutdown().finally(() => client.close());
    };
    await this.#process?.stop(shutdown, this.#options.stopTimeout);
  }

  /**
   * @param {Run} run
   * @param {SidecarError} error
   */
  #giveUp(run, error) {
    this.#lastError = error;
    this.#run = undefined;
    this.#instance = undefined;
    run.reject(error);
    this.#become('failed', told(error));
  }

  /** @param {Announced} event */
  #hear(event) {
    Object.assign(this.#said, event.data);
    // That it is ready is told when it is proven.
    if (event.type !== 'ready') this.#tell(event);
  }

  /**
   * @param {State} state
   * @param {object} [data]
   */
  #become(state, data) {
    const changed = this.#state !== state;
    this.#state = state;
    const status = this.getStatus();
    if (changed || data) {
      const { instance, pid, port, version, degraded = null } = status;
      const host = this.#endpoint?.host;
      const shown = state === 'ready' ? { instance, pid, host, port, version, degraded } : data ?? {};
      this.#tell({ type: state, data: { ...shown } });
    }
    this.#safely(() => this.emit('status', status));
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const go of waiting) go();
  }

  /** @param {Announced} announced */
  #tell(announced) {
    const event = /** @type {ProgressEvent} */ (announced);
    trace('SIDECAR-SERVICE', announced.type, announced.data);
    this.#safely(() => this.#options.onProgress?.(event));
    this.#safely(() => this.emit('progress', event));
  }

  /** @param {string} line */
  #log(line) {
    this.#safely(() => this.#options.onLog?.(line));
    this.#safely(() => this.emit('log', line));
  }

  /**
   * Call what the app gave us; where it throws, that is the app's own error, and comes to it as
   * one, but the sidecar goes on.
   * @param {() => unknown} call
   */
  #safely(call) {
    try {
      call();
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}
