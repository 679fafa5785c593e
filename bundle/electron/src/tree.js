/** Ending a process together with what it started. */

import { spawn } from 'node:child_process';
import { join } from 'node:path';

/**
 * Kill a process that was started as the leader of its group, and whatever is left of the group.
 * @param {number} pid
 * @param {NodeJS.Platform} [platform]
 */
export function killTree(pid, platform = process.platform) {
  if (platform === 'win32') {
    const program = join(process.env['SystemRoot'] ?? 'C:\\Windows', 'System32', 'taskkill.exe');
    const options = /** @type {const} */ ({ stdio: 'ignore', windowsHide: true });
    spawn(program, ['/pid', String(pid), '/T', '/F'], options).on('error', () => {
      signal(pid, 'SIGKILL');
    });
    return;
  }
  signal(-pid, 'SIGKILL');
}

/**
 * Send a signal; a process that has already ended is fine.
 * @param {number} pid
 * @param {NodeJS.Signals} name
 */
function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch {
    // It ended before.
  }
}
