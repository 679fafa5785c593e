/** Ending a process together with what it started. */
/**
 * Kill a process that was started as the leader of its group, and whatever is left of the group.
 * @param {number} pid
 * @param {NodeJS.Platform} [platform]
 */
export declare function killTree(pid: number, platform?: NodeJS.Platform): void;
