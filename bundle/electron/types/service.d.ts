/** Keeps the sidecar running for as long as the app wants it. */
import { EventEmitter } from 'node:events';
import { PythonSidecarClient } from './client.js';
export type Announced = import('./events.js').Announced;
export type ProgressEvent = import('./events.js').ProgressEvent;
export type Endpoint = import('./options.js').Endpoint;
export type Run = import('./run.js').Run;
export type ServiceOptions = import('./options.js').ServiceOptions;
export type ServiceEvents = {
    status: [Status];
    progress: [ProgressEvent];
    log: [string];
};
export type State = import('./options.js').State;
export type Status = import('./options.js').Status;
/**
 * Starts the sidecar, proves that the listener is the process that was started, starts it again
 * after a crash, and ends it with everything it started.
 *
 * Events: `status` with each new Status, `progress` with each ProgressEvent, `log` with each line.
 * @extends {EventEmitter<ServiceEvents>}
 */
export declare class PythonSidecarService extends EventEmitter<ServiceEvents> {
    #private;
    /** @param {ServiceOptions} [options] */
    constructor(options?: ServiceOptions);
    /**
     * Start the sidecar and wait until it serves. While it starts or runs, this is the same start.
     *
     * Rejects with SidecarError when it cannot be started, or when stopSidecar comes before.
     * @returns {Promise<Status>}
     */
    startSidecar(): Promise<Status>;
    /**
     * End the sidecar and what it started: by a request, then by signals, by force after 5 s.
     * @returns {Promise<void>}
     */
    stopSidecar(): Promise<void>;
    /**
     * Stop it, if it runs, and start it with a new identity. A stopSidecar meanwhile wins.
     * @returns {Promise<Status>}
     */
    restartSidecar(): Promise<Status>;
    /** Let Node end while the sidecar is ready, which ends it; a start is still waited for. */
    unref(): void;
    /** @returns {Status} */
    getStatus(): Status;
    /**
     * Return a client that follows this service through restarts, ports and tokens.
     * @param {Omit<import('./client.js').ClientOptions, 'baseUrl' | 'host' | 'port' | 'token' | 'service'>}
     *   [options]
     */
    client(options?: Omit<import('./client.js').ClientOptions, 'baseUrl' | 'host' | 'port' | 'token' | 'service'>): PythonSidecarClient;
    /**
     * Return where the proven service listens; waits while it starts or comes back. A worker makes
     * its client of it, `new PythonSidecarClient(await service.endpoint())`, and asks for it anew
     * after a restart: port and token are of one start.
     *
     * Rejects with SidecarError when it does not run, or with the reason of an aborted signal.
     * @param {AbortSignal} [signal]
     * @returns {Promise<Endpoint>}
     */
    endpoint(signal?: AbortSignal): Promise<Endpoint>;
}
