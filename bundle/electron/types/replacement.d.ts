/** What happens to the bundle of a service that runs: an updater takes it away, and puts another. */
import { SidecarError } from './errors.js';
/**
 * What a start fails with where the new bundle is there in part.
 * @type {ReadonlySet<import('./errors.js').SidecarErrorCode>}
 */
export declare const PARTIAL: ReadonlySet<import('./errors.js').SidecarErrorCode>;
/**
 * Return why no service can be started from the configured place, undefined where one can.
 * @param {import('./options.js').ServiceOptions} options
 * @returns {SidecarError | undefined}
 */
export declare function absence(options: import('./options.js').ServiceOptions): SidecarError | undefined;
/**
 * Return whether a service said that it needs a file of its bundle, and that is gone.
 * @param {unknown} error
 * @returns {boolean}
 */
export declare function isBundleGone(error: unknown): boolean;
/** Tells that a bundle is gone, once anything has found it so. */
export declare class Departure {
    #private;
    /** @type {Promise<void>} */
    told: Promise<void>;
    /** Say that it is gone. */
    tell(): void;
    /** Wait for the next word. */
    forget(): void;
}
/**
 * Return an error once the bundle of a ready service is gone and one lies at its place again; never
 * returns before: what is in memory serves on. One that is back as it was is no reason to restart.
 * @param {{ host: string, port: number, instance: string }} service
 * @param {Departure} departure
 * @param {import('./options.js').ServiceOptions & { healthTimeout: number }} options
 * @param {(attempt: number) => number} waitMs before a further look
 * @param {AbortSignal} signal
 * @returns {Promise<SidecarError>}
 */
export declare function replaced(service: {
    host: string;
    port: number;
    instance: string;
}, departure: Departure, options: import('./options.js').ServiceOptions & {
    healthTimeout: number;
}, waitMs: (attempt: number) => number, signal: AbortSignal): Promise<SidecarError>;
