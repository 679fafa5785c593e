/** Whether a process was stopped from outside: by SIGSTOP, a debugger, a terminal's Ctrl-Z. */

import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';

const ASK_MS = 5000;

/**
 * Return whether the process `pid` is stopped now; false where that cannot be told, as on Windows,
 * which suspends no processes.
 * @param {number} pid
 * @returns {Promise<boolean>}
 */
export async function isStopped(pid) {
  if (process.platform === 'linux') {
    try {
      const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
      // Behind the name, which may hold anything. A t is one that a debugger holds.
      return /^\) [Tt] /.test(stat.slice(stat.lastIndexOf(')')));
    } catch {
      return false;
    }
  }
  if (process.platform !== 'darwin') return false;
  return new Promise((resolve) => {
    const arguments_ = ['-o', 'state=', '-p', String(pid)];
    execFile('/bin/ps', arguments_, { timeout: ASK_MS }, (error, said) => {
      resolve(!error && said.trimStart().startsWith('T'));
    });
  });
}
