// An error of the hooks, in the three parts that every error of the sidecar's tools has.

/** What happened, why, and what to do next. electron-builder prints the message and fails. */
export class HookError extends Error {
  name = "HookError";

  constructor(what, why, next) {
    super(`${what}\n  why: ${why}\n  next: ${next}`);
  }
}
