/** What lies between a start and its end: one process after the other. */

/**
 * @typedef {import('./options.js').Status} Status
 */

/**
 * @typedef {object} Run
 * @property {AbortController} over
 * @property {Promise<Status>} started settles when the first process is ready, or none will be
 * @property {(status: Status) => void} resolve
 * @property {(error: unknown) => void} reject
 * @property {Promise<void>} done
 */

/**
 * Return a run that `supervise` keeps going until it returns.
 * @param {(run: Run) => Promise<void>} supervise
 * @returns {Run}
 */
export function begun(supervise) {
  /** @type {(status: Status) => void} */
  let resolve = () => {};
  /** @type {(error: unknown) => void} */
  let reject = () => {};
  /** @type {Promise<Status>} */
  const started = new Promise((yes, no) => {
    resolve = yes;
    reject = no;
  });
  // Callers that wait get the rejection; without any it must not crash the app as unhandled.
  started.catch(() => {});
  /** @type {Run} */
  const run = { over: new AbortController(), started, resolve, reject, done: Promise.resolve() };
  run.done = supervise(run);
  return run;
}
