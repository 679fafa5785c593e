// Which electron-builder packages the app, and the parts of it that the hooks use.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

import { HookError } from "./errors.mjs";

const LIBRARY = "app-builder-lib";
/** The major versions whose configuration and hooks are known, with the newest that was tried. */
export const SUPPORTED = { 26: "26.17.0", 27: "27.0.0-alpha.7" };

/**
 * Return the electron-builder that runs: its `version`, its `major`, and `load(name)`, which imports
 * a module that it has. `project` is the app's folder. Throws HookError for a version that is not
 * supported.
 */
export function runningBuilder(project) {
  const entry = libraryEntry(project);
  const { version } = JSON.parse(fs.readFileSync(packageFile(entry), "utf8"));
  const major = Number.parseInt(version, 10);
  if (!(major in SUPPORTED)) {
    const known = Object.entries(SUPPORTED).map(([one, newest]) => `${one} (tried with ${newest})`);
    throw new HookError(
      `electron-builder ${version} is not supported by the sidecar's hooks`,
      `supported: ${known.join(" and ")}`,
      major < Math.min(...Object.keys(SUPPORTED))
        ? "npm install --save-dev electron-builder@26"
        : "npm install --save-dev electron-builder@26, or `python3 build electron` of a newer sidecar",
    );
  }
  const { resolve } = createRequire(entry);
  return { version, major, load: (name) => import(pathToFileURL(resolve(name)).href) };
}

/**
 * Return the file that electron-builder's library starts with: as the running program finds it,
 * which need not be installed in the app's folder (npx), else as the app does.
 */
function libraryEntry(project) {
  for (const start of [process.argv[1], path.join(project, "package.json")]) {
    const found = start && resolveFrom(start);
    if (found) return found;
  }
  throw new HookError(
    "electron-builder cannot be found",
    `${LIBRARY} can be resolved neither from ${process.argv[1]} nor from ${project}`,
    "npm install --save-dev electron-builder@26, in the app's folder",
  );
}

function resolveFrom(start) {
  // Package managers link programs: what they need lies beside the real one.
  const { resolve } = createRequire(fs.existsSync(start) ? fs.realpathSync(start) : start);
  try {
    return resolve(LIBRARY);
  } catch {
    // pnpm lets an app see what it names itself, and nothing that this needs.
  }
  try {
    return createRequire(resolve("electron-builder")).resolve(LIBRARY);
  } catch {
    return null;
  }
}

/** Return the package.json above `entry`: version 27 does not export it, so that its name leads nowhere. */
function packageFile(entry) {
  for (let folder = path.dirname(entry); ; folder = path.dirname(folder)) {
    const file = path.join(folder, "package.json");
    if (fs.existsSync(file) && JSON.parse(fs.readFileSync(file, "utf8")).name === LIBRARY) return file;
    if (folder === path.dirname(folder)) throw new Error(`${entry} belongs to no ${LIBRARY}`);
  }
}
