/** One run of the service's process: started, listened to, ended with everything it started. */

import { spawn } from 'node:child_process';

import { within } from './clock.js';
import { SidecarError } from './errors.js';
import { progressOf } from './events.js';
import { Lines } from './lines.js';
import { killTree } from './tree.js';

// The end of standard error, for the message when it fails.
const LOG_CHARS = 16_384;
// What is still in the pipes of a process that ended is read for so long.
const DRAIN_MS = 500;

/**
 * @typedef {object} Command
 * @property {string} pythonPath
 * @property {string[]} args
 * @property {NodeJS.ProcessEnv} env
 * @property {import('./identity.js').Identity} identity
 */

/**
 * @typedef {object} Listeners
 * @property {(event: import('./events.js').Announced) => void} onProgress
 * @property {(line: string) => void} onLog a line of standard error
 */

/**
 * @typedef {object} Ending
 * @property {number | null} exitCode
 * @property {NodeJS.Signals | null} signal
 */

/**
 * A process that was started. It leads a group of its own, so that its workers end with it, and
 * holds our end of its standard input: however this program ends, the service notices.
 */
export class SidecarProcess {
  #child;
  #log = '';
  #kill = () => killTree(this.pid);

  /**
   * Start the command, and wait until the system has. Throws SidecarError if it cannot.
   * @param {Command} command
   * @param {Listeners} listeners
   * @returns {Promise<SidecarProcess>}
   */
  static start(command, listeners) {
    return new Promise((resolve, reject) => {
      const refuse = (/** @type {unknown} */ cause) => reject(refused(command.pythonPath, cause));
      let child;
      try {
        child = spawn(command.pythonPath, command.args, {
          stdio: ['pipe', 'pipe', 'pipe'],
          env: command.env,
          windowsHide: true,
          detached: process.platform !== 'win32',
        });
      } catch (cause) {
        refuse(cause);
        return;
      }
      child.on('error', refuse);
      // Where even the pipes were refused there is a child without any; its error follows.
      if (child.stdout === undefined) return;
      const started = new SidecarProcess(child, command.identity, listeners);
      child.once('spawn', () => resolve(started));
    });
  }

  /**
   * @private
   * @param {import('node:child_process').ChildProcessWithoutNullStreams} child
   * @param {import('./identity.js').Identity} identity
   * @param {Listeners} listeners
   */
  constructor(child, identity, listeners) {
    this.#child = child;
    /** @type {(port: number) => void} */
    let announce = () => {};
    /**
     * The port, once a ready line carried our instance; it may stay open for ever.
     * @type {Promise<number>}
     */
    this.announced = new Promise((resolve) => (announce = resolve));
    /** @type {Promise<Ending>} */
    this.ended = this.#ending();
    this.#read(child.stdout, (line) => {
      const event = progressOf(line);
      if (!event) return;
      const { instance, port } = event.data;
      if (event.type === 'ready') {
        // Somebody else's line, passed on by a confused child, names another instance.
        if (instance !== identity.instance || typeof port !== 'number') return;
        announce(port);
      }
      listeners.onProgress(event);
    });
    this.#read(child.stderr, (line) => {
      this.#log = `${this.#log}${line}\n`.slice(-LOG_CHARS);
      listeners.onLog(line);
    });
    // A child that ended or closed its input must not end us with EPIPE.
    child.stdin.on('error', () => {});
    if (child.pid !== undefined) {
      // Standard input stays open: its end tells the service that we are gone.
      child.stdin.write(`${identity.token}\n`);
      process.once('exit', this.#kill);
    }
  }

  /** @returns {number} */
  get pid() {
    return this.#child.pid ?? 0;
  }

  /** The last lines that it wrote to standard error. */
  get log() {
    return this.#log.trimEnd();
  }

  /** @returns {boolean} */
  get isRunning() {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /**
   * Ask it to end, and make it: by `shutdown` and the end of its input, by SIGTERM after three
   * fifths of `timeoutMs`, by SIGKILL to the whole group at its end.
   * @param {() => Promise<unknown>} shutdown
   * @param {number} timeoutMs
   */
  async stop(shutdown, timeoutMs) {
    if (!this.isRunning) return;
    const patience = Math.round(timeoutMs * 0.6);
    // Both mean the same to it, and either alone may not get through.
    void within(shutdown(), patience / 2).then(() => this.#child.stdin.end());
    if (!(await within(this.ended, patience)) && process.platform !== 'win32') {
      this.#child.kill('SIGTERM');
    }
    if (!(await within(this.ended, timeoutMs - patience))) this.kill();
  }

  /** Let Node end while it runs, which ends it. */
  unref() {
    const { stdin, stdout, stderr } = this.#child;
    this.#child.unref();
    for (const stream of [stdin, stdout, stderr]) {
      /** @type {import('node:net').Socket} */ (/** @type {unknown} */ (stream)).unref();
    }
  }

  /** End it at once, and what it started. */
  kill() {
    if (this.isRunning) this.#kill();
  }

  /** @returns {Promise<Ending>} */
  async #ending() {
    const child = this.#child;
    /** @type {Promise<void>} */
    const closed = new Promise((resolve) => child.once('close', () => resolve()));
    /** @type {Ending} */
    const ending = await new Promise((resolve) => {
      child.once('exit', (exitCode, signal) => {
        // Its workers, if it left some; at this very moment the number is still theirs.
        if (process.platform !== 'win32') this.#kill();
        resolve({ exitCode, signal });
      });
    });
    process.removeListener('exit', this.#kill);
    await within(closed, DRAIN_MS);
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
    return ending;
  }

  /**
   * @param {import('node:stream').Readable} stream
   * @param {(line: string) => void} take
   */
  #read(stream, take) {
    const lines = new Lines();
    stream.on('data', (/** @type {Buffer} */ bytes) => {
      for (const line of lines.push(bytes)) take(line);
    });
    stream.on('end', () => {
      const rest = lines.end();
      if (rest) take(rest);
    });
    stream.on('error', () => {});
  }
}

/**
 * @param {string} pythonPath
 * @param {unknown} cause
 * @returns {SidecarError}
 */
function refused(pythonPath, cause) {
  const { code = '' } = /** @type {NodeJS.ErrnoException} */ (cause);
  const isAbsent = ['ENOENT', 'EACCES', 'ENOTDIR', 'ENOEXEC', 'UNKNOWN'].includes(code);
  const kind = isAbsent ? 'PYTHON_NOT_FOUND' : 'SIDECAR_START_FAILED';
  return new SidecarError(kind, `${pythonPath} cannot be started (${code})`, {
    cause,
    next: 'check that the file is the Python of the bundle and may be executed',
  });
}
