/** Everything that can go wrong between an app and its sidecar, one code per kind. */
export type SidecarErrorCode = 'PYTHON_NOT_FOUND' | 'PYTHON_DEPS_MISSING' | 'PYTHON_VERSION_INCOMPATIBLE' | 'SIDECAR_START_FAILED' | 'NETWORK_ERROR' | 'TIMEOUT' | 'HTTP_ERROR' | 'PARSE_ERROR' | 'SIDECAR_CRASHED' | 'USAGE_ERROR' | 'ADDRESS_IN_USE' | 'BUNDLE_DAMAGED' | 'BUNDLE_GONE' | 'OUT_OF_REACH' | 'DISK_ERROR' | 'REFUSED_BY_RULE' | 'VERIFICATION_FAILED' | 'SMOKE_TEST_FAILED' | 'SYSTEM_UNSUPPORTED' | 'MODEL_NOT_LOADABLE' | 'SIDECAR_STOPPED' | 'SIDECAR_HANGS' | 'IDENTITY_UNPROVEN' | 'SPACE_CHANGED';
export type Problem = {
    type?: string;
    title?: string;
    status?: number;
    detail?: string;
    why?: string;
    next?: string;
    request?: string;
};
export type SidecarErrorDetails = {
    /**
     * the error underneath
     */
    cause?: unknown;
    /**
     * of HTTP, with HTTP_ERROR
     */
    status?: number;
    /**
     * what the service said of it
     */
    problem?: Problem;
    /**
     * how long the service asks us to wait
     */
    retryAfterMs?: number;
    /**
     * of the service's process
     */
    exitCode?: number | null;
    /**
     * that ended the process
     */
    signal?: string | null;
    /**
     * the last lines that the process wrote to standard error
     */
    log?: string;
    /**
     * what helps
     */
    next?: string;
};
/**
 * @typedef {'PYTHON_NOT_FOUND'
 *   | 'PYTHON_DEPS_MISSING'
 *   | 'PYTHON_VERSION_INCOMPATIBLE'
 *   | 'SIDECAR_START_FAILED'
 *   | 'NETWORK_ERROR'
 *   | 'TIMEOUT'
 *   | 'HTTP_ERROR'
 *   | 'PARSE_ERROR'
 *   | 'SIDECAR_CRASHED'
 *   | 'USAGE_ERROR'
 *   | 'ADDRESS_IN_USE'
 *   | 'BUNDLE_DAMAGED'
 *   | 'BUNDLE_GONE'
 *   | 'OUT_OF_REACH'
 *   | 'DISK_ERROR'
 *   | 'REFUSED_BY_RULE'
 *   | 'VERIFICATION_FAILED'
 *   | 'SMOKE_TEST_FAILED'
 *   | 'SYSTEM_UNSUPPORTED'
 *   | 'MODEL_NOT_LOADABLE'
 *   | 'SIDECAR_STOPPED'
 *   | 'SIDECAR_HANGS'
 *   | 'IDENTITY_UNPROVEN'
 *   | 'SPACE_CHANGED'} SidecarErrorCode
 */
/**
 * @typedef {object} Problem
 * The service's own words for a request that it did not serve (RFC 9457).
 * @property {string} [type]
 * @property {string} [title]
 * @property {number} [status]
 * @property {string} [detail]
 * @property {string} [why]
 * @property {string} [next]
 * @property {string} [request]
 */
/**
 * @typedef {object} SidecarErrorDetails
 * @property {unknown} [cause] the error underneath
 * @property {number} [status] of HTTP, with HTTP_ERROR
 * @property {Problem} [problem] what the service said of it
 * @property {number} [retryAfterMs] how long the service asks us to wait
 * @property {number | null} [exitCode] of the service's process
 * @property {string | null} [signal] that ended the process
 * @property {string} [log] the last lines that the process wrote to standard error
 * @property {string} [next] what helps
 */
/** A failure with a `code` for programs, and a message for people. */
export declare class SidecarError extends Error {
    /** @type {SidecarErrorCode} */
    code: SidecarErrorCode;
    /** @type {number | undefined} */
    status: number | undefined;
    /** @type {Problem | undefined} */
    problem: Problem | undefined;
    /**
     * Which text of a call of many the problem is about, where it is about one.
     * @type {number | undefined}
     */
    textIndex: number | undefined;
    /** @type {number | undefined} */
    retryAfterMs: number | undefined;
    /** @type {number | null | undefined} */
    exitCode: number | null | undefined;
    /** @type {string | null | undefined} */
    signal: string | null | undefined;
    /** @type {string | undefined} */
    log: string | undefined;
    /** @type {string | undefined} */
    next: string | undefined;
    /**
     * @param {SidecarErrorCode} code
     * @param {string} message
     * @param {SidecarErrorDetails} [details]
     */
    constructor(code: SidecarErrorCode, message: string, details?: SidecarErrorDetails);
}
/**
 * Return what a service said of a request, without the fields that are not of their kind.
 * @param {Record<string, unknown>} said
 * @returns {Problem}
 */
export declare function problemOf(said: Record<string, unknown>): Problem;
/**
 * What each exit code of the service means.
 * @type {Readonly<Record<number, readonly [code: SidecarErrorCode, message: string]>>}
 */
export declare const EXIT_CODES: Readonly<Record<number, readonly [code: SidecarErrorCode, message: string]>>;
/**
 * Codes after which another start would end the same way.
 * @type {ReadonlySet<SidecarErrorCode>}
 */
export declare const FINAL: ReadonlySet<SidecarErrorCode>;
/**
 * Return the error that the end of a process means, in its own words where it left some.
 * @param {number | null} exitCode
 * @param {string | null} signal
 * @param {string} log the end of its standard error
 * @returns {SidecarError}
 */
export declare function errorOfExit(exitCode: number | null, signal: string | null, log: string): SidecarError;
