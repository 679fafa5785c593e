// What electron-builder calls: afterPack verifies the copied bundle, sign signs it on a Mac.
//
// If your configuration has hooks of its own, call these from them:
//   import { afterPack as verifySidecar } from "./sidecar/hooks.mjs";

import { spawn } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { isMachO } from "./signature.mjs";
import { VerificationError, readManifests, summary, verifyBundle } from "./verify-bundle.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const SCRIPT = path.join(HERE, "sign-bundle.sh");
const RIGHTS = path.join(HERE, "entitlements.python.plist");
// electron-builder's enumeration `Arch`, which hooks get as a number.
const ARCHITECTURES = ["ia32", "x64", "armv7l", "arm64", "universal"];

/** Fail the build unless the bundle was copied whole, and is the one for this platform. */
export async function afterPack({ packager, appOutDir, arch }) {
  const root = packager.getResourcesDir(appOutDir);
  const expected = `${packager.platform.buildConfigurationKey}-${ARCHITECTURES[arch]}`;
  const { target } = readManifests(root).manifest;
  if (target !== expected) {
    throw new VerificationError(
      `the sidecar bundle in ${root} is for another machine`,
      `it is for ${target}, the app is for ${expected}`,
      `python3 build assemble --target ${expected}, and give it a folder of that name`,
    );
  }
  await verify(root);
}

async function verify(root) {
  process.stdout.write(`  • ${summary(await verifyBundle(root))}\n`);
}

/**
 * Sign an app for macOS: the bundle's Mach-O files in parallel, then all else as electron-builder
 * does it. Called with the identity and the keychain that electron-builder found. Afterwards the
 * bundle must be what it was, signatures aside.
 */
export async function sign(options, packager) {
  const root = path.join(options.app, "Contents", "Resources");
  const list = signList(root);
  await run(SCRIPT, [root, list, options.identity, RIGHTS, options.keychain ?? ""]);
  const { signAsync } = osxSign(packager.projectDir);
  await signAsync(options);
  await verify(root);
}

/** Return the list of what is signed, after a look at every file: it must be exact. */
export function signList(root) {
  const { manifest, entries } = readManifests(root);
  const list = path.join(HERE, "signed", `${manifest.target}.tsv`);
  const rows = fs.existsSync(list) ? fs.readFileSync(list, "utf8").split("\n").filter(Boolean) : [];
  const listed = new Set(rows.map((row) => row.split("\t")[3]));
  const found = entries.map((entry) => entry.path).filter((name) => isMachO(head(path.join(root, name))));
  const differing = [
    ...found.filter((name) => !listed.delete(name)).map((name) => `not listed: ${name}`),
    ...[...listed].map((name) => `not there: ${name}`),
  ];
  if (differing.length > 0) {
    throw new VerificationError(
      `${list} was not made for the bundle in ${root}`,
      differing.join("\n    "),
      "python3 build electron --output FOLDER, with this bundle",
    );
  }
  return list;
}

function head(file) {
  const buffer = Buffer.alloc(8);
  const descriptor = fs.openSync(file, "r");
  try {
    return buffer.subarray(0, fs.readSync(descriptor, buffer, 0, 8, 0));
  } finally {
    fs.closeSync(descriptor);
  }
}

/** Return @electron/osx-sign as electron-builder has it, wherever the package manager put that. */
function osxSign(project) {
  let require = createRequire(path.join(project, "package.json"));
  for (const name of ["electron-builder", "app-builder-lib"]) {
    require = createRequire(require.resolve(`${name}/package.json`));
  }
  return require("@electron/osx-sign");
}

function run(program, given) {
  return new Promise((resolve, reject) => {
    const child = spawn("/bin/sh", [program, ...given], { stdio: "inherit" });
    child.once("error", reject);
    child.once("exit", (code, signal) =>
      code === 0 ? resolve() : reject(new Error(`${path.basename(program)} ended with ${code ?? signal}`)),
    );
  });
}
