/** Whether a process was stopped from outside: by SIGSTOP, a debugger, a terminal's Ctrl-Z. */
/**
 * Return whether the process `pid` is stopped now; false where that cannot be told, as on Windows,
 * which suspends no processes.
 * @param {number} pid
 * @returns {Promise<boolean>}
 */
export declare function isStopped(pid: number): Promise<boolean>;
