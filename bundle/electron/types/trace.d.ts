/** Retries and life-cycle events on standard error, where the environment asks for them. */
/**
 * Write a line where `NODE_DEBUG` has `sidecar`, or `LOG_CATEGORIES` the category; no text of a
 * request and no token is in one.
 * @param {'SIDECAR-CLIENT' | 'SIDECAR-SERVICE'} category
 * @param {string} what
 * @param {object} data
 */
export declare function trace(category: 'SIDECAR-CLIENT' | 'SIDECAR-SERVICE', what: string, data: object): void;
