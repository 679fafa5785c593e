/** The place of the bundle inside an app, and the environment of its Python. */
export type Places = {
    pythonPath: string;
    scriptPath: string;
};
/**
 * @typedef {object} Places
 * @property {string} pythonPath
 * @property {string} scriptPath
 */
/**
 * Return where Python and the service lie: as given, or else in the folder `resources`, which by
 * default is where Electron keeps the app's resources. Throws SidecarError if one is not there.
 * @param {{ resources?: string | undefined, pythonPath?: string | undefined,
 *   scriptPath?: string | undefined, platform?: NodeJS.Platform }} options
 * @returns {Places}
 */
export declare function locate(options: {
    resources?: string | undefined;
    pythonPath?: string | undefined;
    scriptPath?: string | undefined;
    platform?: NodeJS.Platform;
}): Places;
/**
 * Return whether the service at `scriptPath`, a folder or a file in it, is part of a bundle.
 * @param {string} scriptPath
 * @returns {boolean}
 */
export declare function isBundled(scriptPath: string): boolean;
/**
 * Return the environment for the service: ours, without what would lead its Python astray.
 * @param {NodeJS.ProcessEnv} environment
 * @param {string} pythonPath
 * @param {NodeJS.Platform} [platform]
 * @returns {NodeJS.ProcessEnv}
 */
export declare function cleanEnvironment(environment: NodeJS.ProcessEnv, pythonPath: string, platform?: NodeJS.Platform): NodeJS.ProcessEnv;
