/** How long to wait after a crash, and when to give up. */

/**
 * @typedef {object} BackoffOptions
 * @property {number} [firstMs] the wait after the first crash (1000); each further one doubles it
 * @property {number} [longestMs] (16000)
 * @property {number} [most] crashes within the window that end it (5)
 * @property {number} [windowMs] (180000)
 * @property {() => number} [random] from 0 to 1, for the jitter
 * @property {() => number} [now] a clock in milliseconds that never goes back
 */

/** Counts crashes. Five in three minutes, or five in a row that never became ready, are enough. */
export class Backoff {
  #firstMs;
  #longestMs;
  #windowMs;
  #random;
  #now;
  /** @type {number[]} */
  #times = [];
  #inRow = 0;
  #unready = 0;

  /** @param {BackoffOptions} [options] */
  constructor(options = {}) {
    this.most = options.most ?? 5;
    this.#firstMs = options.firstMs ?? 1000;
    this.#longestMs = options.longestMs ?? 16_000;
    this.#windowMs = options.windowMs ?? 180_000;
    this.#random = options.random ?? Math.random;
    this.#now = options.now ?? (() => performance.now());
  }

  /** Crashes within the window. */
  get crashes() {
    const since = this.#now() - this.#windowMs;
    return this.#times.filter((time) => time > since).length;
  }

  /** Start to count again, after somebody asked for a restart. */
  forget() {
    this.#times = [];
    this.#inRow = 0;
    this.#unready = 0;
  }

  /**
   * Count a crash and return the milliseconds to wait, or undefined when it is time to give up.
   * @param {number | undefined} readyMs how long the service had been ready, if it ever was
   * @returns {number | undefined}
   */
  crashed(readyMs) {
    const now = this.#now();
    this.#times = [...this.#times.filter((time) => time > now - this.#windowMs), now];
    // A service that served that long is well again: its next crash is a first one.
    if (readyMs !== undefined && readyMs >= this.#windowMs) this.#inRow = 0;
    // Where the model takes a minute to load, five crashes never fit into the window.
    this.#unready = readyMs === undefined ? this.#unready + 1 : 0;
    if (this.#times.length >= this.most || this.#unready >= this.most) return undefined;
    this.#inRow += 1;
    return this.waitMs(this.#inRow - 1);
  }

  /**
   * Return how long to wait after so many attempts before.
   * @param {number} attempts
   * @returns {number}
   */
  waitMs(attempts) {
    const wait = Math.min(this.#firstMs * 2 ** attempts, this.#longestMs);
    // Several apps that crashed together shall not come back together.
    return wait * (0.75 + this.#random() / 2);
  }
}
