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
     * the next step
     */
    next?: string;
};
/**
 * Return a next step of the service with the options of this package in the place of its own.
 * @param {string} next
 * @returns {string}
 */
export declare function inOptions(next: string): string;
/** A failure with a `code` for programs, and for people a message that ends with the next step. */
export declare class SidecarError extends Error {
    what: string;
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
     * @param {string} what the message without the next step
     * @param {SidecarErrorDetails} [details]
     */
    constructor(code: SidecarErrorCode, what: string, details?: SidecarErrorDetails);
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
 * Return the error for the end of a process, with the last message in its log if there is one.
 * @param {number | null} exitCode
 * @param {string | null} signal
 * @param {string} log the end of its standard error
 * @returns {SidecarError}
 */
export declare function errorOfExit(exitCode: number | null, signal: string | null, log: string): SidecarError;
