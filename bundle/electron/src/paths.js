/** The place of the bundle inside an app, and the environment of its Python. */

import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { basename, delimiter, dirname, isAbsolute, resolve } from 'node:path';

import { SidecarError } from './errors.js';

const BUNDLED_NAME = 'embedding_sidecar';

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
export function locate(options) {
  const electron = /** @type {{ resourcesPath?: string }} */ (/** @type {unknown} */ (process));
  const resources = options.resources ?? electron.resourcesPath;
  const python = (options.platform ?? process.platform) === 'win32'
    ? ['python', 'python.exe']
    : ['python', 'bin', 'python3.11'];
  const { pythonPath: given } = options;
  const isName = given !== undefined && given !== '' && basename(given) === given;
  const pythonPath = isName ? onPath(given) : (given ?? (resources && resolve(resources, ...python)));
  if (isName && pythonPath === undefined) {
    throw new SidecarError('PYTHON_NOT_FOUND', `there is no ${given} on PATH`, {
      next: 'pass the path of a Python 3.11, or leave out pythonPath to use that of the bundle',
    });
  }
  const scriptPath = options.scriptPath ?? (resources && resolve(resources, BUNDLED_NAME));
  if (!pythonPath || !scriptPath) {
    throw new SidecarError('USAGE_ERROR', 'the folder of the bundle is unknown', {
      next: 'outside of a packaged app, pass the folder of the bundle as `resources`',
    });
  }
  if (!isFile(pythonPath)) {
    throw new SidecarError('PYTHON_NOT_FOUND', `there is no Python at ${pythonPath}`, {
      next: 'pass the folder of the bundle as `resources`; in a packaged app, check extraResources of electron-builder',
    });
  }
  if (!existsSync(scriptPath)) {
    throw new SidecarError('BUNDLE_DAMAGED', `there is no service at ${scriptPath}`, {
      next: 'reinstall the app, or check extraResources of electron-builder',
    });
  }
  return { pythonPath, scriptPath };
}

/**
 * Return whether the service at `scriptPath`, a folder or a file in it, is part of a bundle.
 * @param {string} scriptPath
 * @returns {boolean}
 */
export function isBundled(scriptPath) {
  const folder = resolve(isFile(scriptPath) ? dirname(scriptPath) : scriptPath);
  // As the service judges it: a bundle that lost its manifest is a damaged one.
  return basename(folder) === BUNDLED_NAME || isFile(resolve(folder, '..', 'manifest.json'));
}

/**
 * Return the path of the program `name`, as a shell finds it, or undefined.
 * @param {string} name
 * @returns {string | undefined}
 */
function onPath(name) {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter(isAbsolute);
  const endings = process.platform === 'win32' && !name.includes('.') ? ['.exe'] : [''];
  const places = folders.flatMap((folder) => endings.map((ending) => resolve(folder, name + ending)));
  return places.find(isProgram);
}

/** @param {string} path */
function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
  } catch {
    return false;
  }
  return isFile(path);
}

/** @param {string} path */
function isFile(path) {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/**
 * Return the environment for the service: ours, without what would lead its Python astray.
 * @param {NodeJS.ProcessEnv} environment
 * @param {string} pythonPath
 * @param {NodeJS.Platform} [platform]
 * @returns {NodeJS.ProcessEnv}
 */
export function cleanEnvironment(environment, pythonPath, platform = process.platform) {
  // A process cannot defend itself against the loader's variables, and AppImages set them.
  const astray = /^(?:LD_|DYLD_|PYTHON|ELECTRON_|NODE_|VIRTUAL_ENV$|CONDA_)/i;
  const kept = Object.entries(environment).filter(([name]) => !astray.test(name));
  const clean = Object.fromEntries(kept);
  if (platform === 'win32') {
    // Other programs put their OpenSSL on the path, and Windows looks there.
    const name = kept.find(([key]) => key.toLowerCase() === 'path')?.[0] ?? 'Path';
    clean[name] = [dirname(pythonPath), clean[name]].filter(Boolean).join(delimiter);
  }
  return clean;
}
