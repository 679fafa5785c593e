/** Waiting that can be called off, and deadlines that a suspended process does not miss. */

// A timer that comes later was slept through, by SIGSTOP or by a laptop, or the app had the thread.
const LATE_MS = 1000;
const STEP_MS = 1000;
// What slept with this process, or was told nothing meanwhile, has so long to answer.
const GRACE_MS = 1000;

/**
 * A deadline for which only the time counts in which this process ran: it could not have heard of
 * an answer at any other.
 */
export class Deadline {
  #isHeld;
  #left;
  #over;
  #passed = 0;
  #began = 0;
  /** @type {NodeJS.Timeout | undefined} */
  #timer;
  /** @type {NodeJS.Immediate | undefined} */
  #last;

  /**
   * @param {number} ms
   * @param {() => void} over called once, unless it is stopped before
   * @param {boolean} [isHeld] whether Node runs on for it (true)
   */
  constructor(ms, over, isHeld = true) {
    this.#isHeld = isHeld;
    this.#left = ms;
    this.#over = over;
    this.#step();
  }

  /**
   * Forget it, and return the milliseconds that counted.
   * @returns {number}
   */
  stop() {
    clearTimeout(this.#timer);
    clearImmediate(this.#last);
    return this.#passed + Math.min(performance.now() - this.#began, STEP_MS);
  }

  #step() {
    const ms = Math.min(this.#left, STEP_MS);
    this.#began = performance.now();
    this.#timer = setTimeout(() => {
      const passed = performance.now() - this.#began;
      if (passed > ms + LATE_MS) {
        this.#left = Math.max(this.#left, GRACE_MS);
      } else {
        this.#left -= Math.max(ms, passed);
        this.#passed += Math.max(ms, passed);
      }
      if (this.#left > 0) this.#step();
      // What came in the meantime is heard first.
      else this.#last = setImmediate(this.#over);
    }, ms);
    if (!this.#isHeld) this.#timer.unref();
  }
}

/**
 * Resolve after `ms` milliseconds in which this process ran. Rejects with the signal's reason when
 * it is aborted before.
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @param {boolean} [isHeld] whether Node runs on for it (true)
 * @returns {Promise<void>}
 */
export function sleep(ms, signal, isHeld = true) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const abort = () => {
      deadline.stop();
      reject(signal?.reason);
    };
    const deadline = new Deadline(ms, () => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, isHeld);
    signal?.addEventListener('abort', abort, { once: true });
  });
}

/**
 * Return whether `promise` settles within `ms` milliseconds.
 * @param {Promise<unknown>} promise
 * @param {number} ms
 * @returns {Promise<boolean>}
 */
export function within(promise, ms) {
  return new Promise((resolve) => {
    const deadline = new Deadline(ms, () => resolve(false));
    const settle = () => {
      deadline.stop();
      resolve(true);
    };
    promise.then(settle, settle);
  });
}

/**
 * Return what `promise` gives, or reject with the signal's reason when it is aborted before.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<T>}
 */
export function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    // Always handled: a rejection after the end would otherwise crash the app as unhandled.
    const forget = () => signal.removeEventListener('abort', abort);
    promise.then(
      (value) => {
        forget();
        resolve(value);
      },
      (error) => {
        forget();
        reject(error);
      },
    );
  });
}
