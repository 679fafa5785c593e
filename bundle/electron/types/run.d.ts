/** What lies between a start and its end: one process after the other. */
export type Status = import('./options.js').Status;
export type Run = {
    over: AbortController;
    /**
     * settles when the first process is ready, or none will be
     */
    started: Promise<Status>;
    resolve: (status: Status) => void;
    reject: (error: unknown) => void;
    done: Promise<void>;
};
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
export declare function begun(supervise: (run: Run) => Promise<void>): Run;
