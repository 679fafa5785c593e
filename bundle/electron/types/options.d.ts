/** What an app may choose, what it is told, and the command line that follows from it. */
export type ServiceOptions = {
    /**
     * the folder with the bundle; Electron's `process.resourcesPath`
     */
    resources?: string;
    /**
     * the bundle's, by default; a bare name is looked up on PATH
     */
    pythonPath?: string;
    /**
     * the bundle's `embedding_sidecar`, by default
     */
    scriptPath?: string;
    /**
     * a Hugging Face cache; the bundle brings its own
     */
    modelCachePath?: string;
    /**
     * 8421; 0 takes a free one
     */
    port?: number;
    /**
     * take a free port where `port` is taken (true)
     */
    portFallback?: boolean;
    /**
     * start again after a crash (true)
     */
    autoRestart?: boolean;
    onProgress?: (event: import('./events.js').ProgressEvent) => void;
    /**
     * a line of the service's log, JSON
     */
    onLog?: (line: string) => void;
    /**
     * a model of the bundle
     */
    model?: string;
    /**
     * `hash` needs no weights, for tests of user interfaces
     */
    engine?: string;
    /**
     * folders that files may be read from
     */
    allowDirs?: string[];
    /**
     * of pages that may call it, as `app://obsidian.md`
     */
    allowOrigins?: string[];
    /**
     * further options of the service
     */
    args?: string[];
    /**
     * milliseconds until it must be ready (180000)
     */
    startTimeout?: number;
    /**
     * milliseconds until it is killed (5000)
     */
    stopTimeout?: number;
    /**
     * milliseconds between looks at a ready one (10000); 0 for none
     */
    healthInterval?: number;
    /**
     * milliseconds that an answer may take (5000)
     */
    healthTimeout?: number;
    backoff?: import('./backoff.js').BackoffOptions;
};
export type State = 'stopped' | 'starting' | 'ready' | 'restarting' | 'stopping' | 'failed';
export type Status = {
    state: State;
    ready: boolean;
    pid: number | undefined;
    /**
     * the one that it listens on
     */
    port: number | undefined;
    instance: string | undefined;
    version: string | undefined;
    model: string | undefined;
    dimensions: number | undefined;
    /**
     * what serves in the place of what should, if so
     */
    degraded: string | undefined;
    /**
     * within the last three minutes
     */
    crashes: number;
    /**
     * since startSidecar
     */
    restarts: number;
    lastError: import('./errors.js').SidecarError | undefined;
};
export type Endpoint = {
    host: string;
    port: number;
    token: string;
};
/**
 * @typedef {object} ServiceOptions
 * @property {string} [resources] the folder with the bundle; Electron's `process.resourcesPath`
 * @property {string} [pythonPath] the bundle's, by default; a bare name is looked up on PATH
 * @property {string} [scriptPath] the bundle's `embedding_sidecar`, by default
 * @property {string} [modelCachePath] a Hugging Face cache; the bundle brings its own
 * @property {number} [port] 8421; 0 takes a free one
 * @property {boolean} [portFallback] take a free port where `port` is taken (true)
 * @property {boolean} [autoRestart] start again after a crash (true)
 * @property {(event: import('./events.js').ProgressEvent) => void} [onProgress]
 * @property {(line: string) => void} [onLog] a line of the service's log, JSON
 * @property {string} [model] a model of the bundle
 * @property {string} [engine] `hash` needs no weights, for tests of user interfaces
 * @property {string[]} [allowDirs] folders that files may be read from
 * @property {string[]} [allowOrigins] of pages that may call it, as `app://obsidian.md`
 * @property {string[]} [args] further options of the service
 * @property {number} [startTimeout] milliseconds until it must be ready (180000)
 * @property {number} [stopTimeout] milliseconds until it is killed (5000)
 * @property {number} [healthInterval] milliseconds between looks at a ready one (10000); 0 for none
 * @property {number} [healthTimeout] milliseconds that an answer may take (5000)
 * @property {import('./backoff.js').BackoffOptions} [backoff]
 */
/** @typedef {'stopped' | 'starting' | 'ready' | 'restarting' | 'stopping' | 'failed'} State */
/**
 * @typedef {object} Status
 * @property {State} state
 * @property {boolean} ready
 * @property {number | undefined} pid
 * @property {number | undefined} port the one that it listens on
 * @property {string | undefined} instance
 * @property {string | undefined} version
 * @property {string | undefined} model
 * @property {number | undefined} dimensions
 * @property {string | undefined} degraded what serves in the place of what should, if so
 * @property {number} crashes within the last three minutes
 * @property {number} restarts since startSidecar
 * @property {import('./errors.js').SidecarError | undefined} lastError
 */
/**
 * @typedef {object} Endpoint
 * Where a service listens that has proven who it is, and the token that it takes.
 * @property {string} host
 * @property {number} port
 * @property {string} token
 */
/**
 * What is taken where the app chooses nothing.
 * @type {Readonly<Required<Pick<ServiceOptions, 'port' | 'portFallback' | 'autoRestart' |
 *   'startTimeout' | 'stopTimeout' | 'healthInterval' | 'healthTimeout'>>>}
 */
export declare const DEFAULTS: Readonly<Required<Pick<ServiceOptions, 'port' | 'portFallback' | 'autoRestart' | 'startTimeout' | 'stopTimeout' | 'healthInterval' | 'healthTimeout'>>>;
/**
 * Return how the service is started. Throws SidecarError if a part of it is not there.
 * @param {ServiceOptions} options
 * @param {import('./identity.js').Identity} identity
 * @param {number} port
 * @returns {import('./process.js').Command}
 */
export declare function commandOf(options: ServiceOptions, identity: import('./identity.js').Identity, port: number): import('./process.js').Command;
