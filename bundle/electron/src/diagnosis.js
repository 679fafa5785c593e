/** Why a Python that did not start the service could not. */

import { execFile } from 'node:child_process';

import { SidecarError } from './errors.js';

const NEEDED = '3.11';

/**
 * Return a better error than `error` where the cause is a Python of another version.
 *
 * Asked only after a failure: it costs a start of Python, and the one of the bundle is right.
 * @param {SidecarError} error
 * @param {import('./process.js').Command} command
 * @returns {Promise<SidecarError>}
 */
export async function diagnose(error, command) {
  if (error.exitCode !== 1) return error;
  const version = await versionOf(command);
  if (version === undefined || version === NEEDED) return error;
  const message = `the sidecar needs Python ${NEEDED}, and ${command.pythonPath} is ${version}`;
  return new SidecarError('PYTHON_VERSION_INCOMPATIBLE', message, {
    cause: error,
    log: error.log ?? '',
    next: 'leave out pythonPath to use the Python of the bundle',
  });
}

/**
 * @param {import('./process.js').Command} command
 * @returns {Promise<string | undefined>}
 */
function versionOf({ pythonPath, env }) {
  return new Promise((resolve) => {
    execFile(pythonPath, ['-V'], { env, timeout: 5000, windowsHide: true }, (_error, out, err) => {
      resolve(/^Python (\d+\.\d+)/m.exec(`${out}\n${err}`)?.[1]);
    });
  });
}
