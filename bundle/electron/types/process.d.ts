/** One run of the service's process: started, listened to, ended with everything it started. */
export type Command = {
    pythonPath: string;
    args: string[];
    env: NodeJS.ProcessEnv;
    identity: import('./identity.js').Identity;
};
export type Listeners = {
    onProgress: (event: import('./events.js').Announced) => void;
    /**
     * a line of standard error
     */
    onLog: (line: string) => void;
};
export type Ending = {
    exitCode: number | null;
    signal: NodeJS.Signals | null;
};
/**
 * @typedef {object} Command
 * @property {string} pythonPath
 * @property {string[]} args
 * @property {NodeJS.ProcessEnv} env
 * @property {import('./identity.js').Identity} identity
 */
/**
 * @typedef {object} Listeners
 * @property {(event: import('./events.js').Announced) => void} onProgress
 * @property {(line: string) => void} onLog a line of standard error
 */
/**
 * @typedef {object} Ending
 * @property {number | null} exitCode
 * @property {NodeJS.Signals | null} signal
 */
/**
 * A process that was started. It leads a group of its own, so that its workers end with it, and
 * holds our end of its standard input: however this program ends, the service notices.
 */
export declare class SidecarProcess {
    #private;
    /**
     * The port, once a ready line carried our instance; it may stay open for ever.
     * @type {Promise<number>}
     */
    announced: Promise<number>;
    /** @type {Promise<Ending>} */
    ended: Promise<Ending>;
    /**
     * Start the command, and wait until the system has. Throws SidecarError if it cannot.
     * @param {Command} command
     * @param {Listeners} listeners
     * @returns {Promise<SidecarProcess>}
     */
    static start(command: Command, listeners: Listeners): Promise<SidecarProcess>;
    /**
     * @private
     * @param {import('node:child_process').ChildProcessWithoutNullStreams} child
     * @param {import('./identity.js').Identity} identity
     * @param {Listeners} listeners
     */
    private constructor();
    /** @returns {number} */
    get pid(): number;
    /** The last lines that it wrote to standard error. */
    get log(): string;
    /** @returns {boolean} */
    get isRunning(): boolean;
    /**
     * Ask it to end, and make it: by `shutdown` and the end of its input, by SIGTERM after three
     * fifths of `timeoutMs`, by SIGKILL to the whole group at its end.
     * @param {() => Promise<unknown>} shutdown
     * @param {number} timeoutMs
     */
    stop(shutdown: () => Promise<unknown>, timeoutMs: number): Promise<void>;
    /** Let Node end while it runs, which ends it. */
    unref(): void;
    /** End it at once, and what it started. */
    kill(): void;
}
